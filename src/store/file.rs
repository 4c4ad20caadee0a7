//! Opening: what is looked at, in which order, before a file is trusted; and the making of a new one.
//!
//! The file is looked at with plain reads first, as the engine may fold its log into a file that it opens. A new record
//! gets its name only when it is whole, so that an empty or half-made `record.db` is always damage.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::security::Sealer;
use crate::store::error::OpenError;
use crate::store::row::sum;
use crate::store::{KEY_FILE, RECORD_FILE, host_key, patch};

/// "NBSR": says to `file` and to us whose database it is.
const APPLICATION_ID: i32 = 0x4e42_5352;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER: usize = 100;

/// An open record.
pub(crate) struct Opened {
    pub(crate) writer: Connection,
    pub(crate) reader: Connection,
    pub(crate) sealer: Sealer,
    /// Held while the record is open; the kernel lets go of it when the process ends, however it ends.
    pub(crate) lock: File,
}

/// Opens the record in `dir`, or makes it.
pub(crate) fn open(dir: &Path) -> Result<Opened, OpenError> {
    let lock = lock(dir)?;
    let file = dir.join(RECORD_FILE);
    let sealer = match fs::symlink_metadata(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => first_start(dir, &file)?,
        Err(error) => return Err(OpenError::system(&file, &error)),
        Ok(_) => {
            look_at_header(&file)?;
            let missing = || OpenError::KeyMissing { key: dir.join(KEY_FILE), record: file.clone() };
            host_key::read(dir)?.ok_or_else(missing)?
        }
    };
    let mut writer = connect(&file)?;
    // Until it is found sound, not even the log may be folded in.
    let engine = |error: rusqlite::Error| OpenError::engine(&file, &error);
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(engine)?;
    check(&writer, dir, &file, &sealer)?;
    patch::apply(&mut writer).map_err(engine)?;
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(engine)?;
    fs::set_permissions(&file, Permissions::from_mode(0o600)).map_err(|error| OpenError::system(&file, &error))?;
    tune(&writer, &file)?;
    let reader = connect(&file)?;
    tune(&reader, &file)?;
    reader.pragma_update(None, "query_only", true).map_err(engine)?;
    Ok(Opened { writer, reader, sealer, lock })
}

/// Locks the directory: two daemons with one record would each believe to be the only one.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let handle = File::open(dir).map_err(|error| OpenError::system(dir, &error))?;
    match handle.try_lock() {
        Ok(()) => Ok(handle),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.into() }),
        Err(TryLockError::Error(error)) => Err(OpenError::system(dir, &error)),
    }
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes key and record. A key without a record is an interrupted first start, and is used.
fn first_start(dir: &Path, file: &Path) -> Result<Sealer, OpenError> {
    let log = beside(file, "-wal");
    if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
        return Err(OpenError::Orphan { log, record: file.into() });
    }
    let sealer = match host_key::read(dir)? {
        Some(sealer) => sealer,
        None => host_key::make(dir)?,
    };
    let fresh = beside(file, ".new");
    let made = make(dir, &fresh, file, &sealer);
    if made.is_err() {
        // What is half made serves nobody; the next start makes it anew in any case.
        let _ = fs::remove_file(&fresh);
    }
    made.map(|()| sealer)
}

fn make(dir: &Path, fresh: &Path, file: &Path, sealer: &Sealer) -> Result<(), OpenError> {
    let system = |error: std::io::Error| OpenError::system(file, &error);
    let engine = |error: rusqlite::Error| OpenError::engine(file, &error);
    for leftover in [fresh.to_path_buf(), beside(fresh, "-journal")] {
        match fs::remove_file(leftover) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(system(error)),
            _ => {}
        }
    }
    let handle = OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh).map_err(system)?;
    let mut connection = connect(fresh)
        .map_err(|_| OpenError::Unreachable { file: file.into(), cause: "the new file cannot be opened".into() })?;
    connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(engine)?;
    patch::apply(&mut connection).map_err(engine)?;
    let check_value = host_key::check_value(dir, sealer)?;
    let sql = "INSERT INTO meta (id, key_check, seq, seq_sum) VALUES (1, ?1, 0, ?2)";
    connection.execute(sql, params![check_value, sum("0")]).map_err(engine)?;
    connection.close().map_err(|(_, error)| engine(error))?;
    handle.sync_all().map_err(system)?;
    fs::rename(fresh, file).map_err(system)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(system)
}

