//! Databases of apps: what an app asks for, where that is on this host's servers, and how the app is connected to it.
//!
//! An app has one database whatever its environments: name, role, password and mark follow from its ID and its one
//! secret, so every worker comes to the same ones and none has to be told. Deliberately absent: SQL (the adapter), and
//! when it is made (`instance/database`).

mod decide;
mod name;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::name::{AppId, EnvironmentName, ServerName};
use crate::reason::{Reason, ReasonCode};
use crate::secret::SecretText;

pub use decide::{Decision, Found, Removal, Rights, Step, Thing, decide, remove};
pub use name::{Mark, NAME_MAX, fitting, name_of, url_part};

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// PostgreSQL.
    Postgres,
    /// A file.
    Sqlite,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: &'static [Dialect] = &[Self::Postgres, Self::Sqlite];
    /// Words that a later version will know.
    pub const LATER: &'static [&'static str] = &["mysql", "mariadb"];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }

    /// Reads the word on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|dialect| dialect.as_str() == text)
    }
}

/// The port of PostgreSQL.
pub const POSTGRES_PORT: u16 = 5432;

/// What an app asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// A database of its own on a configured server.
    New {
        /// Which server.
        server: ServerName,
    },
    /// A schema of its own in the database that a configured server names.
    Schema {
        /// Which server.
        server: ServerName,
    },
    /// A file of its own, among its data.
    File,
    /// A connection that is given whole; nothing is made.
    Given(Box<Given>),
}

/// A connection that is given whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Host name, address, or the directory of a socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Schema; absent = `public`.
    pub schema: Option<String>,
    /// User.
    pub user: String,
    /// Password.
    pub password: SecretText,
}

impl Database {
    /// The word on the wire.
    pub fn mode(&self) -> &'static str {
        match self {
            Self::New { .. } | Self::File => "new-database",
            Self::Schema { .. } => "new-schema",
            Self::Given(_) => "new-connection",
        }
    }

    /// Its kind.
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::File => Dialect::Sqlite,
            Self::New { .. } | Self::Schema { .. } | Self::Given(_) => Dialect::Postgres,
        }
    }

    /// The configured server that it is made on.
    pub fn server(&self) -> Option<&ServerName> {
        match self {
            Self::New { server } | Self::Schema { server } => Some(server),
            Self::File | Self::Given(_) => None,
        }
    }
}

/// A configured server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where.
    pub endpoint: Endpoint,
    /// Who makes databases there.
    pub user: String,
    /// That user's password; none where the server asks for none.
    pub password: Option<SecretText>,
    /// The database that is connected to for it, in which schemas are made.
    pub database: String,
}

/// Where a server is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Host name, address, or the directory of a socket.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Who connects where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Where.
    pub endpoint: Endpoint,
    /// Who.
    pub user: String,
    /// With what.
    pub password: Option<SecretText>,
    /// To which database.
    pub database: String,
}

/// How an app is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Kind.
    pub dialect: Dialect,
    /// Where; none for a file.
    pub endpoint: Option<Endpoint>,
    /// The database's name, or the file.
    pub database: String,
    /// Its schema; empty for a file.
    pub schema: String,
    /// As whom; empty for a file.
    pub user: String,
    /// With what; empty for a file, and where the server asks for none.
    pub password: SecretText,
}

impl Connection {
    /// The whole of it as a URL.
    pub fn url(&self) -> String {
        let Some(Endpoint { host, port }) = &self.endpoint else { return format!("sqlite://{}", self.database) };
        let host = if host.contains(':') { format!("[{host}]") } else { url_part(host) };
        let password = match self.password.expose() {
            "" => String::new(),
            password => format!(":{}", url_part(password)),
        };
        format!("postgres://{}{password}@{host}:{port}/{}", url_part(&self.user), url_part(&self.database))
    }
}

