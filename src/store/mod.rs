//! The record on disk: one SQLite file for what was accepted, one key beside it for the secrets in it.
//!
//! Decides how rows become tables, when a transaction is closed, and which files are refused. One thread writes, and
//! gathers what waits into one transaction, so that many callers share one flush to the disk; one thread reads.
//! Deliberately absent: what the rows mean (core), their shape (wire), and any repair: a damaged file is refused and
//! left as it is, as nobody but the operator can tell what may be lost.

mod error;
mod file;
mod host_key;
mod patch;
mod prune;
mod reader;
mod row;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use nbs_core::id::{OperationId, Seq};
use nbs_core::name::AppId;
use nbs_core::record::{Change, Recovered};
use nbs_core::secret::SecretText;
use nbs_core::view::{EventView, OperationView};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::ports::{BoxFuture, Record, RecordError, TokenRow};
use crate::security::Sealer;
use crate::wire::record::RowError;

pub use error::OpenError;

use reader::Query;
use row::Write;
use writer::Request;

/// The name of the record in its directory.
pub const RECORD_FILE: &str = "record.db";
/// The name of the host's key beside it.
pub const KEY_FILE: &str = "host.key";

/// Commits that may wait; a further caller waits for its place. As many as one transaction takes.
const WAITING_MAX: usize = writer::GROUP_MAX;
/// Both threads hold no large frames; the default of 2 MiB is address space for nothing.
const STACK: usize = 512 << 10;

/// The record of this host. Dropping it finishes what was asked, folds the log into the file and closes it.
pub struct Store {
    file: PathBuf,
    sealer: Arc<Sealer>,
    requests: Option<mpsc::Sender<Request>>,
    queries: Option<mpsc::Sender<Query>>,
    threads: Vec<JoinHandle<()>>,
    _lock: File,
}

impl Store {
    /// Secrets of this host, by name: derived from its key, and kept nowhere.
    pub fn secrets(&self) -> Arc<dyn Fn(&str) -> SecretText + Send + Sync> {
        let sealer = self.sealer.clone();
        Arc::new(move |name| sealer.derive(name))
    }

    /// Opens the record in a directory, and makes record and key at the first start.
    ///
    /// # Errors
    /// The files are damaged, of a newer version, locked by another daemon or out of reach; nothing was changed then.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let file = dir.join(RECORD_FILE);
        let opened = file::open(dir)?;
        let sealer = Arc::new(opened.sealer);
        let (requests, asked) = mpsc::channel(WAITING_MAX);
        let (queries, questions) = mpsc::channel(WAITING_MAX);
        let writer = writer::Writer::new(opened.writer, file.clone());
        let mut reader: Connection = opened.reader;
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            let builder = std::thread::Builder::new().name(name.into()).stack_size(STACK);
            builder.spawn(body).map_err(|cause| OpenError::Unreachable { file: file.clone(), cause: cause.to_string() })
        };
        let reading = spawn("record-reader", Box::new(move || reader::run(&mut reader, questions)))?;
        let writing = spawn("record-writer", Box::new(move || writer.run(asked)))?;
        Ok(Self {
            file,
            sealer,
            requests: Some(requests),
            queries: Some(queries),
            // The reader is joined first: the last connection to close is the one that folds the log in.
            threads: vec![reading, writing],
            _lock: opened.lock,
        })
    }

    fn failed(&self, operation: &'static str, cause: impl ToString) -> RecordError {
        RecordError::Failed { operation, file: self.file.clone(), cause: cause.to_string() }
    }

    async fn write(&self, writes: Result<Vec<Write>, RowError>) -> Result<bool, RecordError> {
        let writes = writes.map_err(|error| self.failed("write", error))?;
        let stopped = || self.failed("write", "its writer has stopped");
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(stopped)?;
        requests.send(Request { writes, reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Connection, &Sealer) -> Result<T, reader::ReadError> + Send + 'static,
    ) -> Result<T, RecordError> {
        let stopped = || self.failed("read", "its reader has stopped");
        let (reply, answer) = oneshot::channel();
        let sealer = self.sealer.clone();
        let query: Query = Box::new(move |connection| {
            // The caller may have gone; then nobody wants the answer.
            let _ = reply.send(question(connection, &sealer));
        });
        let queries = self.queries.as_ref().ok_or_else(stopped)?;
        queries.send(query).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?.map_err(|error| error.into_record_error(&self.file))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.requests = None;
        self.queries = None;
        for thread in self.threads.drain(..) {
            // A panic of the thread was reported by the panic hook; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Record for Store {
    fn load(&self) -> BoxFuture<'_, Result<Recovered, RecordError>> {
        Box::pin(self.read(reader::load))
    }

    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), RecordError>> {
        if changes.is_empty() {
            return Box::pin(std::future::ready(Ok(())));
        }
        let writes = changes.iter().map(|change| Write::of(change, &self.sealer)).collect();
        Box::pin(async move { self.write(writes).await.map(drop) })
    }

    fn operations(
        &self,
        app: Option<AppId>,
        before: Option<Seq>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<OperationView>, RecordError>> {
        Box::pin(self.read(move |connection, _| reader::operations(connection, app.as_ref(), before, limit)))
    }

    fn operation(&self, id: OperationId) -> BoxFuture<'_, Result<Option<OperationView>, RecordError>> {
        Box::pin(self.read(move |connection, _| reader::operation(connection, id)))
    }

    fn events(
        &self,
        app: Option<AppId>,
        since: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<EventView>, RecordError>> {
        Box::pin(self.read(move |connection, _| reader::events(connection, app.as_ref(), since, limit)))
    }

    fn tokens(&self) -> BoxFuture<'_, Result<Vec<TokenRow>, RecordError>> {
        Box::pin(self.read(|connection, _| reader::tokens(connection)))
    }

    fn add_token(&self, token: TokenRow) -> BoxFuture<'_, Result<bool, RecordError>> {
        Box::pin(self.write(Write::add_token(&token).map(|write| vec![write])))
    }

    fn remove_token(&self, name: String) -> BoxFuture<'_, Result<bool, RecordError>> {
        Box::pin(self.write(Ok(vec![Write::RemoveToken { name }])))
    }
}
