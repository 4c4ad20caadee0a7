//! Many hosts: an entry, workers and a Redis of their own, each on a booted Debian, joined by a network with weather.
//!
//! Needs root, systemd-nspawn, mmdebstrap and redis-server; ./test installs what is missing. `ground` proves that the
//! hosts, the network and its faults are what the other tests take them for. `matrix` is a table of faults, of which
//! `./test matrix` runs every cell; `nocobase` belongs to `./test nocobase`. Deliberately absent: what one host does
//! alone (`tests/systemd`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail so, and has its own deadlines")]

#[allow(dead_code, reason = "shared with the other test programs; none uses all of it")]
#[path = "../support/eventually.rs"]
mod eventually;
#[allow(dead_code, reason = "a fleet for all tests here; not each part has a test yet that asks for it")]
#[path = "../support/fleet.rs"]
mod fleet;
#[path = "../support/link.rs"]
mod link;
#[allow(dead_code, reason = "one way to a machine for several test programs; none uses all of it")]
#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/net.rs"]
mod net;
#[path = "../support/postgres_host.rs"]
mod postgres_host;
#[allow(dead_code, reason = "shared with the other test programs; none uses all of them")]
#[path = "../support/recipes.rs"]
mod recipes;
#[path = "../support/redis_host.rs"]
mod redis_host;

mod figures;
mod first_line;
mod ground;
mod matrix;
mod nocobase;
mod socket;
mod stolen;
mod wrong;
