//! The gateway over real sockets: clients and apps of this process, an entry whose desk the test sits at.
#![allow(clippy::unwrap_used, missing_docs)]

mod choice;
mod drain;
mod fleet;
mod forward;
mod hold;
mod hops;
mod house;
mod limits;
mod reach;
mod pages;
mod retry;
mod shared;
mod tunnel;
#[path = "../support/pause.rs"]
mod pause;
