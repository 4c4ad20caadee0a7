use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nbs_core::id::{EntryId, Epoch, Generation, Reign, Run, Seq};
use nbs_core::launch::Address;
use nbs_core::limits::SPEC_ENTRIES_MAX;
use nbs_core::name::{AppId, EnvironmentName, RuntimeName};
use nbs_core::order::{
    Capacity, Goal, InstanceReport, LocalAction, LocalOverride, Order, Refusal, Registration, Report, RunGoal,
    RuntimeSummary, Turn,
};
use nbs_core::phase::{Phase, Status};
use nbs_core::reason::{Reason, ReasonCode};
use nbs_core::recipe::{Adapter, Listen};
use nbs_core::secret::SecretText;
use nbs_core::spec::{AppSpec, Limits};
use nbs_core::time::{Mono, Wall};
use nbs_core::view::{AppView, InstanceView};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::*;
use crate::wire::api::usage::{AppUsage, Pressure};
use crate::wire::envelope::Session;
use crate::wire::samples::{self, Mirror};

fn app(text: &str) -> AppId {
    AppId::parse(text).unwrap()
}

fn environment(text: &str) -> EnvironmentName {
    EnvironmentName::parse(text).unwrap()
}

fn reign() -> Reign {
    Reign { epoch: Epoch(9), entry: EntryId::parse("entry-1").unwrap() }
}

fn order(goal: Goal) -> Order {
    Order { app: app("crm"), reign: reign(), generation: Generation(3), intent_seq: Seq(8), goal }
}

fn run() -> RunGoal {
    let mut spec = AppSpec::minimal(app("crm"), RuntimeName::parse("node").unwrap(), environment("env_a"));
    spec.env.insert("TZ".into(), "UTC".into());
    spec.secrets.insert("KEY".into(), SecretText::new("hidden"));
    let turn = Some(Turn { accept_by: Duration::from_secs(10), number: 4 });
    RunGoal {
        start_seq: Seq(7),
        spec: Arc::new(spec),
        jwt: SecretText::new("token"),
        db_secret: SecretText::new(""),
        upgrade_seq: Seq(0),
        installed: None,
        turn,
    }
}

fn registration() -> Registration {
    let node = RuntimeName::parse("node").unwrap();
    let runtime = RuntimeSummary {
        name: node.clone(),
        description: "Node".into(),
        adapter: Adapter::Systemd,
        listen: Listen::Port,
        strip_prefix: true,
        max_limits: Limits::default(),
        paths: Default::default(),
        app_id_pattern: Some("crm.*".into()),
        secrets_needed: vec!["KEY".into()],
        needs_database: false,
        turn_timeout: Duration::from_secs(300),
        shared: None,
        upgrade_timeout: None,
    };
    Registration {
        environment: environment("env_a"),
        version: "0.4.0".into(),
        boot: "boot-1".into(),
        concurrent_starts: 4,
        runtimes: BTreeMap::from([(node, runtime)]),
        host: "host-1".into(),
        url: Some("http://10.0.0.2:13000".into()),
        proxy_url: None,
        capacity: Some(Capacity { cpus: 8, memory_bytes: 1 << 34 }),
        databases: BTreeMap::new(),
        follows: None,
    }
}

fn instance(name: &str) -> InstanceReport {
    InstanceReport {
        app: app(name),
        intent_seq: Seq(8),
        run: Run { seq: Seq(7), attempt: 1 },
        generation: Generation(3),
        phase: Phase::Running,
        in_turn: false,
        reason: Some(Reason::new(ReasonCode::ExitStatus, "exited with status 1")),
        since: Wall(3),
        pid: Some(4711),
        adapter: Adapter::Process,
        address: Some(Address::Port(20_001)),
        strip_prefix: true,
        select: None,
        restarts: 2,
        next_attempt: Some(Wall(9)),
        version: Some("2.2.15".into()),
        progress: Some("half".into()),
        last_log: vec!["line".into()],
        notes: vec!["note".into()],
        local: Some(LocalOverride { action: LocalAction::Stop, actor: "root".into(), at: Wall(5) }),
        removing: false,
        upgrade: Default::default(),
    }
}

