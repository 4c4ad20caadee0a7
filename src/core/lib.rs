//! nbs-core: every decision of nbsupervisor, as data in and data out.
//!
//! Reading order: names and quantities, then what an app is (`spec`, `database`, `recipe`, `launch`), what is asked and answered
//! (`intent`, `command`, `order`, `observation`), then the brains (`restart`, `instance`, `environment`, `admission`,
//! `ledger`, `fleet`), then what visitors meet (`paths`, `route`, `shared_path`, `choice`,
//! `gate`) and what readers see (`view`, `explain`).
//!
//! Invariant: no async, no clock, no I/O, no serialisation, no log. `now`, random bits and outcomes come in as arguments.

pub mod name;
pub mod id;
pub mod time;
pub mod quantity;
pub mod signal;
pub mod secret;
pub mod network;
pub mod nearest;
pub mod limits;

pub mod template;
pub mod restart;
pub mod database;
pub mod spec;
pub mod recipe;
pub mod unit;
pub mod directive;
pub mod sandbox;
pub mod launch;
pub mod shared;

pub mod intent;
pub mod command;
pub mod phase;
pub mod reason;
pub mod order;
pub mod observation;
pub mod effect;
pub mod record;

pub mod rename;

pub mod port_book;
pub mod instance;
pub mod environment;
pub mod mirror;
pub mod lease;
pub mod admission;
pub mod ledger;
pub mod fleet;

pub mod paths;
pub mod route;
pub mod choice;
pub mod shared_path;
pub mod gate;
pub mod view;
pub mod explain;

#[cfg(feature = "testing")]
pub mod testing;
