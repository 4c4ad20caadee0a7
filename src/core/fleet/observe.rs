//! Reports: what workers tell, and which operations thereby end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::fleet::settle::has_taken;
use crate::fleet::{Bus, Fleet, Place};
use crate::id::Seq;
use crate::intent::Intent;
use crate::lease::Lease;
use crate::name::{AppId, EnvironmentName};
use crate::order::{InstanceReport, Refusal, Registration, Report};
use crate::phase::Phase;
use crate::reason::ReasonCode;
use crate::recipe::Adapter;
use crate::record::{AppLife, AppRow, Change, PlacementRow};
use crate::time::Now;
use crate::unit::unit_name;
use crate::view::{OperationStatus, Presence};

/// Pause before a start that a worker had no slot for is offered again.
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// Pause before a start that another entry's turn stood in the way of is offered again.
const LOCKED_PAUSE: Duration = Duration::from_secs(2);

impl Fleet {
    /// Takes up a report. `id` makes operation IDs, for starts that follow from a boot.
    pub fn observe(
        &mut self,
        now: Now,
        environment: &EnvironmentName,
        report: Report,
        new_id: &mut dyn FnMut() -> crate::id::OperationId,
    ) -> Vec<Change> {
        if let Some(place) = self.places.get_mut(environment) {
            place.heard = now;
            place.lease.hear(now.mono);
        }
        self.heard.insert(environment.clone());
        match report {
            Report::Alive => {
                self.touched.environments.insert(environment.clone());
                Vec::new()
            }
            Report::Hello { registration, instances } => self.hello(now, environment, *registration, instances, new_id),
            Report::Runtimes(runtimes) => {
                if let Some(place) = self.places.get_mut(environment) {
                    Arc::make_mut(&mut place.registration).runtimes = runtimes;
                }
                self.touched.environments.insert(environment.clone());
                Vec::new()
            }
            Report::Instance(report) => self.instance(now, environment, *report),
            Report::Removed { app, .. } => self.removed(now, environment, &app),
            Report::Stray { app, run, pid, adapter } => {
                let what = match (adapter, pid) {
                    (Adapter::Systemd, _) => unit_name(&app),
                    (Adapter::Process, Some(pid)) => format!("process {pid}"),
                    (Adapter::Process, None) => "a process".into(),
                    (Adapter::Shared, _) => "something in a host process".into(),
                };
                let message = format!("{what} claims to be {app} ({run}), which nobody knows here; it is left alone");
                vec![self.event(now, "stray_found", (None, Some(environment)), message, None)]
            }
            Report::Refused { app, intent_seq, why } => {
                self.refused(now, environment, &app, intent_seq, why);
                Vec::new()
            }
        }
    }

    fn hello(
        &mut self,
        now: Now,
        environment: &EnvironmentName,
        registration: Registration,
        instances: Vec<InstanceReport>,
        new_id: &mut dyn FnMut() -> crate::id::OperationId,
    ) -> Vec<Change> {
        self.touched.environments.insert(environment.clone());
        let listed = self.places.get(environment).is_some_and(|place| place.listed);
        let mut told: BTreeMap<AppId, InstanceReport> = instances.into_iter().map(|r| (r.app.clone(), r)).collect();
        // Its orders are refused where a later reign of this entry, or another one's, was followed already.
        let behind = registration.follows.as_ref().filter(|followed| {
            let own = &self.standing.reign;
            followed.epoch > own.epoch || (followed.epoch == own.epoch && followed.entry != own.entry)
        });
        let ahead = behind.map(|followed| followed.epoch).filter(|_| self.read_only.is_none());
        let mut changes = ahead.map(|epoch| self.bus(now, Bus::Ahead(epoch))).unwrap_or_default();
        changes.extend(self.register(now, environment, registration, &told, new_id));
        changes.extend(self.find_leftovers(environment, &told));
        let familiar = listed && changes.is_empty();
        for name in self.residents.of(environment) {
            let report = told.remove(&name);
            if familiar && self.is_known(environment, &name, report.as_ref()) {
                continue;
            }
            // What is to be dropped there is known to be gone only by its own word.
            let drops = self.drops_at(&name, environment);
            let Some(app) = self.apps.get_mut(&name) else { continue };
            let Some(placed) = app.placed.get_mut(environment) else { continue };
            placed.heard = now;
            placed.sent = None;
            let goes = app.row.life != AppLife::Kept || app.row.placement(environment).is_some_and(|p| p.leaving);
            let gone = report.is_none() && goes && !drops;
            self.touched.apps.insert(name.clone());
            self.unsettled.insert(name.clone());
            match report {
                Some(report) => changes.extend(self.instance(now, environment, report)),
                None if gone => changes.extend(self.removed(now, environment, &name)),
                None => {
                    if let Some(placed) = self.apps.get_mut(&name).and_then(|app| app.placed.get_mut(environment)) {
                        placed.report = None;
                    }
                }
            }
        }
        for name in told.into_keys().filter(|name| !self.apps.contains_key(name)).collect::<Vec<_>>() {
            if !self.strangers.insert((environment.clone(), name.clone())) {
                continue;
            }
            let message = format!("{environment} has an instance of {name}, which this entry does not know");
            changes.push(self.event(now, "instance_unknown", (Some(&name), Some(environment)), message, None));
        }
        changes
    }

