//! The flags of `app create` that are about its database.

use serde_json::{Map, Value};

use super::create::{put, read_secret};
use crate::cli::exit::Outcome;

#[derive(Debug, clap::Args)]
pub struct DatabaseArgs {
    /// Its database: a new one, a schema, or a connection that is given
    #[arg(long, value_name = "MODE", value_parser = ["none", "new-database", "new-schema", "new-connection"])]
    database: Option<String>,
    /// postgres, or sqlite for a file
    #[arg(long, value_name = "DIALECT")]
    db_dialect: Option<String>,
    /// Which of [database.servers] makes it
    #[arg(long, value_name = "NAME")]
    db_server: Option<String>,
    /// new-connection: its host, or the directory of its socket
    #[arg(long, value_name = "HOST")]
    db_host: Option<String>,
    /// new-connection: its port
    #[arg(long, value_name = "PORT")]
    db_port: Option<u16>,
    /// new-connection: the database
    #[arg(long, value_name = "NAME")]
    db_name: Option<String>,
    /// new-connection: the schema
    #[arg(long, value_name = "NAME")]
    db_schema: Option<String>,
    /// new-connection: the user
    #[arg(long, value_name = "NAME")]
    db_user: Option<String>,
    /// new-connection: the password; asked for, or read from a file
    #[arg(long, value_name = "@FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    db_password: Option<String>,
}

impl DatabaseArgs {
    /// Puts what was said into a spec.
    pub fn add(self, spec: &mut Map<String, Value>) -> Outcome {
        const PASSWORD: &str = "the database's password";
        let password = match self.db_password.as_deref() {
            None => None,
            Some("") => Some(read_secret(PASSWORD)?.1),
            Some(file) => Some(read_secret(&format!("{PASSWORD}={file}"))?.1),
        };
        let values = [
            ("mode", self.database.map(Value::from)),
            ("dialect", self.db_dialect.map(Value::from)),
            ("server", self.db_server.map(Value::from)),
            ("host", self.db_host.map(Value::from)),
            ("port", self.db_port.map(Value::from)),
            ("database", self.db_name.map(Value::from)),
            ("schema", self.db_schema.map(Value::from)),
            ("user", self.db_user.map(Value::from)),
            ("password", password.map(Value::from)),
        ];
        for (key, value) in values {
            if let Some(value) = value {
                put(spec, "database", key, value);
            }
        }
        Ok(())
    }
}
