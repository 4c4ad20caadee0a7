//! Files that are not what they should be are refused by name, with the remedy, and stay as they are.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nbs_core::record::AppRow;
use nbsupervisor::ports::Record;
use nbsupervisor::store::{OpenError, Store};
use rusqlite::Connection;
use tempfile::tempdir;

use crate::samples::{app, app_change, event, event_change, filled, recovered};

fn refusal(dir: &Path) -> OpenError {
    Store::open(dir).map(drop).expect_err("the record is refused")
}

type Damage = fn(&Path);

#[tokio::test]
async fn a_damaged_file_is_refused_and_left_alone() {
    let table: &[(&str, Damage, &str)] = &[
        ("empty", |file| fs::write(file, b"").unwrap(), "empty"),
        ("a text", |file| fs::write(file, "not a database\n".repeat(999)).unwrap(), "no SQLite database"),
        ("a short text", |file| fs::write(file, "x").unwrap(), "cut off"),
        ("half of it", |file| shorten(file, 2), "damaged"),
        (
            "its first page",
            |file| fs::File::options().write(true).open(file).unwrap().set_len(4096).unwrap(),
            "damaged",
        ),
        ("its first bytes", |file| flip(file, 3), "no SQLite database"),
        ("the size of its pages", |file| flip(file, 16), "damaged"),
        ("another program's", other_program, "another program"),
        ("no meta", |file| execute(file, "DELETE FROM meta"), "which key"),
    ];
    for (name, damage, wanted) in table {
        let dir = tempdir().unwrap();
        filled(dir.path()).await;
        let file = dir.path().join("record.db");
        damage(&file);
        let before = fs::read(&file).unwrap();
        let error = refusal(dir.path());
        assert!(matches!(error, OpenError::Damaged { .. }), "{name}: {error:?}");
        let text = error.to_string();
        for part in [file.to_str().unwrap(), wanted, "move it away", "backup", "apply -f"] {
            assert!(text.contains(part), "{name}: {text}");
        }
        assert_eq!(refusal(dir.path()), error, "{name}: the second time as the first");
        assert_eq!(fs::read(&file).unwrap(), before, "{name}: untouched");
    }
}

fn shorten(file: &Path, part: u64) {
    let handle = fs::File::options().write(true).open(file).unwrap();
    handle.set_len(handle.metadata().unwrap().len() / part + 100).unwrap();
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x55;
    fs::write(file, bytes).unwrap();
}

fn execute(file: &Path, sql: &str) {
    Connection::open(file).unwrap().execute_batch(sql).unwrap();
}

fn other_program(file: &Path) {
    fs::remove_file(file).unwrap();
    execute(file, "CREATE TABLE bookmarks (url TEXT)");
}

/// So many rows are understood in batches and on all cores: none is passed over, their order stays, and one that is
/// damaged is named.
#[tokio::test]
async fn one_damaged_row_among_thousands_is_found_and_named() {
    let dir = tempdir().unwrap();
    let apps: Vec<AppRow> = (0..9_000_u64).map(|n| app(&format!("a{n:04}"), 1, n)).collect();
    {
        let store = Store::open(dir.path()).unwrap();
        store.commit(apps.iter().map(app_change).collect()).await.unwrap();
    }
    assert_eq!(recovered(dir.path()).await.apps, apps);
    for name in ["a0000", "a4095", "a4096", "a7777", "a8999"] {
        let file = dir.path().join("record.db");
        let change = |sign| format!("UPDATE apps SET sum = sum {sign} 1 WHERE name = '{name}'");
        execute(&file, &change("+"));
        let text = Store::open(dir.path()).unwrap().load().await.unwrap_err().to_string();
        assert!(text.contains(&format!("apps {name}")) && text.contains("not what was written"), "{text}");
        execute(&file, &change("-"));
    }
    assert_eq!(recovered(dir.path()).await.apps, apps);
}

