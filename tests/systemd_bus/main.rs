//! How we speak with systemd, against real ones: Debian bookworm and trixie, in containers. Each test is run on both.
//!
//! The room's own code is compiled in here, since what it offers is not for other crates. Needs root, systemd-nspawn and
//! mmdebstrap; ./test installs what is missing. Deliberately absent: the adapter on top of it (`tests/systemd`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail so, and has its own deadlines")]

#[allow(dead_code, unused_imports, reason = "the adapter uses what no test of this does")]
#[path = "../../src/systemd/bus/mod.rs"]
mod bus;
#[allow(dead_code, reason = "shared with the other test programs; none uses all of it")]
#[path = "../support/eventually.rs"]
mod eventually;
#[allow(dead_code, unused_imports, reason = "one way to a machine for several test programs; none uses all of it")]
#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/pause.rs"]
mod pause;
#[allow(dead_code, reason = "the adapter uses what no test of this does")]
#[path = "../../src/systemd/snapshot.rs"]
mod snapshot;
/// What the room uses of its neighbour.
mod wire {
    pub use nbsupervisor::wire::hex;
}

/// Makes tests of async functions that take a suite.
macro_rules! on_each_suite {
    ($($name:ident),+ $(,)?) => {
        mod bookworm {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name(crate::machine::Suite::Bookworm).await; })+
        }
        mod trixie {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name(crate::machine::Suite::Trixie).await; })+
        }
    };
}

mod errors;
mod loss;
mod load;
mod rig;
mod units;
