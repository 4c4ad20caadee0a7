//! Why a key file cannot be used or made: the file, what is wrong, and what to do. Never a part of a key.

use std::io;
use std::path::{Path, PathBuf};

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyErrorKind {
    /// There is no such file.
    Missing,
    /// There is one already, and key files are never overwritten.
    Exists,
    /// It is there and is not to be used: its mode, its owner, or what stands in it.
    Refused,
    /// The host does not allow it: no permission, no space, no random numbers.
    System,
}

/// Why a key file cannot be used or made. Display tells file, cause and remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key file {}: {cause}; {remedy}", file.display())]
pub struct KeyError {
    /// The file.
    pub file: PathBuf,
    /// What kind of trouble it is.
    pub kind: KeyErrorKind,
    /// What is wrong, with line and field where it is about one.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

impl KeyError {
    pub(crate) fn new(kind: KeyErrorKind, file: &Path, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { file: file.into(), kind, cause: cause.into(), remedy: remedy.into() }
    }

    /// Something in the file is not as it must be.
    pub(crate) fn refused(file: &Path, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(KeyErrorKind::Refused, file, cause, remedy)
    }

    pub(crate) fn random(file: &Path, error: getrandom::Error) -> Self {
        let cause = format!("no random numbers for a new key: {error}");
        Self::new(KeyErrorKind::System, file, cause, "see to it that the kernel gives random numbers")
    }
}

/// A refusal in words, without Rust's `(os error 2)`.
pub(crate) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
