//! What travels through Redis between entry and workers: the JSON bodies that envelopes carry, and the plain values.
//!
//! Decides how each message is written, how much of it is believed at most, and what a bad one is answered; `v` means
//! what it means in stored rows. Texts for people are cut to their bound by the writer; everything that is above its
//! bound is refused by the reader. Deliberately absent: envelopes (`wire::envelope`), keys and ciphers (who reads brings
//! them), and when a message is sent.

mod bounds;
mod cache;
mod entry;
mod hello;
mod instance;
mod order;
mod report;
mod usage;
mod worker;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use serde::Deserialize;

use crate::wire::record::{self, RowError};

pub use bounds::MESSAGE_MAX;
pub use cache::{StartLock, read_start_lock, write_app_cache, write_start_lock};
pub use entry::{
    EntryRecord, EntryValue, RollCall, read_entry, read_entry_value, read_roll_call, write_entry, write_entry_value,
    write_roll_call,
};
pub use hello::{Assembly, HELLO_MAX, HelloPart, PARTS_MAX, PartError, split};
pub use order::{read_intent, read_order, write_intent, write_order};
pub use report::{ReportMessage, read_report, write_report};
pub use usage::{HostUsage, Usage, read_usage, write_usage};
pub use worker::{
    Beat, Heartbeat, LeaseValue, read_beat, read_heartbeat, read_lease_value, read_registration, write_beat,
    write_heartbeat, write_lease_value, write_registration,
};

/// The version of every message that is written.
const VERSION: u32 = 1;

/// Reads a body of this version; one that is too long is not looked at.
fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, RowError> {
    bounds::size(text)?;
    record::read(text, VERSION)
}

/// Reads a value that the scripts read too, and which has no version.
fn plain<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, RowError> {
    bounds::size(text)?;
    record::parse(text)
}
