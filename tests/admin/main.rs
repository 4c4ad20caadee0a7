//! The admin room over real sockets, with a scripted entry, a real one with made-up hosts, and as that of a worker: shapes, who may in, what is refused and how, streams, and the
//! command line against it.

#![allow(clippy::unwrap_used)]

#[path = "../support/pause.rs"]
mod pause;

mod command_line;
mod entry;
mod environments;
mod fleet;
mod refused;
mod room;
mod shapes;
mod streams;
mod worker;
mod worker_files;
