//! The web console: its pages over real HTTP, who may in, what is refused, what is escaped, what is sent when something
//! changes; and a real Chromium that works with a real daemon.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail so, and has its own deadlines")]

#[path = "../support/daemon.rs"]
#[allow(dead_code, reason = "the tests of other rooms use more of it")]
mod daemon;
#[path = "../admin/entry.rs"]
#[allow(dead_code, reason = "the tests of the admin room use more of it")]
mod entry;
#[path = "../support/eventually.rs"]
#[allow(dead_code, reason = "the tests of other rooms use more of it")]
mod eventually;
#[path = "../support/recipes.rs"]
#[allow(dead_code, reason = "the tests of other rooms use more of it")]
mod recipes;
#[path = "../admin/room.rs"]
#[allow(dead_code, reason = "the tests of the admin room use more of it")]
mod room;

mod browser;
mod chromium;
mod door;
mod driver;
mod hostile;
mod pages;
mod read_only;
mod silence;
mod stream;
