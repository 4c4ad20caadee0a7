//! Commands: verdict first, then what it changes. A denied command changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::command::{Action, ActionKind, Command, Denied, IdempotencyKey, Verdict};
use crate::fleet::database::fits;
use crate::fleet::{App, Fleet, wants_run};
use crate::id::{Generation, OperationId, Seq};
use crate::intent::Intent;
use crate::limits;
use crate::name::{AppId, EnvironmentName};
use crate::record::{AppLife, AppRow, Change, KeyRow, OperationRow, PlacementRow};
use crate::secret::SecretText;
use crate::shared::RESERVED;
use crate::spec::{AppSpec, Hosting, StartMode};
use crate::time::Now;
use crate::view::{OperationStatus, OperationView, Presence, Priority};

/// What came of a command.
#[derive(Debug)]
pub struct Decision {
    /// The answer, to be given once the changes are committed.
    pub verdict: Verdict,
    /// To be committed, all or none.
    pub changes: Vec<Change>,
    /// For the case that they cannot be.
    pub undo: Undo,
}

/// How to take a decision back.
#[derive(Debug, Default)]
pub struct Undo {
    app: Option<(AppId, Option<AppRow>)>,
    /// The new operation, and the newest one of the app before it.
    operation: Option<(OperationId, Option<OperationId>)>,
    superseded: Vec<OperationRow>,
    key: Option<(String, String)>,
}

/// What a command makes of its app.
pub(super) struct Outcome {
    pub(super) row: Option<AppRow>,
    pub(super) start_seq: Seq,
    pub(super) done: bool,
    pub(super) already: bool,
    pub(super) priority: Priority,
    /// The environments that it is about; none = all.
    pub(super) targets: Vec<EnvironmentName>,
}

impl Fleet {
    /// Decides on a command.
    pub fn decide(&mut self, now: Now, command: &Command) -> Decision {
        if let Action::Move { dry_run: true, .. } = &command.action {
            return Decision::only(self.plan(now, command));
        }
        match self.known_key(now, command) {
            Some(Ok(operation)) => return Decision::only(Verdict::Repeated(operation)),
            Some(Err(denied)) => return Decision::only(Verdict::Denied(denied)),
            None => {}
        }
        let seq = self.seq.next();
        match self.judge(now, seq, command) {
            Err(denied) => Decision::only(Verdict::Denied(denied)),
            Ok(outcome) => self.accept(now, command, outcome),
        }
    }

    fn plan(&self, now: Now, command: &Command) -> Verdict {
        match (self.judge(now, self.seq.next(), command), self.living(&command.app)) {
            (Err(denied), _) => Verdict::Denied(denied),
            (Ok(outcome), Some(app)) => Verdict::Planned(self.plan_move(app, &outcome)),
            (Ok(_), None) => Verdict::Denied(Denied::NotFound(command.app.clone())),
        }
    }

    /// A visitor waits for an app: wakes it if it is on demand and asleep, and moves it ahead in the queue.
    pub fn wake(&mut self, now: Now, app: &AppId, id: OperationId) -> Option<Decision> {
        let known = self.apps.get_mut(app).filter(|app| app.row.life == AppLife::Kept)?;
        known.priority = Priority::Visitor;
        if self.queue.raise(app, Priority::Visitor, now) {
            return None;
        }
        let known = self.apps.get(app)?;
        let asleep = known.row.placements.iter().any(|placement| match placement.intent {
            Intent::OnDemand { awake: false } => true,
            // It ended by itself with status 0: the next visitor starts it again.
            Intent::OnDemand { awake: true } => known.ended_cleanly(placement),
            Intent::Run | Intent::Stop => false,
        });
        let command = Command {
            app: app.clone(),
            action: Action::Wake,
            actor: "visitor".into(),
            id,
            idempotency: None,
            environments: None,
        };
        asleep.then(|| self.decide(now, &command))
    }

    /// Takes a decision back.
    pub fn undo(&mut self, now: Now, undo: Undo) {
        if let Some((name, row)) = undo.app {
            match row {
                Some(row) => self.put_app(row),
                None => {
                    self.drop_app(&name);
                    self.touched.apps.insert(name);
                }
            }
        }
        if let Some((id, newest)) = undo.operation {
            self.ledger.take_back(id, newest);
        }
        for row in undo.superseded {
            self.ledger.put_back(row, now.mono);
        }
        if let Some(key) = undo.key {
            self.keys.remove(&key);
        }
    }

