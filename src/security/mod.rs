//! The keys of the fleet, and what is done with them: messages that cannot be forged, secrets that Redis cannot read.
//!
//! One random key, the fleet's, lies at the entry; every other key follows from it. A worker gets the key of its own
//! environment and the half of the signing key that can only verify. The room decides who can be believed and what a key
//! file must look like. Deliberately absent: where messages go (the adapters), what they mean, whether one comes twice
//! (their readers), and the exchange of a fleet key against another.

mod create;
pub mod envelope;
mod error;
mod file;
pub mod hop;
mod keys;
mod seal;
mod secret;
mod sign;

#[cfg(test)]
mod vectors;

pub use create::write_new;
pub use error::{KeyError, KeyErrorKind};
pub use file::KeyFile;
pub use keys::{EnvironmentKeys, FleetKey, WorkerKey};
pub use seal::Sealer;
pub use sign::{Signer, Verifier};

/// Where the entry has its fleet key unless the configuration says otherwise.
pub const FLEET_KEY_FILE: &str = "/etc/nbsupervisor/fleet.key";
