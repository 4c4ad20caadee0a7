//! The causal chain behind `why`.

use nbs_core::explain;
use nbs_core::view::AppView;
use serde::{Deserialize, Serialize};

use super::Word;

/// `GET /apps/{app}/why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// Which app.
    pub app: String,
    /// Its status.
    pub status: Word,
    /// Its intent.
    pub intent: Word,
    /// From what was wanted to what is.
    pub causes: Vec<Cause>,
}

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What it is about: `intent`, `command`, `queue`, `process`, …
    pub topic: Word,
    /// A sentence.
    pub text: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Why {
    /// Shows the chain.
    pub fn of(app: &AppView, causes: Vec<explain::Cause>) -> Self {
        let cause = |cause: explain::Cause| Cause { topic: cause.topic.into(), text: cause.text, remedy: cause.remedy };
        Self {
            app: app.spec.name.to_string(),
            status: app.status.as_str().into(),
            intent: app.intent.as_str().into(),
            causes: causes.into_iter().map(cause).collect(),
        }
    }
}
