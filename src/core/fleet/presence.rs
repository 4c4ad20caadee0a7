//! Which environments are there: signs of life, time without Redis, and what follows from silence.
//!
//! An environment of the daemon itself is there once its worker has spoken. Silence changes what is shown and who gets turns; it never ends a
//! turn and never touches an intent.

use std::time::Duration;

use crate::fleet::{Fleet, Place};
use crate::id::{Epoch, Reign};
use crate::name::EnvironmentName;
use crate::record::Change;
use crate::time::Now;
use crate::view::Presence;

/// What carries orders and reports between hosts, as the entry finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bus {
    /// It works, and this entry reigns.
    Up,
    /// It does not.
    Down,
    /// It lost what it held: what should be is to be told again.
    Wiped,
    /// Another entry reigns; the text says which and what to do.
    Fenced(String),
    /// It has seen this entry at a later reign than the record knows: the record is an older copy.
    Ahead(Epoch),
}

impl Fleet {
    /// Takes note of how the bus is.
    pub fn bus(&mut self, now: Now, bus: Bus) -> Vec<Change> {
        match bus {
            Bus::Up => {
                self.read_only = None;
                let deaf = self.deaf.take().is_some();
                for place in self.places.values_mut() {
                    place.lease.listen(now.mono, deaf);
                }
                self.presence_due = Some(now.mono);
                self.unsettle_all();
                Vec::new()
            }
            Bus::Down => {
                self.deaf.get_or_insert(now.mono);
                self.presence_due = Some(now.mono);
                Vec::new()
            }
            Bus::Wiped => {
                self.publish_all();
                self.unsettle_all();
                Vec::new()
            }
            Bus::Fenced(why) => {
                self.read_only = Some(why);
                Vec::new()
            }
            Bus::Ahead(epoch) => {
                if epoch < self.standing.reign.epoch {
                    return Vec::new();
                }
                self.standing.reign.epoch = epoch.next();
                self.publish_all();
                self.unsettle_all();
                vec![Change::Reign(self.standing.reign.epoch)]
            }
        }
    }

    /// This entry stood still for so long, up to now. What it did not hear meanwhile nobody failed to say.
    pub fn stood_still(&mut self, gap: Duration) {
        for place in self.places.values_mut() {
            place.lease.skip(gap);
        }
    }

    /// The present reign.
    pub fn reign(&self) -> &Reign {
        &self.standing.reign
    }

    /// Why this entry may not decide, if so.
    pub fn read_only(&self) -> Option<&str> {
        self.read_only.as_deref()
    }

    /// Whether the entry's gateway reached the environment's own.
    pub fn proxied(&mut self, environment: &EnvironmentName, result: Result<(), String>) {
        if let Some(place) = self.places.get_mut(environment)
            && place.proxy.as_ref() != Some(&result)
        {
            place.proxy = Some(result);
            self.touched.environments.insert(environment.clone());
        }
    }

    /// Everything that should be is to be told again, to environments that are not the entry's own.
    pub fn publish_all(&mut self) {
        let all = self.apps.iter().flat_map(|(name, app)| {
            app.row.placements.iter().map(move |placement| (placement.environment.clone(), name.clone()))
        });
        self.unpublished.extend(all);
    }

    pub(super) fn presence(&self, now: Now, environment: &EnvironmentName) -> Presence {
        let Some(place) = self.places.get(environment) else { return Presence::Awaited };
        self.presence_of(now, environment, place)
    }

    pub(super) fn presence_of(&self, now: Now, environment: &EnvironmentName, place: &Place) -> Presence {
        match self.is_local(environment) {
            true if place.lease.was_heard() => Presence::Available,
            true => Presence::Awaited,
            false => place.lease.presence(now.mono, self.deaf.is_some()),
        }
    }

    /// Whether orders reach it.
    pub(super) fn is_there(&self, now: Now, environment: &EnvironmentName) -> bool {
        self.places.contains_key(environment)
            && self.presence(now, environment) == Presence::Available
            && (self.is_local(environment) || self.deaf.is_none())
    }

    /// Says whose presence changed, by a sign of life or by time alone.
    pub(super) fn watch_leases(&mut self, now: Now) -> Vec<Change> {
        let heard = std::mem::take(&mut self.heard);
        let all = self.presence_due.is_some_and(|due| due <= now.mono);
        let mut due = self.presence_due.filter(|_| !all);
        let mut changed = Vec::new();
        let mut look = |name: &EnvironmentName, place: &Place| {
            let presence = self.presence_of(now, name, place);
            if presence != place.told {
                changed.push((name.clone(), place.told, presence));
            }
            due = due.into_iter().chain(place.lease.next_change(now.mono)).min();
        };
        match all {
            true => self.places.iter().for_each(|(name, place)| look(name, place)),
            false => heard.iter().filter_map(|name| self.places.get_key_value(name)).for_each(|(n, p)| look(n, p)),
        }
        self.presence_due = due;
        let mut changes = Vec::new();
        for (name, before, presence) in changed {
            if let Some(place) = self.places.get_mut(&name) {
                place.told = presence;
            }
            self.touch_environment(&name);
            let (kind, message) = match (before, presence) {
                (_, Presence::Silent) => {
                    ("environment_lost", format!("environment {name} is silent; what runs there runs on, unseen"))
                }
                (Presence::Silent, Presence::Available) => ("environment_back", format!("environment {name} is back")),
                _ => continue,
            };
            changes.push(self.event(now, kind, (None, Some(&name)), message, None));
        }
        changes
    }

    /// The views of an environment and of every app in it are other than before.
    pub(super) fn touch_environment(&mut self, environment: &EnvironmentName) {
        self.touched.environments.insert(environment.clone());
        let names = self.residents.of(environment);
        self.touched.apps.extend(names.iter().cloned());
        self.unsettled.extend(names);
    }

    fn unsettle_all(&mut self) {
        self.unsettled.extend(self.apps.keys().cloned());
    }
}
