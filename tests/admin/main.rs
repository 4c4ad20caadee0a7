//! The admin room over real sockets, with a scripted entry: shapes, who may in, what is refused and how, streams, and the
//! command line against it.

#![allow(clippy::unwrap_used)]

#[path = "../support/pause.rs"]
mod pause;

mod command_line;
mod entry;
mod refused;
mod room;
mod shapes;
mod streams;