    /// Whether a report says what is known already, and nothing waits for it. Environments tell everything again and again,
    /// and nearly always nothing is new; that they were heard is told of the environment.
    fn is_known(&self, environment: &EnvironmentName, name: &AppId, report: Option<&InstanceReport>) -> bool {
        let Some(app) = self.apps.get(name).filter(|app| app.row.life == AppLife::Kept) else { return false };
        let stays = app.row.placement(environment).is_some_and(|placement| !placement.leaving);
        let follows = report.is_some_and(|report| report.intent_seq == app.row.intent_seq && !report.in_turn);
        let at_rest = self.queue.turn_of(&(name.clone(), environment.clone())).is_none();
        let same = app
            .placed
            .get(environment)
            .is_some_and(|placed| placed.sent.is_none() && !placed.gone && placed.report.as_deref() == report);
        stays && follows && at_rest && same
    }

    /// Apps of this record that an environment still has and should not: it was forgotten while they were moved or removed,
    /// and has come back. They are to go from there.
    fn find_leftovers(&mut self, environment: &EnvironmentName, told: &BTreeMap<AppId, InstanceReport>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, report) in told {
            let Some(app) = self.apps.get(name) else { continue };
            let mut row = app.row.clone();
            match (row.life, row.placement(environment)) {
                (AppLife::Removed, _) => {
                    row.life = AppLife::Removing { purge_data: false };
                    row.placements.clear();
                }
                (_, Some(_)) => continue,
                (_, None) => {}
            }
            let (intent, start_seq, since) = (Intent::Stop, Seq(0), Seq(0));
            let place = PlacementRow { environment: environment.clone(), intent, start_seq, since, leaving: true };
            // What it took up last may have told it to run there.
            row.intent_seq = self.seq.max(report.intent_seq).next();
            self.seq = row.intent_seq;
            row.placements.push(place);
            row.placements.sort_by(|a, b| a.environment.cmp(&b.environment));
            changes.push(Change::App(Box::new(row.clone())));
            self.put_app(row);
            self.unsettled.insert(name.clone());
        }
        changes
    }

    /// Takes up what an environment says of itself; another boot than before has consequences.
    fn register(
        &mut self,
        now: Now,
        environment: &EnvironmentName,
        registration: Registration,
        told: &BTreeMap<AppId, InstanceReport>,
        new_id: &mut dyn FnMut() -> crate::id::OperationId,
    ) -> Vec<Change> {
        let former = self.places.get(environment);
        let mut lease = former.map_or(Lease::awaited(now.mono), |place| place.lease);
        lease.hear(now.mono);
        let boot = registration.boot.clone();
        let draining = former.is_some_and(|place| place.draining);
        let known_boot = former.map(|place| place.registration.boot.clone());
        // Kept where nothing is new, so that readers see that.
        let same = former.map(|place| &place.registration).filter(|former| ***former == registration);
        let changed = same.is_none();
        let place = Place {
            draining,
            listed: true,
            lease,
            told: former.map_or(Presence::Awaited, |place| place.told),
            proxy: former.and_then(|place| place.proxy.clone()),
            heard: now,
            registration: same.cloned().unwrap_or_else(|| Arc::new(registration)),
        };
        let mut changes = Vec::new();
        if changed {
            changes.push(Change::Environment(Box::new(place.row(environment))));
        }
        if former.is_none() && !self.is_local(environment) {
            let host = place.registration.host.clone();
            let message = format!("environment {environment} has joined, on {host}");
            changes.push(self.event(now, "environment_joined", (None, Some(environment)), message, None));
        }
        self.places.insert(environment.clone(), place);
        // Before environments were kept, the boot of the only one was.
        let known_boot = known_boot.or_else(|| self.boot.clone().filter(|_| self.is_local(environment)));
        if self.is_local(environment) && self.boot.as_ref() != Some(&boot) {
            self.boot = Some(boot.clone());
            changes.push(Change::Boot(boot.clone()));
        }
        let rebooted = known_boot.is_some_and(|known| known != boot);
        changes.extend(self.adapt_to_boot(now, environment, rebooted, told, new_id));
        changes
    }

    fn instance(&mut self, now: Now, environment: &EnvironmentName, report: InstanceReport) -> Vec<Change> {
        let name = report.app.clone();
        let timeout = self.turn_timeout(&name, environment);
        let Some(app) = self.apps.get_mut(&name).filter(|app| app.row.life != AppLife::Removed) else {
            return Vec::new();
        };
        let Some(placed) = app.placed.get_mut(environment) else { return Vec::new() };
        let before = placed.report.as_ref().map(|r| (r.phase, r.run));
        placed.heard = now;
        placed.gone = false;
        if placed.sent.is_some_and(|sent| report.intent_seq >= sent.intent_seq) {
            placed.sent = None;
        }
        let report = Arc::new(report);
        placed.report = Some(report.clone());
        self.touched.apps.insert(name.clone());
        self.unsettled.insert(name.clone());
        let place = (name.clone(), environment.clone());
        let known = app.row.intent_seq;
        let here = app.row.placement(environment);
        let wants_run = here.is_some_and(|here| here.intent.wants_running() && !app.is_held(here));
        match (report.in_turn, self.queue.turn_of(&place)) {
            (true, None) => {
                let start = app.row.placement(environment).map_or(Seq(0), |placement| placement.start_seq);
                self.queue.adopt(place, start, timeout, now.mono);
            }
            // A report from before the order that is under way does not end its turn.
            (false, Some(start)) if has_taken(&report, start) || (report.intent_seq >= known && !wants_run) => {
                self.queue.finish(&place, start, now.mono);
            }
            _ => {}
        }
        let mut changes: Vec<Change> = self.overtake(environment, &report).into_iter().collect();
        if before != Some((report.phase, report.run)) {
            changes.extend(self.note_installed(&report));
        }
        if before != Some((report.phase, report.run)) {
            changes.extend(self.phase_event(now, environment, &report, before.map(|(phase, _)| phase)));
        }
        changes.extend(self.judge_operations(now, &name));
        changes
    }

    /// The version that an instance has become ready with is that of the app's data from now on.
    fn note_installed(&mut self, report: &InstanceReport) -> Option<Change> {
        let version = report.upgrade.installed.clone().filter(|_| report.phase == Phase::Running)?;
        let app = self.apps.get(&report.app).filter(|app| app.row.installed.as_ref() != Some(&version))?;
        let row = AppRow { installed: Some(version), ..app.row.clone() };
        self.put_app(row.clone());
        Some(Change::App(Box::new(row)))
    }

    /// A worker took up a later command than this record knows: the record is an older copy. What it says counts, so the
    /// app gets a number that is higher than all that workers have seen; a start that was asked for since then gets one too.
    fn overtake(&mut self, environment: &EnvironmentName, report: &InstanceReport) -> Option<Change> {
        self.seq = self.seq.max(report.intent_seq).max(report.run.seq);
        let known = self.apps.get(&report.app).map_or(report.intent_seq, |app| app.row.intent_seq);
        if report.intent_seq <= known {
            return None;
        }
        let (seq, since) = (self.next_seq(), self.recovered_seq);
        let app = self.apps.get_mut(&report.app)?;
        app.row.intent_seq = seq;
        let placement = app.row.placement_mut(environment)?;
        if placement.intent.wants_running() && placement.start_seq > since {
            placement.start_seq = seq;
        }
        let row = app.row.clone();
        for placement in &row.placements {
            self.unpublished.insert((placement.environment.clone(), report.app.clone()));
        }
        Some(Change::App(Box::new(row)))
    }

    /// An order could not be handed over: another entry's turn of the same app has not ended. It is tried again soon.
    pub fn undelivered(&mut self, now: Now, environment: &EnvironmentName, app: &AppId, intent_seq: Seq) {
        let timeout = self.turn_timeout(app, environment);
        let Some(known) = self.apps.get_mut(app) else { return };
        let Some(placed) = known.placed.get_mut(environment) else { return };
        if placed.sent.take_if(|sent| sent.intent_seq == intent_seq).is_some() {
            let place = (app.clone(), environment.clone());
            self.queue.give_back(&place, known.priority, timeout, now, LOCKED_PAUSE);
            self.unsettled.insert(app.clone());
        }
    }

    fn phase_event(
        &mut self,
        now: Now,
        environment: &EnvironmentName,
        report: &InstanceReport,
        before: Option<Phase>,
    ) -> Option<Change> {
        let app = &report.app;
        let why = report.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        let (kind, message) = match report.phase {
            Phase::Running if before != Some(Phase::Running) => ("instance_running", format!("{app} is running")),
            Phase::Backoff if waits_for_database(report) => ("instance_waiting", format!("{app} waits{why}")),
            Phase::Backoff => ("instance_crashed", format!("{app} ended{why}; it is started again by itself")),
            Phase::Spawning | Phase::Starting
                if report.restarts > 0
                    && !matches!(before, Some(Phase::Backoff | Phase::Spawning | Phase::Starting)) =>
            {
                ("instance_crashed", format!("{app} ended{why}; it is started again at once"))
            }
            Phase::Upgrading if !report.upgrade.wanted && before != Some(Phase::Upgrading) => {
                ("instance_upgrading", format!("{app} is being upgraded"))
            }
            Phase::Failed => ("instance_failed", format!("{app} is in error{why}")),
            Phase::Stopped if before.is_some() => ("instance_stopped", format!("{app} is stopped{why}")),
            _ => return None,
        };
        Some(self.event(now, kind, (Some(app), Some(environment)), message, None))
    }

    pub(super) fn removed(&mut self, now: Now, environment: &EnvironmentName, name: &AppId) -> Vec<Change> {
        let Some(app) = self.apps.get_mut(name) else { return Vec::new() };
        let AppLife::Removing { purge_data } = app.row.life else {
            return self.left(now, environment, name);
        };
        if let Some(placed) = app.placed.get_mut(environment) {
            placed.report = None;
            placed.sent = None;
            placed.gone = true;
        }
        self.queue.cancel(&(name.clone(), environment.clone()));
        self.touched.apps.insert(name.clone());
        if !app.placed.values().all(|placed| placed.gone) {
            return self.goes_on(name);
        }
        app.row.life = AppLife::Removed;
        app.placed.keys().for_each(|environment| self.residents.leave(environment, name));
        // Of a removed app only name and generation matter; its secrets go with it.
        let spec = Arc::make_mut(&mut app.row.spec);
        spec.secrets.clear();
        spec.env.clear();
        app.row.jwt = crate::secret::SecretText::new("");
        let row = app.row.clone();
        let mut changes = vec![Change::App(Box::new(row.clone()))];
        for operation in self.ledger.active_of(name) {
            changes.extend(self.ledger.end(operation.view.id, OperationStatus::Done, None, now));
        }
        let kept = if purge_data { "its data was deleted" } else { "its data was kept" };
        let held = row.spec.database.as_ref().and_then(|database| database.holding(name));
        let held = held.map(|held| format!(", with {held}")).unwrap_or_default();
        let message = format!("{name} was removed; {kept}{held}");
        changes.push(self.event(now, "app_removed", (Some(name), Some(environment)), message, None));
        changes
    }

    /// An app has left an environment that its spec names no more.
    fn left(&mut self, now: Now, environment: &EnvironmentName, name: &AppId) -> Vec<Change> {
        let Some(app) = self.apps.get_mut(name) else { return Vec::new() };
        if !app.row.placement(environment).is_some_and(|placement| placement.leaving) {
            return Vec::new();
        }
        app.row.placements.retain(|placement| placement.environment != *environment);
        app.placed.remove(environment);
        self.residents.leave(environment, name);
        let row = app.row.clone();
        self.queue.cancel(&(name.clone(), environment.clone()));
        self.unpublished.insert((environment.clone(), name.clone()));
        self.unsettled.insert(name.clone());
        self.touched.apps.insert(name.clone());
        let message = format!("{name} has left {environment}; its data there was kept");
        let event = self.event(now, "app_left", (Some(name), Some(environment)), message, None);
        vec![Change::App(Box::new(row)), event]
    }

    /// Only the order that still waits for its answer can be refused: a word on an older one must not end a newer turn.
    fn refused(&mut self, now: Now, environment: &EnvironmentName, name: &AppId, intent_seq: Seq, why: Refusal) {
        let timeout = self.turn_timeout(name, environment);
        let Some(app) = self.apps.get_mut(name) else { return };
        let Some(placed) = app.placed.get_mut(environment) else { return };
        if placed.sent.is_none_or(|sent| sent.intent_seq != intent_seq) {
            return;
        }
        let place = (name.clone(), environment.clone());
        match why {
            // It may be an older copy that came late, with a younger one taken up; if not, it is sent again in the same turn.
            // Nor does an order that is refused for good become better by being sent again at once.
            Refusal::Late => return,
            Refusal::Stale | Refusal::Foreign => return self.queue.withdraw(&place),
            Refusal::Busy => self.queue.give_back(&place, app.priority, timeout, now, BUSY_PAUSE),
        }
        placed.sent = None;
        self.unsettled.insert(name.clone());
    }
}

/// It is held back until its database server answers.
fn waits_for_database(report: &InstanceReport) -> bool {
    report.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::DatabaseUnreachable)
}
