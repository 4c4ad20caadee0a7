//! The journal's reader with a real `journalctl` on journal files that systemd's own tool writes, and with a made-up
//! `journalctl` for what the real one will not do on request: die, hang, talk nonsense.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail so, and has its own deadlines")]

mod bench;
#[path = "../support/eventually.rs"]
#[allow(dead_code, reason = "not every test binary needs all of it")]
mod eventually;
mod fake;
mod file;