/// What can be told without the engine.
fn look_at_header(file: &Path) -> Result<(), OpenError> {
    let damaged = |cause: &str| OpenError::Damaged { file: file.into(), cause: cause.into() };
    let metadata = fs::metadata(file).map_err(|error| OpenError::system(file, &error))?;
    if !metadata.is_file() {
        return Err(damaged(if metadata.is_dir() { "it is a directory" } else { "it is no regular file" }));
    }
    let mut header = Vec::with_capacity(HEADER);
    File::open(file)
        .and_then(|handle| handle.take(HEADER as u64).read_to_end(&mut header))
        .map_err(|error| OpenError::system(file, &error))?;
    if header.is_empty() {
        return Err(damaged("it is empty"));
    }
    if header.len() < HEADER {
        return Err(damaged("it is cut off"));
    }
    if !header.starts_with(MAGIC) {
        return Err(damaged("it is no SQLite database"));
    }
    if number(&header, 68) != Some(APPLICATION_ID.cast_unsigned()) {
        return Err(damaged("it is a database of another program"));
    }
    match number(&header, 60) {
        Some(found) if found > patch::SUPPORTED => {
            Err(OpenError::Newer { file: file.into(), found, supported: patch::SUPPORTED })
        }
        _ => Ok(()),
    }
}

fn number(header: &[u8], at: usize) -> Option<u32> {
    header.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

fn connect(file: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(file, flags).map_err(|error| OpenError::engine(file, &error))
}

/// What only the engine can tell.
fn check(connection: &Connection, dir: &Path, file: &Path, sealer: &Sealer) -> Result<(), OpenError> {
    let engine = |error: rusqlite::Error| OpenError::engine(file, &error);
    let damaged = |cause: String| OpenError::Damaged { file: file.into(), cause };
    if connection.is_readonly("main").map_err(engine)? {
        return Err(OpenError::Unreachable { file: file.into(), cause: "it cannot be written".into() });
    }
    // The log may hold a newer header than the file.
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(engine)?;
    if found > patch::SUPPORTED {
        return Err(OpenError::Newer { file: file.into(), found, supported: patch::SUPPORTED });
    }
    let verdict: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(engine)?;
    if verdict != "ok" {
        return Err(damaged(verdict.replace('\n', " ")));
    }
    // A table is found by the text that made it, and that text can rot like any other.
    if patch::schema(connection).map_err(engine)? != patch::expected(found).map_err(engine)? {
        return Err(damaged(format!("its tables are not those of schema {found}")));
    }
    let check_value: Option<String> = connection
        .query_row("SELECT key_check FROM meta WHERE id = 1", [], |row| row.get(0))
        .optional()
        .map_err(engine)?;
    let check_value = check_value.ok_or_else(|| damaged("it does not say which key it was made with".into()))?;
    if !host_key::fits(sealer, &check_value) {
        let cause = "the record was made with another one".into();
        return Err(OpenError::KeyWrong { key: dir.join(KEY_FILE), record: file.into(), cause });
    }
    Ok(())
}

/// Little memory, and nothing that was answered is lost when the power goes.
fn tune(connection: &Connection, file: &Path) -> Result<(), OpenError> {
    let set = || -> rusqlite::Result<()> {
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "cache_size", -512)?;
        connection.pragma_update_and_check(None, "mmap_size", 0, |_| Ok(())).optional()?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update_and_check(None, "journal_size_limit", 4 << 20, |_| Ok(()))?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(())
    };
    set().map_err(|error| OpenError::engine(file, &error))
}
