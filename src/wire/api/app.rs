//! An app and its instances.

use nbs_core::name::EnvironmentName;
use nbs_core::order::LocalOverride;
use nbs_core::recipe::Adapter;
use nbs_core::time::{Mono, Now, Wall};
use nbs_core::unit::unit_name;
use nbs_core::view::{AppView, EnvironmentView, InstanceView};
use serde::{Deserialize, Serialize};

use super::usage::AppUsage;
use super::{Word, millis, time};

/// `GET /apps`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppList {
    /// One page, sorted by name.
    pub apps: Vec<App>,
    /// Where the next page begins; `null` on the last.
    pub next_cursor: Option<String>,
}

/// `GET /apps/{app}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct App {
    /// App ID.
    pub name: String,
    /// Version of the spec.
    pub generation: u64,
    /// Summary of the instances.
    pub status: Word,
    /// What should be: `run`, `stop` or `on-demand`.
    pub intent: Word,
    /// Path at the gateway.
    pub url: String,
    /// The spec; secrets read `null`.
    pub spec: serde_json::Value,
    /// One per environment.
    pub instances: Vec<Instance>,
    /// Whether it is on its way out.
    pub removing: bool,
    /// When it was made.
    pub created_at: String,
    /// The newest operation.
    pub last_operation: Option<String>,
    /// What it has that its removal keeps, unless that is told to purge.
    #[serde(default)]
    pub data: Vec<String>,
    /// The operation that a create or change began; only in the answer to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<super::operation::Operation>,
}

/// An app in one environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Where.
    pub environment: String,
    /// Public status.
    pub status: Word,
    /// What should be there: `run`, `stop` or `on-demand`.
    pub intent: Word,
    /// Whether the app is being taken away from there.
    pub leaving: bool,
    /// While the status is `unknown`: what it was when last heard.
    pub last_status: Option<Word>,
    /// The app's own version.
    pub version: Option<String>,
    /// Why it is not well.
    pub reason: Option<Reason>,
    /// In this status since.
    pub since: String,
    /// When this was last known to be so: the worker's last word, on this instance or that nothing changed.
    pub observed_at: Option<String>,
    /// How long ago that was.
    pub age_ms: Option<u64>,
    /// Who says so: `worker`, or `entry` before the first report.
    pub source: Word,
    /// `process` or `systemd`.
    pub adapter: Option<Word>,
    /// Main process.
    pub pid: Option<u32>,
    /// systemd unit.
    pub unit: Option<String>,
    /// Where it listens.
    pub address: Option<String>,
    /// Automatic restarts since the last command.
    pub restarts: u32,
    /// Last lines before the last unwanted end.
    pub last_log: Vec<String>,
    /// What it uses.
    pub usage: Option<AppUsage>,
    /// Version of the spec that runs; 0 if none ran yet.
    pub spec_generation: u64,
    /// When the next automatic attempt is due.
    pub next_attempt_at: Option<String>,
    /// The app's own words on its progress.
    pub progress: Option<String>,
    /// What could not be done as asked.
    pub notes: Vec<String>,
    /// What somebody asked for on the host itself, while it holds.
    pub local: Option<Local>,
}

/// What somebody asked for on a worker's own host, past the entry. It holds until a later command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Local {
    /// `stop` or `restart`.
    pub action: Word,
    /// Who.
    pub actor: String,
    /// When.
    pub at: String,
}

impl From<&LocalOverride> for Local {
    fn from(local: &LocalOverride) -> Self {
        Self { action: local.action.as_str().into(), actor: local.actor.clone(), at: time(local.at) }
    }
}

/// Why an instance is not well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// From a closed list.
    pub code: Word,
    /// What happened.
    pub text: String,
    /// What to do about it.
    pub remedy: Word,
}

impl From<&nbs_core::reason::Reason> for Reason {
    fn from(reason: &nbs_core::reason::Reason) -> Self {
        Self { code: reason.code.code().into(), text: reason.text.clone(), remedy: reason.code.remedy().into() }
    }
}

impl App {
    /// Shows an app as of `now`; `usage` finds that of an instance, `environment` one of its environments.
    pub fn of<'a>(
        app: &AppView,
        usage: impl Fn(&InstanceView) -> Option<AppUsage>,
        environment: impl Fn(&EnvironmentName) -> Option<&'a EnvironmentView>,
        now: Now,
    ) -> Self {
        let data = data(app, &environment);
        let instance = |instance| Instance::of(instance, usage(instance), environment(&instance.environment), now);
        Self {
            name: app.spec.name.to_string(),
            generation: app.generation.0,
            status: app.status.as_str().into(),
            intent: app.intent.as_str().into(),
            url: format!("/apps/{}/", app.spec.name),
            spec: crate::wire::spec::render_spec(&app.spec),
            instances: app.instances.iter().map(instance).collect(),
            removing: app.removing,
            created_at: time(app.created_at),
            last_operation: app.last_operation.map(|id| id.to_string()),
            data,
            operation: None,
        }
    }
}