fn host_usage() -> HostUsage {
    HostUsage {
        cpu_percent: Some(12.5),
        memory_bytes: Some(1 << 30),
        memory_total: Some(1 << 34),
        cpus: Some(8),
        pressure: Some(Pressure { cpu: 0.5, memory: 0.0, io: 1.5 }),
    }
}

fn usage() -> Usage {
    let crm = AppUsage {
        cpu_percent: Some(1.25),
        memory_bytes: Some(1 << 20),
        memory_source: Some("cgroup".into()),
        tasks: Some(11),
        ..AppUsage::default()
    };
    Usage { at_ms: 6, host: host_usage(), apps: BTreeMap::from([(app("crm"), crm)]) }
}

fn beat() -> Beat {
    Beat { owner: "worker-1".into(), epoch: Epoch(2), host: "host-1".into(), at_ms: 6 }
}

fn entry() -> EntryRecord {
    EntryRecord {
        entry: reign().entry,
        epoch: Epoch(9),
        session: Session(0xfeed),
        beat: 3,
        at_ms: 6,
        address: "host-0".into(),
        version: "0.4.0".into(),
    }
}

fn view() -> AppView {
    let at = |name: &str, status| InstanceView {
        environment: environment(name),
        status,
        intent: nbs_core::intent::Intent::Run,
        leaving: false,
        since: Wall(1),
        report: None,
        observed_at: Wall(1),
        observed: Mono::default(),
    };
    AppView {
        spec: run().spec,
        generation: Generation(3),
        intent: nbs_core::intent::Intent::Run,
        intent_seq: Seq(8),
        status: Status::Running,
        removing: false,
        created_at: Wall(1),
        instances: vec![at("env_a", Status::Running), at("env_b", Status::Queued)],
        last_operation: None,
    }
}

/// One message of each kind, as it is written.
fn written() -> Vec<(&'static str, String)> {
    let report = |report: Report| write_report(&report).unwrap();
    let part = |part| split(&registration(), &[instance("crm"), instance("erp")], 5, 1_200).unwrap().swap_remove(part);
    let hello = Report::Hello { registration: registration().into(), instances: vec![instance("crm")] };
    let unix = InstanceReport { address: Some(Address::Unix("/run/x.sock".into())), ..instance("erp") };
    let stray = Report::Stray { app: app("crm"), run: Run::default(), pid: None, adapter: Adapter::Systemd };
    let refused = Report::Refused { app: app("crm"), intent_seq: Seq(8), why: Refusal::Foreign };
    let owner = reign().entry;
    let heartbeat = Heartbeat { at_ms: 6, version: "0.4.0".into(), instances: 2, usage: Some(host_usage()) };
    let lease = LeaseValue { owner: "worker-1".into(), epoch: 2, host: "host-1".into(), m: "{}".into() };
    let value = EntryValue { owner: owner.clone(), epoch: Epoch(9), signed: "{}".into() };
    let lock = StartLock { owner, epoch: Epoch(9), turn: 4, environment: environment("env_a") };
    vec![
        ("order run", write_order(&order(Goal::Run(run())), &Mirror).unwrap()),
        ("order stop", write_order(&order(Goal::Stop), &Mirror).unwrap()),
        ("order remove", write_order(&order(Goal::Remove { purge_data: true, drop: None }), &Mirror).unwrap()),
        ("intent", write_intent(&order(Goal::Run(run())), &Mirror).unwrap()),
        ("roll_call", write_roll_call(RollCall { session: Session(0xfeed) }).unwrap()),
        ("entry", write_entry(&entry()).unwrap()),
        ("report hello", report(hello)),
        ("report hello_part 0", part(0)),
        ("report hello_part 1", part(1)),
        ("report alive", report(Report::Alive)),
        ("report runtimes", report(Report::Runtimes(registration().runtimes))),
        ("report instance", report(Report::Instance(Box::new(unix)))),
        ("report removed", report(Report::Removed { app: app("crm"), intent_seq: Seq(8) })),
        ("report stray", report(stray)),
        ("report refused", report(refused)),
        ("beat", write_beat(&beat()).unwrap()),
        ("registration", write_registration(&registration(), 6).unwrap()),
        ("heartbeat", write_heartbeat(&heartbeat).unwrap()),
        ("usage", write_usage(&usage()).unwrap()),
        ("app cache", write_app_cache(&view()).unwrap()),
        ("entry value", write_entry_value(&value).unwrap()),
        ("lease value", write_lease_value(&lease).unwrap()),
        ("start lock", write_start_lock(&lock).unwrap()),
    ]
}