/// A part of a connection, as recipes ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `{db.dialect}`
    Dialect,
    /// `{db.host}`
    Host,
    /// `{db.port}`
    Port,
    /// `{db.database}`
    Database,
    /// `{db.schema}`
    Schema,
    /// `{db.user}`
    User,
    /// `{db.password}`
    Password,
    /// `{db.url}`
    Url,
}

impl Part {
    /// Whether it is to be kept from other users of the host.
    pub fn is_secret(self) -> bool {
        matches!(self, Self::Password | Self::Url)
    }

    /// Its text in a connection.
    pub fn of(self, connection: &Connection) -> String {
        let endpoint = connection.endpoint.as_ref();
        match self {
            Self::Dialect => connection.dialect.as_str().into(),
            Self::Host => endpoint.map(|endpoint| endpoint.host.clone()).unwrap_or_default(),
            Self::Port => endpoint.map(|endpoint| endpoint.port.to_string()).unwrap_or_default(),
            Self::Database => connection.database.clone(),
            Self::Schema => connection.schema.clone(),
            Self::User => connection.user.clone(),
            Self::Password => connection.password.expose().into(),
            Self::Url => connection.url(),
        }
    }
}

/// What is known of an app's database on this host, beyond what follows from the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// Whether it has a role of its own; else it is used as the server's own user.
    pub own_role: bool,
}

/// Whose database it is.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// The app.
    pub app: &'a AppId,
    /// The environment of this host.
    pub environment: &'a EnvironmentName,
    /// The app's secret for databases.
    pub secret: &'a SecretText,
}

/// The servers of a host.
pub type Servers = BTreeMap<ServerName, Server>;

/// What is to be made (or only checked) before an app starts; also what is to be dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The server, as texts name it: `database server default (127.0.0.1:5432)`.
    pub server: String,
    /// What.
    pub what: What,
}

/// The particulars of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Only to be connected to.
    Check {
        /// As the app will.
        login: Login,
        /// A schema that must be there.
        schema: Option<String>,
    },
    /// To be made if it is not there.
    Make(Make),
}

/// A database or schema of the app's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Make {
    /// A schema in the server's database, not a database.
    pub schema: bool,
    /// As whom it is made.
    pub server: Login,
    /// Its name, which is that of its role too.
    pub name: String,
    /// Whose it is.
    pub mark: String,
    /// Of its role.
    pub password: SecretText,
    /// What it was found to be at an earlier start: then it is looked at as the app first, and the server's own user is
    /// needed only if that fails.
    pub made: Option<Made>,
}

impl Make {
    /// As the app will connect.
    pub fn login(&self, own_role: bool) -> Login {
        let database = if self.schema { self.server.database.clone() } else { self.name.clone() };
        match own_role {
            true => Login {
                endpoint: self.server.endpoint.clone(),
                user: self.name.clone(),
                password: Some(self.password.clone()),
                database,
            },
            false => Login { database, ..self.server.clone() },
        }
    }

    /// What it is, for texts: `database "crm"`.
    pub fn title(&self) -> String {
        let kind = if self.schema { "schema" } else { "database" };
        format!("{kind} {:?}", self.name)
    }
}

/// Watches whether a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The server, as texts name it.
    pub server: String,
    /// As whom it is asked.
    pub login: Login,
}

/// What came of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The reason to show.
    pub reason: Reason,
    /// Whether it may go better later, without anybody changing anything.
    pub transient: bool,
}

impl Failure {
    /// It will not go better until somebody changes something.
    pub fn lasting(code: ReasonCode, text: impl Into<String>) -> Self {
        Self { reason: Reason::new(code, text), transient: false }
    }
}