/// Files in each environment, and what it has on a database server.
fn data<'a>(app: &AppView, environment: &impl Fn(&EnvironmentName) -> Option<&'a EnvironmentView>) -> Vec<String> {
    let files = app.instances.iter().map(|instance| format!("its files in {}", instance.environment));
    let database =
        app.spec.database.as_ref().and_then(|database| Some((database.holding(&app.spec.name)?, database.server()?)));
    let held = database.map(|(held, server)| {
        let mut places = app.instances.iter().filter_map(|instance| environment(&instance.environment));
        let endpoint = places.find_map(|place| place.registration.databases.get(server));
        endpoint.map_or_else(|| held.clone(), |endpoint| format!("{held} ({endpoint})"))
    });
    held.into_iter().chain(files).collect()
}

impl Instance {
    /// Shows an instance as of `now`.
    ///
    /// A worker reports changes, and says every few seconds that it is alive: whatever it last reported is true up to
    /// then. So the age is that of the newer of the two; after a silence it is that of the silence.
    pub fn of(
        instance: &InstanceView,
        usage: Option<AppUsage>,
        environment: Option<&EnvironmentView>,
        now: Now,
    ) -> Self {
        let (observed, observed_at) = heard(instance, environment);
        let report = instance.report.as_deref();
        let silent = instance.status == nbs_core::phase::Status::Unknown;
        Self {
            environment: instance.environment.to_string(),
            status: instance.status.as_str().into(),
            intent: instance.intent.as_str().into(),
            leaving: instance.leaving,
            last_status: report.filter(|_| silent).map(|report| report.phase.status().as_str().into()),
            version: report.and_then(|report| report.version.clone()),
            reason: report.and_then(|report| report.reason.as_ref()).map(Reason::from),
            since: time(instance.since),
            observed_at: report.map(|_| time(observed_at)),
            age_ms: report.map(|_| millis(now.mono.since(observed))),
            source: if report.is_some() { "worker" } else { "entry" }.into(),
            adapter: report.map(|report| report.adapter.as_str().into()),
            pid: report.and_then(|report| report.pid),
            unit: report.filter(|report| report.adapter == Adapter::Systemd).map(|report| unit_name(&report.app)),
            address: report.and_then(|report| report.address.as_ref()).map(ToString::to_string),
            restarts: report.map_or(0, |report| report.restarts),
            last_log: report.map(|report| report.last_log.clone()).unwrap_or_default(),
            usage: usage.filter(|_| report.is_some_and(|report| report.pid.is_some())),
            spec_generation: report.map_or(0, |report| report.generation.0),
            next_attempt_at: report.and_then(|report| report.next_attempt).map(time),
            progress: report.and_then(|report| report.progress.clone()),
            notes: report.map(|report| report.notes.clone()).unwrap_or_default(),
            local: report.and_then(|report| report.local.as_ref()).map(Local::from),
        }
    }
}

