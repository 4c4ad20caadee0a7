//! The one thread that writes: what waits goes into one transaction, and each caller is answered after its commit.

use std::path::PathBuf;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::ports::RecordError;
use crate::store::error::fault;
use crate::store::prune::Prune;
use crate::store::row::{Write, sum};

/// Requests that share one transaction.
pub(crate) const GROUP_MAX: usize = 256;

/// What one caller wants written, all or none. Answered with whether the last write changed a row.
pub(crate) struct Request {
    pub(crate) writes: Vec<Write>,
    pub(crate) reply: oneshot::Sender<Result<bool, RecordError>>,
}

/// The writing end of the record.
pub(crate) struct Writer {
    connection: Connection,
    file: PathBuf,
    /// The highest sequence number that is known to be in `meta`.
    seq: i64,
    prune: Prune,
}

enum Fault {
    Engine(rusqlite::Error),
    /// Two operations with one number.
    Twice(i64),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine(error)
    }
}

impl Writer {
    pub(crate) fn new(connection: Connection, file: PathBuf) -> Self {
        Self { connection, file, seq: 0, prune: Prune::new() }
    }

    /// Serves until the last sender is gone.
    pub(crate) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        loop {
            // While old rows are left, a moment without requests is used for them.
            match requests.try_recv() {
                Ok(request) => group.push(request),
                Err(mpsc::error::TryRecvError::Disconnected) => break,
                Err(mpsc::error::TryRecvError::Empty) if self.prune.is_due() => {}
                Err(mpsc::error::TryRecvError::Empty) => match requests.blocking_recv() {
                    Some(request) => group.push(request),
                    None => break,
                },
            }
            while group.len() < GROUP_MAX
                && let Ok(request) = requests.try_recv()
            {
                group.push(request);
            }
            self.serve(&mut group);
            if self.prune.is_due() && self.prune.step(&self.connection).is_err() {
                // A full disk, most likely: the rows stay, and the next commit tells its caller.
                self.roll_back();
            }
        }
        // Folds the log into the file; if that fails, the next opening does it.
        let _ = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }

    fn serve(&mut self, group: &mut Vec<Request>) {
        if group.is_empty() {
            return;
        }
        match self.transact(group) {
            Ok(changed) => {
                for (request, changed) in group.drain(..).zip(changed) {
                    // The caller may have gone; what was asked is done all the same.
                    let _ = request.reply.send(Ok(changed));
                }
            }
            // One caller's fault must not be another's: each alone, then.
            Err(_) if group.len() > 1 => {
                for request in group.drain(..) {
                    let verdict = self.transact(std::slice::from_ref(&request));
                    let verdict = verdict.map(|changed| changed == [true]).map_err(|fault| self.told(&fault));
                    let _ = request.reply.send(verdict);
                }
            }
            Err(fault) => {
                for request in group.drain(..) {
                    let _ = request.reply.send(Err(self.told(&fault)));
                }
            }
        }
    }

    fn told(&self, error: &Fault) -> RecordError {
        match error {
            Fault::Engine(error) => fault("write", &self.file, error),
            Fault::Twice(seq) => {
                let cause = format!("there is another operation with number {seq}");
                RecordError::Failed { operation: "write", file: self.file.clone(), cause }
            }
        }
    }

    /// Commits all of the group or nothing.
    fn transact(&mut self, group: &[Request]) -> Result<Vec<bool>, Fault> {
        let result = self.attempt(group);
        match &result {
            Ok(_) => {
                let writes = group.iter().flat_map(|request| &request.writes);
                self.prune.grew(writes.filter(|write| write.grows()).count());
            }
            Err(_) => self.roll_back(),
        }
        result
    }

    fn attempt(&mut self, group: &[Request]) -> Result<Vec<bool>, Fault> {
        let connection = &self.connection;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut changed = Vec::with_capacity(group.len());
        let mut highest = self.seq;
        for request in group {
            let mut last = false;
            for write in &request.writes {
                last = write.apply(connection)?;
                if let (Write::Operation { seq, .. }, false) = (write, last) {
                    return Err(Fault::Twice(*seq));
                }
                highest = highest.max(write.seq());
            }
            changed.push(last);
        }
        if highest > self.seq {
            let sql = "UPDATE meta SET seq = ?1, seq_sum = ?2 WHERE seq < ?1";
            connection.prepare_cached(sql)?.execute([highest, sum(&highest.to_string())])?;
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        self.seq = highest;
        Ok(changed)
    }

    /// After some errors the engine has rolled back itself; then there is nothing to do.
    fn roll_back(&self) {
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }
}
