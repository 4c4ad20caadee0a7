//! Processes that a former daemon started.

use std::process::{Command, Stdio};

use nbs_core::launch::Launch;
use nbs_core::observation::Identity;
use nbs_core::reason::ExitOutcome;
use nbs_core::recipe::Adapter;
use nbs_core::signal::Signal;
use nbsupervisor::ports::{Known, ProcessControl};

use crate::bench::{Bench, alive, app, eventually, run};

fn known(name: &str, seq: u64, identity: Option<Identity>) -> Known {
    Known { app: app(name), run: run(seq), identity, adapter: Adapter::Process, port: None }
}

#[tokio::test]
async fn a_known_process_goes_on_and_its_end_is_told() {
    let mut bench = Bench::new();
    // A daemon that dies must not break the output of its apps.
    let script = "trap 'echo asked; exit 4' TERM; while :; do echo tick; sleep 0.01; done";
    let identity = bench.start(&bench.shell("a", script)).await.unwrap().identity;
    bench.restart_daemon();
    let before = bench.log("a").len();
    eventually(|| (bench.log("a").len() > before).then_some(())).await;
    let asked = known("a", 1, Some(identity));
    let found = bench.processes().adopt(vec![asked.clone()]).await;
    assert_eq!((found.alive, found.strays), (vec![asked], vec![]));
    bench.processes().signal(&app("a"), run(1), Signal::TERM).await;
    let (outcome, last_log, _) = bench.exit("a", run(1)).await;
    assert_eq!(outcome, ExitOutcome::Code(4));
    assert_eq!(last_log.last().unwrap(), "asked");
}

#[tokio::test]
async fn a_reused_number_is_never_touched() {
    let mut bench = Bench::new();
    // Somebody else's process, which has the number that our app had.
    let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
    let pid = stranger.id();
    let boot = bench.options.boot.clone();
    let right = alive(pid).unwrap();
    let wrong = known("a", 1, Some(Identity { pid, start_ticks: right - 1, boot, invocation: None }));
    let earlier = known("b", 1, Some(Identity { pid, start_ticks: right, boot: "another".into(), invocation: None }));
    let found = bench.processes().adopt(vec![wrong, earlier]).await;
    assert_eq!((found.alive, found.strays), (vec![], vec![]));
    for name in ["a", "b"] {
        bench.processes().signal(&app(name), run(1), Signal::KILL).await;
        bench.processes().kill_tree(&app(name), run(1)).await;
        bench.tree_gone(name, run(1)).await;
    }
    assert!(stranger.try_wait().unwrap().is_none());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_process_without_a_recorded_identity_is_found_by_its_mark() {
    let mut bench = Bench::new();
    let script = "setsid sleep 600 & sleep 600 & echo up; exec sleep 600";
    let identity = bench.start(&bench.shell("a", script)).await.unwrap().identity;
    bench.logged("a", "up").await;
    bench.restart_daemon();
    let found = bench.processes().adopt(vec![known("a", 1, None), known("gone", 1, None)]).await;
    assert_eq!(found.alive, [known("a", 1, Some(identity))]);
    bench.processes().kill_tree(&app("a"), run(1)).await;
    bench.tree_gone("a", run(1)).await;
    assert!(bench.marked("").is_empty());
}

#[tokio::test]
async fn strays_are_told_and_can_be_killed() {
    let mut bench = Bench::new();
    let old = bench.start(&bench.shell("a", "setsid sleep 600 & exec sleep 600")).await.unwrap().identity;
    let new = Launch { run: run(2), ..bench.shell("a", "exec sleep 600") };
    let new = bench.start(&new).await.unwrap().identity;
    eventually(|| (bench.marked("a/1.0").len() == 2).then_some(())).await;
    bench.restart_daemon();
    let found = bench.processes().adopt(vec![known("a", 2, Some(new.clone()))]).await;
    assert_eq!(found.alive, [known("a", 2, Some(new.clone()))]);
    assert_eq!(found.strays, [known("a", 1, Some(old))]);
    bench.processes().kill_tree(&app("a"), run(1)).await;
    bench.tree_gone("a", run(1)).await;
    assert!(bench.marked("a/1.0").is_empty());
    assert!(alive(new.pid).is_some());
}

#[tokio::test]
async fn another_daemons_processes_are_left_alone() {
    let mut bench = Bench::new();
    let other = Bench::new();
    let pid = other.start(&other.shell("a", "exec sleep 600")).await.unwrap().identity.pid;
    let found = bench.processes().adopt(vec![known("a", 1, None)]).await;
    assert_eq!((found.alive, found.strays), (vec![], vec![]));
    bench.processes().kill_tree(&app("a"), run(1)).await;
    bench.tree_gone("a", run(1)).await;
    assert!(alive(pid).is_some());
}

/// A process that is somebody else's child, with our mark.
fn foreign(bench: &Bench, script: &str) -> (std::process::Child, Identity) {
    let parent = Command::new("sh")
        .args(["-c", "sh -c \"$SCRIPT\" & echo $!; wait; exec sleep 600"])
        .env("SCRIPT", script)
        .env("NBSUPERVISOR_MARK", "somebody/else/1.0")
        .stdout(Stdio::piped())
        .spawn();
    let mut parent = parent.unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(parent.stdout.take().unwrap()), &mut line).unwrap();
    let pid = line.trim().parse().unwrap();
    let identity =
        Identity { pid, start_ticks: alive(pid).unwrap(), boot: bench.options.boot.clone(), invocation: None };
    (parent, identity)
}

/// Linux keeps the status of a reaped process for those who hold its descriptor since 6.15.
fn kernel_keeps_status() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 15)
}

#[tokio::test]
async fn the_status_of_somebody_elses_child_is_known_where_the_kernel_keeps_it() {
    let mut bench = Bench::new();
    for (seq, end, outcome) in [(1, "exit 7", ExitOutcome::Code(7)), (2, "kill -KILL $$", ExitOutcome::Signal(9))] {
        let go = bench.dir.path().join(format!("go-{seq}"));
        let script = format!("while ! test -e '{}'; do sleep 0.01; done; {end}", go.display());
        let (mut parent, identity) = foreign(&bench, &script);
        let found = bench.processes().adopt(vec![known("a", seq, Some(identity))]).await;
        assert_eq!(found.alive.len(), 1);
        std::fs::write(&go, "").unwrap();
        let wanted = if kernel_keeps_status() { outcome } else { ExitOutcome::Unknown };
        assert_eq!(bench.exit("a", run(seq)).await.0, wanted);
        parent.kill().unwrap();
        parent.wait().unwrap();
    }
}

#[tokio::test]
async fn a_zombie_counts_as_gone() {
    let bench = Bench::new();
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let identity = Identity {
        pid: child.id(),
        start_ticks: alive(child.id()).unwrap(),
        boot: bench.options.boot.clone(),
        invocation: None,
    };
    child.kill().unwrap();
    eventually(|| alive(child.id()).is_none().then_some(())).await;
    assert!(bench.processes().adopt(vec![known("a", 1, Some(identity))]).await.alive.is_empty());
    child.wait().unwrap();
}