fn heard(instance: &InstanceView, environment: Option<&EnvironmentView>) -> (Mono, Wall) {
    let own = (instance.observed, instance.observed_at);
    environment.map_or(own, |environment| own.max((environment.heard, environment.heard_at)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use nbs_core::id::{Generation, Run, Seq};
    use nbs_core::launch::Address;
    use nbs_core::name::{AppId, EnvironmentName};
    use nbs_core::order::InstanceReport;
    use nbs_core::phase::{Phase, Status};
    use nbs_core::reason::ReasonCode;
    use nbs_core::time::{Mono, Wall};

    use super::*;

    fn report() -> InstanceReport {
        InstanceReport {
            app: AppId::parse("crm").unwrap(),
            intent_seq: Seq(7),
            run: Run { seq: Seq(7), attempt: 1 },
            generation: Generation(3),
            phase: Phase::Running,
            in_turn: false,
            reason: Some(nbs_core::reason::Reason::new(ReasonCode::OomKilled, "out of memory")),
            since: Wall(1_795_230_000_000),
            pid: Some(4711),
            adapter: Adapter::Process,
            address: Some(Address::Port(20001)),
            strip_prefix: false,
            select: None,
            restarts: 1,
            next_attempt: None,
            version: Some("2.2.15".into()),
            progress: None,
            last_log: vec!["bye".into()],
            notes: vec![],
            local: None,
            removing: false,
            upgrade: Default::default(),
        }
    }

    fn instance(status: Status, report: Option<InstanceReport>) -> InstanceView {
        InstanceView {
            environment: EnvironmentName::parse("local").unwrap(),
            status,
            intent: nbs_core::intent::Intent::Run,
            leaving: false,
            since: Wall(1_795_230_000_000),
            report: report.map(Arc::new),
            observed_at: Wall(1_795_230_009_000),
            observed: Mono(Duration::from_secs(9)),
        }
    }

    #[test]
    fn an_instance_has_the_fields_of_the_contract() {
        let now = Now { mono: Mono(Duration::from_millis(10_200)), wall: Wall(1_795_230_010_200) };
        let usage = AppUsage {
            cpu_percent: Some(1.2),
            memory_bytes: Some(183_500_800),
            memory_source: Some("cgroup".into()),
            tasks: Some(11),
            io_read_bytes: Some(0),
            io_write_bytes: Some(4096),
            pressure: Some(crate::wire::api::usage::Pressure { cpu: 0.5, memory: 0.0, io: 1.5 }),
        };
        let shown = Instance::of(&instance(Status::Running, Some(report())), Some(usage), None, now);
        let json = serde_json::to_value(shown).unwrap();
        let wanted = serde_json::json!({
            "environment": "local", "status": "running", "intent": "run", "leaving": false, "last_status": null, "version": "2.2.15",
            "reason": { "code": "oom_killed", "text": "out of memory", "remedy": ReasonCode::OomKilled.remedy() },
            "since": "2026-11-21T03:00:00.000Z", "observed_at": "2026-11-21T03:00:09.000Z", "age_ms": 1200,
            "source": "worker", "adapter": "process", "pid": 4711, "unit": null, "address": "127.0.0.1:20001",
            "restarts": 1, "last_log": ["bye"],
            "usage": { "cpu_percent": 1.2, "memory_bytes": 183_500_800, "memory_source": "cgroup", "tasks": 11,
                "io_read_bytes": 0, "io_write_bytes": 4096, "pressure": { "cpu": 0.5, "memory": 0.0, "io": 1.5 } },
            "spec_generation": 3, "next_attempt_at": null, "progress": null, "notes": [],
            "local": null,
        });
        assert_eq!(json, wanted);
    }

    #[test]
    fn an_instance_is_as_old_as_the_last_word_of_its_environment() {
        let registration = nbs_core::order::Registration {
            environment: EnvironmentName::parse("local").unwrap(),
            version: String::new(),
            boot: String::new(),
            concurrent_starts: 1,
            runtimes: Default::default(),
            host: "h".into(),
            url: None,
            proxy_url: None,
            capacity: None,
            databases: Default::default(),
            follows: None,
        };
        let environment = |seconds| EnvironmentView {
            registration: Arc::new(registration.clone()),
            heard_at: Wall(1_795_230_000_000 + seconds * 1000),
            heard: Mono(Duration::from_secs(seconds)),
            presence: nbs_core::view::Presence::Available,
            draining: false,
            is_local: true,
            proxy: None,
            instances: 1,
        };
        let now = Now { mono: Mono(Duration::from_secs(3602)), wall: Wall(1_795_233_602_000) };
        let shown =
            |heard| Instance::of(&instance(Status::Running, Some(report())), None, Some(&environment(heard)), now);
        assert_eq!(
            (shown(3600).age_ms, shown(3600).observed_at.as_deref()),
            (Some(2000), Some("2026-11-21T04:00:00.000Z"))
        );
        assert_eq!(shown(3).age_ms, Some(3_593_000), "its own report at second 9 is the newer word");
    }

    #[test]
    fn a_silent_instance_tells_what_it_was() {
        let shown = Instance::of(&instance(Status::Unknown, Some(report())), None, None, Now::default());
        assert_eq!((shown.status.as_ref(), shown.last_status.as_deref()), ("unknown", Some("running")));
    }

    #[test]
    fn a_local_word_is_told_with_who_and_when() {
        let mut report = report();
        let (action, at) = (nbs_core::order::LocalAction::Stop, Wall(1_795_230_000_000));
        report.local = Some(LocalOverride { action, actor: "ann".into(), at });
        let shown = Instance::of(&instance(Status::Stopped, Some(report)), None, None, Now::default());
        let local = serde_json::to_value(shown.local).unwrap();
        assert_eq!(local, serde_json::json!({ "action": "stop", "actor": "ann", "at": "2026-11-21T03:00:00.000Z" }));
    }

    #[test]
    fn before_the_first_report_the_entry_speaks() {
        let shown = Instance::of(&instance(Status::Queued, None), None, None, Now::default());
        assert_eq!((shown.source.as_ref(), shown.observed_at, shown.age_ms), ("entry", None, None));
    }
}
