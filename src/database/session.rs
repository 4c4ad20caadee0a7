//! A connection to a server, with every wait bounded. It ends with the value.

use std::time::Duration;

use nbs_core::database::Login;
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row};

use super::fault::Fault;

/// A server on the same network answers at once; one beyond a lost packet or two within this.
const CONNECT: Duration = Duration::from_secs(5);
/// Every question but the making of a database is answered at once; that one copies a template.
const STATEMENT: Duration = Duration::from_secs(45);
/// What the session is told first. `warning`: notices on what is there already are nobody's concern.
const SETTINGS: &str = "SET statement_timeout = '40s'; SET lock_timeout = '30s'; SET standard_conforming_strings = on; \
                        SET client_min_messages = warning";

/// A connection.
pub(super) struct Session {
    client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    /// Connects.
    pub(super) async fn open(login: &Login) -> Result<Self, Fault> {
        let mut config = Config::new();
        config
            .host(login.endpoint.host.as_str())
            .port(login.endpoint.port)
            .user(login.user.as_str())
            .dbname(login.database.as_str())
            .application_name("nbsupervisor")
            .connect_timeout(CONNECT);
        if let Some(password) = login.password.as_ref().filter(|password| !password.expose().is_empty()) {
            config.password(password.expose());
        }
        let opened = tokio::time::timeout(CONNECT, config.connect(NoTls)).await;
        let (client, connection) = opened.map_err(|_| Fault::late(CONNECT))??;
        // Its end is seen by whoever asks the next question.
        let driver = tokio::spawn(async move { drop(connection.await) });
        let session = Self { client, driver };
        session.run(SETTINGS).await?;
        Ok(session)
    }

    /// Runs statements that answer nothing.
    pub(super) async fn run(&self, sql: &str) -> Result<(), Fault> {
        let run = tokio::time::timeout(STATEMENT, self.client.batch_execute(sql)).await;
        Ok(run.map_err(|_| Fault::late(STATEMENT))??)
    }

    /// Asks for at most one row.
    pub(super) async fn ask(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, Fault> {
        let asked = tokio::time::timeout(STATEMENT, self.client.query_opt(sql, values)).await;
        Ok(asked.map_err(|_| Fault::late(STATEMENT))??)
    }

    /// Waits until the connection ends.
    pub(super) async fn ended(&mut self) {
        let _ = (&mut self.driver).await;
    }
}