#[test]
fn each_kind_of_message_is_written_as_it_always_was() {
    let found: String = written().iter().map(|(kind, text)| format!("{kind}: {text}\n")).collect();
    assert!(found == include_str!("tests/golden.txt"), "{found}");
}

/// Everything that reads. Gives what it made of the text, if anything.
fn read_by_all(text: &str) -> Vec<(&'static str, Option<RowError>)> {
    vec![
        ("order", read_order(text, reign(), &Mirror).err()),
        ("intent", read_intent(text, reign(), &Mirror).err()),
        ("roll_call", read_roll_call(text).err()),
        ("entry", read_entry(text).err()),
        ("report", read_report(text).err()),
        ("beat", read_beat(text).err()),
        ("registration", read_registration(text).err()),
        ("heartbeat", read_heartbeat(text).err()),
        ("usage", read_usage(text).err()),
        ("entry value", read_entry_value(text).err()),
        ("lease value", read_lease_value(text).err()),
        ("start lock", read_start_lock(text).err()),
    ]
}

fn reader_of<'a>(kind: &str, text: &str, all: &'a mut Vec<(&'static str, Option<RowError>)>) -> &'a Option<RowError> {
    *all = read_by_all(text);
    &all.iter().rfind(|(reader, _)| kind.starts_with(reader)).unwrap().1
}

#[test]
fn a_later_field_is_ignored_and_a_later_version_refused() {
    let mut all = Vec::new();
    for (kind, text) in written().iter().filter(|(kind, _)| *kind != "app cache") {
        let later_field = text.replacen('{', "{\"colour\":[1],", 1);
        assert_eq!(*reader_of(kind, &later_field, &mut all), None, "{kind}");
        if text.contains("\"v\":1") {
            let later = text.replacen("\"v\":1", "\"v\":2,\"whole\":\"other\"", 1);
            assert_eq!(*reader_of(kind, &later, &mut all), Some(RowError::Newer { found: 2, supported: 1 }), "{kind}");
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let words = prop_oneof!["[a-z_]{0,12}", any::<String>()];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        let object = proptest::collection::btree_map(words.clone(), inner.clone(), 0..6);
        prop_oneof![
            proptest::collection::vec(inner, 0..6).prop_map(Value::from),
            object.prop_map(|map| Value::from(serde_json::Map::from_iter(map))),
        ]
    })
}

/// Puts another value in the place of any value of a text.
fn replaced(text: &str, at: Index, other: &Value) -> String {
    fn walk(value: &mut Value, left: &mut usize, other: &Value) {
        if *left == 0 {
            *value = other.clone();
        }
        *left = left.wrapping_sub(1);
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| walk(item, left, other)),
            Value::Object(map) => map.values_mut().for_each(|item| walk(item, left, other)),
            _ => {}
        }
    }
    fn count(value: &Value) -> usize {
        1 + match value {
            Value::Array(items) => items.iter().map(count).sum(),
            Value::Object(map) => map.values().map(count).sum(),
            _ => 0,
        }
    }
    let mut value: Value = serde_json::from_str(text).unwrap();
    let mut left = at.index(count(&value));
    walk(&mut value, &mut left, other);
    value.to_string()
}

