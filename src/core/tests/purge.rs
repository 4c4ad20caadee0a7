//! Databases as the entry sees them: refused where environments disagree, dropped by the last one that has the app.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nbs_core::command::{Action, Command, Denied, Verdict};
use nbs_core::database::{Database, Endpoint};
use nbs_core::fleet::{Fleet, Standing};
use nbs_core::id::{EntryId, Epoch, Generation, OperationId, Reign, Run};
use nbs_core::name::{AppId, EnvironmentName, RuntimeName, ServerName};
use nbs_core::order::{Goal, InstanceReport, Order, Registration, Report, RuntimeSummary};
use nbs_core::phase::Phase;
use nbs_core::recipe::{Adapter, Listen};
use nbs_core::record::Recovered;
use nbs_core::secret::SecretText;
use nbs_core::spec::{AppSpec, Limits, StartMode};
use nbs_core::time::{Mono, Now, Wall};

fn env(name: &str) -> EnvironmentName {
    EnvironmentName::parse(name).unwrap()
}

fn crm() -> AppId {
    AppId::parse("crm").unwrap()
}

fn server() -> ServerName {
    ServerName::parse("default").unwrap()
}

fn now(seconds: u64) -> Now {
    Now { mono: Mono(Duration::from_secs(3600 + seconds)), wall: Wall(seconds * 1000) }
}

fn registration(name: &str, host: &str, databases: &[(&str, &str)]) -> Registration {
    let runtime = |name: &str, needs_database| {
        let name = RuntimeName::parse(name).unwrap();
        let summary = RuntimeSummary {
            name: name.clone(),
            description: String::new(),
            adapter: Adapter::Process,
            listen: Listen::None,
            strip_prefix: true,
            max_limits: Limits::default(),
            paths: nbs_core::paths::Paths::default(),
            app_id_pattern: None,
            secrets_needed: Vec::new(),
            needs_database,
            turn_timeout: Duration::from_secs(60),
            shared: None,
            upgrade_timeout: None,
        };
        (name, summary)
    };
    let endpoint = |host: &str| Endpoint { host: host.into(), port: 5432 };
    let named = databases.iter().map(|(name, host)| (ServerName::parse(name).unwrap(), endpoint(host)));
    Registration {
        environment: env(name),
        version: "1".into(),
        boot: "b".into(),
        concurrent_starts: 2,
        runtimes: BTreeMap::from([runtime("any", false), runtime("needy", true)]),
        host: host.into(),
        url: None,
        proxy_url: None,
        capacity: None,
        databases: named.collect(),
        follows: None,
    }
}

/// Name and host of the servers of two environments.
type Servers<'a> = [&'a [(&'a str, &'a str)]; 2];

struct Entry {
    fleet: Fleet,
    ids: u128,
}

impl Entry {
    /// An entry with two environments, whose servers called `default` are these.
    fn with(databases: Servers) -> Self {
        let reign = Reign { epoch: Epoch(1), entry: EntryId::parse("e").unwrap() };
        let mut entry =
            Self { fleet: Fleet::new(Standing { reign, local: None }, Recovered::default(), now(0)), ids: 0 };
        for (number, databases) in databases.into_iter().enumerate() {
            let (name, host) = ([("env_a", "one"), ("env_b", "two")])[number];
            entry.hello(0, name, registration(name, host, databases), Vec::new());
        }
        entry
    }

    fn hello(&mut self, at: u64, name: &str, registration: Registration, instances: Vec<InstanceReport>) {
        self.tell(at, name, Report::Hello { registration: registration.into(), instances });
    }

    fn tell(&mut self, at: u64, name: &str, report: Report) {
        let ids = &mut self.ids;
        self.fleet.observe(now(at), &env(name), report, &mut || {
            *ids += 1;
            OperationId(*ids)
        });
    }

