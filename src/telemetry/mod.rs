//! The daemon's own log: where it goes, in which shape, and how an error is written in one line.
//!
//! Who logs: the loops and the binary; everything below them returns its errors. Deliberately absent: the apps' output
//! (the adapters'), metrics, and spans.

mod error;
mod init;
mod relay;
mod text;

pub use error::chain;
pub use init::{Destination, Telemetry, TelemetryError, init};
pub use relay::WallClock;