proptest! {
    #[test]
    fn an_order_reads_back_as_written(order in samples::order()) {
        let text = write_order(&order, &Mirror).unwrap();
        prop_assert_eq!(read_order(&text, order.reign.clone(), &Mirror), Ok(order.clone()));
        let intent = read_intent(&text, order.reign.clone(), &Mirror).unwrap();
        let again = write_intent(&order, &Mirror).unwrap();
        prop_assert_eq!(&intent, &read_order(&again, order.reign.clone(), &Mirror).unwrap());
        let is_without_turn = !matches!(intent.goal, Goal::Run(RunGoal { turn: Some(_), .. }));
        prop_assert!(is_without_turn);
    }

    #[test]
    fn a_report_reads_back_as_written(report in samples::report()) {
        let text = write_report(&report).unwrap();
        prop_assert_eq!(read_report(&text), Ok(ReportMessage::Whole(report)));
    }

    #[test]
    fn a_registration_reads_back_as_written(registration in samples::registration(), at_ms: u64) {
        let text = write_registration(&registration, at_ms).unwrap();
        prop_assert_eq!(read_registration(&text), Ok((registration, at_ms)));
    }

    #[test]
    fn what_has_figures_reads_back_as_written(numbers: [u64; 4], tenths in 0..100_000u32, reign in samples::reign()) {
        let share = f64::from(tenths) / 8.0;
        let host = HostUsage { cpu_percent: Some(share), memory_bytes: Some(numbers[0]), ..host_usage() };
        let used = Usage { at_ms: numbers[1], host: host.clone(), ..usage() };
        prop_assert_eq!(read_usage(&write_usage(&used).unwrap()), Ok(used));
        let heartbeat = Heartbeat { at_ms: numbers[1], version: "1".into(), instances: numbers[2], usage: Some(host) };
        prop_assert_eq!(read_heartbeat(&write_heartbeat(&heartbeat).unwrap()), Ok(heartbeat));
        let beat = Beat { epoch: reign.epoch, at_ms: numbers[3], ..beat() };
        prop_assert_eq!(read_beat(&write_beat(&beat).unwrap()), Ok(beat));
        let session = Session(u128::from(numbers[0]) << 64 | u128::from(numbers[1]));
        let call = RollCall { session };
        prop_assert_eq!(read_roll_call(&write_roll_call(call).unwrap()), Ok(call));
        let record = EntryRecord { entry: reign.entry, epoch: reign.epoch, session, beat: numbers[2], ..entry() };
        prop_assert_eq!(read_entry(&write_entry(&record).unwrap()), Ok(record));
    }

    #[test]
    fn plain_values_read_back_as_written(reign in samples::reign(), text: String, numbers: [u64; 2]) {
        let value = EntryValue { owner: reign.entry.clone(), epoch: reign.epoch, signed: text.clone() };
        prop_assert_eq!(read_entry_value(&write_entry_value(&value).unwrap()), Ok(value));
        let lease = LeaseValue { owner: "w".into(), epoch: numbers[0], host: "h".into(), m: text };
        prop_assert_eq!(read_lease_value(&write_lease_value(&lease).unwrap()), Ok(lease));
        let (turn, environment) = (numbers[1], environment("env_a"));
        let lock = StartLock { owner: reign.entry, epoch: reign.epoch, turn, environment };
        prop_assert_eq!(read_start_lock(&write_start_lock(&lock).unwrap()), Ok(lock));
    }

    #[test]
    fn a_hello_is_whole_again_after_any_cut(hello in samples::hello(), max in 2_000usize..40_000, set: u64) {
        let Report::Hello { registration, instances } = &hello else { unreachable!() };
        let Ok(texts) = split(registration, instances, set, max) else { return Ok(()) };
        let mut assembly = Assembly::default();
        let mut found = None;
        for (at, text) in texts.iter().enumerate() {
            prop_assert!(text.len() <= max, "{} of {max}", text.len());
            prop_assert!(found.is_none());
            found = match read_report(text).unwrap() {
                ReportMessage::Whole(report) => Some(report),
                ReportMessage::Part(part) => {
                    prop_assert_eq!((part.part as usize, part.of as usize, part.set), (at, texts.len(), set));
                    assembly.take(*part).unwrap()
                }
            };
        }
        prop_assert_eq!(found, Some(hello));
    }

    #[test]
    fn nothing_that_is_read_panics(value in any_json(), text in "\\PC{0,200}") {
        read_by_all(&value.to_string());
        for (reader, error) in read_by_all(&text) {
            prop_assert!(error.is_some(), "{reader}");
        }
    }

    #[test]
    fn what_was_changed_on_its_way_does_not_panic(kind: Index, at: Index, other in any_json(), byte: u8) {
        let all = written();
        let (_, text) = kind.get(&all);
        read_by_all(&replaced(text, at, &other));
        let mut bytes = text.clone().into_bytes();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        read_by_all(&String::from_utf8_lossy(&bytes));
        bytes.truncate(place);
        read_by_all(&String::from_utf8_lossy(&bytes));
    }
}

