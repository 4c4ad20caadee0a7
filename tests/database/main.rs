//! Databases on a real PostgreSQL: what is made, what is refused, what survives, and a whole daemon on top of it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail so, and has its own deadlines")]

#[path = "../support/daemon.rs"]
#[allow(dead_code, reason = "of what there is, this suite needs a part")]
mod daemon;
#[path = "../support/eventually.rs"]
mod eventually;
#[path = "../support/postgres.rs"]
mod postgres;

mod cut_off;
mod dropped;
mod made;
mod outage;
mod refused;
mod rig;
mod whole;
