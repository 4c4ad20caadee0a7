//! A mistake in the configuration or in a recipe: where it is, what is wrong, what to write instead.
//!
//! Every mistake of a load is collected, so that one run of `config check` is enough. Deliberately absent: printing.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: the built-in default.
    Default,
    /// In a file.
    File {
        /// Its path.
        file: Arc<Path>,
        /// Line, from 1; 0 = the file as a whole.
        line: u32,
    },
    /// In an environment variable of this name.
    Variable(Arc<str>),
    /// In `--set` for this key.
    Flag(Arc<str>),
}

impl Origin {
    /// A file as a whole.
    pub fn of_file(file: &Path) -> Self {
        Self::File { file: file.into(), line: 0 }
    }

    /// The file, if it was in one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File { file, .. } => Some(file),
            _ => None,
        }
    }

    /// The line, if it is known.
    pub fn line(&self) -> Option<u32> {
        match self {
            Self::File { line, .. } if *line > 0 => Some(*line),
            _ => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line: 0 } => write!(f, "{}", file.display()),
            Self::File { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(key) => write!(f, "--set {key}"),
        }
    }
}

/// Whether it can be lived with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Works, but most likely not as meant.
    Warning,
    /// Refused.
    Error,
}

/// A mistake. Display is one line: `FILE:LINE: KEY: what is wrong; what to do`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub origin: Origin,
    /// Dotted key, such as `gateway.listen`; empty if it is about the file as a whole.
    pub key: String,
    /// What is wrong, with the value.
    pub text: String,
    /// The remedy; may be empty.
    pub hint: String,
    /// Whether it is refused.
    pub severity: Severity,
}

impl Problem {
    /// An error.
    pub fn error(origin: Origin, key: impl Into<String>, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { origin, key: key.into(), text: text.into(), hint: hint.into(), severity: Severity::Error }
    }

    /// A warning.
    pub fn warning(origin: Origin, key: impl Into<String>, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(origin, key, text, hint) }
    }

    /// Whether it is refused.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The file, if it is in one.
    pub fn file(&self) -> Option<&Path> {
        self.origin.file()
    }

    /// The line, if it is known.
    pub fn line(&self) -> Option<u32> {
        self.origin.line()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)?;
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a configuration; at least one of it is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub Vec<Problem>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let word = if problem.is_error() { "error" } else { "warning" };
            let end = if i == 0 { "" } else { "\n" };
            write!(f, "{end}{word}: {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_place_key_text_remedy() {
        let origin = Origin::File { file: Path::new("/etc/a.toml").into(), line: 3 };
        let problem = Problem::error(origin, "gateway.listen", "\"x\" is not an address", "write 0.0.0.0:13000");
        assert_eq!(problem.to_string(), "/etc/a.toml:3: gateway.listen: \"x\" is not an address; write 0.0.0.0:13000");
        let problem = Problem::error(Origin::of_file(Path::new("/etc/a.toml")), "", "no such file", "");
        assert_eq!(problem.to_string(), "/etc/a.toml: no such file");
    }
}
