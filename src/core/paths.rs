//! What recipes say about the paths of their apps beside `/apps/<app>/`, and what all of them say together.
//!
//! A recipe knows three kinds: paths that name the app (`/files/<app>/…`), root-absolute files that every app of the
//! runtime has alike (`/assets/…`), and other root-absolute paths that a page of an app asks for (`/api/…`). A path that
//! ends with `/` stands for all that begins so, any other for itself. Deliberately absent: which app a request is for
//! (`route`), and which instance answers for a path that names none (`shared_path`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::name::RuntimeName;
use crate::order::Registration;

/// A path whose next segment names the app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AppPath {
    /// What stands before the app's ID; begins and ends with `/`.
    pub path: String,
    /// What a dedicated instance gets in place of path and ID; begins and ends with `/`. None: both stay.
    pub rewrite: Option<String>,
}

/// The paths of one recipe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Paths {
    /// Paths that name the app.
    pub naming: Vec<AppPath>,
    /// Files that every app of the runtime has alike.
    pub shared: Vec<String>,
    /// Other paths that pages of an app ask for without naming it.
    pub page: Vec<String>,
}

/// What a path that names no app is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file that every app of the runtime has alike.
    Shared,
    /// What only the app itself can answer.
    Page,
}

impl Paths {
    /// What a path is for an app of this runtime that it does not name. The longest that fits counts, also one that would
    /// name an app: whom it names is not there.
    pub fn kind(&self, path: &str) -> Option<Kind> {
        let naming = self.naming.iter().map(|own| (&own.path, None));
        let page = self.page.iter().map(|own| (own, Some(Kind::Page)));
        let shared = self.shared.iter().map(|own| (own, Some(Kind::Shared)));
        let fitting = naming.chain(page).chain(shared).filter(|(own, _)| fits(own, path));
        fitting.max_by_key(|(own, _)| own.len())?.1
    }

    /// What stands in place of a path that names the app.
    pub fn rewrite(&self, path: &str) -> Option<&str> {
        self.naming.iter().find(|own| own.path == path)?.rewrite.as_deref()
    }

    /// Whether pages of its apps ask for anything without naming the app.
    pub fn is_asked_blindly(&self) -> bool {
        !self.shared.is_empty() || !self.page.is_empty()
    }

    fn names(&self, path: &str) -> bool {
        self.naming.iter().any(|own| own.path == path)
    }

    fn add(&mut self, other: &Self) {
        let add = |all: &mut Vec<String>, more: &[String]| {
            for path in more {
                if !all.contains(path) {
                    all.push(path.clone());
                }
            }
        };
        add(&mut self.shared, &other.shared);
        add(&mut self.page, &other.page);
        for path in &other.naming {
            if !self.names(&path.path) {
                self.naming.push(path.clone());
            }
        }
    }
}

fn fits(own: &str, path: &str) -> bool {
    if own.ends_with('/') { path.starts_with(own) } else { path == own }
}

/// What the recipes of all environments say, made once for many requests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    runtimes: BTreeMap<RuntimeName, Paths>,
    /// Every path that names an app, the longest first.
    naming: Vec<String>,
}

impl Rules {
    /// Of these environments.
    pub fn of<'a>(registrations: impl Iterator<Item = &'a Registration>) -> Self {
        let mut rules = Self::default();
        for (name, summary) in registrations.flat_map(|registration| &registration.runtimes) {
            if summary.paths != Paths::default() {
                rules.runtimes.entry(name.clone()).or_default().add(&summary.paths);
            }
        }
        let all = rules.runtimes.values().flat_map(|paths| &paths.naming);
        rules.naming = all.map(|own| own.path.clone()).collect();
        rules.naming.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        rules.naming.dedup();
        rules
    }

    /// What is said of a runtime.
    pub fn paths(&self, runtime: &RuntimeName) -> Option<&Paths> {
        self.runtimes.get(runtime)
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.runtimes.is_empty()
    }

    /// The paths that may name an app at the beginning of this one, the longest first.
    pub(crate) fn naming<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        self.naming.iter().map(String::as_str).filter(move |own| path.starts_with(own))
    }

    /// The runtimes whose apps share a file.
    pub(crate) fn sharing<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a RuntimeName> {
        let shared = |paths: &Paths| paths.kind(path) == Some(Kind::Shared);
        self.runtimes.iter().filter(move |(_, paths)| shared(paths)).map(|(name, _)| name)
    }

    pub(crate) fn lists(&self, runtime: &RuntimeName, path: &str) -> bool {
        self.paths(runtime).is_some_and(|paths| paths.names(path))
    }
}

/// What is selected by in every runtime.
const ALWAYS: [&str; 2] = ["/apps/", "/api/__app/"];
/// So often is a target decoded at most, for whoever decodes what was decoded already.
const ROUNDS: usize = 3;

