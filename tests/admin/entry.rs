//! A scripted entry: decides at once, keeps everything in memory. App `busy` is refused, app `broken` fails to start.

use std::sync::{Arc, Mutex};

use nbs_core::command::{Action, Command, Denied, EnvironmentAction, EnvironmentCommand, Verdict};
use nbs_core::id::{Generation, OperationId, Run, Seq};
use nbs_core::intent::Intent;
use nbs_core::launch::Address;
use nbs_core::name::{AppId, EnvironmentName, RuntimeName};
use nbs_core::order::{InstanceReport, Registration, RuntimeSummary};
use nbs_core::phase::Phase;
use nbs_core::reason::{Reason, ReasonCode};
use nbs_core::recipe::{Adapter, Listen};
use nbs_core::record::{Change, Recovered};
use nbs_core::spec::{AppSpec, Limits};
use nbs_core::time::{Mono, Wall};
use nbs_core::view::{AppView, EnvironmentView, EventView, InstanceView, OperationStatus, OperationView, Presence};
use nbsupervisor::entry::{Desk, FleetView, Request};
use nbsupervisor::ports::{BoxFuture, Record, RecordError, TokenRow};

pub const NOW: Wall = Wall(1_795_230_000_000);

pub fn local() -> EnvironmentName {
    EnvironmentName::parse("local").unwrap()
}

/// What the scripted record keeps.
#[derive(Default)]
pub struct Memory {
    pub operations: Mutex<Vec<OperationView>>,
    tokens: Mutex<Vec<TokenRow>>,
}

impl Record for Memory {
    fn load(&self) -> BoxFuture<'_, Result<Recovered, RecordError>> {
        Box::pin(async { Ok(Recovered::default()) })
    }
    fn commit(&self, _: Vec<Change>) -> BoxFuture<'_, Result<(), RecordError>> {
        Box::pin(async { Ok(()) })
    }
    fn operations(
        &self,
        app: Option<AppId>,
        before: Option<Seq>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<OperationView>, RecordError>> {
        let all = self.operations.lock().unwrap();
        let fits = |op: &&OperationView| {
            app.as_ref().is_none_or(|app| op.app == *app) && before.is_none_or(|before| op.seq < before)
        };
        let found = all.iter().rev().filter(fits).take(limit).cloned().collect();
        Box::pin(async { Ok(found) })
    }
    fn operation(&self, id: OperationId) -> BoxFuture<'_, Result<Option<OperationView>, RecordError>> {
        let found = self.operations.lock().unwrap().iter().find(|op| op.id == id).cloned();
        Box::pin(async { Ok(found) })
    }
    fn events(&self, _: Option<AppId>, _: u64, _: usize) -> BoxFuture<'_, Result<Vec<EventView>, RecordError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn tokens(&self) -> BoxFuture<'_, Result<Vec<TokenRow>, RecordError>> {
        let rows = self.tokens.lock().unwrap().clone();
        Box::pin(async { Ok(rows) })
    }
    fn add_token(&self, token: TokenRow) -> BoxFuture<'_, Result<bool, RecordError>> {
        let mut rows = self.tokens.lock().unwrap();
        let free = rows.iter().all(|row| row.name != token.name);
        if free {
            rows.push(token);
        }
        Box::pin(async move { Ok(free) })
    }
    fn remove_token(&self, name: String) -> BoxFuture<'_, Result<bool, RecordError>> {
        let mut rows = self.tokens.lock().unwrap();
        let before = rows.len();
        rows.retain(|row| row.name != name);
        let gone = rows.len() < before;
        Box::pin(async move { Ok(gone) })
    }
}

/// The entry's brain, and its desk.
pub struct Script {
    pub desk: Desk,
    pub record: Arc<Memory>,
    pub view: FleetView,
    seq: u64,
}

impl Script {
    pub fn new(desk: Desk, record: Arc<Memory>) -> Self {
        let mut script = Self { desk, record, view: FleetView::default(), seq: 0 };
        script.view.environments.insert(local(), Arc::new(environment()));
        script.desk.publish(script.view.clone(), &[], &[], false);
        script
    }

    pub async fn run(mut self) {
        while let Some(request) = self.desk.requests.recv().await {
            match request {
                Request::Submit(command, reply) => {
                    let verdict = self.decide(*command);
                    let _ = reply.send(Ok(verdict));
                }
                Request::Govern(command, reply) => {
                    self.govern(&command);
                    let _ = reply.send(Ok(None));
                }
                Request::Queue(reply) => {
                    let _ = reply.send(Vec::new());
                }
                Request::Wake(_) => {}
            }
        }
    }

    fn govern(&mut self, command: &EnvironmentCommand) {
        let name = command.environment.clone();
        match (command.action, self.view.environments.get(&name)) {
            (EnvironmentAction::Forget, _) => _ = self.view.environments.remove(&name),
            (action, Some(view)) => {
                let draining = action == EnvironmentAction::Drain;
                self.view.environments.insert(name, Arc::new(EnvironmentView { draining, ..(**view).clone() }));
            }
            (_, None) => {}
        }
        self.desk.publish(self.view.clone(), &[], &[], true);
    }

