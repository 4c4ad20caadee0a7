//! The daemon and systemd: listeners that are kept, the watchdog, the status line. Here the test itself plays systemd.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail so, and has its own deadlines")]

#[path = "../support/eventually.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod eventually;

mod host;
mod kept;
mod told;
