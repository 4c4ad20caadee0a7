//! The bodies of the messages between hosts: orders, reports, and what a worker publishes of itself.
//!
//! An envelope is around each of them; it says who, when, and under which reign. A reader passes over fields that it does
//! not know, and refuses a higher version.

mod order;
mod presence;
mod report;

pub use order::{read_order, write_order};
pub use presence::{
    AppFigures, Beat, EntryRecord, HostFigures, UsageRecord, read_beat, read_entry_record, read_usage, write_beat,
    write_entry_record, write_heartbeat, write_registration, write_roll_call, write_usage,
};
pub use report::{Told, read_report, write_report};

/// The version that is written and read.
const VERSION: u32 = 1;
