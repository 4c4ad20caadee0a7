//! Environment variables: the origin's own, and `NBSUPERVISOR_TABLE__KEY` for every key.
//!
//! An empty variable is an unset one. The origin's adapter variables say where things are (`remote` = through Redis);
//! they have nothing to do with a recipe's `adapter`.

use super::problem::{Origin, Problem};
use super::reader::Notes;
use super::sources::Sources;
use super::value::{self, Kind, Table, Value};
use nbs_core::nearest::suggestion;

const PREFIX: &str = "NBSUPERVISOR_";

/// Variables that stand for one key each; their value is always a text.
const NAMED: &[(&str, &[&str])] = &[
    ("APP_MODE", &["mode"]),
    ("APP_SUPERVISOR_REDIS_URL", &["redis", "url"]),
    ("APP_COMMAND_REDIS_URL", &["redis", "command_url"]),
    ("ENVIRONMENT_NAME", &["environment", "name"]),
    ("ENVIRONMENT_URL", &["environment", "url"]),
    ("ENVIRONMENT_PROXY_URL", &["environment", "proxy_url"]),
    ("TZ", &["time_zone"]),
    ("NBSUPERVISOR_LOG", &["log", "level"]),
];

/// Variables with our prefix that are no configuration: those of the command line, and the marks of started processes.
pub const NOT_CONFIGURATION: &[&str] = &[
    "NBSUPERVISOR_CONFIG",
    "NBSUPERVISOR_SOCKET",
    "NBSUPERVISOR_URL",
    "NBSUPERVISOR_TOKEN",
    "NBSUPERVISOR_TOKEN_FILE",
    "NBSUPERVISOR_OUTPUT",
    "NBSUPERVISOR_INSTANCE",
    "NBSUPERVISOR_APP",
    "NBSUPERVISOR_RUN",
];

/// Reads the variables into a table.
pub fn read(sources: &Sources, notes: &Notes) -> Table {
    let mut table = Table::new();
    for (name, path) in NAMED {
        if let Some(text) = sources.variable(name) {
            let origin = Origin::Variable((*name).into());
            let value = Value { origin, raw: Some(text.into()), kind: Kind::Text(text.into()) };
            put(&mut table, path, value);
        }
    }
    for name in sources.variables.keys() {
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        let named = NAMED.iter().any(|(known, _)| known == name);
        if named || NOT_CONFIGURATION.contains(&name.as_str()) {
            continue;
        }
        if let Some(text) = sources.variable(name) {
            let key = key.to_lowercase();
            let path: Vec<&str> = key.split("__").collect();
            put(&mut table, &path, value::parse_loose(text, Origin::Variable(name.as_str().into())));
        }
    }
    check_adapters(sources, notes);
    table
}

/// Puts a value under a dotted key, making the tables on the way.
pub fn put(table: &mut Table, path: &[&str], value: Value) {
    let origin = value.origin.clone();
    let wrap = |kind| Value { origin: origin.clone(), raw: None, kind };
    let Some((last, parents)) = path.split_last() else { return };
    let entry = |value| super::value::Entry { origin: origin.clone(), value };
    let innermost = Table::from([(last.to_string(), entry(value))]);
    let whole = parents
        .iter()
        .rev()
        .fold(innermost, |inner, parent| Table::from([(parent.to_string(), entry(wrap(Kind::Table(inner))))]));
    value::merge(table, whole);
}

/// The adapter variables choose nothing in standalone mode, but what they ask for must not be silently ignored.
fn check_adapters(sources: &Sources, notes: &Notes) {
    for name in ["APP_DISCOVERY_ADAPTER", "APP_PROCESS_ADAPTER"] {
        match sources.variable(name) {
            None | Some("local") => {}
            Some("remote") => {
                refuse(notes, name, "remote (through Redis) is not available yet", "write local or unset it")
            }
            Some(other) => unknown_value(notes, name, other, &["local", "remote"]),
        }
    }
    let (right, wrong) = ("APP_COMMAND_ADAPTER", "APP_COMMAND_ADPATER");
    let name = match (sources.variable(right), sources.variable(wrong)) {
        (None, None) => return,
        (Some(a), Some(b)) if a != b => {
            let text = format!("it is {b:?}, but {right} is {a:?}");
            refuse(notes, wrong, &text, &format!("keep {right} only"));
            return;
        }
        (Some(_), _) => right,
        (None, Some(_)) => {
            let text = format!("this is the misspelling of {right} in the origin's documents");
            notes.problem(Problem::warning(Origin::Variable(wrong.into()), "", text, format!("write {right}")));
            wrong
        }
    };
    match sources.variable(name) {
        Some("redis") => refuse(notes, name, "redis is not available yet", "unset it"),
        Some(other) => unknown_value(notes, name, other, &["redis"]),
        None => {}
    }
}

fn refuse(notes: &Notes, name: &str, text: &str, hint: &str) {
    notes.problem(Problem::error(Origin::Variable(name.into()), "", text, hint));
}

fn unknown_value(notes: &Notes, name: &str, value: &str, known: &[&str]) {
    let hint = suggestion(value, known.iter().copied());
    refuse(notes, name, &format!("{value:?} is no value of it"), &hint);
}
