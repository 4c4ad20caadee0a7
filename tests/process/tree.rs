//! Killing whole trees, and nothing else.

use std::time::Duration;

use nbs_core::launch::Launch;
use nbs_core::reason::ExitOutcome;
use nbsupervisor::ports::ProcessControl;

use crate::bench::{Bench, alive, app, eventually, run};
use crate::pause::pause;

async fn kill(bench: &mut Bench, name: &str) {
    bench.processes().kill_tree(&app(name), run(1)).await;
    bench.tree_gone(name, run(1)).await;
    assert_eq!(bench.marked(&format!("{name}/")), Vec::<u32>::new());
}

#[tokio::test]
async fn grandchildren_in_sessions_of_their_own_are_killed() {
    let mut bench = Bench::new();
    let script = "setsid sleep 600 & (setsid sh -c 'sleep 600 & sleep 600' &) ; echo up; exec sleep 600";
    bench.start(&bench.shell("a", script)).await.unwrap();
    bench.start(&bench.shell("b", script)).await.unwrap();
    eventually(|| (bench.marked("a/").len() >= 5 && bench.marked("b/").len() >= 5).then_some(())).await;
    let others = bench.marked("b/");
    kill(&mut bench, "a").await;
    let (outcome, ..) = bench.exit("a", run(1)).await;
    assert_eq!(outcome, ExitOutcome::Signal(9));
    assert_eq!(bench.marked("b/"), others, "another app was touched");
}

#[tokio::test]
async fn a_daemon_that_left_everything_is_found_after_its_starter_ended() {
    let mut bench = Bench::new();
    bench.start(&bench.shell("a", "(setsid sh -c 'cd /; sleep 600 & exit 0' &); exit 0")).await.unwrap();
    bench.exit("a", run(1)).await;
    eventually(|| (bench.marked("a/").len() == 1).then_some(())).await;
    kill(&mut bench, "a").await;
}

#[tokio::test]
async fn a_descendant_without_the_mark_is_killed_with_its_group() {
    let mut bench = Bench::new();
    bench.start(&bench.shell("a", "env -i sleep 600 & echo $!; exit 0")).await.unwrap();
    let (_, last_log, leftovers) = bench.exit("a", run(1)).await;
    assert!(leftovers);
    let pid = last_log[0].parse().unwrap();
    assert!(alive(pid).is_some());
    kill(&mut bench, "a").await;
    assert_eq!(alive(pid), None);
}

#[tokio::test]
async fn processes_that_fork_while_they_are_killed_do_not_escape() {
    let mut bench = Bench::new();
    // Each generation starts the next in a session of its own and ends: never the same process for long.
    let chain = "f() { echo >>generations; sleep 0.002; setsid /bin/sh -c \"$SELF\" & }; f";
    let mut launch =
        bench.shell("a", "for i in 1 2 3; do setsid /bin/sh -c \"$SELF\" & done; while :; do sleep 0.001 & wait; done");
    launch.env.insert("SELF".into(), chain.into());
    bench.start(&launch).await.unwrap();
    let generations = || std::fs::read(launch.state_dir.join("generations")).unwrap_or_default().len();
    eventually(|| (generations() > 5).then_some(())).await;
    bench.processes().kill_tree(&app("a"), run(1)).await;
    bench.tree_gone("a", run(1)).await;
    let so_far = generations();
    pause(Duration::from_millis(100), "a process that got away would have started others by then").await;
    assert_eq!(generations(), so_far, "one got away");
    assert_eq!(bench.marked("a/"), Vec::<u32>::new());
}

#[tokio::test]
async fn a_descendant_that_hides_session_and_mark_is_killed_with_its_living_parent() {
    let mut bench = Bench::new();
    bench.start(&bench.shell("a", "env -i setsid sleep 600 & echo $!; exec sleep 600")).await.unwrap();
    let log = bench.logged("a", "\n").await;
    let pid = log.trim().parse().unwrap();
    let hidden = || std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().starts_with(b"sleep");
    eventually(|| hidden().then_some(())).await;
    kill(&mut bench, "a").await;
    assert_eq!(alive(pid), None);
}

#[tokio::test]
async fn a_stopped_and_stubborn_process_is_killed() {
    let mut bench = Bench::new();
    bench.start(&bench.shell("a", "trap '' TERM HUP INT; kill -STOP $$; sleep 600")).await.unwrap();
    kill(&mut bench, "a").await;
}

#[tokio::test]
async fn the_end_is_told_before_the_tree_is_gone_and_a_tree_long_gone_is_told_too() {
    let mut bench = Bench::new();
    bench.start(&bench.shell("a", "sleep 600")).await.unwrap();
    bench.processes().kill_tree(&app("a"), run(1)).await;
    let first = bench.facts.recv().await.unwrap();
    assert!(matches!(first.fact, nbs_core::observation::Fact::Exited { .. }), "{first:?}");
    bench.tree_gone("a", run(1)).await;
    kill(&mut bench, "a").await;
    kill(&mut bench, "never-started").await;
}

#[tokio::test]
async fn only_the_asked_life_is_killed() {
    let mut bench = Bench::new();
    bench.start(&bench.shell("a", "setsid sleep 600 & exit 0")).await.unwrap();
    bench.exit("a", run(1)).await;
    bench.start(&Launch { run: run(2), ..bench.shell("a", "exec sleep 600") }).await.unwrap();
    bench.processes().kill_tree(&app("a"), run(1)).await;
    bench.tree_gone("a", run(1)).await;
    assert_eq!((bench.marked("a/1.0").len(), bench.marked("a/2.0").len()), (0, 1));
}