    fn known_key(&self, now: Now, command: &Command) -> Option<Result<OperationId, Denied>> {
        let IdempotencyKey { key, request } = command.idempotency.as_ref()?;
        let row = self.keys.get(&(command.actor.clone(), key.clone()))?;
        if now.wall.0.saturating_sub(row.at.0) > limits::IDEMPOTENCY_KEPT.as_millis() as u64 {
            return None;
        }
        if row.request != *request {
            return Some(Err(Denied::KeyReused));
        }
        Some(Ok(row.operation))
    }

    fn judge(&self, now: Now, seq: Seq, command: &Command) -> Result<Outcome, Denied> {
        if let Some(why) = &self.read_only {
            return Err(Denied::ReadOnly(why.clone()));
        }
        if self.ledger.active_count() >= limits::OPERATIONS_ACTIVE_MAX {
            return Err(Denied::QueueFull(self.ledger.active_count()));
        }
        if let Action::Create { spec, jwt, db_secret, reuse } = &command.action {
            return self.judge_create(now, seq, spec, (jwt, db_secret), *reuse);
        }
        let app = self.living(&command.app).ok_or_else(|| Denied::NotFound(command.app.clone()))?;
        if app.row.life != AppLife::Kept {
            return match command.action {
                // Its data cannot be dropped at present, or somebody thought again: it goes without them.
                Action::Remove { purge_data: false } if app.row.life == (AppLife::Removing { purge_data: true }) => {
                    let life = AppLife::Removing { purge_data: false };
                    let row = AppRow { life, intent_seq: seq, ..app.row.clone() };
                    Ok(Outcome::working(row, Priority::Operator))
                }
                Action::Remove { .. } => Ok(Outcome::already(&app.row)),
                _ => Err(Denied::Removing(command.app.clone())),
            };
        }
        let targets = targets(app, command)?;
        match &command.action {
            Action::Update { spec, if_match, db_secret } => {
                let mut outcome = self.judge_update(now, seq, app, spec, *if_match)?;
                if let Some(row) = &mut outcome.row {
                    row.db_secret = kept(Some(&row.db_secret), db_secret);
                }
                Ok(outcome)
            }
            Action::Start => Ok(judge_start(seq, app, &targets, Intent::Run, Priority::Operator).instead_of(app)),
            Action::Upgrade => self.judge_upgrade(now, seq, app),
            Action::RotateSecret { jwt, restart } => self.judge_rotation(seq, app, jwt, *restart),
            Action::Move { spec, if_match, .. } => self.judge_move(now, seq, app, spec, *if_match),
            // What is under way ends with a start.
            Action::Restart if app.is_upgrading() || app.row.moving.is_some() => {
                Ok(judge_start(seq, app, &targets, Intent::Run, Priority::Operator))
            }
            Action::Wake => Ok(judge_start(seq, app, &targets, Intent::OnDemand { awake: true }, Priority::Visitor)),
            Action::Restart => {
                let mut row = AppRow { intent_seq: seq, ..app.row.clone() };
                for placement in row.placements.iter_mut().filter(|p| targets.contains(&p.environment)) {
                    placement.intent = awake_or_run(placement.intent);
                    placement.start_seq = seq;
                }
                let outcome = Outcome { start_seq: seq, targets, ..Outcome::working(row, Priority::Operator) };
                Ok(outcome.instead_of(app))
            }
            Action::Stop => Ok(judge_stop(seq, app, &targets)),
            Action::Remove { purge_data } => {
                let life = AppLife::Removing { purge_data: *purge_data };
                let mut row = AppRow { life, intent_seq: seq, upgrade: None, moving: None, ..app.row.clone() };
                for placement in &mut row.placements {
                    placement.intent = Intent::Stop;
                }
                Ok(Outcome::working(row, Priority::Operator))
            }
            Action::Create { .. } => Err(Denied::AlreadyExists(command.app.clone())),
        }
    }

