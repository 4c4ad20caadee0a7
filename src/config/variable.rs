//! Environment variables: the origin's own, and `NBSUPERVISOR_TABLE__KEY` for every key.
//!
//! An empty variable is an unset one. The origin's adapter variables say where things are (`remote` = through Redis);
//! they have nothing to do with a recipe's `adapter`.

use super::problem::{Origin, Problem};
use super::reader::Notes;
use super::sources::Sources;
use super::value::{self, Kind, Table, Value};

const PREFIX: &str = "NBSUPERVISOR_";

const COMMAND_ADAPTER: &str = "APP_COMMAND_ADAPTER";
/// How the origin's documents spell it, too.
const COMMAND_ADAPTER_MISSPELT: &str = "APP_COMMAND_ADPATER";

/// Variables that stand for one key each; their value is always a text.
const NAMED: &[(&str, &[&str])] = &[
    ("APP_MODE", &["mode"]),
    ("APP_DISCOVERY_ADAPTER", &["discovery_adapter"]),
    ("APP_PROCESS_ADAPTER", &["process_adapter"]),
    (COMMAND_ADAPTER, &["command_adapter"]),
    ("APP_SUPERVISOR_REDIS_URL", &["redis", "url"]),
    ("APP_COMMAND_REDIS_URL", &["redis", "command_url"]),
    ("ENVIRONMENT_NAME", &["environment", "name"]),
    ("ENVIRONMENT_URL", &["environment", "url"]),
    ("ENVIRONMENT_PROXY_URL", &["environment", "proxy_url"]),
    ("DB_DIALECT", &["database", "servers", "default", "dialect"]),
    ("DB_HOST", &["database", "servers", "default", "host"]),
    ("DB_USER", &["database", "servers", "default", "user"]),
    ("DB_PASSWORD", &["database", "servers", "default", "password"]),
    ("DB_DATABASE", &["database", "servers", "default", "database"]),
    ("TZ", &["time_zone"]),
    ("NBSUPERVISOR_LOG", &["log", "level"]),
];

/// The one that is a number.
const NUMBER: (&str, &[&str]) = ("DB_PORT", &["database", "servers", "default", "port"]);

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
    misspelt(sources, &mut table, notes);
    for (name, path) in NAMED {
        if let Some(text) = sources.variable(name) {
            put(&mut table, path, plain(name, text));
        }
    }
    if let (name, path, Some(text)) = (NUMBER.0, NUMBER.1, sources.variable(NUMBER.0)) {
        put(&mut table, path, value::parse_loose(text, Origin::Variable(name.into())));
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

/// A variable's value that is a text, whatever it looks like.
fn plain(name: &str, text: &str) -> Value {
    Value { origin: Origin::Variable(name.into()), raw: Some(text.into()), kind: Kind::Text(text.into()) }
}

/// Takes the misspelt variable for the right one, and says so.
fn misspelt(sources: &Sources, table: &mut Table, notes: &Notes) {
    let (right, wrong) = (COMMAND_ADAPTER, COMMAND_ADAPTER_MISSPELT);
    let Some(text) = sources.variable(wrong) else { return };
    let origin = Origin::Variable(wrong.into());
    match sources.variable(right) {
        Some(other) if other != text => {
            let what = format!("it is {text:?}, but {right} is {other:?}");
            notes.problem(Problem::error(origin, "", what, format!("keep {right} only")));
        }
        _ => {
            let what = format!("this is the misspelling of {right} in the origin's documents, and is taken for it");
            notes.problem(Problem::warning(origin, "", what, format!("write {right}")));
            put(table, &["command_adapter"], plain(wrong, text));
        }
    }
}
