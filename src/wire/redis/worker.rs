//! What a worker leaves in Redis besides its reports: registration, lease, beat and heartbeat.

use nbs_core::id::Epoch;
use nbs_core::order::Registration;
use serde::{Deserialize, Serialize};

use super::report::{into_registration, registration_shape};
use super::usage::HostUsage;
use super::{VERSION, bounds, plain, read};
use crate::wire::record::{RegistrationShape, RowError, write};

/// A sign of life, inside the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// Which worker daemon has the name; what stands beside the beat is not proven.
    pub owner: String,
    /// The epoch of the lease; 0 while it is being taken.
    pub epoch: Epoch,
    /// Its host, for people.
    pub host: String,
    /// When: milliseconds since 1970, by the clock of Redis.
    pub at_ms: u64,
}

/// Alive, for other readers.
#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    /// When: milliseconds since 1970, by the worker's clock.
    pub at_ms: u64,
    /// Version of its daemon.
    pub version: String,
    /// Instances of its ledger.
    pub instances: u64,
    /// What the host uses.
    pub usage: Option<HostUsage>,
}

/// What stands under the lease's key. All but the beat is for the script, which knows no keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseValue {
    /// Which worker daemon has the name.
    pub owner: String,
    /// Grows with each that takes it.
    pub epoch: u64,
    /// Its host, for people.
    pub host: String,
    /// The envelope around a `Beat`.
    pub m: String,
}

#[derive(Serialize, Deserialize)]
struct RegisteredShape {
    v: u32,
    /// When: milliseconds since 1970; must not go back.
    at_ms: u64,
    registration: RegistrationShape,
}

#[derive(Serialize, Deserialize)]
struct BeatShape {
    v: u32,
    owner: String,
    epoch: u64,
    host: String,
    at_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct HeartbeatShape {
    v: u32,
    at_ms: u64,
    version: String,
    instances: u64,
    usage: Option<HostUsage>,
}

/// Writes a registration of this moment.
///
/// # Errors
/// A text in it is too long, or there are too many runtimes.
pub fn write_registration(registration: &Registration, at_ms: u64) -> Result<String, RowError> {
    let text = write(&RegisteredShape { v: VERSION, at_ms, registration: registration_shape(registration)? })?;
    bounds::size(&text)?;
    Ok(text)
}

/// Reads a registration, and when it was made.
///
/// # Errors
/// It is damaged, too large or newer.
pub fn read_registration(text: &str) -> Result<(Registration, u64), RowError> {
    let shape: RegisteredShape = read(text)?;
    Ok((into_registration(shape.registration)?, shape.at_ms))
}

/// Writes a beat.
///
/// # Errors
/// A text in it is too long.
pub fn write_beat(beat: &Beat) -> Result<String, RowError> {
    bounds::text("owner", &beat.owner, bounds::SHORT_MAX)?;
    let mut host = beat.host.clone();
    bounds::clip(&mut host, bounds::SHORT_MAX);
    write(&BeatShape { v: VERSION, owner: beat.owner.clone(), epoch: beat.epoch.0, host, at_ms: beat.at_ms })
}

/// Reads a beat.
///
/// # Errors
/// It is damaged, too large or newer.
pub fn read_beat(text: &str) -> Result<Beat, RowError> {
    let shape: BeatShape = read(text)?;
    bounds::text("owner", &shape.owner, bounds::SHORT_MAX)?;
    bounds::text("host", &shape.host, bounds::SHORT_MAX)?;
    Ok(Beat { owner: shape.owner, epoch: Epoch(shape.epoch), host: shape.host, at_ms: shape.at_ms })
}

/// Writes a heartbeat.
///
/// # Errors
/// Its version is too long.
pub fn write_heartbeat(heartbeat: &Heartbeat) -> Result<String, RowError> {
    bounds::text("version", &heartbeat.version, bounds::SHORT_MAX)?;
    write(&HeartbeatShape {
        v: VERSION,
        at_ms: heartbeat.at_ms,
        version: heartbeat.version.clone(),
        instances: heartbeat.instances,
        usage: heartbeat.usage.clone(),
    })
}

/// Reads a heartbeat.
///
/// # Errors
/// It is damaged, too large or newer.
pub fn read_heartbeat(text: &str) -> Result<Heartbeat, RowError> {
    let shape: HeartbeatShape = read(text)?;
    bounds::text("version", &shape.version, bounds::SHORT_MAX)?;
    if let Some(usage) = &shape.usage {
        usage.check()?;
    }
    let HeartbeatShape { at_ms, version, instances, usage, .. } = shape;
    Ok(Heartbeat { at_ms, version, instances, usage })
}

/// Writes what stands under the lease's key.
///
/// # Errors
/// A text in it is too long.
pub fn write_lease_value(value: &LeaseValue) -> Result<String, RowError> {
    check_lease(value)?;
    let text = write(value)?;
    bounds::size(&text)?;
    Ok(text)
}

/// Reads what stands under the lease's key.
///
/// # Errors
/// It is damaged or too large.
pub fn read_lease_value(text: &str) -> Result<LeaseValue, RowError> {
    let value: LeaseValue = plain(text)?;
    check_lease(&value)?;
    Ok(value)
}

fn check_lease(value: &LeaseValue) -> Result<(), RowError> {
    bounds::text("owner", &value.owner, bounds::SHORT_MAX)?;
    bounds::text("host", &value.host, bounds::SHORT_MAX)
}
