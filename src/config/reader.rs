//! Reads a table key by key. What was never asked for is an unknown key, so no list of keys can go stale.
//!
//! A wrong value is noted as a problem and read as absent: the reading goes on, and every mistake is found in one run.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use nbs_core::name::NameError;
use nbs_core::quantity::QuantityError;

use super::problem::{Origin, Problem};
use super::value::{Kind, Table, Value};
use nbs_core::nearest::nearest;

/// Why a text is not what a key wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What is wrong, with the value.
    pub text: String,
    /// What to write.
    pub hint: String,
}

impl Complaint {
    /// A complaint.
    pub fn new(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { text: text.into(), hint: hint.into() }
    }
}

impl From<QuantityError> for Complaint {
    fn from(error: QuantityError) -> Self {
        Self::new(error.to_string(), error.hint)
    }
}

impl From<NameError> for Complaint {
    fn from(error: NameError) -> Self {
        Self::new(format!("{:?} is not {}", error.value, error.kind), error.rule)
    }
}

/// A value that was read, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// Its dotted key.
    pub key: String,
    /// Its place.
    pub origin: Origin,
}

impl<T> Given<T> {
    /// The same place with another value.
    pub fn with<U>(&self, value: U) -> Given<U> {
        Given { value, key: self.key.clone(), origin: self.origin.clone() }
    }
}

/// An effective value, as `config show` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Dotted key.
    pub key: String,
    /// The value as TOML, secrets masked.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

#[derive(Debug)]
struct Unknown {
    key: String,
    parent: String,
    origin: Origin,
    siblings: Vec<String>,
}

/// What was noted while reading.
#[derive(Debug, Default)]
pub struct Notes {
    problems: RefCell<Vec<Problem>>,
    settings: RefCell<Vec<Setting>>,
    known: RefCell<Vec<String>>,
    unknown: RefCell<Vec<Unknown>>,
}

impl Notes {
    /// Notes a problem.
    pub fn problem(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Notes an error about a value.
    pub fn complain<T>(&self, about: &Given<T>, complaint: Complaint) {
        self.problem(Problem::error(about.origin.clone(), &about.key, complaint.text, complaint.hint));
    }

    /// Notes a warning about a value.
    pub fn warn<T>(&self, about: &Given<T>, text: impl Into<String>, hint: impl Into<String>) {
        self.problem(Problem::warning(about.origin.clone(), &about.key, text, hint));
    }

    /// Whether an error was noted about this very key.
    pub fn has_error(&self, key: &str) -> bool {
        self.problems.borrow().iter().any(|problem| problem.is_error() && problem.key == key)
    }

    /// Where the effective value of a key came from.
    pub fn origin_of(&self, key: &str) -> Origin {
        let settings = self.settings.borrow();
        settings.iter().find(|setting| setting.key == key).map_or(Origin::Default, |setting| setting.origin.clone())
    }

    /// Whether a key was set to something; the empty text is nothing.
    pub fn is_given(&self, key: &str) -> bool {
        let is_it = |setting: &Setting| setting.key == key && setting.origin != Origin::Default;
        self.settings.borrow().iter().any(|setting| is_it(setting) && setting.value != "\"\"")
    }

    /// Everything noted: settings, and the problems in order of their places.
    pub fn finish(self) -> (Vec<Setting>, Vec<Problem>) {
        let known = self.known.into_inner();
        let mut problems = self.problems.into_inner();
        for unknown in self.unknown.into_inner() {
            let hint = hint_for(&unknown, &known);
            problems.push(Problem::error(unknown.origin, join(&unknown.parent, &unknown.key), "unknown key", hint));
        }
        let place = |p: &Problem| (p.file().map(ToOwned::to_owned), p.line());
        problems.sort_by_key(place);
        (self.settings.into_inner(), problems)
    }
}

/// A near sibling, else the same word in another table, or the one that a variable with one underscore too few means,
/// else all there is.
fn hint_for(unknown: &Unknown, known: &[String]) -> String {
    let siblings = unknown.siblings.iter().map(String::as_str);
    let is_it = |path: &&String| path.rsplit('.').next() == Some(&unknown.key) || path.replace('.', "_") == unknown.key;
    let elsewhere = || known.iter().find(is_it).cloned();
    match nearest(&unknown.key, siblings.clone()).map(|key| join(&unknown.parent, key)).or_else(elsewhere) {
        Some(right) => format!("did you mean {right}?"),
        None => format!("there is {}", siblings.collect::<Vec<_>>().join(", ")),
    }
}

fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_string() } else { format!("{parent}.{key}") }
}

