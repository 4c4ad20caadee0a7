//! The process adapter with real processes.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail so, and has its own deadlines")]

mod adoption;
mod bench;
mod commands;
mod logs;
#[path = "../support/pause.rs"]
mod pause;
mod start;
mod tree;
