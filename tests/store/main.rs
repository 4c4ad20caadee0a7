//! The record on disk: what was answered is there, whatever happened; what is not sound is refused as it is.
#![allow(clippy::unwrap_used, missing_docs)]

mod damage;
mod earlier;
mod figures;
mod full;
mod group;
mod kill;
mod prune;
mod round_trip;
mod samples;
mod secrets;
