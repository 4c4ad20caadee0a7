//! Which database servers the instances of this host lean on, and which of them do not answer.
//!
//! One watch for each server, however many apps use it, for as long as one of them is to run. What is known here is told
//! to the instances: a start waits for its server instead of failing against it.

use std::collections::{BTreeMap, BTreeSet};

use crate::database::{Endpoint, Watch};
use crate::effect::Effect;
use crate::environment::Environment;
use crate::name::{AppId, ServerName};
use crate::time::Now;

/// The watched servers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Databases {
    servers: BTreeMap<Endpoint, Watched>,
}

#[derive(Debug, Clone)]
struct Watched {
    /// As texts name it.
    server: String,
    users: BTreeSet<AppId>,
    /// Why it does not answer, while it does not.
    silent: Option<String>,
}

impl Databases {
    /// Takes note of what an app leans on now.
    pub(super) fn follow(&mut self, app: &AppId, watch: Option<Watch>, effects: &mut Vec<Effect>) {
        if self.servers.is_empty() && watch.is_none() {
            return;
        }
        let now = watch.as_ref().map(|watch| &watch.login.endpoint);
        let former = self.servers.iter_mut().find(|(_, watched)| watched.users.contains(app));
        if let Some((endpoint, watched)) = former.filter(|(endpoint, _)| Some(*endpoint) != now) {
            watched.users.remove(app);
            if watched.users.is_empty() {
                let endpoint = endpoint.clone();
                self.servers.remove(&endpoint);
                effects.push(Effect::UnwatchDatabase(endpoint));
            }
        }
        let Some(watch) = watch else { return };
        let watched = self.servers.entry(watch.login.endpoint.clone()).or_insert_with(|| {
            effects.push(Effect::WatchDatabase(watch.clone()));
            Watched { server: watch.server.clone(), users: BTreeSet::new(), silent: None }
        });
        watched.users.insert(app.clone());
    }

    /// In a sentence, that a server does not answer; nothing if it does or is not yet known not to.
    pub(crate) fn silence(&self, endpoint: &Endpoint) -> Option<String> {
        let watched = self.servers.get(endpoint)?;
        let why = watched.silent.as_ref()?;
        Some(format!("{} does not answer: {why}", watched.server))
    }
}

impl Environment {
    /// A server answers, or does not.
    pub(super) fn database_told(
        &mut self,
        now: Now,
        endpoint: &Endpoint,
        state: Result<(), String>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(watched) = self.databases.servers.get_mut(endpoint) else { return };
        let silent = state.err();
        if watched.silent == silent {
            return;
        }
        watched.silent = silent;
        let users: Vec<AppId> = watched.users.iter().cloned().collect();
        for app in users {
            self.with_instance(now, &app, effects, |instance, ctx| instance.database_told(ctx));
        }
    }

    /// Where this host makes databases, for the entry.
    pub(super) fn endpoints(&self) -> BTreeMap<ServerName, Endpoint> {
        let servers = self.settings.places.databases.iter();
        servers.map(|(name, server)| (name.clone(), server.endpoint.clone())).collect()
    }
}
