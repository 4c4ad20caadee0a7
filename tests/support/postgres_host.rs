//! A host with a real PostgreSQL, which workers reach under one address.
//!
//! The server listens on the usual port of a place of its own, and ends with it. Deliberately absent: what is in it, and
//! faults (`postgres` has them, for one host).

use std::process::Output;

use crate::net::{Cable, Net, Place};

/// The user that makes databases and roles, and may do no more.
const MAKER: &str = "maker";
const PASSWORD: &str = "only-for-this-run";

/// Makes a server and starts it. What it shares between its processes goes with them, however they end.
const START: &str = r#"
bin=$(dirname "$(ls /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)")
install -d -o postgres "$1/postgres"
cd "$1/postgres"
runuser -u postgres -- "$bin/initdb" -D data -U postgres --auth-local=trust -E UTF8 --locale=C.UTF-8 --no-sync
echo "host all all 10.77.0.0/24 scram-sha-256" >>data/pg_hba.conf
options="-k $1/postgres -c listen_addresses=* -c fsync=off -c dynamic_shared_memory_type=sysv"
unshare --ipc -- runuser -u postgres -- "$bin/pg_ctl" -D data -w -t 60 -l server.log -o "$options" start >/dev/null 2>&1 \
  || { cat server.log; exit 1; }
psql -X -q -h "$1/postgres" -U postgres -v ON_ERROR_STOP=1 -c "CREATE ROLE $2 LOGIN CREATEDB CREATEROLE PASSWORD '$3'"
"#;

/// A host with a server.
pub struct PostgresHost {
    place: Place,
    cable: Cable,
}

impl PostgresHost {
    /// A running one.
    pub fn start(net: &mut Net) -> Self {
        let place = Place::new();
        let cable = net.plug(place.pid());
        let host = Self { place, cable };
        let disk = host.place.disk().display().to_string();
        let started = host.place.run(&["sh", "-euc", START, "sh", &disk, MAKER, PASSWORD]);
        assert!(started.status.success(), "no PostgreSQL (apt-get install postgresql): {}", said(&started));
        host
    }

    /// What a worker is told of it, in the origin's variables.
    pub fn variables(&self) -> Vec<(String, String)> {
        let address = self.cable.address().to_string();
        let pairs = [
            ("DB_DIALECT", "postgres"),
            ("DB_HOST", &address),
            ("DB_PORT", "5432"),
            ("DB_USER", MAKER),
            ("DB_PASSWORD", PASSWORD),
        ];
        pairs.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())).collect()
    }

    /// What the superuser gets for a query: rows of columns separated by `|`.
    pub fn sql(&self, query: &str) -> String {
        let socket = self.place.disk().join("postgres").display().to_string();
        let output = self.place.run(&["psql", "-X", "-q", "-A", "-t", "-h", &socket, "-U", "postgres", "-c", query]);
        assert!(output.status.success(), "{query}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).trim_end().to_string()
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
