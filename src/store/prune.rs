//! Old rows go, a few at a time, so that no commit ever waits long for them.

use nbs_core::limits::{EVENTS_KEPT, IDEMPOTENCY_KEPT, OPERATIONS_KEPT};
use rusqlite::{Connection, OptionalExtension};

/// Rows taken at once: about a millisecond.
const STEP: usize = 256;
/// Rows written between two looks at what is old. Finding the oldest operation to keep costs a walk over all that are.
const PAUSE: usize = 2048;

/// When to take rows away, and which.
pub(crate) struct Prune {
    written: usize,
    under_way: bool,
}

impl Prune {
    /// Begins with a look: a former life may have ended before it was done.
    pub(crate) fn new() -> Self {
        Self { written: 0, under_way: true }
    }

    /// Tells how many rows came.
    pub(crate) fn grew(&mut self, rows: usize) {
        self.written += rows;
        self.under_way |= self.written >= PAUSE;
    }

    /// Whether there is something to do.
    pub(crate) fn is_due(&self) -> bool {
        self.under_way
    }

    /// Takes a few rows of each table away, in a transaction of its own.
    pub(crate) fn step(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.written = 0;
        // Also when it fails: then the next look comes with the next rows, not at once.
        self.under_way = false;
        let transaction = connection.unchecked_transaction()?;
        let most = [events(connection)?, operations(connection)?, keys(connection)?].into_iter().max();
        transaction.commit()?;
        self.under_way = most.is_some_and(|most| most == STEP);
        Ok(())
    }
}

fn events(connection: &Connection) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM events WHERE seq IN
        (SELECT seq FROM events WHERE seq <= (SELECT max(seq) FROM events) - ?1 ORDER BY seq LIMIT ?2)";
    connection.prepare_cached(sql)?.execute([EVENTS_KEPT as i64, STEP as i64])
}

fn operations(connection: &Connection) -> rusqlite::Result<usize> {
    let oldest = "SELECT seq FROM operations WHERE ended = 1 ORDER BY seq DESC LIMIT 1 OFFSET ?1";
    let oldest: Option<i64> =
        connection.prepare_cached(oldest)?.query_row([OPERATIONS_KEPT as i64], |row| row.get(0)).optional()?;
    let Some(oldest) = oldest else { return Ok(0) };
    let sql = "DELETE FROM operations WHERE seq IN
        (SELECT seq FROM operations WHERE ended = 1 AND seq <= ?1 ORDER BY seq LIMIT ?2)";
    connection.prepare_cached(sql)?.execute(rusqlite::params![oldest, STEP as i64])
}

/// The newest key stands for the present: the record needs no clock, and a clock that jumps takes no key that counts.
fn keys(connection: &Connection) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM keys WHERE rowid IN
        (SELECT rowid FROM keys WHERE at < (SELECT max(at) FROM keys) - ?1 ORDER BY at LIMIT ?2)";
    connection.prepare_cached(sql)?.execute([IDEMPOTENCY_KEPT.as_millis() as i64, STEP as i64])
}
