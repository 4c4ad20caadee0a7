//! The key `database` of a spec. Which keys it has depends on the mode, and a key of another mode is a mistake.

use nbs_core::database::{Database, Dialect, Given, NAME_MAX, POSTGRES_PORT};
use nbs_core::name::ServerName;
use nbs_core::secret::SecretText;
use serde_json::{Value, json};

use super::{Fault, Field, name_fault};
use crate::wire::field::{Fields, Walk, kind, meant_by, quoted, shown};

const KEYS: &[&str] = &["mode", "dialect", "server", "host", "port", "database", "schema", "user", "password"];
const MODES: [&str; 4] = ["none", "new-database", "new-schema", "new-connection"];
/// Bytes of a host: what DNS allows, and more than a socket's directory may have.
const HOST_MAX: usize = 253;
/// Bytes of a password.
const PASSWORD_MAX: usize = 1024;

/// Shows it; `secret` shows the password.
pub(super) fn write(database: Option<&Database>, secret: impl Fn(&SecretText) -> Value) -> Value {
    let Some(database) = database else { return json!({ "mode": "none" }) };
    let (mode, dialect) = (database.mode(), database.dialect().as_str());
    match database {
        Database::File => json!({ "mode": mode, "dialect": dialect }),
        Database::New { server } | Database::Schema { server } => {
            json!({ "mode": mode, "dialect": dialect, "server": server.as_str() })
        }
        Database::Given(given) => json!({
            "mode": mode,
            "dialect": dialect,
            "host": given.host,
            "port": given.port,
            "database": given.database,
            "schema": given.schema,
            "user": given.user,
            "password": secret(&given.password),
        }),
    }
}

/// A patch that names another mode or dialect means another database: nothing of the former one stays.
pub(super) fn replaced(current: &mut Value, patch: &Value) {
    let other = |key: &str| {
        let at = format!("/database/{key}");
        patch.pointer(&at).is_some_and(|new| Some(new) != current.pointer(&at))
    };
    if other("mode") || other("dialect") {
        let mode = current.pointer("/database/mode").cloned();
        current["database"] = json!({ "mode": mode });
    }
}

/// Reads it; none where the app has no database.
pub(super) fn read(walk: &mut Walk, (path, value): Field<'_>) -> Option<Database> {
    let fields = walk.object(&path, value, KEYS);
    let (mode_path, mode) = fields.get("mode");
    let mode = walk.text(&mode_path, mode).unwrap_or("none");
    if !MODES.contains(&mode) {
        let hint = match meant_by(mode, MODES.into_iter()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("write one of {}", MODES.join(", ")),
        };
        walk.invalid(mode_path, format!("{} is not a database mode", quoted(mode)), hint);
        return None;
    }
    let dialect = read_dialect(walk, &fields, mode);
    let wanted: &[&str] = match (mode, dialect) {
        ("none", _) => &["mode"],
        ("new-database", Some(Dialect::Sqlite)) => &["mode", "dialect"],
        ("new-connection", _) => &["mode", "dialect", "host", "port", "database", "schema", "user", "password"],
        _ => &["mode", "dialect", "server"],
    };
    for key in KEYS.iter().filter(|key| !wanted.contains(*key)) {
        if let (path, Some(_)) = present(&fields, key) {
            let detail = format!("{key} has no meaning with mode {mode}");
            walk.invalid(path, detail, format!("leave it out; mode {mode} has {}", wanted.join(", ")));
        }
    }
    match (mode, dialect?) {
        ("new-database", Dialect::Sqlite) => Some(Database::File),
        ("new-database", Dialect::Postgres) => Some(Database::New { server: read_server(walk, &fields)? }),
        ("new-schema", Dialect::Postgres) => Some(Database::Schema { server: read_server(walk, &fields)? }),
        ("new-connection", Dialect::Postgres) => read_given(walk, &fields).map(Box::new).map(Database::Given),
        _ => None,
    }
}

/// A field that is there and not null.
fn present<'v>(fields: &Fields<'v>, key: &str) -> Field<'v> {
    let (path, value) = fields.get(key);
    (path, value.filter(|value| !value.is_null()))
}