/// A table that is being read.
#[derive(Debug)]
pub struct Reader<'n> {
    table: Table,
    path: String,
    origin: Origin,
    notes: &'n Notes,
    seen: Vec<String>,
}

impl<'n> Reader<'n> {
    /// Reads a whole file's (or the merged) table.
    pub fn new(table: Table, notes: &'n Notes) -> Self {
        Self { table, path: String::new(), origin: Origin::Default, notes, seen: Vec::new() }
    }

    /// The notes, for complaints of one's own.
    pub fn notes(&self) -> &'n Notes {
        self.notes
    }

    /// The dotted key of the table itself; empty for a whole file.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where the table begins.
    pub fn origin(&self) -> Origin {
        self.origin.clone()
    }

    /// Whether a key is there and not yet taken.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The dotted key of one of this table's keys.
    pub fn key(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Takes a key out, whatever it holds.
    pub fn take(&mut self, key: &str) -> Option<Given<Value>> {
        let path = self.key(key);
        self.seen.push(key.into());
        self.notes.known.borrow_mut().push(path.clone());
        let entry = self.table.remove(key)?;
        Some(Given { key: path, origin: entry.value.origin.clone(), value: entry.value })
    }

    /// Takes all that is left, for tables whose keys are free.
    pub fn take_rest(&mut self) -> Vec<(String, Given<Value>)> {
        let rest = std::mem::take(&mut self.table);
        let given = rest.into_iter().map(|(name, entry)| {
            let key = self.key(&name);
            (name, Given { key, origin: entry.value.origin.clone(), value: entry.value })
        });
        given.collect()
    }

    /// Takes a text that `parse` understands.
    pub fn parsed<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, Complaint>) -> Option<Given<T>> {
        let given = self.take(key)?;
        match parse_value(&given.value, parse) {
            Ok(value) => Some(given.with(value)),
            Err(complaint) => {
                self.notes.complain(&given, complaint);
                None
            }
        }
    }

    /// The same for what may also be a plain number, such as a size in bytes.
    pub fn parsed_number<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, Complaint>) -> Option<Given<T>> {
        if let Some(entry) = self.table.get_mut(key)
            && let Kind::Integer(number) = entry.value.kind
        {
            entry.value.kind = Kind::Text(number.to_string());
        }
        self.parsed(key, parse)
    }

    /// Takes any text.
    pub fn text(&mut self, key: &str) -> Option<Given<String>> {
        self.parsed(key, |text| Ok(text.to_string()))
    }

    /// Takes a whole number within a range.
    pub fn integer(&mut self, key: &str, range: RangeInclusive<i64>) -> Option<Given<i64>> {
        let given = self.take(key)?;
        let hint = format!("write a whole number from {} to {}, without quotes", range.start(), range.end());
        match given.value.kind {
            Kind::Integer(number) if range.contains(&number) => Some(given.with(number)),
            Kind::Integer(number) => {
                self.notes.complain(&given, Complaint::new(format!("{number} is out of range"), hint));
                None
            }
            ref other => {
                let text = format!("{other} is {}, not a number", other.type_name());
                self.notes.complain(&given, Complaint::new(text, hint));
                None
            }
        }
    }

    /// Takes true or false.
    pub fn boolean(&mut self, key: &str) -> Option<Given<bool>> {
        let given = self.take(key)?;
        match given.value.kind {
            Kind::Boolean(flag) => Some(given.with(flag)),
            ref other => {
                let text = format!("{other} is {}, not true or false", other.type_name());
                self.notes.complain(&given, Complaint::new(text, "write true or false, without quotes"));
                None
            }
        }
    }

    /// Takes a list of texts; those that are none are noted and left out.
    pub fn texts(&mut self, key: &str) -> Option<Given<Vec<Given<String>>>> {
        let given = self.take(key)?;
        let items = self.items(&given)?;
        let texts = items.iter().filter_map(|item| match parse_value(&item.value, |text| Ok(text.to_string())) {
            Ok(text) => Some(item.with(text)),
            Err(complaint) => {
                self.notes.complain(item, complaint);
                None
            }
        });
        Some(given.with(texts.collect()))
    }

    /// Takes a list of tables.
    pub fn tables(&mut self, key: &str) -> Vec<Reader<'n>> {
        let Some(given) = self.take(key) else { return Vec::new() };
        let items = self.items(&given).unwrap_or_default();
        items.into_iter().filter_map(|item| self.sub(item)).collect()
    }

    /// Takes a table; `None` if it is absent.
    pub fn table(&mut self, key: &str) -> Option<Reader<'n>> {
        let given = self.take(key)?;
        self.sub(given)
    }

    /// Takes a table; an absent one is read as an empty one.
    pub fn group(&mut self, key: &str) -> Reader<'n> {
        let path = self.key(key);
        let empty = Reader { table: Table::new(), path, origin: Origin::Default, notes: self.notes, seen: Vec::new() };
        self.table(key).unwrap_or(empty)
    }

    /// The items of a list, each with its numbered key.
    pub fn items(&self, given: &Given<Value>) -> Option<Vec<Given<Value>>> {
        let Kind::List(items) = &given.value.kind else {
            let text = format!("{} is {}, not a list", given.value.kind, given.value.kind.type_name());
            self.notes.complain(given, Complaint::new(text, format!("write [{}]", given.value.kind)));
            return None;
        };
        let numbered = items.iter().enumerate().map(|(i, item)| Given {
            key: format!("{}[{i}]", given.key),
            origin: item.origin.clone(),
            value: item.clone(),
        });
        Some(numbered.collect())
    }

    /// A value as a table to read.
    pub fn sub(&self, given: Given<Value>) -> Option<Reader<'n>> {
        match given.value.kind {
            Kind::Table(table) => {
                Some(Reader { table, path: given.key, origin: given.origin, notes: self.notes, seen: Vec::new() })
            }
            ref other => {
                let text = format!("{other} is {}, not a table", other.type_name());
                self.notes.complain(&given, Complaint::new(text, "write { key = value }"));
                None
            }
        }
    }

    /// Refuses a key that is part of the product but not of this version.
    pub fn later(&mut self, key: &str, what: &str) {
        if let Some(given) = self.take(key) {
            self.notes.complain(&given, Complaint::new(format!("{what} is not available yet"), "remove it"));
        }
    }

    /// Notes every key that nobody asked for.
    pub fn finish(self) {
        let unknown = self.table.into_iter().map(|(key, entry)| Unknown {
            key,
            parent: self.path.clone(),
            origin: entry.origin,
            siblings: self.seen.clone(),
        });
        self.notes.unknown.borrow_mut().extend(unknown);
    }

    /// A setting with a default, shown by `config show` as `show` writes it.
    pub fn setting_shown<T>(
        &mut self,
        key: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, Complaint>,
        show: impl Fn(&str) -> String,
    ) -> T {
        let given = self.parsed(key, |text| parse(text).map(|value| (text.to_string(), value)));
        let (shown, origin, value) = match given {
            Some(Given { value: (text, value), origin, .. }) => (show(&text), origin, value),
            None => match parse(default) {
                Ok(value) => (show(default), Origin::Default, value),
                Err(complaint) => unreachable!("the default of {} is valid: {}", self.key(key), complaint.text),
            },
        };
        self.note_setting(key, format!("{shown:?}"), origin);
        value
    }

    /// A setting with a default.
    pub fn setting<T>(&mut self, key: &str, default: &str, parse: impl Fn(&str) -> Result<T, Complaint>) -> T {
        self.setting_shown(key, default, parse, str::to_string)
    }

    /// A number with a default.
    pub fn setting_integer(&mut self, key: &str, default: i64, range: RangeInclusive<i64>) -> i64 {
        let (value, origin) = match self.integer(key, range) {
            Some(given) => (given.value, given.origin),
            None => (default, Origin::Default),
        };
        self.note_setting(key, value.to_string(), origin);
        value
    }

    /// A list of texts with a default.
    pub fn setting_list<T>(
        &mut self,
        key: &str,
        default: &[&str],
        parse: impl Fn(&str) -> Result<T, Complaint>,
    ) -> Vec<T> {
        let (texts, origin) = match self.texts(key) {
            Some(given) => (given.value, given.origin),
            None => {
                let plain =
                    |text: &&str| Given { value: text.to_string(), key: self.key(key), origin: Origin::Default };
                (default.iter().map(plain).collect(), Origin::Default)
            }
        };
        let shown: Vec<String> = texts.iter().map(|text| format!("{:?}", text.value)).collect();
        self.note_setting(key, format!("[{}]", shown.join(", ")), origin);
        let values = texts.iter().filter_map(|text| match parse(&text.value) {
            Ok(value) => Some(value),
            Err(complaint) => {
                self.notes.complain(text, complaint);
                None
            }
        });
        values.collect()
    }

    fn note_setting(&self, key: &str, value: String, origin: Origin) {
        self.notes.settings.borrow_mut().push(Setting { key: self.key(key), value, origin });
    }
}

