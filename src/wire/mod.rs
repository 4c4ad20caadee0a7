//! The shapes that leave the process, each translated to and from the core's types: HTTP bodies and stored rows.
//!
//! The room decides how a thing is written and what a badly written one is answered. Deliberately absent: what may
//! happen (core), where bytes go (adapters), and any cryptography: who stores secrets brings the cipher.

pub mod api;
pub mod envelope;
pub mod field;
pub mod hex;
pub mod record;
pub mod redis;
pub mod spec;
mod stored_spec;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod samples;
