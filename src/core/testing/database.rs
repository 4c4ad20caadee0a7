//! The simulated database server: it goes and comes, and must never be asked for what is not to be.

use std::collections::BTreeSet;

use crate::database::{Database, Endpoint, Failure, Made, Server, Servers};
use crate::effect::Effect;
use crate::id::Run;
use crate::name::{AppId, ServerName};
use crate::observation::Fact;
use crate::reason::{Reason, ReasonCode};

/// The server of a simulated host.
#[derive(Debug, Clone, Default)]
pub struct DatabaseServer {
    /// Whether it does not answer.
    pub down: bool,
    /// Apps that have a database there.
    pub made: BTreeSet<AppId>,
    prepared: BTreeSet<(AppId, Run)>,
    watched: bool,
    told: Option<bool>,
}

/// Apps of the simulation that have a database.
pub fn has_database(app: &AppId) -> bool {
    matches!(app.as_str(), "a" | "b" | "c")
}

fn name() -> ServerName {
    ServerName::parse("default").expect("a literal name")
}

fn endpoint() -> Endpoint {
    Endpoint { host: "db".into(), port: 5432 }
}

/// The servers of the simulated host.
pub fn servers() -> Servers {
    let server = Server { endpoint: endpoint(), user: "nbs".into(), password: None, database: "postgres".into() };
    Servers::from([(name(), server)])
}

/// What an app of the simulation asks for.
pub fn asked(app: &AppId) -> Option<Database> {
    has_database(app).then(|| Database::New { server: name() })
}

impl DatabaseServer {
    /// What comes of an effect that is about it; nothing if it is not.
    pub(super) fn act(&mut self, effect: &Effect) -> Option<(AppId, Run, Fact)> {
        match effect {
            Effect::PrepareDatabase { app, run, .. } => {
                let fact = match self.down {
                    true => Fact::DatabaseFailed(silence()),
                    false => {
                        self.made.insert(app.clone());
                        self.prepared.insert((app.clone(), *run));
                        Fact::DatabaseReady(Made { own_role: true })
                    }
                };
                Some((app.clone(), *run, fact))
            }
            Effect::DropDatabase { app, run, .. } => {
                let result = if self.down { Err(silence()) } else { Ok(()) };
                if result.is_ok() {
                    self.made.remove(app);
                }
                Some((app.clone(), *run, Fact::DatabaseDropped(result)))
            }
            Effect::WatchDatabase(_) | Effect::UnwatchDatabase(_) => {
                self.watched = matches!(effect, Effect::WatchDatabase(_));
                self.told = None;
                None
            }
            _ => None,
        }
    }

    /// What must not be about a start.
    pub(super) fn judge_spawn(&self, app: &AppId, run: Run) -> Option<String> {
        let bad = has_database(app) && !self.prepared.contains(&(app.clone(), run));
        bad.then(|| format!("{app} was started as {run} without its database"))
    }

    /// The daemon died, and its watch with it.
    pub(super) fn forget_watch(&mut self) {
        self.watched = false;
    }

    /// What the watch has to tell.
    pub fn news(&mut self) -> Option<(Endpoint, Result<(), String>)> {
        if !self.watched || self.told == Some(self.down) {
            return None;
        }
        self.told = Some(self.down);
        Some((endpoint(), if self.down { Err("simulated".into()) } else { Ok(()) }))
    }
}

fn silence() -> Failure {
    Failure { reason: Reason::new(ReasonCode::DatabaseUnreachable, "simulated"), transient: true }
}