    fn judge_create(
        &self,
        now: Now,
        seq: Seq,
        spec: &Arc<AppSpec>,
        (jwt, db_secret): (&SecretText, &SecretText),
        reuse: bool,
    ) -> Result<Outcome, Denied> {
        let name = &spec.name;
        let former = self.apps.get(name).map(|app| &app.row);
        let generation = match former.map(|row| (row.life, row.generation)) {
            None => Generation(1),
            Some((AppLife::Removed, last)) if reuse => last.next(),
            Some((AppLife::Removed, _)) => return Err(Denied::Removed(name.clone())),
            Some((AppLife::Removing { .. }, _)) => return Err(Denied::Removing(name.clone())),
            Some((AppLife::Kept, _)) => return Err(Denied::AlreadyExists(name.clone())),
        };
        if self.apps.len() >= limits::APPS_MAX {
            return Err(Denied::QueueFull(self.apps.len()));
        }
        if let Some(reserved) = RESERVED.iter().find(|reserved| name.as_str().starts_with(*reserved)) {
            let detail = format!("\"{name}\" begins with {reserved}, as units of nbsupervisor's own do");
            return Err(Denied::Invalid { field: "name".into(), detail, hint: "choose another name".into() });
        }
        self.check_spec(now, spec, &BTreeSet::new())?;
        let intent = match spec.start_mode {
            StartMode::WithSupervisor => Intent::Run,
            StartMode::OnFirstVisit => Intent::OnDemand { awake: false },
            StartMode::Manual => Intent::Stop,
        };
        let start_seq = if intent.wants_running() { seq } else { Seq(0) };
        let place = |environment: &EnvironmentName| PlacementRow {
            environment: environment.clone(),
            intent,
            start_seq,
            since: seq,
            leaving: false,
        };
        let row = AppRow {
            spec: spec.clone(),
            generation,
            jwt: jwt.clone(),
            db_secret: kept(former.map(|row| &row.db_secret), db_secret),
            intent_seq: seq,
            placements: spec.environments.iter().map(place).collect(),
            created_at: now.wall,
            life: AppLife::Kept,
            upgrade: None,
            moving: None,
            installed: None,
        };
        Ok(Outcome { done: !intent.wants_running(), ..Outcome::working(row, Priority::Operator) })
    }

    fn judge_update(
        &self,
        now: Now,
        seq: Seq,
        app: &App,
        spec: &Arc<AppSpec>,
        if_match: Generation,
    ) -> Result<Outcome, Denied> {
        let current = app.at_generation(if_match)?;
        self.check_spec(now, spec, &app.row.spec.environments)?;
        if **spec == *app.row.spec {
            return Ok(Outcome::already(&app.row));
        }
        // The way back would undo it.
        app.not_moving()?;
        if spec.environments != app.row.spec.environments {
            app.not_upgrading()?;
        }
        let placements = replaced(&app.row, spec, seq);
        let upgrade = app.row.upgrade.clone().filter(|upgrade| spec.environments.contains(&upgrade.environment));
        let (spec, generation) = (spec.clone(), current.next());
        let row = AppRow { spec, generation, intent_seq: seq, placements, upgrade, ..app.row.clone() };
        Ok(Outcome { done: true, ..Outcome::working(row, app.priority) })
    }