/// Every byte in turn would take long; a stride that is prime to the size of a page meets every kind of place.
#[tokio::test]
async fn a_rotten_byte_is_refused_or_changes_nothing() {
    let dir = tempdir().unwrap();
    let sound = filled(dir.path()).await;
    let file = dir.path().join("record.db");
    let bytes = fs::read(&file).unwrap();
    let (mut refused, mut unread, mut harmless) = (0, 0, 0);
    for at in (0..bytes.len()).step_by(97) {
        let mut rotten = bytes.clone();
        rotten[at] ^= 0x41;
        fs::write(&file, &rotten).unwrap();
        match Store::open(dir.path()) {
            Err(_) => {
                refused += 1;
                assert_eq!(fs::read(&file).unwrap(), rotten, "byte {at}: untouched");
            }
            Ok(store) => match (store.load().await, store.tokens().await) {
                (Ok(found), Ok(_)) => {
                    harmless += 1;
                    assert_eq!(found, sound, "byte {at}");
                }
                (Err(error), _) | (_, Err(error)) => {
                    unread += 1;
                    let text = error.to_string();
                    assert!(text.contains(file.to_str().unwrap()) && text.contains("move it away"), "{at}: {text}");
                }
            },
        }
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{suffix}", file.display()));
        }
    }
    assert!(refused > 0 && unread > 0 && harmless > 0, "{refused} refused, {unread} unread, {harmless} harmless");
}

#[tokio::test]
async fn rot_in_a_row_that_is_read_later_is_told() {
    let dir = tempdir().unwrap();
    filled(dir.path()).await;
    execute(&dir.path().join("record.db"), "UPDATE operations SET body = replace(body, 'root', 'toor')");
    let store = Store::open(dir.path()).unwrap();
    let error = store.operations(None, None, 9).await.unwrap_err().to_string();
    assert!(error.contains("operations 1") && error.contains("record.db") && error.contains("backup"), "{error}");
    assert_eq!(store.events(None, 0, 9).await.unwrap().len(), 1, "what is sound can be read");
}

#[tokio::test]
async fn a_fact_is_believed_only_as_it_was_written() {
    for damage in [
        "UPDATE facts SET body = replace(body, '\"epoch\":8', '\"epoch\":7')",
        "UPDATE facts SET name = 'env_c' WHERE name = 'env_a'",
        "UPDATE facts SET name = 'erp' WHERE kind = 'grant'",
        "UPDATE facts SET name = 'x' WHERE kind = 'epoch'",
        "UPDATE facts SET kind = 'grand' WHERE kind = 'grant'",
        "UPDATE facts SET kind = 'grant' WHERE kind = 'epoch'",
    ] {
        let dir = tempdir().unwrap();
        filled(dir.path()).await;
        execute(&dir.path().join("record.db"), damage);
        let error = Store::open(dir.path()).unwrap().load().await.map(drop).unwrap_err().to_string();
        assert!(
            error.contains("facts ") && error.contains("record.db") && error.contains("backup"),
            "{damage}: {error}"
        );
    }
}

#[tokio::test]
async fn a_directory_in_its_place_is_refused() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("record.db")).unwrap();
    let text = refusal(dir.path()).to_string();
    assert!(text.contains("it is a directory") && text.contains("move it away"), "{text}");
    let missing = dir.path().join("missing");
    let text = refusal(&missing).to_string();
    assert!(text.contains(missing.to_str().unwrap()) && text.contains("No such file"), "{text}");
}

#[tokio::test]
async fn a_log_without_its_record_is_refused() {
    let dir = tempdir().unwrap();
    filled(dir.path()).await;
    let (file, log) = (dir.path().join("record.db"), dir.path().join("record.db-wal"));
    let kept = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    fs::write(&log, "commits that were answered").unwrap();
    let error = refusal(dir.path());
    assert_eq!(error, OpenError::Orphan { log: log.clone(), record: file.clone() });
    assert!(!file.exists(), "no new record is made beside it");
    fs::remove_file(&log).unwrap();
    fs::write(&file, kept).unwrap();
    assert_eq!(recovered(dir.path()).await.apps.len(), 1);
}

