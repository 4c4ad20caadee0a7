//! The host's key: 32 random bytes in a file of their own, made once and never again while a record needs them.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::security::Sealer;
use crate::store::error::OpenError;
use crate::store::{KEY_FILE, RECORD_FILE};
use crate::wire::record::Cipher;

/// What the record keeps sealed, to know its key by.
const CHECK: &str = "nbsupervisor";
const CHECK_PLACE: &str = "record/key-check";

/// Reads the key; none if there is no such file.
pub(crate) fn read(dir: &Path) -> Result<Option<Sealer>, OpenError> {
    let key = dir.join(KEY_FILE);
    let bytes = match fs::read(&key) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::system(&key, &error)),
    };
    match <[u8; 32]>::try_from(bytes.as_slice()) {
        Ok(bytes) => Ok(Some(Sealer::new(&bytes))),
        Err(_) => {
            let cause = format!("it has {} bytes instead of 32", bytes.len());
            Err(OpenError::KeyWrong { key, record: dir.join(RECORD_FILE), cause })
        }
    }
}

/// Makes the key. It has its name only once it is whole and on the disk.
pub(crate) fn make(dir: &Path) -> Result<Sealer, OpenError> {
    let key = dir.join(KEY_FILE);
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| OpenError::Unreachable { file: key.clone(), cause: format!("no random numbers: {error}") })?;
    write(dir, &key, &bytes).map_err(|error| OpenError::system(&key, &error))?;
    Ok(Sealer::new(&bytes))
}

fn write(dir: &Path, key: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let fresh = dir.join(format!("{KEY_FILE}.new"));
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, key)?;
    File::open(dir)?.sync_all()
}

/// What a new record keeps to know this key by.
pub(crate) fn check_value(dir: &Path, sealer: &Sealer) -> Result<String, OpenError> {
    let unreachable = |cause| OpenError::Unreachable { file: dir.join(KEY_FILE), cause };
    sealer.encrypt(CHECK, CHECK_PLACE).map_err(|error| unreachable(error.to_string()))
}

/// Whether the record was made with this key.
pub(crate) fn fits(sealer: &Sealer, check_value: &str) -> bool {
    sealer.decrypt(check_value, CHECK_PLACE).is_ok_and(|text| text == CHECK)
}
