//! The product as its user meets it: real daemon, real processes, command line, admin API and gateway.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail so, and has its own deadlines")]

#[path = "../support/daemon.rs"]
mod daemon;
#[path = "../support/eventually.rs"]
mod eventually;
#[path = "../support/recipes.rs"]
mod recipes;

mod bad_input;
mod commands;
mod crash;
mod demo;
mod first_light;
mod peers;
mod visitors;
mod recipes_run;
mod shared_hosting;
mod storage;
mod upgrade;