/// Whether a process with several apps could take a target for another one's than this: by any path that names apps,
/// however it is written.
pub fn names_another(app: &str, target: &str, paths: Option<&Paths>) -> bool {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let mut path = Cow::Borrowed(path);
    for _ in 0..ROUNDS {
        let segments = segments(&path);
        // Whoever takes its own prefix off looks at what is left.
        let own = after(&segments, ALWAYS[0]).is_some_and(|name| name == app);
        let segments = if own { &segments[2..] } else { &segments[..] };
        let own = paths.iter().flat_map(|paths| &paths.naming).map(|own| own.path.as_str());
        let named = ALWAYS.into_iter().chain(own).filter_map(|selector| after(segments, selector));
        // No ID has a percent sign: who reads it as it stands finds nobody, and who decodes it comes next.
        if named.into_iter().any(|name| name != app && !name.contains('%')) {
            return true;
        }
        match decoded(&path) {
            Some(more) => path = Cow::Owned(more),
            None => return false,
        }
    }
    // Nobody honest writes so.
    true
}

/// The segments of a path as the most forgiving reader sees them.
fn segments(path: &str) -> Vec<&str> {
    let mut segments = Vec::new();
    for segment in path.split(['/', '\\']) {
        match segment {
            "" | "." => {}
            ".." => _ = segments.pop(),
            segment => segments.push(segment),
        }
    }
    segments
}

/// The segment that follows those of a selector.
fn after<'a>(segments: &[&'a str], selector: &str) -> Option<&'a str> {
    let mut rest = segments.iter();
    for wanted in selector.split('/').filter(|segment| !segment.is_empty()) {
        rest.next().filter(|segment| segment.eq_ignore_ascii_case(wanted))?;
    }
    rest.next().copied()
}

/// A text without its percent signs; none if there is nothing to decode.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let hex = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let bytes = text.as_bytes();
    let mut all = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = (bytes[at] == b'%').then(|| (bytes.get(at + 1).copied(), bytes.get(at + 2).copied()));
        match digits {
            Some((Some(high), Some(low))) if hex(high).is_some() && hex(low).is_some() => {
                all.push(hex(high).unwrap_or_default() << 4 | hex(low).unwrap_or_default());
                at += 3;
            }
            _ => {
                all.push(bytes[at]);
                at += 1;
            }
        }
    }
    (all.len() < bytes.len()).then(|| String::from_utf8_lossy(&all).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn paths() -> Paths {
        Paths {
            naming: vec![AppPath { path: "/files/".into(), rewrite: Some("/files/main/".into()) }],
            shared: vec!["/assets/".into(), "/global.css".into(), "/api/public/".into()],
            page: vec!["/api/".into(), "/ws".into(), "/files/main/".into()],
        }
    }

    #[test]
    fn the_longest_path_says_what_it_is() {
        for (path, kind) in [
            ("/assets/a.js", Some(Kind::Shared)),
            ("/assets", None),
            ("/global.css", Some(Kind::Shared)),
            ("/global.css.map", None),
            ("/api/users", Some(Kind::Page)),
            ("/api/public/x", Some(Kind::Shared)),
            ("/ws", Some(Kind::Page)),
            ("/ws/x", None),
            ("/files/nobody/x", None),
            ("/files/main/x", Some(Kind::Page)),
            ("/", None),
        ] {
            assert_eq!(paths().kind(path), kind, "{path}");
        }
    }

    #[test]
    fn another_apps_path_is_seen_however_it_is_written() {
        let own = paths();
        for target in [
            "/api/__app/erp/users",
            "/API/__App/erp/users",
            "//api//__app//erp",
            "/x/../api/__app/erp",
            "/api/./__app/erp?a",
            "/%61pi/__app/erp",
            "/api%2f__app%2ferp",
            "/api/%5f%5fapp/erp",
            "/api/%255f%255fapp/erp",
            "/x/%2e%2e/api/__app/erp",
            "/x%5C..\\api/__app/erp",
            "/files/erp/x",
            "/%66iles/%65rp/x",
            "/files/main/x",
            "/files/%63rn",
            "/files/CRM/x",
            "/apps/erp/",
            "/apps/crm/apps/erp",
            "/%61pps/%63rm/files/erp/x",
            "/%2561%252570ps/x",
        ] {
            assert!(names_another("crm", target, Some(&own)), "{target}");
        }
        for target in [
            "/",
            "/api/users?__appName=erp",
            "/api/__app/crm/users",
            "/api/__app/%63rm/users",
            "/files/crm/erp/x",
            "/files/%63rm/%20x%zz",
            "/apps/crm/x/apps/erp",
            "/x/api/__app/erp",
            "/files",
            "*",
        ] {
            assert!(!names_another("crm", target, Some(&own)), "{target}");
        }
        assert!(!names_another("crm", "/files/erp", None));
    }

    proptest! {
        #[test]
        fn any_target_is_looked_at_without_panic(target in "\\PC*") {
            names_another("crm", &target, Some(&paths()));
        }

        #[test]
        fn no_spelling_hides_another_app(bits in proptest::collection::vec(0..4u8, 32), rest in "[a-z/]{0,10}") {
            let plain = format!("/api/__app/erp/{rest}");
            let spelt: String = plain.bytes().zip(bits.into_iter().cycle()).map(|(byte, how)| match how {
                0 => format!("%{byte:02x}"),
                1 => format!("%25{byte:02X}"),
                2 if byte == b'/' => "/.//".to_string(),
                _ => char::from(byte).to_string(),
            }).collect();
            prop_assert!(names_another("crm", &spelt, None), "{}", spelt);
        }
    }
}
