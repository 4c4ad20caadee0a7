//! Commands: verdict first, then what it changes. A denied command changes nothing.

use std::sync::Arc;

use crate::command::{Action, ActionKind, Command, Denied, IdempotencyKey, Verdict};
use crate::fleet::{App, Fleet, wants_run};
use crate::id::{Generation, OperationId, Seq};
use crate::intent::Intent;
use crate::limits;
use crate::name::{AppId, EnvironmentName};
use crate::phase::Phase;
use crate::reason::ReasonCode;
use crate::record::{AppLife, AppRow, Change, KeyRow, OperationRow};
use crate::secret::SecretText;
use crate::spec::{AppSpec, StartMode};
use crate::time::Now;
use crate::view::{OperationStatus, OperationView, Priority};

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
struct Outcome {
    row: Option<AppRow>,
    start_seq: Seq,
    done: bool,
    already: bool,
    priority: Priority,
}

impl Fleet {
    /// Decides on a command.
    pub fn decide(&mut self, now: Now, command: &Command) -> Decision {
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

    /// A visitor waits for an app: wakes it if it is on demand and asleep, and moves it ahead in the queue.
    pub fn wake(&mut self, now: Now, app: &AppId, id: OperationId) -> Option<Decision> {
        let known = self.apps.get_mut(app).filter(|app| app.row.life == AppLife::Kept)?;
        known.priority = Priority::Visitor;
        if self.queue.raise(app, Priority::Visitor, now) {
            return None;
        }
        let known = self.apps.get(app)?;
        let asleep = match known.row.intent {
            Intent::OnDemand { awake: false } => true,
            // It ended by itself with status 0: the next visitor starts it again.
            Intent::OnDemand { awake: true } => known.ended_cleanly(),
            Intent::Run | Intent::Stop => false,
        };
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
                    self.apps.remove(&name);
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
        if self.ledger.active_count() >= limits::OPERATIONS_ACTIVE_MAX {
            return Err(Denied::QueueFull(self.ledger.active_count()));
        }
        if let Action::Create { spec, jwt, reuse } = &command.action {
            return self.judge_create(now, seq, spec, jwt, *reuse);
        }
        let app = self.living(&command.app).ok_or_else(|| Denied::NotFound(command.app.clone()))?;
        if app.row.life != AppLife::Kept {
            return match command.action {
                Action::Remove { .. } => Ok(Outcome::already(&app.row)),
                _ => Err(Denied::Removing(command.app.clone())),
            };
        }
        self.check_environments(app, command)?;
        match &command.action {
            Action::Update { spec, if_match } => self.judge_update(seq, app, spec, *if_match),
            Action::Start => Ok(self.judge_start(seq, app, Intent::Run, Priority::Operator)),
            Action::Wake => Ok(self.judge_start(seq, app, Intent::OnDemand { awake: true }, Priority::Visitor)),
            Action::Restart => {
                let intent = if app.row.intent == Intent::Run { Intent::Run } else { awake_or_run(app.row.intent) };
                let row = AppRow { intent, intent_seq: seq, start_seq: seq, ..app.row.clone() };
                Ok(Outcome::working(row, Priority::Operator))
            }
            Action::Stop => Ok(judge_stop(seq, app)),
            Action::Remove { purge_data } => {
                let life = AppLife::Removing { purge_data: *purge_data };
                let row = AppRow { life, intent: Intent::Stop, intent_seq: seq, ..app.row.clone() };
                Ok(Outcome::working(row, Priority::Operator))
            }
            Action::Create { .. } => Err(Denied::AlreadyExists(command.app.clone())),
        }
    }

    fn check_environments(&self, app: &App, command: &Command) -> Result<(), Denied> {
        let Some(named) = &command.environments else { return Ok(()) };
        let of_app = &app.row.spec.environments;
        let invalid = |detail: String| Denied::Invalid {
            field: "environments".into(),
            detail,
            hint: format!("{} is placed in: {}", command.app, join(of_app.iter())),
        };
        if let Some(stranger) = named.iter().find(|name| !of_app.contains(*name)) {
            return Err(invalid(format!("\"{stranger}\" is no environment of {}", command.app)));
        }
        if of_app.iter().any(|name| !named.contains(name)) {
            return Err(invalid("a part of an app's environments is not available yet".into()));
        }
        Ok(())
    }

    fn judge_create(
        &self,
        now: Now,
        seq: Seq,
        spec: &Arc<AppSpec>,
        jwt: &SecretText,
        reuse: bool,
    ) -> Result<Outcome, Denied> {
        let name = &spec.name;
        let former = self.apps.get(name).map(|app| (app.row.life, app.row.generation));
        let generation = match former {
            None => Generation(1),
            Some((AppLife::Removed, last)) if reuse => last.next(),
            Some((AppLife::Removed, _)) => return Err(Denied::Removed(name.clone())),
            Some((AppLife::Removing { .. }, _)) => return Err(Denied::Removing(name.clone())),
            Some((AppLife::Kept, _)) => return Err(Denied::AlreadyExists(name.clone())),
        };
        if self.apps.len() >= limits::APPS_MAX {
            return Err(Denied::QueueFull(self.apps.len()));
        }
        self.check_spec(spec)?;
        let intent = match spec.start_mode {
            StartMode::WithSupervisor => Intent::Run,
            StartMode::OnFirstVisit => Intent::OnDemand { awake: false },
            StartMode::Manual => Intent::Stop,
        };
        let start_seq = if intent.wants_running() { seq } else { Seq(0) };
        let row = AppRow {
            spec: spec.clone(),
            generation,
            jwt: jwt.clone(),
            intent,
            intent_seq: seq,
            start_seq,
            created_at: now.wall,
            life: AppLife::Kept,
        };
        Ok(Outcome { done: !intent.wants_running(), ..Outcome::working(row, Priority::Operator) })
    }

    fn judge_update(&self, seq: Seq, app: &App, spec: &Arc<AppSpec>, if_match: Generation) -> Result<Outcome, Denied> {
        let current = app.row.generation;
        if if_match != current {
            return Err(Denied::GenerationConflict { app: spec.name.clone(), current, given: if_match });
        }
        self.check_spec(spec)?;
        if **spec == *app.row.spec {
            return Ok(Outcome::already(&app.row));
        }
        let row = AppRow { spec: spec.clone(), generation: current.next(), intent_seq: seq, ..app.row.clone() };
        Ok(Outcome { done: true, ..Outcome::working(row, app.priority) })
    }

    /// A start joins one that is under way; an app that runs is so already; anything else begins afresh.
    fn judge_start(&self, seq: Seq, app: &App, intent: Intent, priority: Priority) -> Outcome {
        let wanted = app.row.intent.wants_running();
        if wanted && app.all_run() {
            if app.row.intent == intent || intent != Intent::Run {
                return Outcome::already(&app.row);
            }
            let row = AppRow { intent, intent_seq: seq, ..app.row.clone() };
            return Outcome { done: true, ..Outcome::working(row, priority) };
        }
        let under_way = wanted && !app.is_stuck();
        let start_seq = if under_way { app.row.start_seq } else { seq };
        let row = AppRow { intent, intent_seq: seq, start_seq, ..app.row.clone() };
        Outcome::working(row, priority)
    }

    /// Whether a spec fits where it is placed.
    fn check_spec(&self, spec: &AppSpec) -> Result<(), Denied> {
        let invalid = |field: String, detail: String, hint: String| Err(Denied::Invalid { field, detail, hint });
        for environment in &spec.environments {
            let unknown = || Denied::EnvironmentUnknown(environment.clone());
            let place = self.places.get(environment).ok_or_else(unknown)?;
            if !place.available {
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
            if let Some(missing) = runtime.secrets_needed.iter().find(|name| !spec.secrets.contains_key(*name)) {
                let detail = format!("runtime {} needs the secret {missing}", spec.runtime);
                return invalid(format!("secrets.{missing}"), detail, "give it a value".into());
            }
        }
        Ok(())
    }

    fn accept(&mut self, now: Now, command: &Command, outcome: Outcome) -> Decision {
        let seq = self.next_seq();
        let (name, kind) = (&command.app, command.action.kind());
        let mut changes = Vec::new();
        let mut undo = Undo::default();
        let environments = match (&outcome.row, self.apps.get(name)) {
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
            environments,
            status: if ended { OperationStatus::Done } else { OperationStatus::Accepted },
            reason: None,
            created_at: now.wall,
            finished_at: ended.then_some(now.wall),
            actor: command.actor.clone(),
        };
        if let Some(row) = outcome.row {
            undo.app = Some((name.clone(), self.apps.get(name).map(|app| app.row.clone())));
            (undo.superseded, changes) = self.supersede(now, name, kind, command.id);
            changes.push(Change::App(Box::new(row.clone())));
            if kind == ActionKind::Create {
                // Nothing that was heard of a former app of this name is about this one.
                self.apps.remove(name);
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
    ) -> (Vec<OperationRow>, Vec<Change>) {
        let pointless = |row: &OperationRow| match by {
            ActionKind::Create | ActionKind::Update => false,
            ActionKind::Start | ActionKind::Restart => !wants_run(row),
            ActionKind::Stop => wants_run(row),
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
    fn working(row: AppRow, priority: Priority) -> Self {
        let start_seq = row.start_seq;
        Self { row: Some(row), start_seq, done: false, already: false, priority }
    }

    fn already(row: &AppRow) -> Self {
        Self { row: None, start_seq: row.start_seq, done: true, already: true, priority: Priority::Operator }
    }
}

impl App {
    /// Every instance runs the start that was asked for.
    fn all_run(&self) -> bool {
        !self.placed.is_empty()
            && self.placed.values().all(|placed| {
                let report = placed.report.as_ref();
                report.is_some_and(|r| r.phase == Phase::Running && r.run.seq >= self.row.start_seq)
            })
    }

    /// The wanted start was tried and is not getting on by itself: gave up, ended, or waits for its next attempt.
    fn is_stuck(&self) -> bool {
        self.placed.values().filter_map(|placed| placed.report.as_ref()).any(|report| {
            let tried = report.run.seq >= self.row.start_seq && report.intent_seq >= self.row.start_seq;
            tried && matches!(report.phase, Phase::Failed | Phase::Stopped | Phase::Backoff)
        })
    }

    fn ended_cleanly(&self) -> bool {
        self.placed.values().filter_map(|placed| placed.report.as_ref()).any(|report| {
            let cleanly = report.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::ExitedCleanly);
            report.phase == Phase::Stopped && cleanly && report.run.seq >= self.row.start_seq
        })
    }

    /// Nothing of it runs or is about to.
    fn at_rest(&self) -> bool {
        self.placed.values().all(|placed| placed.report.as_ref().is_none_or(|report| report.phase == Phase::Stopped))
    }
}

fn judge_stop(seq: Seq, app: &App) -> Outcome {
    if app.row.intent == Intent::Stop && app.at_rest() {
        return Outcome::already(&app.row);
    }
    let row = AppRow { intent: Intent::Stop, intent_seq: seq, ..app.row.clone() };
    Outcome::working(row, Priority::Operator)
}

fn awake_or_run(intent: Intent) -> Intent {
    match intent {
        Intent::OnDemand { .. } => Intent::OnDemand { awake: true },
        Intent::Run | Intent::Stop => Intent::Run,
    }
}

fn join<'a>(names: impl Iterator<Item = &'a EnvironmentName>) -> String {
    names.map(EnvironmentName::as_str).collect::<Vec<_>>().join(", ")
}
