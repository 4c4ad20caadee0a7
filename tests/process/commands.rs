//! Hooks and exec probes.

use std::time::{Duration, Instant};

use nbs_core::reason::ExitOutcome;
use nbsupervisor::ports::{CommandOutput, CommandRunner, ProcessControl};

use crate::bench::{Bench, DEADLINE, eventually};

async fn command(bench: &Bench, script: &str, timeout: Duration, log: bool) -> CommandOutput {
    let argv: Vec<String> = ["/bin/sh", "-c", script].map(String::from).to_vec();
    let context = bench.shell("a", "true");
    tokio::time::timeout(DEADLINE, bench.processes().run(&context, &argv, timeout, log)).await.unwrap()
}

#[tokio::test]
async fn status_and_last_lines_come_back() {
    let bench = Bench::new();
    for log in [false, true] {
        let output = command(&bench, "echo $NBS_APP; echo oops >&2; exit 3", DEADLINE, log).await;
        let lines = vec!["a".to_string(), "oops".into()];
        assert_eq!(output, CommandOutput { result: Ok(ExitOutcome::Code(3)), last_log: lines });
    }
    assert_eq!(bench.log("a"), "a\noops\n");
}

#[tokio::test]
async fn a_command_that_cannot_start_says_why() {
    let bench = Bench::new();
    let argv = vec!["/no/such/hook".to_string()];
    let output = bench.processes().run(&bench.shell("a", "true"), &argv, DEADLINE, false).await;
    assert_eq!(output.result, Err("/no/such/hook does not exist".into()));
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_its_tree() {
    let bench = Bench::new();
    let begun = Instant::now();
    let output =
        command(&bench, "setsid sleep 600 & sleep 600 & echo up; sleep 600", Duration::from_secs(2), false).await;
    assert_eq!(output.result, Err("timed out after 2s".into()));
    assert_eq!(output.last_log, ["up"]);
    assert!(begun.elapsed() < DEADLINE);
    assert!(bench.marked("").is_empty());
}

#[tokio::test]
async fn a_flood_of_output_neither_hangs_the_command_nor_is_kept() {
    let bench = Bench::new();
    let output = command(&bench, "head -c 20000000 /dev/zero | tr '\\0' 'x'; echo; echo end", DEADLINE, false).await;
    assert_eq!(output.result, Ok(ExitOutcome::Code(0)));
    assert_eq!(output.last_log.last().unwrap(), "end");
    assert!(output.last_log.iter().all(|line| line.len() <= 512));
}

#[tokio::test]
async fn what_a_command_leaves_in_its_group_ends_with_it() {
    let bench = Bench::new();
    let output = command(&bench, "sleep 600 & echo done", DEADLINE, false).await;
    assert_eq!(output, CommandOutput { result: Ok(ExitOutcome::Code(0)), last_log: vec!["done".into()] });
    eventually(|| bench.marked("").is_empty().then_some(())).await;
}

#[tokio::test]
async fn an_abandoned_command_is_killed() {
    let bench = Bench::new();
    let running = command(&bench, "sleep 600", DEADLINE, true);
    assert!(tokio::time::timeout(Duration::from_millis(200), running).await.is_err());
    eventually(|| bench.marked("").is_empty().then_some(())).await;
}

#[tokio::test]
async fn an_interrupted_command_is_killed_at_adoption_and_a_running_one_is_not() {
    let mut bench = Bench::new();
    // What a daemon leaves that was killed during a hook.
    let mut left = std::process::Command::new("sleep")
        .arg("600")
        .env("NBSUPERVISOR_MARK", format!("{}/a/hook.1", bench.options.instance_id))
        .spawn()
        .unwrap();
    bench.restart_daemon();
    let script = "while ! test -e go; do sleep 0.01; done; exit 5";
    let argv: Vec<String> = ["/bin/sh", "-c", script].map(String::from).to_vec();
    let context = bench.shell("a", "true");
    let processes = bench.processes();
    let adopting = async {
        eventually(|| (bench.marked("a/hook").len() >= 2).then_some(())).await;
        let found = processes.adopt(vec![]).await;
        std::fs::write(context.cwd.join("go"), "").unwrap();
        found
    };
    let (output, found) = tokio::join!(processes.run(&context, &argv, DEADLINE, false), adopting);
    assert_eq!((found.alive, found.strays), (vec![], vec![]));
    assert_eq!(output.result, Ok(ExitOutcome::Code(5)));
    let status = eventually(|| left.try_wait().unwrap()).await;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
}