#[tokio::test]
async fn an_interrupted_first_start_is_taken_up() {
    let dir = tempdir().unwrap();
    recovered(dir.path()).await;
    fs::rename(dir.path().join("record.db"), dir.path().join("record.db.new")).unwrap();
    shorten(&dir.path().join("record.db.new"), 3);
    let key = fs::read(dir.path().join("host.key")).unwrap();
    fs::write(dir.path().join("host.key.new"), "half").unwrap();
    recovered(dir.path()).await;
    assert_eq!(fs::read(dir.path().join("host.key")).unwrap(), key, "the key that is there is used");
    assert!(!dir.path().join("record.db.new").exists());
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let dir = tempdir().unwrap();
    filled(dir.path()).await;
    let file = dir.path().join("record.db");
    execute(&file, "PRAGMA user_version = 7");
    let before = fs::read(&file).unwrap();
    let error = refusal(dir.path());
    assert_eq!(error, OpenError::Newer { file: file.clone(), found: 7, supported: 2 });
    let text = error.to_string();
    assert!(text.contains("schema 7") && text.contains("up to 2") && text.contains("newer nbsupervisor"), "{text}");
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[tokio::test]
async fn the_key_is_never_replaced() {
    let dir = tempdir().unwrap();
    let sound = filled(dir.path()).await;
    let (file, key) = (dir.path().join("record.db"), dir.path().join("host.key"));
    let before = fs::read(&file).unwrap();
    let right = fs::read(&key).unwrap();
    let table: [(Option<&[u8]>, &str); 4] =
        [(None, "missing"), (Some(&[0; 32]), "another one"), (Some(b"short"), "5 bytes"), (Some(b""), "0 bytes")];
    for (content, wanted) in table {
        match content {
            Some(content) => fs::write(&key, content).unwrap(),
            None => fs::remove_file(&key).unwrap(),
        }
        let text = refusal(dir.path()).to_string();
        for part in [file.to_str().unwrap(), key.to_str().unwrap(), wanted, "restore the key"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(fs::read(&key).ok().as_deref(), content, "no new key");
        assert_eq!(fs::read(&file).unwrap(), before);
    }
    fs::write(&key, right).unwrap();
    assert_eq!(recovered(dir.path()).await, sound);
}

/// Root may read everything, so another user must try.
const DIRECTORY: &str = "NBS_STORE_TEST_UNREADABLE";

/// Not a test by itself: the process of the other user.
#[test]
fn the_child_is_refused() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    println!("refused: {}", refusal(dir.as_ref()));
}

#[tokio::test]
async fn a_file_of_another_user_is_refused() {
    let dir = tempdir().unwrap();
    filled(dir.path()).await;
    // The test binary itself may lie where the other user cannot go.
    let program = dir.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for (path, mode) in [(dir.path(), 0o755), (program.as_path(), 0o755), (&dir.path().join("record.db"), 0o000)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut child = Command::new(program);
    child.args(["--exact", "damage::the_child_is_refused", "--nocapture"]).env(DIRECTORY, dir.path());
    if nix::unistd::geteuid().is_root() {
        child.uid(65534).gid(65534);
    }
    let text = String::from_utf8(child.output().unwrap().stdout).unwrap();
    for part in ["refused: ", "record.db", "Permission denied", "daemon's user"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn the_log_of_a_killed_daemon_is_read_and_that_of_a_damaged_file_kept() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.commit(vec![app_change(&app("crm", 1, 1)), event_change(&event(1, None))]).await.unwrap();
    // What a killed daemon leaves: the files as they are now.
    let left = tempdir().unwrap();
    for name in ["record.db", "record.db-wal", "host.key"] {
        fs::copy(dir.path().join(name), left.path().join(name)).unwrap();
    }
    let (file, log) = (left.path().join("record.db"), left.path().join("record.db-wal"));
    let key = fs::read(left.path().join("host.key")).unwrap();
    fs::write(left.path().join("host.key"), [1; 32]).unwrap();
    let before = (fs::read(&file).unwrap(), fs::read(&log).unwrap());
    assert!(matches!(refusal(left.path()), OpenError::KeyWrong { .. }));
    assert_eq!((fs::read(&file).unwrap(), fs::read(&log).unwrap()), before, "a refusal folds no log in");
    fs::write(left.path().join("host.key"), key).unwrap();
    assert_eq!(recovered(left.path()).await.apps, [app("crm", 1, 1)]);
}