fn part(set: u64, part: u32, of: u32, name: &str) -> HelloPart {
    let registration = (part == 0).then(registration);
    HelloPart { set, part, of, registration, instances: vec![instance(name)] }
}

#[test]
fn a_new_hello_takes_the_place_of_one_that_is_not_complete() {
    let mut assembly = Assembly::default();
    assert_eq!(assembly.take(part(1, 0, 3, "a")), Ok(None));
    assert_eq!(assembly.take(part(1, 1, 3, "b")), Ok(None));
    assert_eq!(assembly.take(part(2, 0, 2, "c")), Ok(None));
    assert_eq!(assembly.take(part(1, 2, 3, "d")), Err(PartError::OutOfOrder { set: 1, part: 2 }));
    let whole = Report::Hello { registration: registration().into(), instances: vec![instance("c"), instance("e")] };
    assert_eq!(assembly.take(part(2, 1, 2, "e")), Ok(Some(whole)));
    assert_eq!(assembly.take(part(2, 1, 2, "e")), Err(PartError::OutOfOrder { set: 2, part: 1 }), "it is used up");
}

#[test]
fn parts_of_different_hellos_are_not_mixed() {
    let mut assembly = Assembly::default();
    assert_eq!(assembly.take(part(1, 0, 3, "a")), Ok(None));
    for (stranger, why) in [
        (part(2, 1, 3, "b"), "another hello"),
        (part(1, 1, 4, "b"), "another count"),
        (part(1, 2, 3, "b"), "one is missing between"),
    ] {
        assert!(assembly.take(stranger).is_err(), "{why}");
    }
    assert_eq!(assembly.take(part(1, 1, 3, "b")), Ok(None));
    assert_eq!(assembly.take(part(1, 1, 3, "b")), Err(PartError::OutOfOrder { set: 1, part: 1 }), "told twice");
    assert!(matches!(assembly.take(part(1, 2, 3, "c")), Ok(Some(_))));
}

#[test]
fn a_part_that_cannot_be_is_refused() {
    let texts = split(&registration(), &[instance("crm"), instance("erp")], 5, 1_200).unwrap();
    assert_eq!(texts.len(), 2);
    for (from, to) in [
        ("\"part\":1,\"of\":2", "\"part\":2,\"of\":2"),
        ("\"part\":1,\"of\":2", "\"part\":1,\"of\":0"),
        ("\"part\":1,\"of\":2", "\"part\":1,\"of\":4000000000"),
        ("\"part\":1,\"of\":2", "\"part\":0,\"of\":2"),
    ] {
        assert!(texts[1].contains(from));
        assert!(matches!(read_report(&texts[1].replacen(from, to, 1)), Err(RowError::Damaged(_))), "{to}");
    }
    let second = texts[0].replacen("\"part\":0", "\"part\":1", 1);
    assert!(read_report(&second).unwrap_err().to_string().contains("registration"));
}

#[test]
fn what_does_not_fit_a_part_is_named() {
    let reason = Some(Reason::new(ReasonCode::ExitStatus, "x".repeat(2_000)));
    let instances = [InstanceReport { reason, ..instance("crm") }];
    let error = split(&registration(), &instances, 1, 200).unwrap_err().to_string();
    assert!(error.contains("the registration is larger than the 200 bytes"), "{error}");
    let tight = split(&registration(), &instances, 1, 2_000).unwrap_err().to_string();
    assert!(tight.contains("the report of crm"), "{tight}");
}

#[test]
fn a_large_hello_is_cut_for_its_envelope() {
    let names: Vec<InstanceReport> = (0..2_000).map(|n| instance(&format!("app{n}"))).collect();
    let texts = split(&registration(), &names, 1, HELLO_MAX).unwrap();
    assert!(texts.len() > 1);
    for text in texts {
        let in_envelope = serde_json::to_string(&text).unwrap().len();
        assert!(in_envelope < crate::wire::envelope::LIMIT - 1_000, "{in_envelope}");
    }
}

