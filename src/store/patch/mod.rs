//! The schema, step by step; one file per step, and a step that was released is never changed.
//!
//! Each step runs in one transaction together with the number that says it was done, and could run twice.

mod p0001;
mod p0002;

use rusqlite::{Connection, Transaction, TransactionBehavior};

type Step = fn(&Transaction<'_>) -> rusqlite::Result<()>;

const STEPS: &[Step] = &[p0001::apply, p0002::apply];

/// The schema of this version.
pub(crate) const SUPPORTED: u32 = STEPS.len() as u32;

/// Each table and index with the text that made it.
pub(crate) type Schema = Vec<(String, Option<String>)>;

/// The schema that a file has.
pub(crate) fn schema(connection: &Connection) -> rusqlite::Result<Schema> {
    let mut statement = connection.prepare("SELECT type || ' ' || name, sql FROM sqlite_schema ORDER BY 1")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// The schema that a file has after the first `done` steps.
pub(crate) fn expected(done: u32) -> rusqlite::Result<Schema> {
    let mut connection = Connection::open_in_memory()?;
    let transaction = connection.transaction()?;
    for step in STEPS.iter().take(done as usize) {
        step(&transaction)?;
    }
    schema(&transaction)
}

/// Takes the steps that this file has not seen.
pub(crate) fn apply(connection: &mut Connection) -> rusqlite::Result<()> {
    let done: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for (number, step) in (1u32..).zip(STEPS).skip(done as usize) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        step(&transaction)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_step_can_run_twice() {
        let mut connection = Connection::open_in_memory().unwrap();
        apply(&mut connection).unwrap();
        connection.pragma_update(None, "user_version", 0).unwrap();
        apply(&mut connection).unwrap();
        let done: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(done, SUPPORTED);
    }
}
