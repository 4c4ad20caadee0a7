//! What the entry says of itself: its record, the value around it, and the call to everybody.

use nbs_core::id::{EntryId, Epoch};
use serde::{Deserialize, Serialize};

use super::{VERSION, bounds, read};
use crate::wire::envelope::Session;
use crate::wire::record::{RowError, word, write};

/// Who the entry is, as it signs it with each renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRecord {
    /// Which daemon.
    pub entry: EntryId,
    /// Its reign.
    pub epoch: Epoch,
    /// Its life.
    pub session: Session,
    /// Grows with each renewal.
    pub beat: u64,
    /// When it was renewed: milliseconds since 1970 by the clock of Redis.
    pub at_ms: u64,
    /// The host's name or address, for people.
    pub address: String,
    /// Version of its daemon.
    pub version: String,
}

/// Everybody is to say what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollCall {
    /// The life of the entry that calls.
    pub session: Session,
}

/// What stands under the entry's key. Owner and epoch are for the scripts, which believe no signatures; nobody else does
/// without the envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryValue {
    /// Which daemon.
    pub owner: EntryId,
    /// Its reign.
    pub epoch: Epoch,
    /// The envelope around an `EntryRecord`.
    pub signed: String,
}

#[derive(Serialize, Deserialize)]
struct EntryShape {
    v: u32,
    entry: String,
    epoch: u64,
    session: String,
    beat: u64,
    at_ms: u64,
    address: String,
    version: String,
}

#[derive(Serialize, Deserialize)]
struct RollCallShape {
    v: u32,
    session: String,
}

#[derive(Serialize, Deserialize)]
struct ValueShape {
    owner: String,
    epoch: u64,
    signed: String,
}

pub(super) fn owner(text: &str) -> Result<EntryId, RowError> {
    bounds::text("owner", text, bounds::SHORT_MAX)?;
    word("owner", text, EntryId::parse(text))
}

fn session(text: &str) -> Result<Session, RowError> {
    bounds::text("session", text, bounds::SHORT_MAX)?;
    word("session", text, Session::parse(text))
}

/// Writes the entry's record.
///
/// # Errors
/// A text in it is too long.
pub fn write_entry(record: &EntryRecord) -> Result<String, RowError> {
    let mut address = record.address.clone();
    bounds::clip(&mut address, bounds::SHORT_MAX);
    bounds::text("version", &record.version, bounds::SHORT_MAX)?;
    write(&EntryShape {
        v: VERSION,
        entry: record.entry.to_string(),
        epoch: record.epoch.0,
        session: record.session.to_string(),
        beat: record.beat,
        at_ms: record.at_ms,
        address,
        version: record.version.clone(),
    })
}

/// Reads the entry's record.
///
/// # Errors
/// It is damaged, too large or newer.
pub fn read_entry(text: &str) -> Result<EntryRecord, RowError> {
    let shape: EntryShape = read(text)?;
    bounds::text("address", &shape.address, bounds::SHORT_MAX)?;
    bounds::text("version", &shape.version, bounds::SHORT_MAX)?;
    Ok(EntryRecord {
        entry: owner(&shape.entry)?,
        epoch: Epoch(shape.epoch),
        session: session(&shape.session)?,
        beat: shape.beat,
        at_ms: shape.at_ms,
        address: shape.address,
        version: shape.version,
    })
}

/// Writes a roll call.
///
/// # Errors
/// Never in practice; the engine's text if it cannot be written.
pub fn write_roll_call(call: RollCall) -> Result<String, RowError> {
    write(&RollCallShape { v: VERSION, session: call.session.to_string() })
}

/// Reads a roll call.
///
/// # Errors
/// It is damaged, too large or newer.
pub fn read_roll_call(text: &str) -> Result<RollCall, RowError> {
    let shape: RollCallShape = read(text)?;
    Ok(RollCall { session: session(&shape.session)? })
}

/// Writes what stands under the entry's key.
///
/// # Errors
/// It is larger than a message may be.
pub fn write_entry_value(value: &EntryValue) -> Result<String, RowError> {
    let text =
        write(&ValueShape { owner: value.owner.to_string(), epoch: value.epoch.0, signed: value.signed.clone() })?;
    bounds::size(&text)?;
    Ok(text)
}

/// Reads what stands under the entry's key.
///
/// # Errors
/// It is damaged or too large.
pub fn read_entry_value(text: &str) -> Result<EntryValue, RowError> {
    let shape: ValueShape = super::plain(text)?;
    Ok(EntryValue { owner: owner(&shape.owner)?, epoch: Epoch(shape.epoch), signed: shape.signed })
}
