//! Messages between entry and workers: wrapped with a proof of who made them, and opened only if the proof holds.
//!
//! `mac` is for what a worker tells, `signed` for what the entry says; a worker can make the one and only check the
//! other. What `open` gives is believed to be from its maker. Deliberately absent: whether it came before (the reader
//! compares `n`, session, epoch and turn), and the JSON (wire).

pub mod mac;
pub mod signed;

pub use crate::wire::envelope::{Address, EnvelopeError, LIMIT, MacKind, Session, SignedKind, is_entry_id};