impl Database {
    /// What is to be done before the app starts; nothing for a file, which the app itself makes.
    ///
    /// # Errors
    /// This host has no such server, or the app no secret.
    pub fn plan(&self, owner: Owner<'_>, servers: &Servers, made: Option<Made>) -> Result<Option<Plan>, Reason> {
        match self {
            Self::File => Ok(None),
            Self::Given(given) => {
                let what = What::Check { login: given.login(), schema: given.schema.clone() };
                Ok(Some(Plan { server: given.title(), what }))
            }
            Self::New { server } | Self::Schema { server } => {
                let (title, configured) = find(servers, server)?;
                let mark = Mark::of(owner.app, owner.secret).ok_or_else(no_secret)?;
                let make = Make {
                    schema: matches!(self, Self::Schema { .. }),
                    server: configured.login(),
                    name: name_of(owner.app, owner.environment),
                    mark: mark.text,
                    password: mark.password,
                    made,
                };
                Ok(Some(Plan { server: title, what: What::Make(make) }))
            }
        }
    }

    /// How the app is connected. `file`: where a database that is a file is.
    ///
    /// # Errors
    /// As `plan`.
    pub fn connection(
        &self,
        owner: Owner<'_>,
        servers: &Servers,
        file: PathBuf,
        made: Option<Made>,
    ) -> Result<Connection, Reason> {
        if *self == Self::File {
            let database = file.display().to_string();
            let (schema, user, password) = (String::new(), String::new(), SecretText::new(""));
            return Ok(Connection { dialect: Dialect::Sqlite, endpoint: None, database, schema, user, password });
        }
        let (login, schema) = match self.plan(owner, servers, made)?.map(|plan| plan.what) {
            Some(What::Make(make)) => {
                let schema = make.schema.then(|| make.name.clone());
                (make.login(made.is_none_or(|made| made.own_role)), schema)
            }
            Some(What::Check { login, schema }) => (login, schema),
            None => return Err(no_secret()),
        };
        Ok(Connection {
            dialect: Dialect::Postgres,
            endpoint: Some(login.endpoint),
            database: login.database,
            schema: schema.unwrap_or_else(|| "public".into()),
            user: login.user,
            password: login.password.unwrap_or_else(|| SecretText::new("")),
        })
    }

    /// What tells whether its server answers; none for a file, and where this host has no such server.
    pub fn watch(&self, servers: &Servers) -> Option<Watch> {
        match self {
            Self::File => None,
            Self::Given(given) => Some(Watch { server: given.title(), login: given.login() }),
            Self::New { server } | Self::Schema { server } => {
                let (server, configured) = find(servers, server).ok()?;
                Some(Watch { server, login: configured.login() })
            }
        }
    }

    /// What of it is the app's own and lies on a server, in words: `database "crm" and role "crm" on server default`.
    pub fn holding(&self, app: &AppId) -> Option<String> {
        match self {
            Self::New { server } => Some(format!("database \"{app}\" and role \"{app}\" on server {server}")),
            Self::Schema { server } => Some(format!("schema \"{app}\" and role \"{app}\" on server {server}")),
            Self::File | Self::Given(_) => None,
        }
    }
}

impl Given {
    fn login(&self) -> Login {
        Login {
            endpoint: Endpoint { host: self.host.clone(), port: self.port },
            user: self.user.clone(),
            password: Some(self.password.clone()),
            database: self.database.clone(),
        }
    }

    fn title(&self) -> String {
        format!("database server {}", Endpoint { host: self.host.clone(), port: self.port })
    }
}

impl Server {
    /// As whom it is connected to.
    pub fn login(&self) -> Login {
        Login {
            endpoint: self.endpoint.clone(),
            user: self.user.clone(),
            password: self.password.clone(),
            database: self.database.clone(),
        }
    }
}

fn find<'a>(servers: &'a Servers, name: &ServerName) -> Result<(String, &'a Server), Reason> {
    match servers.get(name) {
        Some(server) => Ok((format!("database server {name} ({})", server.endpoint), server)),
        None => {
            let text = format!("this host has no database server {name}: set [database.servers.{name}] there");
            Err(Reason::new(ReasonCode::DatabaseFailed, text))
        }
    }
}

fn no_secret() -> Reason {
    Reason::new(
        ReasonCode::DatabaseFailed,
        "the app was made without a secret for databases; change its spec once more",
    )
}

#[cfg(test)]
mod tests;