#[test]
fn long_texts_for_people_are_cut_and_still_told() {
    let long = "ä".repeat(100_000);
    let report = InstanceReport {
        reason: Some(Reason::new(ReasonCode::ExitStatus, long.clone())),
        progress: Some(long.clone()),
        last_log: vec![long.clone(); 100],
        notes: vec![long.clone(); 100],
        ..instance("crm")
    };
    let text = write_report(&Report::Instance(Box::new(report))).unwrap();
    let Ok(ReportMessage::Whole(Report::Instance(read))) = read_report(&text) else { panic!("it is read") };
    assert_eq!((read.last_log.len(), read.notes.len()), (20, 64));
    assert_eq!(read.progress.unwrap().len(), 4096);
    let told = write_registration(&Registration { host: long, ..registration() }, 1).unwrap();
    assert_eq!(read_registration(&told).unwrap().0.host.len(), 256);
}

#[test]
fn what_is_above_its_bound_is_refused() {
    let long = "x".repeat(5_000);
    let report = serde_json::to_value(instance_json()).unwrap();
    for (field, value) in [
        ("version", json!(long)),
        ("progress", json!(long)),
        ("last_log", json!(vec!["x"; 21])),
        ("last_log", json!(["x".repeat(513)])),
        ("notes", json!(vec!["x"; 65])),
        ("address", json!({ "unix": long })),
        ("local", json!({ "action": "stop", "actor": long, "at": 1 })),
        ("reason", json!({ "code": "exit_status", "text": long })),
    ] {
        let mut report = report.clone();
        report["report"]["instance"][field] = value;
        let error = read_report(&report.to_string()).unwrap_err().to_string();
        assert!(error.contains("allowed"), "{field}: {error}");
    }
    let huge = format!("{{\"v\":1,\"report\":\"alive\",\"x\":\"{}\"}}", "x".repeat(MESSAGE_MAX));
    for (reader, error) in read_by_all(&huge) {
        assert!(error.unwrap().to_string().contains("more than the 1048576"), "{reader}");
    }
    let mut goal = run();
    let many = (0..=SPEC_ENTRIES_MAX).map(|n| (format!("A{n}"), String::new())).collect();
    goal.spec = Arc::new(AppSpec { env: many, ..AppSpec::clone(&goal.spec) });
    let error = write_order(&order(Goal::Run(goal)), &Mirror).unwrap_err().to_string();
    assert!(error.contains("env has 257 entries"), "{error}");
}

fn instance_json() -> Value {
    serde_json::from_str(&write_report(&Report::Instance(Box::new(instance("crm")))).unwrap()).unwrap()
}

#[test]
fn deep_nesting_is_refused() {
    let text = format!("{{\"v\":1,\"report\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read_report(&text).is_err());
}

#[test]
fn figures_that_cannot_be_are_refused() {
    let text = write_usage(&usage()).unwrap();
    for (from, to) in [("12.5", "-1"), ("1.25", "1e300"), ("0.5", "-0.1"), ("\"crm\":", "\"Crm\":")] {
        assert!(text.contains(from), "{from}");
        assert!(matches!(read_usage(&text.replacen(from, to, 1)), Err(RowError::Damaged(_))), "{to}");
    }
}

#[test]
fn secrets_of_an_order_are_sealed_for_its_app() {
    let text = write_order(&order(Goal::Run(run())), &Mirror).unwrap();
    assert!(!text.contains("token") && !text.contains("hidden"), "{text}");
    let moved = text.replacen("\"app\":\"crm\"", "\"app\":\"erp\"", 1);
    assert!(read_order(&moved, reign(), &Mirror).is_err(), "an order for one app with the spec of another");
    let both = moved.replace("\"name\":\"crm\"", "\"name\":\"erp\"");
    assert!(matches!(read_order(&both, reign(), &Mirror), Err(RowError::Cipher(_))));
    let stored = text.replace("order/crm", "app/crm");
    assert!(matches!(read_order(&stored, reign(), &Mirror), Err(RowError::Cipher(_))));
}

#[test]
fn the_app_cache_shows_nothing_of_the_spec() {
    let text = write_app_cache(&view()).unwrap();
    assert!(!text.contains("hidden") && !text.contains("UTC"), "{text}");
}
