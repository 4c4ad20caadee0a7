//! What was committed is read back, by the same daemon and the next one.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use nbs_core::id::{Epoch, OperationId, Seq};
use nbs_core::limits::{EVENTS_IN_MEMORY, OPERATIONS_ENDED_IN_MEMORY};
use nbs_core::record::{AppRow, Change, EnvironmentRow, OperationRow, Recovered};
use nbs_core::view::{EventView, OperationStatus};
use nbsupervisor::ports::{Record, RecordError};
use nbsupervisor::store::{OpenError, Store};
use proptest::prelude::*;
use tempfile::tempdir;

use crate::samples::{
    app, app_change, app_id, environment, environment_name, event, event_change, filled, grant, instance, key,
    operation, operation_change, recovered, reign, token,
};

#[tokio::test]
async fn a_fresh_record_is_empty() {
    let dir = tempdir().unwrap();
    assert_eq!(recovered(dir.path()).await, Recovered::default());
    for name in ["record.db", "host.key"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
    }
    let mut names: Vec<String> =
        dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["host.key", "record.db"], "a clean end leaves no log behind");
}

#[tokio::test]
async fn every_kind_of_row_survives_a_restart() {
    let dir = tempdir().unwrap();
    let before = filled(dir.path()).await;
    assert_eq!(before.apps, [app("crm", 1, 1)]);
    assert_eq!(before.operations, [operation(1, "crm", OperationStatus::Accepted)]);
    assert_eq!(before.events, [event(1, Some("crm"))]);
    assert_eq!(before.keys, [key("k", 10)]);
    assert_eq!(before.instances, [instance("crm", 1)]);
    assert_eq!((before.seq, before.boot.as_deref()), (Seq(1), Some("boot-1")));
    assert_eq!(before.environments, [environment("env_a"), environment("env_b")]);
    assert_eq!(before.grants, [grant("crm", "env_b")]);
    assert_eq!((before.epoch, before.own_environment.clone()), (Epoch(8), Some(environment_name("env_a"))));
    assert_eq!(before.follows, Some(reign(9)));
    assert_eq!(recovered(dir.path()).await, before);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.tokens().await.unwrap(), [token("ci")]);
    store.commit(vec![Change::ForgetInstance(app_id("crm"))]).await.unwrap();
    assert_eq!(store.load().await.unwrap().instances, []);
}

#[tokio::test]
async fn facts_are_replaced_and_forgotten_one_by_one() {
    let dir = tempdir().unwrap();
    filled(dir.path()).await;
    let store = Store::open(dir.path()).unwrap();
    let renewed = EnvironmentRow { draining: false, ..environment("env_a") };
    let changes = vec![
        Change::Reign(Epoch(9)),
        Change::OwnEnvironment(environment_name("env_c")),
        Change::Environment(Box::new(renewed.clone())),
        Change::ForgetEnvironment(environment_name("env_b")),
        Change::ForgetEnvironment(environment_name("never-there")),
        Change::Grant(grant("erp", "env_a")),
        Change::GrantEnd(app_id("crm")),
        Change::Follow(reign(10)),
    ];
    store.commit(changes).await.unwrap();
    drop(store);
    let found = recovered(dir.path()).await;
    assert_eq!((found.environments, found.grants), (vec![renewed], vec![grant("erp", "env_a")]));
    assert_eq!((found.epoch, found.own_environment), (Epoch(9), Some(environment_name("env_c"))));
    assert_eq!(found.follows, Some(reign(10)));
}

#[tokio::test]
async fn a_number_that_only_a_place_knows_is_not_given_again() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut row = app("crm", 1, 1);
    row.placements[0].start_seq = Seq(12);
    store.commit(vec![app_change(&row)]).await.unwrap();
    drop(store);
    assert_eq!(recovered(dir.path()).await.seq, Seq(12));
}

#[tokio::test]
async fn tokens_have_one_owner_of_a_name() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(store.add_token(token("ci")).await.unwrap());
    assert!(!store.add_token(token("ci")).await.unwrap());
    assert!(store.remove_token("ci".into()).await.unwrap());
    assert!(!store.remove_token("ci".into()).await.unwrap());
    assert_eq!(store.tokens().await.unwrap(), []);
}

#[tokio::test]
async fn operations_and_events_are_paged() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let name = |seq: u64| if seq.is_multiple_of(2) { "even" } else { "odd" };
    for seq in 1..=10 {
        let row = operation(seq, name(seq), OperationStatus::Done);
        store.commit(vec![operation_change(&row), event_change(&event(seq, Some(name(seq))))]).await.unwrap();
    }
    let seqs = |views: Vec<nbs_core::view::OperationView>| views.iter().map(|view| view.seq.0).collect::<Vec<_>>();
    assert_eq!(seqs(store.operations(None, None, 3).await.unwrap()), [10, 9, 8]);
    assert_eq!(seqs(store.operations(None, Some(Seq(8)), 3).await.unwrap()), [7, 6, 5]);
    assert_eq!(seqs(store.operations(Some(app_id("odd")), Some(Seq(8)), usize::MAX).await.unwrap()), [7, 5, 3, 1]);
    let one = store.operation(OperationId::from_parts(4, 7)).await.unwrap().unwrap();
    assert_eq!(one, operation(4, "even", OperationStatus::Done).view);
    assert_eq!(store.operation(OperationId(1)).await.unwrap(), None);
    let seqs = |views: Vec<EventView>| views.iter().map(|view| view.seq).collect::<Vec<_>>();
    assert_eq!(seqs(store.events(None, 0, 3).await.unwrap()), [1, 2, 3]);
    assert_eq!(seqs(store.events(Some(app_id("even")), 4, 9).await.unwrap()), [6, 8, 10]);
    assert_eq!(seqs(store.events(None, u64::MAX, 9).await.unwrap()), [0; 0]);
}

