//! No secret is in any file but the key's owner's.

use std::fs;

use nbs_core::record::Change;
use nbsupervisor::ports::Record;
use nbsupervisor::store::Store;
use rusqlite::Connection;
use tempfile::tempdir;

use crate::samples::{DB_SECRET, JWT, SECRET, app, app_change, filled, instance};

#[tokio::test]
async fn no_file_shows_a_secret() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.commit(vec![app_change(&app("crm", 1, 1))]).await.unwrap();
    store.commit(vec![Change::Instance(Box::new(instance("crm", 1)))]).await.unwrap();
    let look = |when: &str, names: &[&str]| {
        for name in names {
            let bytes = fs::read(dir.path().join(name)).unwrap();
            assert!(!bytes.is_empty(), "{when}: {name}");
            for text in [SECRET, JWT, DB_SECRET] {
                assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{when}: {name}");
            }
        }
    };
    look("open", &["record.db", "record.db-wal"]);
    drop(store);
    look("closed", &["record.db"]);
}

#[tokio::test]
async fn one_app_cannot_be_given_the_secrets_of_another() {
    let dir = tempdir().unwrap();
    filled(dir.path()).await;
    let store = Store::open(dir.path()).unwrap();
    store.commit(vec![app_change(&app("erp", 1, 2))]).await.unwrap();
    drop(store);
    // Somebody who may write the file, and knows how sums are made, but has no key.
    let connection = Connection::open(dir.path().join("record.db")).unwrap();
    let body: String = connection.query_row("SELECT body FROM apps WHERE name = 'crm'", [], |r| r.get(0)).unwrap();
    let body = body.replace("\"name\":\"crm\"", "\"name\":\"erp\"");
    let mix = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let sum = body.bytes().fold(0xcbf2_9ce4_8422_2325, mix).cast_signed();
    connection.execute("UPDATE apps SET body = ?1, sum = ?2 WHERE name = 'erp'", rusqlite::params![body, sum]).unwrap();
    drop(connection);
    let error = Store::open(dir.path()).unwrap().load().await.unwrap_err().to_string();
    assert!(error.contains("apps erp") && error.contains("cannot be decrypted"), "{error}");
}
