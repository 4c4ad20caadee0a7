//! Records of earlier versions are opened, brought up to date, and keep all they hold.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nbs_core::id::{Epoch, Generation, Seq};
use nbs_core::intent::Intent;
use nbs_core::phase::Phase;
use nbs_core::record::{AppLife, Change, LedgerGoal, PlacementRow, Recovered};
use nbs_core::view::OperationStatus;
use nbsupervisor::ports::Record;
use nbsupervisor::store::Store;
use rusqlite::Connection;
use tempfile::tempdir;

use crate::samples::{SECRET, environment, environment_name, recovered};

/// The key that the record of schema 1 was made with.
const KEY: [u8; 32] = [
    0xcb, 0x65, 0x2e, 0xdb, 0x5c, 0x49, 0x02, 0xab, 0x9a, 0x17, 0x5f, 0xeb, 0xba, 0x22, 0xfd, 0xa5, 0xb7, 0x01, 0x22,
    0x65, 0x94, 0xed, 0x13, 0xd7, 0xa7, 0xf0, 0x8e, 0xbc, 0x39, 0xe9, 0xf7, 0xc2,
];

fn schema_1(dir: &Path) {
    let (file, key) = (dir.join("record.db"), dir.join("host.key"));
    Connection::open(&file).unwrap().execute_batch(include_str!("schema_1.sql")).unwrap();
    fs::write(&key, KEY).unwrap();
    for path in [file, key] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn schema_of(dir: &Path) -> u32 {
    let connection = Connection::open(dir.join("record.db")).unwrap();
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

fn check(found: &Recovered) {
    let place = |intent, start| PlacementRow {
        environment: environment_name("local"),
        intent,
        start_seq: Seq(start),
        since: Seq(0),
        leaving: false,
    };
    let [crm, gone, wiki] = found.apps.as_slice() else { panic!("{:?}", found.apps) };
    assert_eq!(crm.placements, [place(Intent::Run, 2)]);
    assert_eq!(wiki.placements, [place(Intent::OnDemand { awake: false }, 0)]);
    assert_eq!((gone.life, gone.intent()), (AppLife::Removed, Intent::Stop));
    assert_eq!((crm.generation, crm.intent_seq), (Generation(1), Seq(2)));
    assert_eq!(crm.spec.secrets["MAIL_PASSWORD"].expose(), SECRET);
    assert_eq!((found.seq, found.boot.as_deref()), (Seq(5), Some("boot-1")));
    assert_eq!((found.operations.len(), found.events.len(), found.keys.len()), (5, 7, 5));
    assert!(found.operations.iter().all(|row| row.view.status == OperationStatus::Done));
    let [instance] = found.instances.as_slice() else { panic!("{:?}", found.instances) };
    assert_eq!((instance.phase, instance.turn), (Phase::Running, 0));
    assert_eq!((&instance.local, &instance.shelved), (&None, &None));
    assert_eq!(instance.identity.as_ref().map(|identity| identity.pid), Some(10_748));
    let LedgerGoal::Run(goal) = &instance.goal else { panic!("{:?}", instance.goal) };
    assert_eq!((goal.start_seq, goal.spec.secrets["MAIL_PASSWORD"].expose()), (Seq(2), SECRET));
    assert_eq!(goal.jwt, crm.jwt);
}

#[tokio::test]
async fn a_record_of_schema_1_keeps_everything() {
    let dir = tempdir().unwrap();
    schema_1(dir.path());
    assert_eq!(schema_of(dir.path()), 1);
    let found = recovered(dir.path()).await;
    check(&found);
    assert_eq!((found.epoch, found.own_environment.clone(), found.follows.clone()), (Epoch(0), None, None));
    assert_eq!((found.environments.len(), found.grants.len()), (0, 0));
    assert_eq!(schema_of(dir.path()), 2);
    assert_eq!(recovered(dir.path()).await, found, "the second time as the first");
}

#[tokio::test]
async fn a_record_of_schema_1_takes_up_what_is_new() {
    let dir = tempdir().unwrap();
    schema_1(dir.path());
    let store = Store::open(dir.path()).unwrap();
    let before = store.load().await.unwrap();
    let mut crm = before.apps[0].clone();
    crm.placements[0].since = Seq(6);
    let changes = vec![
        Change::App(Box::new(crm.clone())),
        Change::Instance(Box::new(before.instances[0].clone())),
        Change::Environment(Box::new(environment("env_a"))),
        Change::Reign(Epoch(1)),
    ];
    store.commit(changes).await.unwrap();
    drop(store);
    let found = recovered(dir.path()).await;
    assert_eq!((&found.apps[0], &found.instances), (&crm, &before.instances));
    assert_eq!((found.environments, found.epoch, found.seq), (vec![environment("env_a")], Epoch(1), Seq(6)));
}