    /// Whether a spec fits where it is placed. Where the app is `already`, the environment need not be there at present.
    pub(super) fn check_spec(
        &self,
        now: Now,
        spec: &AppSpec,
        already: &BTreeSet<EnvironmentName>,
    ) -> Result<(), Denied> {
        let invalid = |field: String, detail: String, hint: String| Err(Denied::Invalid { field, detail, hint });
        if spec.environments.len() > limits::PLACEMENTS_MAX {
            let detail = format!("{} environments are more than an app may have", spec.environments.len());
            return invalid("environments".into(), detail, format!("name {} or fewer", limits::PLACEMENTS_MAX));
        }
        self.is_one_database(spec)?;
        for environment in &spec.environments {
            let place = match (self.places.get(environment), already.contains(environment)) {
                (Some(place), true) => place,
                (None, true) => continue,
                (None, false) => return Err(Denied::EnvironmentUnknown(environment.clone())),
                (Some(place), false) if place.draining => {
                    return Err(Denied::EnvironmentDraining(environment.clone()));
                }
                (Some(place), false) => place,
            };
            if !already.contains(environment) && self.presence(now, environment) != Presence::Available {
                return Err(Denied::EnvironmentUnavailable(environment.clone()));
            }
            let runtimes = &place.registration.runtimes;
            let Some(runtime) = runtimes.get(&spec.runtime) else {
                let nearest = crate::nearest::nearest(spec.runtime.as_str(), runtimes.keys().map(|name| name.as_str()));
                return Err(Denied::RuntimeUnknown {
                    runtime: spec.runtime.clone(),
                    environment: environment.clone(),
                    nearest: nearest.and_then(|name| runtimes.keys().find(|known| known.as_str() == name)).cloned(),
                });
            };
            if let Some((key, value, max)) = spec.limits.above(&runtime.max_limits) {
                let detail = format!("{value} is above what runtime {} allows ({max})", spec.runtime);
                return invalid(format!("limits.{key}"), detail, format!("set it to {max} or less"));
            }
            if let Some(pattern) = &runtime.app_id_pattern
                && !regex_lite::Regex::new(pattern).is_ok_and(|regex| regex.is_match(spec.name.as_str()))
            {
                let detail = format!("\"{}\" is no app ID for runtime {}", spec.name, spec.runtime);
                return invalid("name".into(), detail, format!("it must match {pattern}"));
            }
            let needed = match (spec.hosting, &runtime.shared) {
                (Hosting::Dedicated, _) => &runtime.secrets_needed,
                (Hosting::Shared, Some(shared)) => &shared.secrets_needed,
                (Hosting::Shared, None) => {
                    let detail =
                        format!("runtime {} in {environment} does not host several apps in one process", spec.runtime);
                    let hint = "write dedicated, or tell in the recipe's [shared] how it is done";
                    return invalid("hosting".into(), detail, hint.into());
                }
            };
            if let Some(missing) = needed.iter().find(|name| !spec.secrets.contains_key(*name)) {
                let detail = format!("runtime {} needs the secret {missing}", spec.runtime);
                return invalid(format!("secrets.{missing}"), detail, "give it a value".into());
            }
            fits(spec, &place.registration)?;
        }
        Ok(())
    }

    fn accept(&mut self, now: Now, command: &Command, outcome: Outcome) -> Decision {
        let seq = self.next_seq();
        let (name, kind) = (&command.app, command.action.kind());
        let mut changes = Vec::new();
        let mut undo = Undo::default();
        let environments = match (&outcome.row, self.apps.get(name)) {
            _ if !outcome.targets.is_empty() => outcome.targets,
            (Some(row), _) => row.spec.environments.iter().cloned().collect(),
            (None, Some(app)) => app.row.spec.environments.iter().cloned().collect(),
            (None, None) => Vec::new(),
        };
        let ended = outcome.done || outcome.already;
        let view = OperationView {
            id: command.id,
            seq,
            app: name.clone(),
            action: kind,
            environments: environments.clone(),
            status: if ended { OperationStatus::Done } else { OperationStatus::Accepted },
            reason: None,
            created_at: now.wall,
            finished_at: ended.then_some(now.wall),
            actor: command.actor.clone(),
        };
        if let Some(row) = outcome.row {
            undo.app = Some((name.clone(), self.apps.get(name).map(|app| app.row.clone())));
            (undo.superseded, changes) = self.supersede(now, name, kind, command.id, &environments);
            changes.push(Change::App(Box::new(row.clone())));
            if kind == ActionKind::Create {
                // Nothing that was heard of a former app of this name is about this one.
                self.drop_app(name);
            }
            self.put_app(row);
            self.unsettled.insert(name.clone());
            if let Some(app) = self.apps.get_mut(name) {
                app.priority = outcome.priority;
            }
            self.queue.raise(name, outcome.priority, now);
        }
        if let Some(IdempotencyKey { key, request }) = &command.idempotency {
            let (actor, key) = (command.actor.clone(), key.clone());
            undo.key = Some((actor.clone(), key.clone()));
            let row = KeyRow { actor, key, request: *request, operation: command.id, at: now.wall };
            changes.push(Change::Key(Box::new(row.clone())));
            self.keys.insert((row.actor.clone(), row.key.clone()), row);
        }
        let row = OperationRow { view: view.clone(), start_seq: outcome.start_seq };
        changes.push(Change::Operation(Box::new(row.clone())));
        undo.operation = Some((command.id, self.ledger.newest_of(name)));
        self.ledger.add(row, now.mono);
        let event = self.event_of(now, kind, &view, outcome.already);
        changes.extend(event);
        let verdict = if outcome.already { Verdict::AlreadySo(view) } else { Verdict::Accepted(view) };
        Decision { verdict, changes, undo }
    }

