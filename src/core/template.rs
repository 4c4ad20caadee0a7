//! Texts with placeholders, as recipes write them: `{port}`, `{env.NAME}`, `{secret.NAME}`, `{db.host}`; `{{` and `}}` are braces.
//!
//! A placeholder is checked when the template is parsed, its value is filled in when a process is started.

use std::fmt;

use crate::database::Part as Db;

/// The placeholders there are. What is not in this list is a mistake in the recipe.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placeholder {
    /// The app's ID.
    App,
    /// The environment's name.
    Environment,
    /// The number of the spec's version.
    Generation,
    /// The port given to the instance (`listen = "port"` or `"fd"`).
    Port,
    /// The path of the unix socket given to the instance (`listen = "unix"`).
    Socket,
    /// `/apps/<app>/`.
    PublicPath,
    /// The recipe's `app_dir`.
    AppDir,
    /// The instance's own directory for data; survives restarts and upgrades.
    StateDir,
    /// The instance's own directory for sockets and the like; survives the daemon, not a reboot.
    RunDir,
    /// 60 % of the memory limit in MiB, for Node's heap; 0 without a limit.
    HeapMb,
    /// A part of the connection to its database.
    Db(Db),
    /// A variable of the app.
    Env(String),
    /// A secret of the app, or `jwt`, which every app is given.
    Secret(String),
}

const PLAIN: &[(&str, Placeholder)] = &[
    ("app", Placeholder::App),
    ("environment", Placeholder::Environment),
    ("generation", Placeholder::Generation),
    ("port", Placeholder::Port),
    ("socket", Placeholder::Socket),
    ("public_path", Placeholder::PublicPath),
    ("app_dir", Placeholder::AppDir),
    ("state_dir", Placeholder::StateDir),
    ("run_dir", Placeholder::RunDir),
    ("heap_mb", Placeholder::HeapMb),
    ("db.dialect", Placeholder::Db(Db::Dialect)),
    ("db.host", Placeholder::Db(Db::Host)),
    ("db.port", Placeholder::Db(Db::Port)),
    ("db.database", Placeholder::Db(Db::Database)),
    ("db.schema", Placeholder::Db(Db::Schema)),
    ("db.user", Placeholder::Db(Db::User)),
    ("db.password", Placeholder::Db(Db::Password)),
    ("db.url", Placeholder::Db(Db::Url)),
];

impl Placeholder {
    /// The names without argument, for error texts and completion.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PLAIN.iter().map(|(name, _)| *name)
    }

    /// Whether its value is to be kept from other users of the host.
    pub fn is_secret(&self) -> bool {
        match self {
            Self::Secret(_) => true,
            Self::Db(part) => part.is_secret(),
            _ => false,
        }
    }

    fn parse(name: &str) -> Option<Self> {
        if let Some((_, found)) = PLAIN.iter().find(|(known, _)| *known == name) {
            return Some(found.clone());
        }
        let is_name = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        match name.split_once('.')? {
            ("env", rest) if is_name(rest) => Some(Self::Env(rest.into())),
            ("secret", rest) if is_name(rest) => Some(Self::Secret(rest.into())),
            _ => None,
        }
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env.{name}"),
            Self::Secret(name) => write!(f, "secret.{name}"),
            plain => {
                let found = PLAIN.iter().find(|(_, known)| known == plain);
                f.write_str(found.map_or("", |(name, _)| name))
            }
        }
    }
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The name is none of ours.
    #[error("unknown placeholder {{{0}}}")]
    Unknown(String),
    /// A brace without its partner.
    #[error("a brace without its partner in {0:?} (write {{{{ and }}}} for plain braces)")]
    Unbalanced(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Hole(Placeholder),
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template {
    parts: Vec<Part>,
}

impl Template {
    /// Parses a text with placeholders.
    ///
    /// # Errors
    /// An unknown placeholder or an unbalanced brace.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let unbalanced = || TemplateError::Unbalanced(text.into());
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = rest.as_bytes()[at];
            let after = &rest[at + 1..];
            if after.as_bytes().first() == Some(&brace) {
                plain.push(char::from(brace));
                rest = &after[1..];
                continue;
            }
            let end = after.find('}').filter(|_| brace == b'{').ok_or_else(unbalanced)?;
            let name = &after[..end];
            let hole = Placeholder::parse(name).ok_or_else(|| TemplateError::Unknown(name.into()))?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Hole(hole));
            rest = &after[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }

    /// Fills in the placeholders. The first one without a value is returned as the error.
    ///
    /// # Errors
    /// The placeholder that `value` had no answer for.
    pub fn render(&self, value: impl Fn(&Placeholder) -> Option<String>) -> Result<String, Placeholder> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Hole(hole) => text.push_str(&value(hole).ok_or_else(|| hole.clone())?),
            }
        }
        Ok(text)
    }

    /// The placeholders in it.
    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.parts.iter().filter_map(|part| match part {
            Part::Hole(hole) => Some(hole),
            Part::Text(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in() {
        let template = Template::parse("--port={port}/{{x}}/{secret.jwt}").unwrap();
        let text = template.render(|hole| match hole {
            Placeholder::Port => Some("80".into()),
            Placeholder::Secret(name) => Some(name.to_uppercase()),
            _ => None,
        });
        assert_eq!(text.as_deref(), Ok("--port=80/{x}/JWT"));
    }

    #[test]
    fn mistakes_are_found_when_parsing() {
        assert_eq!(Template::parse("{prot}"), Err(TemplateError::Unknown("prot".into())));
        for bad in ["{port", "port}", "{secret.}", "{env.a b}", "{}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_placeholder_reads_back_as_written() {
        for name in Placeholder::names().chain(["env.A_1", "secret.jwt"]) {
            let template = Template::parse(&format!("{{{name}}}")).unwrap();
            assert_eq!(template.placeholders().next().map(ToString::to_string).as_deref(), Some(name));
        }
    }
}
