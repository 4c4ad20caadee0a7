//! SIGKILL at any moment: each commit that was answered is there.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use nbs_core::view::OperationStatus;
use nbsupervisor::ports::Record;
use nbsupervisor::store::Store;
use tempfile::tempdir;

use crate::samples::{app, app_change, event, event_change, operation, operation_change, recovered};

const DIRECTORY: &str = "NBS_STORE_TEST_DIRECTORY";
const LIVES: u64 = 30;

/// Not a test by itself: the process that is killed. Prints each number once its commit was answered.
#[tokio::test]
async fn the_child_commits_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let store = Store::open(dir.as_ref()).unwrap();
    let mut seq = store.load().await.unwrap().seq.0;
    let mut out = std::io::stdout();
    loop {
        seq += 1;
        let row = operation(seq, "crm", OperationStatus::Accepted);
        let changes = vec![app_change(&app("crm", seq, seq)), operation_change(&row), event_change(&event(seq, None))];
        store.commit(changes).await.unwrap();
        writeln!(out, "committed {seq}").unwrap();
        out.flush().unwrap();
    }
}

/// One life: kills the child `delay` after its first commit, and gives the last number that it printed.
fn live_and_die(dir: &std::path::Path, delay: Duration) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::the_child_commits_until_it_is_killed", "--nocapture"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let number = |line: &str| line.rsplit_once("committed ").and_then(|(_, seq)| seq.parse::<u64>().ok());
    let mut last = lines.by_ref().map_while(Result::ok).find_map(|line| number(&line)).expect("the child commits");
    let (killed, rest) = std::sync::mpsc::sync_channel(1);
    let reading = std::thread::spawn(move || {
        let _ = killed.send(lines.map_while(Result::ok).filter_map(|line| number(&line)).last());
    });
    // A moment that nobody chose: the delay is what is varied here, not what is waited for.
    assert!(rest.recv_timeout(delay).is_err(), "the child ended by itself");
    child.kill().unwrap();
    child.wait().unwrap();
    reading.join().unwrap();
    if let Ok(Some(seq)) = rest.try_recv() {
        last = seq;
    }
    last
}

#[tokio::test]
async fn no_answered_commit_is_lost_by_a_kill() {
    let dir = tempdir().unwrap();
    for life in 0..LIVES {
        let mut random = [0];
        getrandom::fill(&mut random).unwrap();
        let printed = live_and_die(dir.path(), Duration::from_micros(u64::from(random[0]) * 200));
        let found = recovered(dir.path()).await;
        assert!(found.seq.0 >= printed, "life {life}: {printed} was answered, {} is there", found.seq);
        // Numbers have no gap, and the three rows of a commit stand or fall together.
        assert_eq!(found.operations.len() as u64, found.seq.0, "life {life}");
        assert_eq!(found.events.last().unwrap().seq, found.seq.0, "life {life}");
        assert_eq!(found.apps[0].generation.0, found.seq.0, "life {life}");
    }
}
