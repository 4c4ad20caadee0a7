//! Who this daemon is: an ID made at its first start and kept in its state directory, and the boot it runs in.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The ID of a state directory: 128 random bits, written as 32 hex digits. It marks what this daemon starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstanceId(u128);

impl InstanceId {
    /// Reads 32 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (text.len() == 32 && text.bytes().all(digits)).then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file holds something else.
    #[error(
        "{file} holds no instance ID of 32 hex digits: restore it from a backup; removing it makes this a new daemon that knows none of its running apps"
    )]
    Damaged {
        /// Which file.
        file: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("cannot {operation} {file}")]
    Failed {
        /// `read` or `write`.
        operation: &'static str,
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No random bits.
    #[error("the kernel gives no random bits: {0}")]
    Random(getrandom::Error),
}

/// The machine's ID, as systemd keeps it; `unknown` where there is none.
pub fn machine_id() -> String {
    let text = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let id: String = text.trim().chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    if id.is_empty() { "unknown".into() } else { id }
}

/// The host's own name, for people; `?` if the kernel tells none.
pub fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "?".into())
}

/// The ID of a state directory; made now if this is its first start. The caller holds its lock.
///
/// # Errors
/// The file is damaged, or cannot be read or written.
pub fn instance_id(state_dir: &Path) -> Result<InstanceId, IdentityError> {
    let file = state_dir.join("instance-id");
    let failed = |operation, source| IdentityError::Failed { operation, file: file.clone(), source };
    match fs::read_to_string(&file) {
        Ok(text) => InstanceId::parse(text.trim_end()).ok_or(IdentityError::Damaged { file }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bits = [0; 16];
            getrandom::fill(&mut bits).map_err(IdentityError::Random)?;
            let id = InstanceId(u128::from_be_bytes(bits));
            write_durably(state_dir, &file, &format!("{id}\n")).map_err(|error| failed("write", error))?;
            Ok(id)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(IdentityError::Damaged { file }),
        Err(error) => Err(failed("read", error)),
    }
}

/// Whole or not at all, even if the power fails.
fn write_durably(dir: &Path, file: &Path, text: &str) -> io::Result<()> {
    let draft = file.with_extension("new");
    let mut opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    opened.write_all(text.as_bytes())?;
    opened.sync_all()?;
    fs::rename(&draft, file)?;
    File::open(dir)?.sync_all()
}

/// The ID of this boot of the host; it tells a restart of the daemon from one of the host.
///
/// # Errors
/// The kernel does not tell it.
pub fn boot_id() -> Result<String, IdentityError> {
    let file = Path::new("/proc/sys/kernel/random/boot_id");
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.trim().to_string()),
        Err(source) => Err(IdentityError::Failed { operation: "read", file: file.into(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_id_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let id = instance_id(dir.path()).unwrap();
        assert_eq!(instance_id(dir.path()).unwrap(), id);
        assert_eq!(fs::read_to_string(dir.path().join("instance-id")).unwrap(), format!("{id}\n"));
        let other = tempfile::tempdir().unwrap();
        assert_ne!(instance_id(other.path()).unwrap(), id);
    }

    #[test]
    fn a_damaged_instance_id_is_told_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("instance-id"), "0123\n").unwrap();
        let error = instance_id(dir.path()).unwrap_err().to_string();
        assert!(error.contains("instance-id holds no instance ID of 32 hex digits: restore it"), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join("instance-id")).unwrap(), "0123\n");
    }

    #[test]
    fn the_boot_has_an_id() {
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
