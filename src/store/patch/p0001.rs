//! The first schema. Each row is a JSON body with the columns that are searched by, and a sum of the body, as the
//! engine itself notices damage to its pages but not to the text in them.

use rusqlite::Transaction;

const SQL: &str = "
CREATE TABLE IF NOT EXISTS meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    key_check TEXT NOT NULL,
    seq INTEGER NOT NULL,
    seq_sum INTEGER NOT NULL,
    boot TEXT,
    boot_sum INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS apps (
    name TEXT NOT NULL PRIMARY KEY,
    sum INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS operations (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    app TEXT NOT NULL,
    ended INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS operations_ended ON operations (ended, seq);
CREATE INDEX IF NOT EXISTS operations_app ON operations (app, seq);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,
    app TEXT,
    sum INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS events_app ON events (app, seq);
CREATE TABLE IF NOT EXISTS keys (
    actor TEXT NOT NULL,
    key TEXT NOT NULL,
    at INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (actor, key)
) STRICT;
CREATE INDEX IF NOT EXISTS keys_at ON keys (at);
CREATE TABLE IF NOT EXISTS instances (
    app TEXT NOT NULL PRIMARY KEY,
    sum INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS tokens (
    name TEXT NOT NULL PRIMARY KEY,
    sum INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
";

pub(super) fn apply(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(SQL)
}