/// None if it is at fault, or does not fit the mode.
fn read_dialect(walk: &mut Walk, fields: &Fields<'_>, mode: &str) -> Option<Dialect> {
    let (path, value) = fields.get("dialect");
    let Some(text) = walk.text(&path, value) else {
        return value.is_none_or(Value::is_null).then_some(Dialect::Postgres);
    };
    let words: Vec<&str> = Dialect::ALL.iter().map(|dialect| dialect.as_str()).collect();
    let hint = format!("write {}", words.join(" or "));
    match Dialect::parse(text) {
        Some(Dialect::Sqlite) if matches!(mode, "new-schema" | "new-connection") => {
            let detail = format!("mode {mode} needs a server, and sqlite has none");
            walk.invalid(path, detail, "write mode new-database for a file of its own, or another dialect");
            None
        }
        Some(dialect) => Some(dialect),
        None if Dialect::LATER.contains(&text) => {
            walk.invalid(path, format!("database.dialect: {} is not available yet", quoted(text)), hint);
            None
        }
        None => {
            let meant = meant_by(text, words.iter().copied()).map(|meant| format!("did you mean {meant}?"));
            walk.invalid(path, format!("{} is not a dialect", quoted(text)), meant.unwrap_or(hint));
            None
        }
    }
}

fn read_server(walk: &mut Walk, fields: &Fields<'_>) -> Option<ServerName> {
    let (path, value) = present(fields, "server");
    if value.is_none() {
        return ServerName::parse("default").ok();
    }
    walk.parsed(&path, value, |text| ServerName::parse(text).map_err(name_fault))
}

fn read_given(walk: &mut Walk, fields: &Fields<'_>) -> Option<Given> {
    let host = needed(walk, fields, "host", "the host of the server, or the directory of its socket", host_fault);
    let database = needed(walk, fields, "database", "the name of the database", identifier_fault);
    let user = needed(walk, fields, "user", "the user to connect as", identifier_fault);
    let (path, schema) = present(fields, "schema");
    let schema = match schema {
        Some(_) => Some(walk.parsed(&path, schema, plain(identifier_fault))?),
        None => None,
    };
    let port = read_port(walk, fields);
    let password = read_password(walk, fields);
    Some(Given { host: host?, port: port?, database: database?, schema, user: user?, password: password? })
}

fn needed(
    walk: &mut Walk,
    fields: &Fields<'_>,
    key: &str,
    what: &str,
    fault: fn(&str) -> Option<Fault>,
) -> Option<String> {
    let (path, value) = present(fields, key);
    if value.is_none() {
        walk.invalid(path.as_str(), format!("{path} is missing"), format!("give {what}"));
        return None;
    }
    walk.parsed(&path, value, plain(fault))
}

fn plain(fault: fn(&str) -> Option<Fault>) -> impl FnOnce(&str) -> Result<String, Fault> {
    move |text| fault(text).map_or_else(|| Ok(text.to_string()), Err)
}

fn host_fault(text: &str) -> Option<Fault> {
    let odd = text.is_empty() || text.len() > HOST_MAX || text.chars().any(|c| c.is_whitespace() || c.is_control());
    let odd = odd || (!text.starts_with('/') && text.contains(['/', '@', ',']));
    odd.then(|| (format!("{} is not a host", quoted(text)), "write a name, an address, or /run/postgresql".into()))
}

/// Whatever PostgreSQL takes as a name, quotes and spaces included.
fn identifier_fault(text: &str) -> Option<Fault> {
    let odd = text.is_empty() || text.len() > NAME_MAX || text.chars().any(char::is_control);
    let hint = format!("write 1 to {NAME_MAX} bytes without control characters");
    odd.then(|| (format!("{} is no name for PostgreSQL", quoted(text)), hint))
}

fn read_port(walk: &mut Walk, fields: &Fields<'_>) -> Option<u16> {
    let (path, value) = present(fields, "port");
    let Some(value) = value else { return Some(POSTGRES_PORT) };
    let port = value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    if port.is_none() {
        let detail = format!("{} is not a port", shown(value));
        walk.invalid(path, detail, "write a number from 1 to 65535, without quotes");
    }
    port
}

/// Its value is never told.
fn read_password(walk: &mut Walk, fields: &Fields<'_>) -> Option<SecretText> {
    let (path, value) = present(fields, "password");
    match value {
        None => Some(SecretText::new("")),
        Some(Value::String(text)) if text.len() <= PASSWORD_MAX && !text.contains('\0') => Some(SecretText::new(text)),
        Some(Value::String(_)) => {
            walk.invalid(path, "the password is too long or has a NUL character in it", "give another one");
            None
        }
        Some(other) => {
            walk.invalid(path, format!("the password is {}, not a text", kind(other)), "write it in quotes");
            None
        }
    }
}
