//! The one place for exit codes.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | failed |
//! | 2 | usage |
//! | 3 | not found |
//! | 4 | refused: conflict, invalid, not allowed |
//! | 5 | daemon unreachable |
//! | 6 | timed out waiting |
//! | 130 | Ctrl-C while it waited |

use std::process::ExitCode;

use crate::wire::api::problem::Problem;

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// As wished.
    Done = 0,
    /// It was tried and went wrong.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// The daemon refused.
    Refused = 4,
    /// The daemon cannot be reached.
    Unreachable = 5,
    /// The wait was over before the outcome.
    TimedOut = 6,
    /// The user ended the wait; as shells count, 128 + SIGINT.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a run did not end as wished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What went wrong; nothing if it was told already.
    pub text: String,
    /// What to do.
    pub hint: Option<String>,
}

/// The result of a verb.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// Joins code and text.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into(), hint: None }
    }

    /// Says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The command line makes no sense.
    pub fn usage(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text).hint(hint)
    }

    /// Ends with a code; what there is to say was said.
    pub fn told(exit: Exit) -> Self {
        Self::new(exit, "")
    }
}

/// The exit code of an answer that is an error.
pub fn of_status(status: u16) -> Exit {
    match status {
        404 => Exit::NotFound,
        400 | 401 | 403 | 409 | 413 | 428 => Exit::Refused,
        408 | 504 => Exit::TimedOut,
        _ => Exit::Failed,
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let one = |field: &Option<String>, detail: &str, hint: &Option<String>| {
            let field =
                field.as_deref().filter(|field| !field.is_empty()).map(|f| format!("{f}: ")).unwrap_or_default();
            let hint = hint.as_deref().filter(|hint| !hint.is_empty()).map(|h| format!("; {h}")).unwrap_or_default();
            format!("{field}{detail}{hint}")
        };
        let exit = of_status(problem.status);
        if problem.errors.len() > 1 {
            let lines: Vec<_> = problem.errors.iter().map(|e| one(&e.field, &e.detail, &e.hint)).collect();
            return Self::new(exit, lines.join("\n       "));
        }
        let mut failure = Self::new(exit, one(&problem.field, &problem.detail, &None));
        failure.hint = problem.hint.filter(|hint| !hint.is_empty());
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_map_to_codes() {
        let table = [(404, 3), (400, 4), (403, 4), (409, 4), (428, 4), (500, 1), (503, 1), (507, 1), (504, 6)];
        for (status, code) in table {
            assert_eq!(of_status(status) as u8, code, "{status}");
        }
    }
}
