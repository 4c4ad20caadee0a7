//! More callers than the writer takes at once, and what a commit costs then. The figures are for people:
//! `NBS_FIGURES=1 cargo test --release --test store figures -- --nocapture` measures long enough to mean something.

use std::sync::Arc;
use std::time::Duration;

use nbs_core::view::OperationStatus;
use nbsupervisor::ports::Record;
use nbsupervisor::store::Store;
use nix::sys::resource::{UsageWho, getrusage};
use tempfile::tempdir_in;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::samples::{app, app_change, event, event_change, operation, operation_change};

fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let time = |value: nix::sys::time::TimeVal| {
        Duration::from_secs(value.tv_sec() as u64) + Duration::from_micros(value.tv_usec() as u64)
    };
    time(usage.user_time()) + time(usage.system_time())
}

async fn run(store: &Arc<Store>, from: u64, callers: u64, each: u64) {
    let (began, cpu_began) = (Instant::now(), cpu());
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let store = store.clone();
        tasks.spawn(async move {
            for turn in 0..each {
                let seq = from + caller * each + turn;
                let name = format!("app{}", seq % 1000);
                let row = operation(seq, &name, OperationStatus::Accepted);
                let event = event(seq, Some(&name));
                let changes = vec![app_change(&app(&name, 1, seq)), operation_change(&row), event_change(&event)];
                store.commit(changes).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let (wall, cpu) = (began.elapsed(), cpu() - cpu_began);
    let commits = (callers * each) as f64;
    println!(
        "{callers} callers: {:.0} commits/s of 3 rows, {:.1} µs CPU per row",
        commits / wall.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / commits / 3.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_callers_than_may_wait_are_all_answered() {
    let length = if std::env::var_os("NBS_FIGURES").is_some() { 50 } else { 1 };
    // Not /tmp, which may be memory.
    let dir = tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = Arc::new(Store::open(dir.path()).unwrap());
    run(&store, 1, 1, 40 * length).await;
    run(&store, 10_000, 32, 10 * length).await;
    run(&store, 100_000, 1000, length).await;
    let written = (40 + 320 + 1000) * length;
    drop(store);
    let size = std::fs::metadata(dir.path().join("record.db")).unwrap().len();
    let began = Instant::now();
    let store = Store::open(dir.path()).unwrap();
    let opened = began.elapsed();
    let found = store.load().await.unwrap();
    println!("{} KiB opened in {opened:?}, {} apps loaded after {:?}", size >> 10, found.apps.len(), began.elapsed());
    assert_eq!(found.operations.len() as u64, written, "every answered commit is there");
}
