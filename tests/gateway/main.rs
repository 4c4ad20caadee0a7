//! The gateway over real sockets: clients and apps of this process, an entry whose desk the test sits at.
#![allow(clippy::unwrap_used, missing_docs)]

mod drain;
mod forward;
mod hold;
mod house;
mod limits;
mod retry;
mod tunnel;
#[path = "../support/pause.rs"]
mod pause;