    fn ask(&mut self, at: u64, action: Action) -> Verdict {
        self.ids += 1;
        let (id, actor) = (OperationId(self.ids), "root".into());
        let command = Command { app: crm(), action, actor, id, idempotency: None, environments: None };
        self.fleet.decide(now(at), &command).verdict
    }

    fn create(&mut self, spec: AppSpec) -> Verdict {
        let (jwt, db_secret) = (SecretText::new("j"), SecretText::new("fresh"));
        self.ask(0, Action::Create { spec: Arc::new(spec), jwt, db_secret, reuse: true })
    }

    fn orders(&mut self, at: u64) -> BTreeMap<String, Order> {
        let settled = self.fleet.settle(now(at));
        settled.orders.into_iter().map(|(name, order)| (name.to_string(), order)).collect()
    }
}

fn spec(database: Option<Database>, environments: &[&str]) -> AppSpec {
    let mut spec = AppSpec::minimal(crm(), RuntimeName::parse("any").unwrap(), env("env_a"));
    spec.environments = environments.iter().map(|name| env(name)).collect::<BTreeSet<_>>();
    (spec.database, spec.start_mode) = (database, StartMode::WithSupervisor);
    spec
}

fn new() -> Option<Database> {
    Some(Database::New { server: server() })
}

fn refused(verdict: Verdict) -> (String, String, String) {
    match verdict {
        Verdict::Denied(Denied::Invalid { field, detail, hint }) => (field, detail, hint),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_an_environment_does_not_have_is_invalid() {
    let both = ["env_a", "env_b"];
    let table: Vec<(Servers, AppSpec, &str, &str)> = vec![
        ([&[], &[]], spec(new(), &["env_a"]), "database.server", "set [database.servers.default]"),
        ([&[("big", "h")], &[]], spec(new(), &["env_a"]), "database.server", "choose one of big"),
        ([&[("default", "h")], &[]], spec(new(), &both), "database.server", "set [database.servers.default]"),
        ([&[], &[]], spec(Some(Database::File), &both), "database.dialect", "keep to one environment"),
        ([&[("default", "h")], &[("default", "i")]], spec(new(), &both), "database.server", "the same host and port"),
        (
            [&[("default", "127.0.0.1")], &[("default", "127.0.0.1")]],
            spec(new(), &both),
            "database.server",
            "the same host and port",
        ),
    ];
    for (databases, spec, field, hint) in table {
        let told = refused(Entry::with(databases).create(spec));
        assert!(told.0 == field && told.2.contains(hint), "{told:?}");
    }
    let needy = AppSpec { runtime: RuntimeName::parse("needy").unwrap(), ..spec(None, &["env_a"]) };
    assert_eq!(refused(Entry::with([&[], &[]]).create(needy)).0, "database.mode");
    let well = Entry::with([&[("default", "h")], &[("default", "h")]]).create(spec(new(), &both));
    assert!(matches!(well, Verdict::Accepted(_)), "{well:?}");
}

fn report(order: &Order, phase: Phase) -> Report {
    Report::Instance(Box::new(InstanceReport {
        app: crm(),
        intent_seq: order.intent_seq,
        run: Run { seq: order.intent_seq, attempt: 0 },
        generation: Generation(1),
        phase,
        in_turn: false,
        reason: None,
        since: Wall(0),
        pid: None,
        adapter: Adapter::Process,
        address: None,
        strip_prefix: true,
        select: None,
        restarts: 0,
        next_attempt: None,
        version: None,
        progress: None,
        last_log: Vec::new(),
        notes: Vec::new(),
        local: None,
        removing: matches!(order.goal, Goal::Remove { .. }),
        upgrade: Default::default(),
    }))
}

fn drops(order: &Order) -> Option<bool> {
    match &order.goal {
        Goal::Remove { drop, .. } => Some(drop.is_some()),
        Goal::Run(_) | Goal::Stop => None,
    }
}

/// An app that runs in both environments and is to go with its data: the orders that follow.
fn purged() -> (Entry, BTreeMap<String, Order>) {
    let mut entry = Entry::with([&[("default", "h")], &[("default", "h")]]);
    assert!(matches!(entry.create(spec(new(), &["env_a", "env_b"])), Verdict::Accepted(_)));
    for at in 1..4 {
        for (name, order) in entry.orders(at) {
            entry.tell(at, &name, report(&order, Phase::Running));
        }
    }
    assert!(matches!(entry.ask(5, Action::Remove { purge_data: true }), Verdict::Accepted(_)));
    let orders = entry.orders(5);
    (entry, orders)
}

#[test]
fn the_last_environment_drops_after_the_others_have_let_go() {
    let (mut entry, orders) = purged();
    assert_eq!((drops(&orders["env_a"]), &orders["env_a"].goal), (None, &Goal::Stop));
    assert_eq!(drops(&orders["env_b"]), Some(false));
    entry.tell(6, "env_a", report(&orders["env_a"], Phase::Stopped));
    assert!(entry.orders(6).is_empty(), "it only waits");
    entry.tell(7, "env_b", Report::Removed { app: crm(), intent_seq: orders["env_b"].intent_seq });
    let last = entry.orders(7);
    assert_eq!((last.len(), drops(&last["env_a"])), (1, Some(true)));
    assert!(last["env_a"].intent_seq > orders["env_a"].intent_seq, "an older word cannot take it back");
    entry.tell(8, "env_a", report(&last["env_a"], Phase::Stopped));
    assert!(entry.orders(8).is_empty());
    entry.tell(9, "env_a", Report::Removed { app: crm(), intent_seq: last["env_a"].intent_seq });
    let (_, verdict) = (entry.orders(9), entry.ask(10, Action::Start));
    assert!(matches!(verdict, Verdict::Denied(Denied::NotFound(_))), "{verdict:?}");
}

#[test]
fn a_lost_answer_or_a_new_hello_of_the_last_one_is_not_taken_for_a_drop() {
    let (mut entry, orders) = purged();
    entry.tell(6, "env_b", Report::Removed { app: crm(), intent_seq: orders["env_b"].intent_seq });
    entry.hello(7, "env_a", registration("env_a", "one", &[("default", "h")]), Vec::new());
    assert_eq!(drops(&entry.orders(7)["env_a"]), Some(true), "it has no instance and drops all the same");
}

#[test]
fn the_dropping_can_be_given_up() {
    let (mut entry, _) = purged();
    assert!(matches!(entry.ask(6, Action::Remove { purge_data: true }), Verdict::AlreadySo(_)));
    assert!(matches!(entry.ask(6, Action::Remove { purge_data: false }), Verdict::Accepted(_)));
    let orders = entry.orders(6);
    assert_eq!(orders.values().map(drops).collect::<Vec<_>>(), [Some(false), Some(false)]);
}

#[test]
fn a_secret_for_databases_stays_with_its_name() {
    let mut entry = Entry::with([&[("default", "h")], &[]]);
    let secret = |orders: BTreeMap<String, Order>| match &orders["env_a"].goal {
        Goal::Run(goal) => goal.db_secret.expose().to_string(),
        other => panic!("{other:?}"),
    };
    let create = |secret: &str| Action::Create {
        spec: Arc::new(spec(new(), &["env_a"])),
        jwt: SecretText::new("j"),
        db_secret: SecretText::new(secret),
        reuse: true,
    };
    entry.ask(0, create("first"));
    assert_eq!(secret(entry.orders(1)), "first");
    entry.ask(2, Action::Remove { purge_data: false });
    let removal = entry.orders(2).remove("env_a").unwrap();
    entry.tell(3, "env_a", Report::Removed { app: crm(), intent_seq: removal.intent_seq });
    entry.orders(3);
    entry.ask(4, create("second"));
    assert_eq!(secret(entry.orders(4)), "first", "what was kept is met again");
}
