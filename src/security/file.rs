//! Reading key files: what they must look like, and who may have been able to read or change them.
//!
//! A file has one line `fleet = "…"`, or the three of a worker. It is read strictly, by hand, because a key must never
//! be quoted in an error, as general parsers do. Deliberately absent: making files (`create`).

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nbs_core::name::EnvironmentName;
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::security::error::{KeyError, KeyErrorKind, words};
use crate::security::keys::{FleetKey, WorkerKey};
use crate::security::secret::Secret;
use crate::security::sign::Verifier;

/// No key file is larger, in bytes.
const LIMIT: u64 = 4096;
const FIELDS: [&str; 4] = ["fleet", "environment", "entry", "key"];
const ANEW: &str = "let `nbsupervisor key export-worker` write it anew on the entry";

/// What a key file holds.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a daemon reads one, at its start")]
pub enum KeyFile {
    /// The fleet's key. At a worker this is a mistake: see `WorkerKey::read`.
    Fleet(FleetKey),
    /// The key of one environment's worker.
    Worker(WorkerKey),
}

impl KeyFile {
    /// Reads a key file.
    ///
    /// # Errors
    /// It is not there, is not a file, belongs to somebody else, is open to others, or does not hold a key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = read_closed(path)?;
        parse(path, &text)
    }
}

impl FleetKey {
    /// Reads the entry's key file.
    ///
    /// # Errors
    /// As `KeyFile::read`, or it is the file of a worker.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        match KeyFile::read(path)? {
            KeyFile::Fleet(key) => Ok(key),
            KeyFile::Worker(key) => Err(KeyError::refused(
                path,
                format!("it is the key of the worker of environment {}, not the fleet key", key.environment_name()),
                "put the fleet key here, or run this daemon as that worker",
            )),
        }
    }
}

impl WorkerKey {
    /// Reads the key file of the worker of an environment. A fleet key will do, as it holds every worker's, but it makes
    /// this host as powerful as the entry: the second part is then a warning, to be told loudly.
    ///
    /// # Errors
    /// As `KeyFile::read`, or it is the file of another environment.
    pub fn read(path: &Path, environment: &EnvironmentName) -> Result<(Self, Option<String>), KeyError> {
        match KeyFile::read(path)? {
            KeyFile::Worker(key) if key.environment_name() == environment => Ok((key, None)),
            KeyFile::Worker(key) => Err(KeyError::refused(
                path,
                format!("it is the key of environment {}, this host is {environment}", key.environment_name()),
                format!("run `nbsupervisor key export-worker {environment}` on the entry and put its result here"),
            )),
            KeyFile::Fleet(key) => {
                let warning = format!(
                    "the key file {} of this worker holds the key of the whole fleet: whoever breaks into this host can \
                     give orders to every other; run `nbsupervisor key export-worker {environment}` on the entry, put its \
                     result here, and take the fleet key away",
                    path.display()
                );
                Ok((key.worker(environment), Some(warning)))
            }
        }
    }
}

/// The text of a file that nobody else can have read or written.
fn read_closed(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    // A pipe would hold the opening until somebody writes.
    let opened = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path);
    let file = opened.map_err(|error| unreachable(path, &error))?;
    check(path, &file)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(LIMIT as usize + 1));
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| unreachable(path, &error))?;
    let refused = |cause: String| KeyError::refused(path, cause, ANEW);
    if bytes.len() as u64 > LIMIT {
        return Err(refused(format!("it has more than the {LIMIT} bytes of a key file")));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| refused("it is not a text".into()))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn unreachable(path: &Path, error: &io::Error) -> KeyError {
    let cause = words(error);
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => KeyError::new(
            KeyErrorKind::Missing,
            path,
            "there is no such file",
            "`nbsupervisor key generate` makes the entry's, `nbsupervisor key export-worker` on the entry a worker's",
        ),
        io::ErrorKind::PermissionDenied => {
            KeyError::new(KeyErrorKind::System, path, cause, "let its owner be the user that runs this, or be root")
        }
        _ => KeyError::new(KeyErrorKind::System, path, cause, "see to it that it can be read"),
    }
}

/// Asks the opened file, not its name: between two questions another could be put there.
fn check(path: &Path, file: &File) -> Result<(), KeyError> {
    let found = file.metadata().map_err(|error| unreachable(path, &error))?;
    if !found.is_file() {
        return Err(KeyError::refused(path, "it is not a regular file", "name the key file itself"));
    }
    closed(path, found.uid(), rustix::process::geteuid().as_raw(), found.mode() & 0o7777)
}

