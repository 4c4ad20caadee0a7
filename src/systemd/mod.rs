//! The systemd adapter: apps as transient units, supervised by PID 1, driven over D-Bus.
//!
//! `bus.rs` speaks with systemd, `properties.rs` says what a unit is given, `snapshot.rs` is a unit as systemd shows it.

mod snapshot;
