//! Names that users give: app ID, environment name, runtime name, name of a database server.
//!
//! A name is parsed once, at the edge; inside, the type is the proof. Deliberately absent: renaming.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Why a text is not a name. Display tells the value and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {kind}: {rule}")]
pub struct NameError {
    /// What was expected, with its article.
    pub kind: &'static str,
    /// What was given, shortened to 80 characters.
    pub value: String,
    /// The rule in words, which is also the remedy.
    pub rule: &'static str,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses a name.
            ///
            /// # Errors
            /// The text does not follow the rule.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                if $check(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(NameError {
                        kind: $kind,
                        value: text.chars().take(80).collect(),
                        rule: $rule,
                    })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// The ID of an app: globally unique, `^[a-z][a-z0-9_-]{0,62}$`.
    AppId,
    "an app ID",
    "use a lower-case letter, then at most 62 of a-z, 0-9, _ and -",
    is_app_id
);
name_type!(
    /// The name of an environment: `^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`.
    EnvironmentName,
    "an environment name",
    "use a letter or digit, then at most 62 of A-Z, a-z, 0-9, _, . and -",
    is_environment_name
);
name_type!(
    /// The name of a runtime (a recipe): the same letters as an app ID.
    RuntimeName,
    "a runtime name",
    "use a lower-case letter, then at most 62 of a-z, 0-9, _ and -",
    is_app_id
);

name_type!(
    /// The name of a configured database server: the same letters as an app ID.
    ServerName,
    "the name of a database server",
    "use a lower-case letter, then at most 62 of a-z, 0-9, _ and -",
    is_app_id
);

fn is_app_id(text: &str) -> bool {
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_lowercase()) && text.len() <= 63 && chars.all(rest)
}

fn is_environment_name(text: &str) -> bool {
    let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphanumeric()) && text.len() <= 63 && chars.all(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_id_follows_its_rule() {
        let longest = "a".repeat(63);
        for good in ["a", "crm", "a-b_c9", longest.as_str()] {
            assert_eq!(AppId::parse(good).map(|n| n.to_string()).as_deref(), Ok(good));
        }
        let too_long = "a".repeat(64);
        for bad in ["", "9a", "Crm", "a.b", "a b", "-a", "ä", too_long.as_str()] {
            assert!(AppId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_environment_name_follows_its_rule() {
        for good in ["local", "env_a", "Host-1.example", "9"] {
            assert!(EnvironmentName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "_a", ".a", "a/b", "a b"] {
            assert!(EnvironmentName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_error_names_value_and_remedy() {
        let text = AppId::parse("Crm").unwrap_err().to_string();
        assert!(text.contains("\"Crm\"") && text.contains("lower-case"), "{text}");
    }
}