/// Whether a file of this user and mode can only have been read and written by root or by user `own`.
fn closed(path: &Path, owner: u32, own: u32, mode: u32) -> Result<(), KeyError> {
    if owner != 0 && owner != own {
        let cause = format!("it belongs to user {owner}, who can change it, and not to root or user {own}");
        let remedy = format!("make sure of what is in it, then `chown {own} {}`", path.display());
        return Err(KeyError::refused(path, cause, remedy));
    }
    if mode & 0o077 != 0 {
        let cause = format!("its mode {mode:04o} lets others at it");
        let remedy = format!(
            "`chmod 600 {}`, and if somebody may have read it, replace the key (docs/security.md)",
            path.display()
        );
        return Err(KeyError::refused(path, cause, remedy));
    }
    Ok(())
}

/// A field and the line that it stands in.
type Field<'a> = Option<(usize, &'a str)>;

fn parse(path: &Path, text: &str) -> Result<KeyFile, KeyError> {
    let [fleet, environment, entry, key] = fields(path, text)?;
    if let Some((line, text)) = fleet {
        return match (environment.or(entry).or(key), secret(path, "fleet", line, text)?) {
            (None, secret) => Ok(KeyFile::Fleet(FleetKey::new(secret))),
            (Some((line, _)), _) => Err(KeyError::refused(
                path,
                format!("line {line}: the file holds a fleet key and a worker's as well"),
                "keep `fleet` at the entry, or the three other lines at a worker",
            )),
        };
    }
    let missing = |field: &str| KeyError::refused(path, format!("{field} is missing"), ANEW);
    let (env_line, env) = environment.ok_or_else(|| missing("environment"))?;
    let (entry_line, entry) = entry.ok_or_else(|| missing("entry"))?;
    let (key_line, key) = key.ok_or_else(|| missing("key"))?;
    let name = EnvironmentName::parse(env).map_err(|error| {
        KeyError::refused(path, format!("line {env_line}: environment: it is not {}", error.kind), error.rule)
    })?;
    let verifier = Verifier::parse(entry).ok_or_else(|| {
        KeyError::refused(
            path,
            format!("line {entry_line}: entry: it is not a public key of 64 hexadecimal digits"),
            ANEW,
        )
    })?;
    Ok(KeyFile::Worker(WorkerKey::new(name, verifier, secret(path, "key", key_line, key)?)))
}

fn secret(path: &Path, field: &str, line: usize, text: &str) -> Result<Secret, KeyError> {
    let remedy = if field == "fleet" {
        "take the file from your backup, or let `nbsupervisor key generate` make one"
    } else {
        ANEW
    };
    let refused = |cause: &str| KeyError::refused(path, format!("line {line}: {field}: {cause}"), remedy);
    let key = Secret::parse(text).ok_or_else(|| refused("it is not 64 hexadecimal digits"))?;
    if key.is_placeholder() { Err(refused("it is a placeholder, not a random key")) } else { Ok(key) }
}

/// The values by `FIELDS`. Nothing of a line is told but a name that is none of a value.
fn fields<'a>(path: &Path, text: &'a str) -> Result<[Field<'a>; 4], KeyError> {
    let mut found = [None; FIELDS.len()];
    for (line, content) in text.lines().enumerate().map(|(at, content)| (at + 1, content.trim())) {
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let refused = |cause: String, remedy: &str| KeyError::refused(path, format!("line {line}: {cause}"), remedy);
        let form = "write it as name = \"value\", or put a # before a remark";
        let (name, value) = content.split_once('=').ok_or_else(|| refused("it is not a setting".into(), form))?;
        let name = name.trim_end();
        let Some(at) = FIELDS.iter().position(|field| *field == name) else {
            let is_word = name.len() <= 20 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            let cause = if is_word { format!("{name} is unknown") } else { "it is no known setting".into() };
            return Err(refused(cause, "there are fleet; or environment, entry and key"));
        };
        let value = value.trim_start().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let value = value.filter(|value| !value.contains(['"', '\\']));
        let value = value.ok_or_else(|| refused(format!("{name}: its value is not between two quotes"), form))?;
        if let Some((before, _)) = found[at].replace((line, value)) {
            return Err(refused(format!("{name} stands in line {before} already"), "keep one of the two"));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
