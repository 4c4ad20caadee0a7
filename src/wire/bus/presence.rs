//! Who is there: the entry's record, a worker's beat, registration, heartbeat and figures.

use std::collections::BTreeMap;

use nbs_core::order::Registration;
use serde::{Deserialize, Serialize};

use crate::wire::api::usage::Pressure;
use crate::wire::bus::VERSION;
use crate::wire::envelope::Session;
use crate::wire::record::{RegistrationShape, RowError, read, word, write};

/// The entry's record; entry and epoch are the envelope's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRecord {
    /// This life of it.
    pub session: Session,
    /// Grows with each renewal.
    pub beat: u64,
    /// When, by the clock of Redis.
    pub at_ms: u64,
    /// Its host, for people.
    pub address: String,
    /// Version of the daemon.
    pub version: String,
}

/// The proof in a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Which daemon.
    pub owner: String,
    /// Fencing number of the lease; 0 while it is being taken over.
    pub epoch: u64,
    /// Its host, for people.
    pub host: String,
    /// When, by the clock of Redis.
    pub at_ms: u64,
}

/// What host and apps use. A figure that cannot be had is `null`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct UsageRecord {
    /// When, by the clock of Redis.
    pub at_ms: u64,
    /// The host.
    pub host: HostFigures,
    /// Apps with a process, by name.
    pub apps: BTreeMap<String, AppFigures>,
}

/// What a host uses and has.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HostFigures {
    /// Percent of all CPUs together.
    pub cpu_percent: Option<f64>,
    /// Bytes of memory in use.
    pub memory_bytes: Option<u64>,
    /// Bytes of memory.
    pub memory_total: Option<u64>,
    /// Processors.
    pub cpus: Option<u32>,
    /// Pressure, where the kernel tells it.
    pub pressure: Option<Pressure>,
}

/// What an app uses, with all of its processes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AppFigures {
    /// Percent of one CPU.
    pub cpu_percent: Option<f64>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// `cgroup` or `proc_rss`.
    pub memory_source: Option<String>,
    /// Processes and threads.
    pub tasks: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    #[serde(flatten)]
    record: T,
}

#[derive(Serialize, Deserialize)]
struct EntryShape {
    session: String,
    beat: u64,
    at_ms: u64,
    address: String,
    version: String,
}

#[derive(Serialize)]
struct HeartbeatShape<'a> {
    at_ms: u64,
    version: &'a str,
    instances: Option<usize>,
    usage: Option<&'a HostFigures>,
}

#[derive(Serialize)]
struct RollCallShape {
    session: String,
}

fn versioned(record: impl Serialize) -> String {
    // Nothing of these can fail to be JSON: keys are texts, numbers that are none become null.
    write(&Versioned { v: VERSION, record }).unwrap_or_default()
}

fn unversioned<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, RowError> {
    read::<Versioned<T>>(text, VERSION).map(|versioned| versioned.record)
}

/// Writes the entry's record.
pub fn write_entry_record(record: &EntryRecord) -> String {
    versioned(EntryShape {
        session: record.session.to_string(),
        beat: record.beat,
        at_ms: record.at_ms,
        address: record.address.clone(),
        version: record.version.clone(),
    })
}

/// Reads the entry's record.
///
/// # Errors
/// It is damaged or newer.
pub fn read_entry_record(text: &str) -> Result<EntryRecord, RowError> {
    let shape: EntryShape = unversioned(text)?;
    Ok(EntryRecord {
        session: word("session", &shape.session, Session::parse(&shape.session))?,
        beat: shape.beat,
        at_ms: shape.at_ms,
        address: shape.address,
        version: shape.version,
    })
}

/// Writes a roll call: everybody says what there is, to this session.
pub fn write_roll_call(session: Session) -> String {
    versioned(RollCallShape { session: session.to_string() })
}

/// Writes a beat.
pub fn write_beat(beat: &Beat) -> String {
    versioned(beat)
}

/// Reads a beat.
///
/// # Errors
/// It is damaged or newer.
pub fn read_beat(text: &str) -> Result<Beat, RowError> {
    unversioned(text)
}

/// Writes what an environment says of itself.
pub fn write_registration(registration: &Registration) -> String {
    versioned(RegistrationShape::of(registration))
}

/// Writes a heartbeat.
pub fn write_heartbeat(at_ms: u64, version: &str, usage: Option<&UsageRecord>) -> String {
    let instances = usage.map(|usage| usage.apps.len());
    versioned(HeartbeatShape { at_ms, version, instances, usage: usage.map(|usage| &usage.host) })
}

/// Writes figures.
pub fn write_usage(usage: &UsageRecord) -> String {
    versioned(usage)
}

/// Reads figures.
///
/// # Errors
/// They are damaged or newer.
pub fn read_usage(text: &str) -> Result<UsageRecord, RowError> {
    unversioned(text)
}