    fn event_of(&mut self, now: Now, kind: ActionKind, view: &OperationView, already: bool) -> Option<Change> {
        let (word, what) = match kind {
            ActionKind::Create => ("app_created", "created"),
            ActionKind::Update => ("app_updated", "changed"),
            ActionKind::Start => ("app_start_accepted", "told to start"),
            ActionKind::Stop => ("app_stop_accepted", "told to stop"),
            ActionKind::Restart => ("app_restart_accepted", "told to restart"),
            ActionKind::Upgrade => ("app_upgrade_accepted", "told to upgrade"),
            ActionKind::RotateSecret => ("app_secret_rotated", "given another secret"),
            ActionKind::Move => ("app_move_accepted", "told to move"),
            ActionKind::Remove => ("app_remove_accepted", "told to go"),
        };
        if already {
            return None;
        }
        let message = format!("{} {what} by {}", view.app, view.actor);
        Some(self.event(now, word, (Some(&view.app), None), message, Some(view.id)))
    }

    /// Ends the operations that a new command makes pointless. Those that want the same are joined instead.
    fn supersede(
        &mut self,
        now: Now,
        app: &AppId,
        by: ActionKind,
        id: OperationId,
        targets: &[EnvironmentName],
    ) -> (Vec<OperationRow>, Vec<Change>) {
        // One that waits for other environments too goes on for those; see `progress`.
        let covered = |row: &OperationRow| row.view.environments.iter().all(|one| targets.contains(one));
        let pointless = |row: &OperationRow| match by {
            ActionKind::Create | ActionKind::Update | ActionKind::RotateSecret | ActionKind::Move => false,
            ActionKind::Start | ActionKind::Restart | ActionKind::Upgrade => !wants_run(row) && covered(row),
            ActionKind::Stop => wants_run(row) && covered(row),
            ActionKind::Remove => true,
        };
        let rows: Vec<OperationRow> = self.ledger.active_of(app).into_iter().filter(pointless).collect();
        let end = |row: &OperationRow| {
            self.ledger.end(row.view.id, OperationStatus::Failed, Some(format!("superseded by {id}")), now)
        };
        let changes = rows.iter().filter_map(end).collect();
        (rows, changes)
    }
}

impl Decision {
    fn only(verdict: Verdict) -> Self {
        Self { verdict, changes: Vec::new(), undo: Undo::default() }
    }
}

impl Outcome {
    pub(super) fn working(row: AppRow, priority: Priority) -> Self {
        let start_seq = latest_start(&row);
        Self { row: Some(row), start_seq, done: false, already: false, priority, targets: Vec::new() }
    }

    pub(super) fn already(row: &AppRow) -> Self {
        let start_seq = latest_start(row);
        Self { row: None, start_seq, done: true, already: true, priority: Priority::Operator, targets: Vec::new() }
    }

    /// What is asked for now takes the place of an upgrade that has failed.
    pub(super) fn instead_of(mut self, app: &App) -> Self {
        if let Some(row) = &mut self.row
            && !app.is_upgrading()
        {
            row.upgrade = None;
        }
        self
    }
}

/// The environments that a command is about.
fn targets(app: &App, command: &Command) -> Result<Vec<EnvironmentName>, Denied> {
    let of_app = &app.row.spec.environments;
    let Some(named) = &command.environments else { return Ok(of_app.iter().cloned().collect()) };
    let invalid = |detail: String| Denied::Invalid {
        field: "environments".into(),
        detail,
        hint: format!("{} is placed in: {}", command.app, join(of_app.iter())),
    };
    if let Some(stranger) = named.iter().find(|name| !of_app.contains(*name)) {
        return Err(invalid(format!("\"{stranger}\" is no environment of {}", command.app)));
    }
    let part = of_app.iter().any(|name| !named.contains(name));
    match command.action {
        Action::Upgrade if part => {
            return Err(invalid("an app is upgraded as a whole, as its data is one; name no environment".into()));
        }
        Action::Remove { .. } | Action::Update { .. } | Action::Create { .. } if part => {
            let detail = "an app is removed as a whole; to take it out of one environment, edit the spec";
            return Err(invalid(detail.into()));
        }
        _ => {}
    }
    let targets: BTreeSet<EnvironmentName> = named.iter().cloned().collect();
    match targets.is_empty() {
        true => Err(invalid("no environment is named".into())),
        false => Ok(targets.into_iter().collect()),
    }
}

