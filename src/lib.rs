//! nbsupervisor: runs many applications on Linux hosts, native to systemd and bare metal.
//!
//! Modules in reading order; ARCHITECTURE.md is the map.

pub mod clock;
pub mod config;
pub mod lifecycle;
pub mod telemetry;

pub mod ports;
pub mod wire;
pub mod worker;
pub mod entry;

pub mod security;
pub mod ground;
pub mod ask;
pub mod probe;
pub mod database;
pub mod journal;
pub mod process;
pub mod shared;
pub mod store;
pub mod redis_bus;
pub mod systemd;
pub mod usage;

pub mod admin;
pub mod console;
pub mod gateway;

pub mod assemble;
pub mod cli;
