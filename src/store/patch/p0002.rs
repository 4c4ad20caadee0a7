//! Many hosts: environments, granted turns, and who reigns. They are few, and so are in one table, by kind.

use rusqlite::Transaction;

const SQL: &str = "
CREATE TABLE IF NOT EXISTS facts (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    sum INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;
";

pub(super) fn apply(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(SQL)
}
