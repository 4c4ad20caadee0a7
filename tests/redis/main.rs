//! Both sides of the bus against a real redis-server: they work, they recover, and they believe nobody else.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

mod daily;
#[path = "../support/eventually.rs"]
mod eventually;
mod loss;
mod lies;
#[path = "../support/pause.rs"]
mod pause;
mod reign;
#[path = "../support/redis.rs"]
mod redis;
mod rig;
mod servers;
mod tenure;
