//! Small stored facts: turns that were granted, the reign of the own entry, the one that is followed, the own name.

use nbs_core::id::{EntryId, Epoch, Reign, Seq};
use nbs_core::name::{AppId, EnvironmentName};
use nbs_core::record::GrantRow;
use serde::{Deserialize, Serialize};

use crate::wire::record::{RowError, name, read, word, write};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct GrantShape {
    v: u32,
    app: String,
    environment: String,
    start_seq: u64,
}

#[derive(Serialize, Deserialize)]
struct EpochShape {
    v: u32,
    epoch: u64,
}

#[derive(Serialize, Deserialize)]
struct ReignShape {
    v: u32,
    epoch: u64,
    entry: String,
}

#[derive(Serialize, Deserialize)]
struct OwnShape {
    v: u32,
    environment: String,
}

/// Writes a granted turn.
///
/// # Errors
/// Never in practice; the engine's text if it cannot be written.
pub fn write_grant(row: &GrantRow) -> Result<String, RowError> {
    let (app, environment) = (row.app.to_string(), row.environment.to_string());
    write(&GrantShape { v: VERSION, app, environment, start_seq: row.start_seq.0 })
}

/// Reads a granted turn.
///
/// # Errors
/// The row is damaged or newer.
pub fn read_grant(text: &str) -> Result<GrantRow, RowError> {
    let shape: GrantShape = read(text, VERSION)?;
    Ok(GrantRow {
        app: name(AppId::parse(&shape.app))?,
        environment: name(EnvironmentName::parse(&shape.environment))?,
        start_seq: Seq(shape.start_seq),
    })
}

/// Writes the reign of the own entry.
///
/// # Errors
/// Never in practice; the engine's text if it cannot be written.
pub fn write_epoch(epoch: Epoch) -> Result<String, RowError> {
    write(&EpochShape { v: VERSION, epoch: epoch.0 })
}

/// Reads the reign of the own entry.
///
/// # Errors
/// The row is damaged or newer.
pub fn read_epoch(text: &str) -> Result<Epoch, RowError> {
    let shape: EpochShape = read(text, VERSION)?;
    Ok(Epoch(shape.epoch))
}

/// Writes the reign that the worker follows.
///
/// # Errors
/// Never in practice; the engine's text if it cannot be written.
pub fn write_reign(reign: &Reign) -> Result<String, RowError> {
    write(&ReignShape { v: VERSION, epoch: reign.epoch.0, entry: reign.entry.to_string() })
}

/// Reads the reign that the worker follows.
///
/// # Errors
/// The row is damaged or newer.
pub fn read_reign(text: &str) -> Result<Reign, RowError> {
    let shape: ReignShape = read(text, VERSION)?;
    let entry = word("entry", &shape.entry, EntryId::parse(&shape.entry))?;
    Ok(Reign { epoch: Epoch(shape.epoch), entry })
}

/// Writes the name of the daemon's own environment.
///
/// # Errors
/// Never in practice; the engine's text if it cannot be written.
pub fn write_own_environment(environment: &EnvironmentName) -> Result<String, RowError> {
    write(&OwnShape { v: VERSION, environment: environment.to_string() })
}

/// Reads the name of the daemon's own environment.
///
/// # Errors
/// The row is damaged or newer.
pub fn read_own_environment(text: &str) -> Result<EnvironmentName, RowError> {
    let shape: OwnShape = read(text, VERSION)?;
    name(EnvironmentName::parse(&shape.environment))
}
