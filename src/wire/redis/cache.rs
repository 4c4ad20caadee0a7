//! What the entry leaves in Redis: the lock of a start, and each app in short for people and dashboards.

use std::collections::BTreeMap;

use nbs_core::id::{EntryId, Epoch};
use nbs_core::name::EnvironmentName;
use nbs_core::view::AppView;
use serde::{Deserialize, Serialize};

use super::entry::owner;
use super::{VERSION, plain};
use crate::wire::record::{RowError, name, write};

/// The lock of an app's start, with its fencing token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartLock {
    /// Which entry granted the turn.
    pub owner: EntryId,
    /// Its reign.
    pub epoch: Epoch,
    /// Which turn.
    pub turn: u64,
    /// Where.
    pub environment: EnvironmentName,
}

#[derive(Serialize, Deserialize)]
struct LockShape {
    owner: String,
    epoch: u64,
    turn: u64,
    environment: String,
}

#[derive(Serialize)]
struct AppShape<'a> {
    v: u32,
    status: &'a str,
    intent: &'a str,
    generation: u64,
    environments: BTreeMap<&'a str, &'a str>,
}

/// Writes the lock of a start.
///
/// # Errors
/// Never in practice; the engine's text if it cannot be written.
pub fn write_start_lock(lock: &StartLock) -> Result<String, RowError> {
    let (owner, environment) = (lock.owner.to_string(), lock.environment.to_string());
    write(&LockShape { owner, epoch: lock.epoch.0, turn: lock.turn, environment })
}

/// Reads the lock of a start.
///
/// # Errors
/// It is damaged or too large.
pub fn read_start_lock(text: &str) -> Result<StartLock, RowError> {
    let shape: LockShape = plain(text)?;
    Ok(StartLock {
        owner: owner(&shape.owner)?,
        epoch: Epoch(shape.epoch),
        turn: shape.turn,
        environment: name(EnvironmentName::parse(&shape.environment))?,
    })
}

/// Writes an app in short. Nobody of ours reads it, and it holds nothing of the spec.
///
/// # Errors
/// Never in practice; the engine's text if it cannot be written.
pub fn write_app_cache(view: &AppView) -> Result<String, RowError> {
    let environments = view.instances.iter().map(|i| (i.environment.as_str(), i.status.as_str()));
    write(&AppShape {
        v: VERSION,
        status: view.status.as_str(),
        intent: view.intent.as_str(),
        generation: view.generation.0,
        environments: environments.collect(),
    })
}
