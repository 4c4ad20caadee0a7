//! An app's database, as the entry sees it: whether its environments agree on one, and which of them drops it.

use crate::command::Denied;
use crate::database::{Database, Endpoint};
use crate::fleet::{App, Fleet};
use crate::name::{AppId, EnvironmentName, ServerName};
use crate::order::{DropGoal, Registration};
use crate::record::{AppLife, Change, PlacementRow};
use crate::spec::{AppSpec, Hosting};

impl Fleet {
    /// How an app is to be removed from one environment: with what is to be dropped, or nothing at all as yet.
    ///
    /// What an app has on a database server is dropped where it is last: the other environments let go first, while that
    /// one only stops. So no instance that still runs meets a database that is gone, or makes it anew.
    pub(super) fn removal(&self, app: &App, placement: &PlacementRow, purge_data: bool) -> Option<Option<DropGoal>> {
        let row = &app.row;
        let Some(database) = row.spec.database.as_ref().filter(|database| purge_data && database.server().is_some())
        else {
            return Some(None);
        };
        let gone = |place: &EnvironmentName| app.placed.get(place).is_none_or(|placed| placed.gone);
        let mut there = row.placements.iter().map(|placement| &placement.environment).filter(|place| !gone(place));
        match (there.next(), there.next()) {
            (Some(last), None) if *last == placement.environment => {
                Some(Some(DropGoal { database: database.clone(), db_secret: row.db_secret.clone() }))
            }
            (Some(first), Some(_)) if *first == placement.environment => None,
            _ => Some(None),
        }
    }

    /// Whether an app that goes is to drop, in one environment, what it has on a database server.
    pub(super) fn drops_at(&self, name: &AppId, environment: &EnvironmentName) -> bool {
        let Some(app) = self.apps.get(name).filter(|app| app.row.life == AppLife::Removing { purge_data: true }) else {
            return false;
        };
        let placement = app.row.placement(environment);
        placement.is_some_and(|placement| self.removal(app, placement, true).is_some_and(|drop| drop.is_some()))
    }

    /// An app that goes is gone from one environment and not yet from others. If it has a database, the one that is left
    /// is told more than before, and so needs the number of a new command: an older word must not take that back.
    pub(super) fn goes_on(&mut self, name: &AppId) -> Vec<Change> {
        self.unsettled.insert(name.clone());
        let places = self.apps.get(name).map(|app| app.row.placements.clone()).unwrap_or_default();
        if !places.iter().any(|place| self.drops_at(name, &place.environment)) {
            return Vec::new();
        }
        let seq = self.next_seq();
        let Some(app) = self.apps.get_mut(name) else { return Vec::new() };
        app.row.intent_seq = seq;
        for placement in &app.row.placements {
            self.unpublished.insert((placement.environment.clone(), name.clone()));
        }
        vec![Change::App(Box::new(app.row.clone()))]
    }

    /// Whether all environments of an app come to the same database.
    pub(super) fn is_one_database(&self, spec: &AppSpec) -> Result<(), Denied> {
        if spec.environments.len() < 2 {
            return Ok(());
        }
        if spec.database == Some(Database::File) {
            let detail = "a SQLite file is on one host, and the app is placed in several environments";
            let hint = "choose a server (dialect postgres), or keep to one environment";
            return Err(invalid("database.dialect", detail.into(), hint.into()));
        }
        let Some(server) = spec.database.as_ref().and_then(Database::server) else { return Ok(()) };
        let known = spec.environments.iter().filter_map(|name| Some(&self.places.get(name)?.registration));
        let mut first: Option<(&Registration, &Endpoint)> = None;
        for (here, endpoint) in known.filter_map(|place| Some((place, place.databases.get(server)?))) {
            let (other, former) = *first.get_or_insert((here, endpoint));
            let two_hosts = is_loopback(&endpoint.host) && here.host != other.host;
            if endpoint != former || two_hosts {
                return Err(two_servers(server, (&other.environment, former), (&here.environment, endpoint)));
            }
        }
        Ok(())
    }
}

/// Whether one environment has what an app asks for.
pub(super) fn fits(spec: &AppSpec, place: &Registration) -> Result<(), Denied> {
    let environment = &place.environment;
    let Some(database) = &spec.database else {
        let needed = place.runtimes.get(&spec.runtime).is_some_and(|runtime| match (&runtime.shared, spec.hosting) {
            (Some(shared), Hosting::Shared) => shared.needs_database,
            _ => runtime.needs_database,
        });
        let detail = || format!("runtime {} needs a database, and the app has none", spec.runtime);
        let hint = "set it to new-database, new-schema or new-connection";
        return if needed { Err(invalid("database.mode", detail(), hint.into())) } else { Ok(()) };
    };
    match database.server() {
        Some(server) if !place.databases.contains_key(server) => {
            let detail = format!("environment {environment} has no database server \"{server}\"");
            let names: Vec<&str> = place.databases.keys().map(ServerName::as_str).collect();
            let hint = match names.is_empty() {
                true => format!("set [database.servers.{server}] in the configuration of its host"),
                false => format!("choose one of {}, or set [database.servers.{server}] there", names.join(", ")),
            };
            Err(invalid("database.server", detail, hint))
        }
        _ => Ok(()),
    }
}

fn two_servers(
    server: &ServerName,
    one: (&EnvironmentName, &Endpoint),
    other: (&EnvironmentName, &Endpoint),
) -> Denied {
    let detail = format!(
        "\"{server}\" is {} on the host of {} and {} on that of {}, and an app has one database",
        one.1, one.0, other.1, other.0
    );
    let hint = format!("give [database.servers.{server}] the same host and port on both, as each of them reaches it");
    invalid("database.server", detail, hint)
}

fn invalid(field: &str, detail: String, hint: String) -> Denied {
    Denied::Invalid { field: field.into(), detail, hint }
}

/// Whether a host is another one on each host.
fn is_loopback(host: &str) -> bool {
    host.starts_with("127.") || host.starts_with('/') || matches!(host, "localhost" | "::1")
}
