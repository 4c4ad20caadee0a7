//! An error, as RFC 9457 tells it (`application/problem+json`).

use serde::{Deserialize, Serialize};

use super::Word;

/// The media type.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Always `about:blank`: `code` tells the kind.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: Word,
    /// The HTTP status in words.
    pub title: Word,
    /// The HTTP status.
    pub status: u16,
    /// From a closed list.
    pub code: Word,
    /// Dotted path of the field that is wrong.
    pub field: Option<String>,
    /// What is wrong, with the value.
    pub detail: String,
    /// What to do.
    pub hint: Option<String>,
    /// Every error, when there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
}

/// One of several errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldProblem {
    /// From the same closed list.
    pub code: Word,
    /// Dotted path of the field.
    pub field: Option<String>,
    /// What is wrong, with the value.
    pub detail: String,
    /// What to do.
    pub hint: Option<String>,
}

fn about_blank() -> Word {
    "about:blank".into()
}
