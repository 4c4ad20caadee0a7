//! Stored rows as JSON, each with its version `v`.
//!
//! Decides how what must survive is written, one file per kind of row. A field that a later version added is ignored, a
//! `v` above the one known for its kind is refused: it is raised only when an older reader would misunderstand. A lower
//! `v` goes on being read for ever. Deliberately absent: tables and files (the store), and
//! the cipher, which the store brings; secrets pass this room only on their way into and out of it.

use std::fmt::Display;

use nbs_core::name::AppId;
use nbs_core::secret::SecretText;
use serde::{Deserialize, Serialize};

mod app;
mod environment;
mod event;
mod fact;
mod goal;
mod instance;
mod key;
mod operation;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use app::{read_app, write_app};
pub(crate) use environment::{RegistrationShape, RuntimeShape};
pub use environment::{read_environment, write_environment};
pub use event::{read_event, write_event};
pub use fact::{
    read_epoch, read_grant, read_own_environment, read_reign, write_epoch, write_grant, write_own_environment,
    write_reign,
};
pub(crate) use goal::{DropShape, LocalShape, ReasonShape, RunShape};
pub use instance::{read_instance, write_instance};
pub use key::{read_key, write_key};
pub use operation::{read_operation, write_operation};

/// Why a stored row or a message cannot be read, or not be written. One sentence, never with a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// It is not what this version writes.
    #[error("{0}")]
    Damaged(String),
    /// It was written by a later version.
    #[error("it was written by a newer nbsupervisor (version {found} of its kind, this one reads up to {supported})")]
    Newer {
        /// Its version.
        found: u32,
        /// The highest known one of its kind.
        supported: u32,
    },
    /// The cipher refused.
    #[error("{0}")]
    Cipher(String),
}

/// Encrypts and decrypts. `place` says where the text belongs; a text moved to another place is refused.
pub trait Cipher {
    /// Makes a text that shows nothing.
    ///
    /// # Errors
    /// The cipher cannot work (no random numbers).
    fn encrypt(&self, text: &str, place: &str) -> Result<String, RowError>;
    /// Takes back what `encrypt` made for the same place.
    ///
    /// # Errors
    /// It was made elsewhere, by another key, or was damaged.
    fn decrypt(&self, text: &str, place: &str) -> Result<String, RowError>;
}

/// Where a secret belongs: which kind of row, which app, which field.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) kind: &'static str,
    pub(crate) app: &'a AppId,
}

impl Place<'_> {
    pub(crate) fn seal(self, cipher: &dyn Cipher, field: &str, text: &SecretText) -> Result<String, RowError> {
        cipher.encrypt(text.expose(), &self.field(field))
    }

    pub(crate) fn open(self, cipher: &dyn Cipher, field: &str, text: &str) -> Result<SecretText, RowError> {
        cipher.decrypt(text, &self.field(field)).map(SecretText::new)
    }

    fn field(self, field: &str) -> String {
        format!("{}/{}/{field}", self.kind, self.app)
    }
}

#[derive(Deserialize)]
struct VersionShape {
    v: u32,
}

pub(crate) fn write(shape: &impl Serialize) -> Result<String, RowError> {
    serde_json::to_string(shape).map_err(|error| RowError::Damaged(error.to_string()))
}

/// Reads a text of its kind's versions up to `supported`.
pub(crate) fn read<'a, T: Deserialize<'a>>(text: &'a str, supported: u32) -> Result<T, RowError> {
    match serde_json::from_str::<VersionShape>(text) {
        Ok(VersionShape { v: found }) if found > supported => return Err(RowError::Newer { found, supported }),
        Ok(_) => {}
        Err(error) => return Err(unreadable(&error)),
    }
    parse(text)
}

/// Reads a text that has no version.
pub(crate) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, RowError> {
    serde_json::from_str(text).map_err(|error| unreadable(&error))
}

/// Where it went wrong, without serde's quotations, which could hold a value.
fn unreadable(error: &serde_json::Error) -> RowError {
    let what = if error.is_data() { "a field is missing or of another kind" } else { "it is no JSON" };
    RowError::Damaged(format!("{what}, at line {} column {}", error.line(), error.column()))
}

pub(crate) fn word<T>(field: &str, text: &str, parsed: Option<T>) -> Result<T, RowError> {
    parsed.ok_or_else(|| RowError::Damaged(format!("{field} {text:?} is unknown")))
}

pub(crate) fn name<T, E: Display>(parsed: Result<T, E>) -> Result<T, RowError> {
    parsed.map_err(|error| RowError::Damaged(error.to_string()))
}
