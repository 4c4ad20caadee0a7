//! The daemon's life as the host sees it: signals, word to systemd, its directories, its lock and its identity.
//!
//! Deliberately absent: what happens at a stop (the composition root orders it) and keys (the store keeps them).

pub mod directories;
pub mod identity;
pub mod liveness;
pub mod lock;
pub mod notify;
pub mod shelf;
pub mod signal;