/// Reads a scalar as a text. A number or a flag from a variable is the text as given there; from a file it wants quotes.
fn parse_value<T>(value: &Value, parse: impl Fn(&str) -> Result<T, Complaint>) -> Result<T, Complaint> {
    let scalar = match (&value.kind, &value.raw) {
        (Kind::Text(text), _) => return parse(text),
        (Kind::List(_) | Kind::Table(_), _) => None,
        (_, Some(raw)) => return parse(raw),
        (other, None) => Some(other.to_string()),
    };
    let wrong = format!("{} is {}, not a text", value.kind, value.kind.type_name());
    match scalar {
        Some(text) => match parse(&text) {
            Err(complaint) => Err(complaint),
            Ok(_) => Err(Complaint::new(wrong, format!("write \"{text}\", in quotes"))),
        },
        None => Err(Complaint::new(wrong, "write one text in quotes")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nbs_core::quantity::parse_duration;

    use super::*;
    use crate::config::value::parse_file;

    fn problems(text: &str, read: impl Fn(&mut Reader<'_>)) -> Vec<String> {
        let notes = Notes::default();
        let mut reader = Reader::new(parse_file(Path::new("a.toml"), text).unwrap(), &notes);
        read(&mut reader);
        reader.finish();
        notes.finish().1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn wrong_types_name_value_and_remedy() {
        let duration = |r: &mut Reader<'_>| drop(r.parsed("hold", |text| Ok(parse_duration(text)?)));
        let text = |r: &mut Reader<'_>| drop(r.text("hold"));
        let number = |r: &mut Reader<'_>| drop(r.integer("hold", 1..=9));
        let flag = |r: &mut Reader<'_>| drop(r.boolean("hold"));
        let list = |r: &mut Reader<'_>| drop(r.texts("hold"));
        type Ask<'a> = &'a dyn Fn(&mut Reader<'_>);
        let cases: &[(&str, Ask<'_>, &str)] = &[
            ("hold = 30", &duration, "\"30\" is not a duration; write 500ms, 30s, 5m or 1h 30m"),
            ("hold = [1]", &duration, "[1] is a list, not a text; write one text in quotes"),
            ("hold = 30", &text, "30 is a number, not a text; write \"30\", in quotes"),
            (
                "hold = \"3\"",
                &number,
                "\"3\" is a text, not a number; write a whole number from 1 to 9, without quotes",
            ),
            ("hold = 10", &number, "10 is out of range; write a whole number from 1 to 9, without quotes"),
            (
                "hold = 1.5",
                &number,
                "1.5 is a fraction or a date, not a number; write a whole number from 1 to 9, without quotes",
            ),
            ("hold = \"yes\"", &flag, "\"yes\" is a text, not true or false; write true or false, without quotes"),
            ("hold = \"a\"", &list, "\"a\" is a text, not a list; write [\"a\"]"),
        ];
        for (line, read, expected) in cases {
            assert_eq!(problems(line, read), [format!("a.toml:1: hold: {expected}")]);
        }
    }

    #[test]
    fn unknown_keys_are_told_with_the_nearest_right_one() {
        let read = |r: &mut Reader<'_>| {
            let mut gateway = r.group("gateway");
            gateway.text("listen");
            gateway.text("hold_timeout");
            gateway.finish();
        };
        let text = "hold_timeout = \"1s\"\n[gateway]\nlisten = \"a\"\nhold_timeot = \"1s\"\ncolour = 1\n";
        assert_eq!(
            problems(text, read),
            [
                "a.toml:1: hold_timeout: unknown key; did you mean gateway.hold_timeout?",
                "a.toml:4: gateway.hold_timeot: unknown key; did you mean gateway.hold_timeout?",
                "a.toml:5: gateway.colour: unknown key; there is listen, hold_timeout",
            ]
        );
    }
}
