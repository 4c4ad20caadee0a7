//! The prober against real sockets and real processes.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

mod alive;
mod http;
mod notify;
#[path = "../support/pause.rs"]
mod pause;
mod rig;
mod version;