#[tokio::test]
async fn memory_gets_all_that_is_active_and_the_newest_of_the_rest() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let count = OPERATIONS_ENDED_IN_MEMORY as u64 + 10;
    let mut changes = vec![operation_change(&operation(1, "old", OperationStatus::Queued))];
    changes.extend((2..=count).map(|seq| operation_change(&operation(seq, "crm", OperationStatus::Done))));
    changes.extend((1..=count).map(|seq| event_change(&event(seq, None))));
    store.commit(changes).await.unwrap();
    let found = store.load().await.unwrap();
    assert_eq!(found.operations.len(), 1 + OPERATIONS_ENDED_IN_MEMORY);
    assert_eq!(found.operations[0].view.seq, Seq(1));
    assert_eq!(found.operations.last().unwrap().view.seq, Seq(count));
    assert_eq!(found.events.len(), EVENTS_IN_MEMORY);
    assert_eq!(found.events.last().unwrap().seq, count);
    assert_eq!(found.seq, Seq(count));
}

#[tokio::test]
async fn a_commit_is_whole_or_nothing() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let first = operation(1, "crm", OperationStatus::Accepted);
    store.commit(vec![operation_change(&first)]).await.unwrap();
    let mut other = operation(1, "crm", OperationStatus::Done);
    other.view.id = OperationId(99);
    let refused = store.commit(vec![event_change(&event(1, None)), operation_change(&other)]).await.unwrap_err();
    assert!(refused.to_string().contains("another operation with number 1"), "{refused}");
    let found = store.load().await.unwrap();
    assert_eq!((found.operations, found.events), (vec![first], vec![]));
    let too_large = store.commit(vec![event_change(&event(u64::MAX, None))]).await;
    assert!(matches!(too_large, Err(RecordError::Failed { operation: "write", .. })));
    store.commit(vec![]).await.unwrap();
}

#[tokio::test]
async fn one_record_has_one_daemon() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let second = Store::open(dir.path()).map(drop).unwrap_err();
    assert_eq!(second, OpenError::InUse { dir: dir.path().into() });
    drop(store);
    Store::open(dir.path()).unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    App(u8, u64),
    Operation(u8, bool),
    Event,
    Forget(u8),
    Instance(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4u8, 1..9u64).prop_map(|(app, generation)| Step::App(app, generation)),
        4 => (0..4u8, any::<bool>()).prop_map(|(app, done)| Step::Operation(app, done)),
        2 => Just(Step::Event),
        1 => (0..4u8).prop_map(Step::Forget),
        2 => (0..4u8).prop_map(Step::Instance),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Default)]
struct Model {
    apps: BTreeMap<String, AppRow>,
    operations: BTreeMap<u64, OperationRow>,
    events: Vec<EventView>,
    instances: BTreeMap<String, nbs_core::record::LedgerRow>,
    seq: u64,
}

impl Model {
    /// Takes a step and gives the change that takes it in the record.
    fn take(&mut self, step: &Step) -> Option<Change> {
        let name = |app: u8| format!("app{app}");
        Some(match step {
            Step::App(number, generation) => {
                self.seq += 1;
                let row = app(&name(*number), *generation, self.seq);
                self.apps.insert(name(*number), row.clone());
                app_change(&row)
            }
            Step::Operation(number, true) if !self.operations.is_empty() => {
                let index = usize::from(*number) % self.operations.len();
                let row = self.operations.values_mut().nth(index).unwrap();
                row.view.status = OperationStatus::Done;
                operation_change(row)
            }
            Step::Operation(number, _) => {
                self.seq += 1;
                let row = operation(self.seq, &name(*number), OperationStatus::Accepted);
                self.operations.insert(self.seq, row.clone());
                operation_change(&row)
            }
            Step::Event => {
                self.events.push(event(self.events.len() as u64 + 1, None));
                event_change(self.events.last().unwrap())
            }
            Step::Forget(number) => {
                self.instances.remove(&name(*number));
                Change::ForgetInstance(app_id(&name(*number)))
            }
            Step::Instance(number) => {
                let row = instance(&name(*number), self.seq);
                self.instances.insert(name(*number), row.clone());
                Change::Instance(Box::new(row))
            }
            Step::Reopen => return None,
        })
    }

    fn expected(self) -> Recovered {
        Recovered {
            apps: self.apps.into_values().collect(),
            operations: self.operations.into_values().collect(),
            events: self.events,
            seq: Seq(self.seq),
            instances: self.instances.into_values().collect(),
            ..Recovered::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_changes_reads_back(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempdir().unwrap();
            let mut store = Some(Store::open(dir.path()).unwrap());
            let mut model = Model::default();
            for step in &steps {
                match model.take(step) {
                    Some(change) => store.as_ref().unwrap().commit(vec![change]).await.unwrap(),
                    None => {
                        store = None;
                        store.replace(Store::open(dir.path()).unwrap());
                    }
                }
            }
            assert_eq!(store.as_ref().unwrap().load().await.unwrap(), model.expected());
        });
    }
}