impl App {
    /// The generation it is at, if that is the one that a change was made from.
    pub(super) fn at_generation(&self, given: Generation) -> Result<Generation, Denied> {
        let (app, current) = (&self.row.spec.name, self.row.generation);
        match given == current {
            true => Ok(current),
            false => Err(Denied::GenerationConflict { app: app.clone(), current, given }),
        }
    }
}

/// A start joins one that is under way; what runs is so already; anything else begins afresh.
pub(super) fn judge_start(
    seq: Seq,
    app: &App,
    targets: &[EnvironmentName],
    intent: Intent,
    priority: Priority,
) -> Outcome {
    let mut row = AppRow { intent_seq: seq, ..app.row.clone() };
    let (mut changed, mut starts) = (false, false);
    for placement in row.placements.iter_mut().filter(|placement| targets.contains(&placement.environment)) {
        let wanted = placement.intent.wants_running();
        if wanted && app.runs(placement) {
            if placement.intent != intent && intent == Intent::Run {
                (placement.intent, changed) = (intent, true);
            }
            continue;
        }
        // A visitor wakes what sleeps, and nothing that an operator stopped.
        if matches!(intent, Intent::OnDemand { .. }) && !matches!(placement.intent, Intent::OnDemand { .. }) {
            continue;
        }
        if !wanted || app.is_stuck(placement) {
            placement.start_seq = seq;
        }
        (placement.intent, changed, starts) = (intent, true, true);
    }
    if !changed {
        return Outcome { targets: targets.to_vec(), ..Outcome::already(&app.row) };
    }
    let of_targets = row.placements.iter().filter(|placement| targets.contains(&placement.environment));
    let start_seq = of_targets.map(|placement| placement.start_seq).max().unwrap_or(seq);
    Outcome { done: !starts, start_seq, targets: targets.to_vec(), ..Outcome::working(row, priority) }
}

fn judge_stop(seq: Seq, app: &App, targets: &[EnvironmentName]) -> Outcome {
    let is_target = |placement: &&PlacementRow| targets.contains(&placement.environment);
    let rests = |placement: &PlacementRow| placement.intent == Intent::Stop && app.at_rest(placement);
    if app.row.placements.iter().filter(is_target).all(rests) {
        return Outcome { targets: targets.to_vec(), ..Outcome::already(&app.row) };
    }
    let mut row = AppRow { intent_seq: seq, moving: None, ..app.row.clone() };
    for placement in row.placements.iter_mut().filter(|placement| targets.contains(&placement.environment)) {
        placement.intent = Intent::Stop;
    }
    if !row.intent().wants_running() {
        row.upgrade = None;
    }
    Outcome { targets: targets.to_vec(), ..Outcome::working(row, Priority::Operator) }
}

/// The places of a changed spec: those that stay as they are, new ones as the app is, former ones on their way out.
pub(super) fn replaced(row: &AppRow, spec: &AppSpec, seq: Seq) -> Vec<PlacementRow> {
    let intent = row.intent();
    let start_seq = if intent.wants_running() { seq } else { Seq(0) };
    let former = row.placements.iter().filter(|placement| !spec.environments.contains(&placement.environment));
    let leaving = former.map(|placement| PlacementRow { leaving: true, intent: Intent::Stop, ..placement.clone() });
    let stays = spec.environments.iter().map(|environment| match row.placement(environment) {
        Some(placement) if !placement.leaving => placement.clone(),
        _ => PlacementRow { environment: environment.clone(), intent, start_seq, since: seq, leaving: false },
    });
    let mut placements: Vec<PlacementRow> = leaving.chain(stays).collect();
    placements.sort_by(|a, b| a.environment.cmp(&b.environment));
    placements
}

/// A secret that was given once stays: what was made with it is found by it.
fn kept(former: Option<&SecretText>, offered: &SecretText) -> SecretText {
    former.filter(|secret| !secret.expose().is_empty()).unwrap_or(offered).clone()
}

fn latest_start(row: &AppRow) -> Seq {
    row.placements.iter().map(|placement| placement.start_seq).max().unwrap_or_default()
}

pub(super) fn awake_or_run(intent: Intent) -> Intent {
    match intent {
        Intent::OnDemand { .. } => Intent::OnDemand { awake: true },
        Intent::Run | Intent::Stop => Intent::Run,
    }
}

pub(super) fn join<'a>(names: impl Iterator<Item = &'a EnvironmentName>) -> String {
    names.map(EnvironmentName::as_str).collect::<Vec<_>>().join(", ")
}
