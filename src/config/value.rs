//! Configuration as a tree in which every value knows where it was written.
//!
//! TOML files, variables and flags all become this tree; it is merged here and read by `reader`. Deliberately absent:
//! what any key means.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Origin, Problem};

/// A table: each key with the place where it was written.
pub type Table = BTreeMap<String, Entry>;

/// A key's place and value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where the key stands.
    pub origin: Origin,
    /// The value.
    pub value: Value,
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Where.
    pub origin: Origin,
    /// The value as a variable or flag gave it, where its type is a guess.
    pub raw: Option<String>,
    /// What.
    pub kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
    /// A fraction, or a date: nothing here is of that type. As written.
    Other(String),
    /// A list.
    List(Vec<Value>),
    /// A table.
    Table(Table),
}

impl Kind {
    /// What it is, with its article.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a number",
            Self::Boolean(_) => "true or false",
            Self::Other(_) => "a fraction or a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // In the wrong place, a URL is still not to show its password.
            Self::Text(text) => write!(f, "{:?}", super::web::mask(text)),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Boolean(flag) => write!(f, "{flag}"),
            Self::Other(text) => f.write_str(text),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(|item| item.kind.to_string()).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::Table(_) => f.write_str("{…}"),
        }
    }
}

/// Lays `over` on top of `base`: tables are merged key by key, everything else is replaced.
pub fn merge(base: &mut Table, over: Table) {
    for (key, entry) in over {
        match (base.get_mut(&key).map(|old| &mut old.value.kind), entry.value.kind) {
            (Some(Kind::Table(old)), Kind::Table(new)) => merge(old, new),
            (_, kind) => {
                let value = Value { kind, ..entry.value };
                base.insert(key, Entry { origin: entry.origin, value });
            }
        }
    }
}

/// Parses a file's text. Every syntax error is told, and then nothing of the file is used.
///
/// # Errors
/// What is no TOML, each with its line.
pub fn parse_file(file: &Path, text: &str) -> Result<Table, Vec<Problem>> {
    let place = Place { file: file.into(), text };
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let mut problems = Vec::new();
        let table = place.table(document.into_inner(), &mut problems);
        return if problems.is_empty() { Ok(table) } else { Err(problems) };
    }
    let told = errors.iter().map(|error| {
        let origin = place.origin(error.span().map_or(0, |span| span.start));
        Problem::error(origin, "", format!("this is not TOML: {}", error.message()), "")
    });
    let mut told: Vec<Problem> = told.collect();
    told.sort_by_key(Problem::line);
    Err(told)
}

/// A value as a variable or a flag gives it: TOML if it is TOML, else the plain text.
pub fn parse_loose(text: &str, origin: Origin) -> Value {
    let parsed = DeValue::parse(text).ok().and_then(|value| loose(value.into_inner(), &origin));
    Value { kind: parsed.unwrap_or_else(|| Kind::Text(text.into())), raw: Some(text.into()), origin }
}

fn loose(value: DeValue<'_>, origin: &Origin) -> Option<Kind> {
    let wrap = |kind| Value { origin: origin.clone(), raw: None, kind };
    Some(match value {
        DeValue::Array(items) => {
            let items: Option<Vec<Value>> =
                items.into_iter().map(|item| loose(item.into_inner(), origin).map(wrap)).collect();
            Kind::List(items?)
        }
        DeValue::Table(table) => {
            let mut entries = Table::new();
            for (key, value) in table {
                let value = wrap(loose(value.into_inner(), origin)?);
                entries.insert(key.into_inner().into_owned(), Entry { origin: origin.clone(), value });
            }
            Kind::Table(entries)
        }
        scalar => scalar_kind(&scalar)?,
    })
}

/// A scalar's kind; `None` for a number that does not fit 64 bits.
fn scalar_kind(value: &DeValue<'_>) -> Option<Kind> {
    Some(match value {
        DeValue::String(text) => Kind::Text(text.to_string()),
        DeValue::Integer(number) => Kind::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()?),
        DeValue::Float(number) => Kind::Other(number.as_str().into()),
        DeValue::Boolean(flag) => Kind::Boolean(*flag),
        DeValue::Datetime(date) => Kind::Other(date.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => return None,
    })
}

/// A file's path and text: turns byte offsets into lines.
struct Place<'a> {
    file: Arc<Path>,
    text: &'a str,
}

impl Place<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Origin::File { file: self.file.clone(), line: u32::try_from(line).unwrap_or(u32::MAX) }
    }

    fn table(&self, table: DeTable<'_>, problems: &mut Vec<Problem>) -> Table {
        let entries = table.into_iter().map(|(key, value)| {
            let origin = self.origin(key.span().start);
            (key.into_inner().into_owned(), Entry { origin, value: self.value(value, problems) })
        });
        entries.collect()
    }

    fn value(&self, value: Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) -> Value {
        let origin = self.origin(value.span().start);
        let kind = match value.into_inner() {
            DeValue::Array(items) => Kind::List(items.into_iter().map(|item| self.value(item, problems)).collect()),
            DeValue::Table(table) => Kind::Table(self.table(table, problems)),
            scalar => scalar_kind(&scalar).unwrap_or_else(|| {
                let text = "this number does not fit 64 bits".to_string();
                problems.push(Problem::error(origin.clone(), "", text, "write a smaller one"));
                Kind::Integer(0)
            }),
        };
        Value { origin, raw: None, kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> Table {
        parse_file(Path::new(name), text).unwrap()
    }

    fn at<'a>(table: &'a Table, path: &[&str]) -> &'a Value {
        let value = &table[path[0]].value;
        match (&value.kind, path.len()) {
            (_, 1) => value,
            (Kind::Table(inner), _) => at(inner, &path[1..]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tables_merge_and_arrays_are_replaced_and_places_stay() {
        let mut base = file("a.toml", "[gateway]\nlisten = \"a\"\nbots = [\"x\", \"y\"]\n");
        merge(&mut base, file("b.toml", "# one\n[gateway]\nbots = [\"z\"]\n"));
        assert_eq!(at(&base, &["gateway", "listen"]).origin.to_string(), "a.toml:2");
        let bots = at(&base, &["gateway", "bots"]);
        assert_eq!((bots.origin.to_string().as_str(), bots.kind.to_string().as_str()), ("b.toml:3", "[\"z\"]"));
    }

    #[test]
    fn every_syntax_error_is_told_with_its_line() {
        let problems = parse_file(Path::new("a.toml"), "a = \nb = 1\nb = 2\n").unwrap_err();
        let lines: Vec<Option<u32>> = problems.iter().map(Problem::line).collect();
        assert_eq!(lines, [Some(1), Some(3)], "{problems:?}");
        let problems = parse_file(Path::new("a.toml"), "\nn = 99999999999999999999\n").unwrap_err();
        assert_eq!(problems[0].to_string(), "a.toml:2: this number does not fit 64 bits; write a smaller one");
    }

    #[test]
    fn a_loose_value_is_toml_or_else_plain() {
        let kind = |text: &str| parse_loose(text, Origin::Default).kind;
        assert_eq!(kind("12"), Kind::Integer(12));
        assert_eq!(kind("true"), Kind::Boolean(true));
        assert_eq!(kind("\"12\""), Kind::Text("12".into()));
        assert_eq!(kind("0.0.0.0:80"), Kind::Text("0.0.0.0:80".into()));
        assert_eq!(kind(""), Kind::Text(String::new()));
        assert_eq!(kind("[\"a\"]").to_string(), "[\"a\"]");
    }
}