    fn decide(&mut self, command: Command) -> Verdict {
        let app = command.app.clone();
        let there = self.view.apps.get(&app).cloned();
        let denied = match (&command.action, &there) {
            (Action::Create { .. }, Some(_)) => Some(Denied::AlreadyExists(app.clone())),
            (Action::Create { .. }, None) if app.as_str() == "busy" => Some(Denied::QueueFull(9)),
            (Action::Create { .. }, None) => None,
            (_, None) => Some(Denied::NotFound(app.clone())),
            (Action::Update { if_match, .. }, Some(view)) if *if_match != view.generation => {
                let (current, given) = (view.generation, *if_match);
                Some(Denied::GenerationConflict { app: app.clone(), current, given })
            }
            _ => None,
        };
        if let Some(denied) = denied {
            return Verdict::Denied(denied);
        }
        let broken = app.as_str() == "broken";
        let mut status = OperationStatus::Done;
        let next = match (&command.action, there.as_deref()) {
            (Action::Create { spec, .. }, _) => Some(shown((**spec).clone(), 1, Intent::OnDemand { awake: false })),
            (Action::Update { spec, .. }, Some(view)) => {
                Some(shown((**spec).clone(), view.generation.0 + 1, view.intent))
            }
            (Action::Remove { .. }, _) => None,
            (Action::Stop, Some(view)) => Some(shown((*view.spec).clone(), view.generation.0, Intent::Stop)),
            (_, Some(view)) => {
                if broken {
                    status = OperationStatus::Failed;
                }
                Some(shown((*view.spec).clone(), view.generation.0, Intent::Run))
            }
            (_, None) => None,
        };
        let already = matches!(command.action, Action::Stop) && there.is_some_and(|view| view.intent == Intent::Stop);
        let operation = self.operation(&command, status);
        self.view.show_app(app.clone(), next);
        self.event(&app, operation.id);
        self.view.operations.insert(operation.id, Arc::new(operation.clone()));
        self.desk.publish(self.view.clone(), &[app], &[operation.id], true);
        if already { Verdict::AlreadySo(operation) } else { Verdict::Accepted(operation) }
    }

    fn operation(&mut self, command: &Command, status: OperationStatus) -> OperationView {
        self.seq += 1;
        let operation = OperationView {
            id: command.id,
            seq: Seq(self.seq),
            app: command.app.clone(),
            action: command.action.kind(),
            environments: vec![local()],
            status,
            reason: (status == OperationStatus::Failed).then(|| "exited with status 3".into()),
            created_at: NOW,
            finished_at: Some(NOW),
            actor: command.actor.clone(),
        };
        self.record.operations.lock().unwrap().push(operation.clone());
        operation
    }

    fn event(&mut self, app: &AppId, operation: OperationId) {
        let event = EventView {
            seq: self.seq,
            at: NOW,
            app: Some(app.clone()),
            environment: Some(local()),
            kind: "app_changed".into(),
            message: "something".into(),
            operation: Some(operation),
        };
        self.view.events.push_back(Arc::new(event));
    }
}

/// An app that runs here.
pub fn app(name: &str) -> AppView {
    let runtime = RuntimeName::parse("node").unwrap();
    shown(AppSpec::minimal(AppId::parse(name).unwrap(), runtime, local()), 1, Intent::Run)
}

fn shown(spec: AppSpec, generation: u64, intent: Intent) -> AppView {
    let runs = intent.wants_running();
    let broken = runs && spec.name.as_str() == "broken";
    let phase = match (runs, broken) {
        (false, _) => Phase::Stopped,
        (true, true) => Phase::Failed,
        (true, false) => Phase::Running,
    };
    let report = InstanceReport {
        app: spec.name.clone(),
        intent_seq: Seq(1),
        run: Run::default(),
        generation: Generation(generation),
        phase,
        in_turn: false,
        reason: broken.then(|| Reason::new(ReasonCode::GaveUp, "exited with status 3")),
        since: NOW,
        pid: (phase == Phase::Running).then_some(4711),
        adapter: Adapter::Process,
        address: Some(Address::Port(20001)),
        strip_prefix: false,
        select: None,
        restarts: 0,
        next_attempt: None,
        version: Some("1.2".into()),
        progress: None,
        last_log: if broken { vec!["cannot find module".into()] } else { vec![] },
        notes: vec![],
        local: None,
        removing: false,
        upgrade: Default::default(),
    };
    let instance = InstanceView {
        environment: local(),
        status: phase.status(),
        intent,
        leaving: false,
        since: NOW,
        report: Some(Arc::new(report)),
        observed_at: NOW,
        observed: Mono::default(),
    };
    AppView {
        spec: Arc::new(spec),
        generation: Generation(generation),
        intent,
        intent_seq: Seq(1),
        status: phase.status(),
        removing: false,
        created_at: NOW,
        instances: vec![instance],
        last_operation: None,
    }
}

/// What an environment with runtime `node` says of itself.
pub fn registration() -> Registration {
    let name = RuntimeName::parse("node").unwrap();
    let summary = RuntimeSummary {
        name: name.clone(),
        description: "Node".into(),
        adapter: Adapter::Process,
        listen: Listen::Port,
        strip_prefix: false,
        max_limits: Limits::default(),
        paths: Default::default(),
        app_id_pattern: None,
        secrets_needed: vec![],
        needs_database: false,
        turn_timeout: std::time::Duration::from_secs(60),
        shared: None,
        upgrade_timeout: None,
    };
    Registration {
        environment: local(),
        version: "0.1.0".into(),
        boot: "b".into(),
        concurrent_starts: 2,
        runtimes: [(name, summary)].into(),
        host: "here".into(),
        url: None,
        proxy_url: None,
        capacity: None,
        databases: Default::default(),
        follows: None,
    }
}

/// The environment that is here.
pub fn environment() -> EnvironmentView {
    EnvironmentView {
        registration: Arc::new(registration()),
        heard_at: NOW,
        heard: Mono::default(),
        presence: Presence::Available,
        draining: false,
        is_local: true,
        proxy: None,
        instances: 0,
    }
}
