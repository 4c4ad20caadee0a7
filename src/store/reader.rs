//! The one thread that reads, and what it can be asked.
//!
//! Each row is compared with its sum and with the columns it was found by before it is believed.

use std::path::Path;

use nbs_core::id::{OperationId, Seq};
use nbs_core::limits::{EVENTS_IN_MEMORY, IDEMPOTENCY_KEPT, OPERATIONS_ENDED_IN_MEMORY};
use nbs_core::name::AppId;
use nbs_core::record::{OperationRow, Recovered};
use nbs_core::view::{EventView, OperationView};
use rusqlite::{Connection, Params, params};
use tokio::sync::mpsc;

use crate::ports::{RecordError, TokenRow};
use crate::security::Sealer;
use crate::store::error::{REMEDY, fault};
use crate::store::row::{Kind, read_token, sum};
use crate::wire::record::{self, RowError};

/// A question with the way back for its answer.
pub(crate) type Query = Box<dyn FnOnce(&mut Connection) + Send>;

/// Answers until the last sender is gone.
pub(crate) fn run(connection: &mut Connection, mut queries: mpsc::Receiver<Query>) {
    while let Some(query) = queries.blocking_recv() {
        query(connection);
    }
}

/// Why a question has no answer.
pub(crate) enum ReadError {
    Engine(rusqlite::Error),
    /// Which row, and what is wrong with it.
    Row(String, RowError),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine(error)
    }
}

impl ReadError {
    pub(crate) fn into_record_error(self, file: &Path) -> RecordError {
        match self {
            Self::Engine(error) => fault("read", file, &error),
            Self::Row(row, error) => {
                let remedy = match error {
                    RowError::Newer { .. } => "install the newer nbsupervisor again",
                    _ => REMEDY,
                };
                let cause = format!("the row of {row} is damaged: {error}; stop the daemon, {remedy}");
                RecordError::Failed { operation: "read", file: file.into(), cause }
            }
        }
    }
}

/// Rows taken from the file before they are understood. With fewer, another thread costs more than it brings.
const BATCH: usize = 4096;

/// A row as it stands in the file: sum, body, and the columns it was found by.
struct Raw {
    sum: i64,
    body: String,
    column: String,
}

/// Reads rows of `table`. The statement gives sum, body and, as text, the columns that `key` makes from the row again.
fn rows<T: Send>(
    connection: &Connection,
    table: &str,
    sql: &str,
    parameters: impl Params,
    read: impl Fn(&str) -> Result<T, RowError> + Sync,
    key: impl Fn(&T) -> String + Sync,
) -> Result<Vec<T>, ReadError> {
    let understand = |raw: &Raw| {
        let damaged = |error| ReadError::Row(format!("{table} {:.80}", raw.column), error);
        if sum(&raw.body) != raw.sum {
            return Err(damaged(RowError::Damaged("its text is not what was written".into())));
        }
        let value = read(&raw.body).map_err(damaged)?;
        match key(&value) == raw.column {
            true => Ok(value),
            false => Err(damaged(RowError::Damaged("its columns are not what was written".into()))),
        }
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let (mut found, mut batch) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        batch.push(Raw { sum: row.get(0)?, body: text(row, 1)?.into(), column: text(row, 2)?.into() });
        if batch.len() == BATCH {
            understand_all(&batch, &understand, &mut found)?;
            batch.clear();
        }
    }
    for raw in &batch {
        found.push(understand(raw)?);
    }
    Ok(found)
}

/// Understands a batch on all cores: an entry with a hundred thousand apps unseals as many secrets before it serves.
fn understand_all<T: Send>(
    batch: &[Raw],
    understand: &(impl Fn(&Raw) -> Result<T, ReadError> + Sync),
    found: &mut Vec<T>,
) -> Result<(), ReadError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let part = batch.len().div_ceil(cores);
    let understand_part = |part: &[Raw]| part.iter().map(understand).collect::<Result<Vec<T>, ReadError>>();
    std::thread::scope(|scope| {
        let parts: Vec<_> = batch.chunks(part).map(|part| scope.spawn(move || understand_part(part))).collect();
        for part in parts {
            let understood = part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            found.extend(understood?);
        }
        Ok(())
    })
}

/// A text without a copy.
fn text<'r>(row: &'r rusqlite::Row<'_>, index: usize) -> Result<&'r str, ReadError> {
    let value = row.get_ref(index)?;
    value.as_str().map_err(|_| {
        let error = RowError::Damaged("it holds no text".into());
        ReadError::Row("a table".into(), error)
    })
}

fn operation_rows(
    connection: &Connection,
    rest: &str,
    parameters: impl Params,
) -> Result<Vec<OperationRow>, ReadError> {
    let sql = format!("SELECT sum, body, seq || ' ' || id || ' ' || app || ' ' || ended FROM operations {rest}");
    rows(connection, "operations", &sql, parameters, record::read_operation, |row| {
        let view = &row.view;
        format!("{} {} {} {}", view.seq, view.id, view.app, u8::from(view.status.has_ended()))
    })
}

fn event_rows(connection: &Connection, rest: &str, parameters: impl Params) -> Result<Vec<EventView>, ReadError> {
    let sql = format!("SELECT sum, body, seq || ' ' || coalesce(app, '') FROM events {rest}");
    rows(connection, "events", &sql, parameters, record::read_event, |event| {
        format!("{} {}", event.seq, event.app.as_ref().map_or("", AppId::as_str))
    })
}

