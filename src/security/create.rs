//! Making key files: whole or not at all, closed to others, and never over one that is there.
//!
//! Decides how a new key reaches the disk. Deliberately absent: what stands in a file (`keys`), and taking one away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::security::error::{KeyError, KeyErrorKind, words};
use crate::security::keys::FleetKey;
use crate::wire::hex;

impl FleetKey {
    /// Reads the entry's key file, or makes it at the first start; the second part tells whether it was made now.
    ///
    /// # Errors
    /// As `read`, or there is none and it cannot be made.
    pub fn read_or_generate(path: &Path) -> Result<(Self, bool), KeyError> {
        match Self::read(path) {
            Err(error) if error.kind == KeyErrorKind::Missing => {}
            found => return found.map(|key| (key, false)),
        }
        let key = Self::generate().map_err(|error| KeyError::random(path, error))?;
        match write_new(path, &key.to_text()) {
            Ok(()) => Ok((key, true)),
            // Another daemon was a moment faster; one of the two keys counts.
            Err(error) if error.kind == KeyErrorKind::Exists => Self::read(path).map(|key| (key, false)),
            Err(error) => Err(error),
        }
    }
}

/// Writes a key file of mode 0600. It has its name only once it is whole and on the disk.
///
/// # Errors
/// There is one already, or the directory does not take it.
pub fn write_new(path: &Path, text: &str) -> Result<(), KeyError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !directory.is_dir() {
        let cause = format!("its directory {} does not exist", directory.display());
        let remedy = format!("make it with `install -d -m 0755 {}`, or name another place", directory.display());
        return Err(KeyError::new(KeyErrorKind::System, path, cause, remedy));
    }
    let name = path.file_name().ok_or_else(|| {
        KeyError::new(KeyErrorKind::System, path, "it has no name of its own", "name a file that is to be made")
    })?;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| KeyError::random(path, error))?;
    let fresh = directory.join(format!(".{}.{}", name.to_string_lossy(), hex::encode(&random)));
    let written = put(&fresh, path, text);
    let _ = fs::remove_file(&fresh);
    written.and_then(|()| File::open(directory)?.sync_all()).map_err(|error| refusal(path, directory, &error))
}

/// A link, unlike a rename, does not replace a file that is there.
fn put(fresh: &PathBuf, path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::hard_link(fresh, path)
}

fn refusal(path: &Path, directory: &Path, error: &io::Error) -> KeyError {
    let (directory, shown) = (directory.display(), path.display());
    let (kind, cause, remedy) = match error.kind() {
        io::ErrorKind::AlreadyExists => (
            KeyErrorKind::Exists,
            "it exists, and a key is never overwritten".into(),
            "name another file, or move this one away if nobody needs its key any more".into(),
        ),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => (
            KeyErrorKind::System,
            format!("it cannot be made in {directory}: {}", words(error)),
            format!(
                "run `nbsupervisor key generate --to {shown}` as root where {directory} can be written to, or name another place"
            ),
        ),
        _ => (
            KeyErrorKind::System,
            format!("it cannot be made in {directory}: {}", words(error)),
            "see to it that the directory can be written to, or name another place".into(),
        ),
    };
    KeyError::new(kind, path, cause, remedy)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    fn listing(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_first_start_makes_a_key_and_the_next_ones_keep_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("fleet.key");
        let (first, made) = FleetKey::read_or_generate(&file).unwrap();
        assert!(made);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        let (second, made) = FleetKey::read_or_generate(&file).unwrap();
        assert!(!made && first.to_text() == second.to_text());
        assert_eq!(listing(dir.path()), ["fleet.key"]);
    }

    #[test]
    fn daemons_that_start_at_once_agree_on_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("fleet.key");
        let start = |_| {
            let file = file.clone();
            std::thread::spawn(move || FleetKey::read_or_generate(&file).unwrap())
        };
        let threads: Vec<_> = (0..8).map(start).collect();
        let keys: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(keys.iter().filter(|(_, made)| *made).count(), 1);
        assert!(keys.iter().all(|(key, _)| key.to_text() == keys[0].0.to_text()));
        assert_eq!(listing(dir.path()), ["fleet.key"]);
    }

    #[test]
    fn what_is_there_is_never_overwritten_not_even_if_it_is_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("fleet.key");
        fs::write(&file, "precious").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(FleetKey::read_or_generate(&file).unwrap_err().kind, KeyErrorKind::Refused);
        assert_eq!(write_new(&file, "other").unwrap_err().kind, KeyErrorKind::Exists);
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        assert_eq!(listing(dir.path()), ["fleet.key"]);
        // A link that leads nowhere is something, too.
        let link = dir.path().join("link.key");
        std::os::unix::fs::symlink("/nowhere/x", &link).unwrap();
        assert_eq!(FleetKey::read_or_generate(&link).unwrap_err().kind, KeyErrorKind::Missing);
    }

    #[test]
    fn a_directory_that_is_missing_or_takes_nothing_is_told_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let error = FleetKey::read_or_generate(&dir.path().join("no/fleet.key")).unwrap_err();
        assert!(error.cause.contains("does not exist") && error.remedy.contains("install -d"), "{error}");
        // Not even root can make a file in /proc/sys.
        let error = FleetKey::read_or_generate(Path::new("/proc/sys/fleet.key")).unwrap_err();
        assert_eq!(error.kind, KeyErrorKind::System, "{error}");
        assert!(error.cause.contains("cannot be made in /proc/sys") && !error.cause.contains("os error"), "{error}");
        for kind in [io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied] {
            let error = refusal(Path::new("/etc/x/f.key"), Path::new("/etc/x"), &io::Error::from(kind));
            assert!(error.remedy.contains("key generate --to /etc/x/f.key"), "{error}");
        }
        assert_eq!(write_new(Path::new("/"), "").unwrap_err().kind, KeyErrorKind::System);
    }
}
