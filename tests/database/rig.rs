//! Apps with databases, as the core sees them, and a maker to hand them to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nbs_core::database::{Connection, Database, Endpoint, Failure, Made, Make, Owner, Plan, Server, Servers, What};
use nbs_core::name::{AppId, EnvironmentName, ServerName};
use nbs_core::secret::SecretText;
use nbsupervisor::database::Databases;
use nbsupervisor::ports::{DatabaseMaker, DatabaseNews};
use tokio::sync::mpsc;

use crate::postgres::Postgres;

/// A server with a user `nbs` of these rights, and what works on it.
pub struct Rig {
    pub server: Postgres,
    pub maker: Databases,
    pub news: mpsc::Receiver<DatabaseNews>,
    pub user: Server,
}

impl Rig {
    pub fn new(rights: &str) -> Self {
        let server = Postgres::start();
        server.sql("postgres", &format!("CREATE ROLE nbs LOGIN PASSWORD 'geheim' {rights}"));
        let user = Server {
            endpoint: Endpoint { host: "127.0.0.1".into(), port: server.port() },
            user: "nbs".into(),
            password: Some(SecretText::new("geheim")),
            database: "postgres".into(),
        };
        let (sender, news) = mpsc::channel(64);
        Self { server, maker: Databases::new(sender), news, user }
    }

    pub fn servers(&self) -> Servers {
        BTreeMap::from([(name(), self.user.clone())])
    }

    /// The plan of an app, made before or not.
    pub fn plan(&self, app: &str, database: &Database, made: Option<Made>) -> Plan {
        owned(app, |owner| database.plan(owner, &self.servers(), made)).unwrap().unwrap()
    }

    pub fn make(&self, app: &str, database: &Database) -> Make {
        match self.plan(app, database, None).what {
            What::Make(make) => make,
            What::Check { .. } => panic!("it is only checked"),
        }
    }

    pub async fn prepare(&self, app: &str, database: &Database) -> Result<Made, Failure> {
        self.maker.prepare(&self.plan(app, database, None)).await
    }

    pub fn connection(&self, app: &str, database: &Database, made: Made) -> Connection {
        owned(app, |owner| database.connection(owner, &self.servers(), PathBuf::new(), Some(made))).unwrap()
    }

    /// Runs SQL as an app does.
    pub fn as_app(&self, app: &str, database: &Database, made: Made, sql: &str) -> Result<String, String> {
        self.server.sql_as(&self.connection(app, database, made).url(), sql)
    }

    /// The databases that are not the server's own.
    pub fn databases(&self) -> String {
        let own = "'postgres', 'template0', 'template1'";
        let question =
            format!("SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname NOT IN ({own})");
        self.server.sql("postgres", &question)
    }

    /// The roles that are not the server's own.
    pub fn roles(&self) -> String {
        let own = "rolname !~ '^pg_' AND rolname NOT IN ('postgres', 'nbs')";
        self.server
            .sql("postgres", &format!("SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE {own}"))
    }
}

/// Makes databases and roles, and nothing else.
pub const USUAL: &str = "CREATEDB CREATEROLE";

pub fn name() -> ServerName {
    ServerName::parse("default").unwrap()
}

pub fn new() -> Database {
    Database::New { server: name() }
}

pub fn schema() -> Database {
    Database::Schema { server: name() }
}

/// The secret of an app: a mark, then a password.
pub fn secret(app: &str) -> SecretText {
    let text: String = app.bytes().map(|byte| format!("{byte:02x}")).collect();
    SecretText::new(text.chars().cycle().take(64).collect::<String>())
}

fn owned<T>(app: &str, run: impl FnOnce(Owner<'_>) -> T) -> T {
    let (secret, app) = (secret(app), AppId::parse(app).unwrap());
    let environment = EnvironmentName::parse("local").unwrap();
    run(Owner { app: &app, environment: &environment, secret: &secret })
}