/// Everything that the entry and the worker go on from, as of one moment.
pub(crate) fn load(connection: &mut Connection, sealer: &Sealer) -> Result<Recovered, ReadError> {
    let moment = connection.transaction()?;
    let apps = "SELECT sum, body, name FROM apps ORDER BY name";
    let apps = rows(&moment, "apps", apps, [], |b| record::read_app(b, sealer), |row| row.spec.name.to_string())?;
    let mut operations = operation_rows(&moment, "WHERE ended = 0", [])?;
    let ended = "WHERE ended = 1 ORDER BY seq DESC LIMIT ?1";
    operations.extend(operation_rows(&moment, ended, [bounded(OPERATIONS_ENDED_IN_MEMORY)])?);
    operations.sort_by_key(|row| row.view.seq);
    let mut events = event_rows(&moment, "ORDER BY seq DESC LIMIT ?1", [bounded(EVENTS_IN_MEMORY)])?;
    events.reverse();
    let keys = "SELECT sum, body, at || ' ' || actor || ' ' || key FROM keys
         WHERE at >= (SELECT max(at) FROM keys) - ?1 ORDER BY at";
    let kept = [bounded(IDEMPOTENCY_KEPT.as_millis())];
    let keys =
        rows(&moment, "keys", keys, kept, record::read_key, |row| format!("{} {} {}", row.at.0, row.actor, row.key))?;
    let instances = "SELECT sum, body, app FROM instances ORDER BY app";
    let instances =
        rows(&moment, "instances", instances, [], |b| record::read_instance(b, sealer), |row| row.app.to_string())?;
    let (seq, boot) = meta(&moment)?;
    let mut recovered = Recovered { apps, operations, events, keys, seq, boot, instances, ..Recovered::default() };
    facts(&moment, &mut recovered)?;
    Ok(recovered)
}

/// All of them at once, so that one whose kind has rotted is seen and not passed over.
fn facts(connection: &Connection, recovered: &mut Recovered) -> Result<(), ReadError> {
    let mut statement = connection.prepare_cached("SELECT sum, body, kind, name FROM facts ORDER BY kind, name")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (stored, body, kind, name): (i64, &str, &str, &str) =
            (row.get(0)?, text(row, 1)?, text(row, 2)?, text(row, 3)?);
        let damaged = |error| ReadError::Row(format!("facts {kind:.80} {name:.80}"), error);
        if sum(body) != stored {
            return Err(damaged(RowError::Damaged("its text is not what was written".into())));
        }
        let own_name = fact(kind, body, recovered).map_err(damaged)?;
        if own_name != name {
            return Err(damaged(RowError::Damaged("its columns are not what was written".into())));
        }
    }
    Ok(())
}

/// Puts one fact where it belongs, and tells the name that it must be stored under.
fn fact(kind: &str, body: &str, recovered: &mut Recovered) -> Result<String, RowError> {
    let Some(kind) = Kind::parse(kind) else {
        return Err(RowError::Damaged("its kind is unknown".into()));
    };
    match kind {
        Kind::Epoch => recovered.epoch = record::read_epoch(body)?,
        Kind::Own => recovered.own_environment = Some(record::read_own_environment(body)?),
        Kind::Follows => recovered.follows = Some(record::read_reign(body)?),
        Kind::Environment => {
            let row = record::read_environment(body)?;
            let name = row.name.to_string();
            recovered.environments.push(row);
            return Ok(name);
        }
        Kind::Grant => {
            let row = record::read_grant(body)?;
            let name = row.app.to_string();
            recovered.grants.push(row);
            return Ok(name);
        }
    }
    Ok(String::new())
}

/// The highest number ever given, and the last boot.
fn meta(connection: &Connection) -> Result<(Seq, Option<String>), ReadError> {
    let sql = "SELECT seq, seq_sum, boot, boot_sum FROM meta";
    let (seq, seq_sum, boot, boot_sum): (i64, i64, Option<String>, Option<i64>) =
        connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    if sum(&seq.to_string()) != seq_sum || boot.as_deref().map(sum) != boot_sum {
        let error = RowError::Damaged("its numbers are not what was written".into());
        return Err(ReadError::Row("meta".into(), error));
    }
    Ok((Seq(seq.cast_unsigned()), boot))
}

/// A limit or number as the engine takes it; more than it can count is as good as all.
fn bounded(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// Operations, newest first.
pub(crate) fn operations(
    connection: &Connection,
    app: Option<&AppId>,
    before: Option<Seq>,
    limit: usize,
) -> Result<Vec<OperationView>, ReadError> {
    let (before, limit) = (before.map_or(i64::MAX, |seq| bounded(seq.0)), bounded(limit));
    let found = match app {
        Some(app) => {
            let rest = "WHERE app = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3";
            operation_rows(connection, rest, params![app.as_str(), before, limit])
        }
        None => operation_rows(connection, "WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2", [before, limit]),
    };
    Ok(found?.into_iter().map(|row| row.view).collect())
}

/// One operation.
pub(crate) fn operation(connection: &Connection, id: OperationId) -> Result<Option<OperationView>, ReadError> {
    let found = operation_rows(connection, "WHERE id = ?1", [id.to_string()])?;
    Ok(found.into_iter().next().map(|row| row.view))
}

/// Events after `since`, oldest first.
pub(crate) fn events(
    connection: &Connection,
    app: Option<&AppId>,
    since: u64,
    limit: usize,
) -> Result<Vec<EventView>, ReadError> {
    let (since, limit) = (bounded(since), bounded(limit));
    match app {
        Some(app) => {
            let rest = "WHERE app = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
            event_rows(connection, rest, params![app.as_str(), since, limit])
        }
        None => event_rows(connection, "WHERE seq > ?1 ORDER BY seq LIMIT ?2", [since, limit]),
    }
}

/// Every token.
pub(crate) fn tokens(connection: &Connection) -> Result<Vec<TokenRow>, ReadError> {
    let sql = "SELECT sum, body, name FROM tokens ORDER BY name";
    rows(connection, "tokens", sql, [], read_token, |token| token.name.clone())
}
