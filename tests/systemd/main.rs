//! The product on real hosts with systemd as PID 1: Debian bookworm and trixie, in containers. Each test is run on both.
//!
//! Needs root, systemd-nspawn and mmdebstrap; ./test installs what is missing. Deliberately absent: the limits of control
//! groups, which a container on this kind of host does not have (`tests/qemu`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail so, and has its own deadlines")]

#[allow(dead_code, reason = "shared with the other test programs; none uses all of it")]
#[path = "../support/eventually.rs"]
mod eventually;
#[allow(dead_code, reason = "one way to a machine for several test programs; none uses all of it")]
#[path = "../support/machine.rs"]
mod machine;
#[allow(dead_code, reason = "shared with the other test programs; none uses all of them")]
#[path = "../support/recipes.rs"]
mod recipes;

/// Makes tests of functions that take a suite.
macro_rules! on_each_suite {
    ($($name:ident),+ $(,)?) => {
        mod bookworm {
            $(#[test] fn $name() { super::$name(crate::machine::Suite::Bookworm); })+
        }
        mod trixie {
            $(#[test] fn $name() { super::$name(crate::machine::Suite::Trixie); })+
        }
    };
}

/// Makes tests of functions that take a suite and an adapter.
macro_rules! on_each_suite_with {
    ($adapter:ident as $module:ident: $($name:ident),+ $(,)?) => {
        mod $module {
            mod bookworm {
                $(#[test] fn $name() {
                    super::super::$name(crate::machine::Suite::Bookworm, crate::apps::Adapter::$adapter);
                })+
            }
            mod trixie {
                $(#[test] fn $name() {
                    super::super::$name(crate::machine::Suite::Trixie, crate::apps::Adapter::$adapter);
                })+
            }
        }
    };
}

mod adoption;
mod apps;
mod bad_input;
mod directives;
mod host;
mod lifetime;
mod reasons;
mod sandbox;
mod scopes;
mod scale;
mod secrets;
mod service;
mod shared;
mod units;
mod user;
mod visitors;
