//! Tokens for the API over TCP. The token's own text is shown once, in the answer that made it.

use serde::{Deserialize, Serialize};

/// `GET /tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenList {
    /// By name.
    pub tokens: Vec<Token>,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// A name for people, unique.
    pub name: String,
    /// `admin`.
    pub role: String,
    /// When it was made.
    pub created_at: String,
    /// The token itself; only in the answer that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}
