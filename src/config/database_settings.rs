//! `[database.servers.NAME]`: the servers on which databases of apps are made. The origin's variables DB_… fill `default`.
//!
//! The entry's own record is embedded and is none of them. A password is read from a file or a variable, and never shown.

use std::path::PathBuf;

use nbs_core::database::{Dialect, Endpoint, POSTGRES_PORT, Server, Servers};
use nbs_core::name::ServerName;
use nbs_core::nearest::suggestion;
use nbs_core::secret::SecretText;

use super::parse;
use super::problem::{Origin, Problem};
use super::reader::{Complaint, Notes, Reader};
use super::redis_settings::{read_password_file, warn_of_readers};

/// One server as it stands, before it is known whether the role uses it.
#[derive(Debug)]
struct Keys {
    name: ServerName,
    dialect: Dialect,
    server: Server,
    password_file: Option<PathBuf>,
}

/// `[database]` as it stands.
#[derive(Debug)]
pub struct DatabaseKeys(Vec<Keys>);

/// Reads the table.
pub fn read(mut group: Reader<'_>) -> DatabaseKeys {
    let mut keys = Vec::new();
    if let Some(mut servers) = group.table("servers") {
        for (name, given) in servers.take_rest() {
            match ServerName::parse(&name) {
                Ok(name) => keys.extend(servers.sub(given).map(|table| server(name, table))),
                Err(error) => servers.notes().complain(&given, error.into()),
            }
        }
        servers.finish();
    }
    group.finish();
    DatabaseKeys(keys)
}

fn server(name: ServerName, mut table: Reader<'_>) -> Keys {
    let masked = |text: &str| if text.is_empty() { String::new() } else { "***".into() };
    let dialect = table.setting("dialect", "postgres", dialect);
    let host = table.setting("host", "127.0.0.1", host);
    let port = table.setting_integer("port", i64::from(POSTGRES_PORT), 1..=i64::from(u16::MAX));
    let user = table.setting("user", "postgres", identifier);
    let password = table.setting_shown("password", "", secret, masked);
    let password_file = table.setting("password_file", "", parse::optional_file);
    let database = table.setting("database", "postgres", identifier);
    table.finish();
    // The range of the number was checked.
    let endpoint = Endpoint { host, port: u16::try_from(port).unwrap_or(POSTGRES_PORT) };
    Keys { name, dialect, server: Server { endpoint, user, password, database }, password_file }
}

impl DatabaseKeys {
    /// Reads the files with the passwords. What is wrong is noted.
    pub fn resolve(self, notes: &Notes) -> Servers {
        let mut servers = Servers::new();
        for Keys { name, dialect, mut server, password_file } in self.0 {
            let key = |key: &str| format!("database.servers.{name}.{key}");
            if dialect == Dialect::Sqlite {
                let text = "a file needs no server, so there is none of this name";
                let hint = "let apps ask for it: --database new-database --db-dialect sqlite";
                notes.problem(Problem::warning(Origin::Default, key("dialect"), text, hint));
                continue;
            }
            let place = key("password");
            warn_of_readers(&place, server.password.is_some(), &key("password_file"), notes);
            if let Some(file) = password_file {
                if server.password.is_some() {
                    let text = "there is a password, and a file that holds one too";
                    notes.problem(Problem::error(Origin::Default, place, text, "take one of them away"));
                }
                server.password = read_password_file(&key("password_file"), &file, notes);
            }
            servers.insert(name, server);
        }
        servers
    }
}

fn dialect(text: &str) -> Result<Dialect, Complaint> {
    if Dialect::LATER.contains(&text) {
        return Err(Complaint::new(format!("{text:?} is not available yet"), "set up a PostgreSQL, or remove it"));
    }
    let words = Dialect::ALL.iter().map(|dialect| dialect.as_str());
    Dialect::parse(text).ok_or_else(|| Complaint::new(format!("{text:?} is not a dialect"), suggestion(text, words)))
}

fn host(text: &str) -> Result<String, Complaint> {
    let odd = text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control());
    if odd || (!text.starts_with('/') && text.contains(['/', '@', ','])) {
        let hint = "write a name or an address, or the directory of a socket such as /run/postgresql";
        return Err(Complaint::new(format!("{:?} is not a host", super::web::mask(text)), hint));
    }
    Ok(text.to_string())
}

fn identifier(text: &str) -> Result<String, Complaint> {
    let max = nbs_core::database::NAME_MAX;
    if text.is_empty() || text.len() > max || text.chars().any(char::is_control) {
        let hint = format!("write 1 to {max} bytes without control characters");
        return Err(Complaint::new(format!("{text:?} is no name for PostgreSQL"), hint));
    }
    Ok(text.to_string())
}

/// Never told back.
fn secret(text: &str) -> Result<Option<SecretText>, Complaint> {
    match text {
        "" => Ok(None),
        _ if text.contains(['\0', '\n']) => {
            Err(Complaint::new("the password has more than one line", "write it on one line"))
        }
        _ => Ok(Some(SecretText::new(text))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
