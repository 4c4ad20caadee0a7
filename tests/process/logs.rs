//! Log files: rotation, the last lines, following.

use std::io::Write;

use nbs_core::launch::Launch;
use nbs_core::time::Wall;
use nbsupervisor::ports::{LogError, LogLine, LogQuery, LogReader};
use tokio::sync::mpsc;

use crate::bench::{Bench, DEADLINE, app, run};

fn append(bench: &Bench, text: &str) {
    let path = bench.options.log_dir.join("a.log");
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn numbered(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("line {number}\n")).collect()
}

async fn tail(bench: &Bench, lines: usize) -> Vec<String> {
    let lines = bench.processes().tail(&app("a"), &LogQuery::last(lines)).await.unwrap();
    lines.into_iter().map(|line| line.text).collect()
}

async fn next(lines: &mut mpsc::Receiver<LogLine>) -> String {
    tokio::time::timeout(DEADLINE, lines.recv()).await.expect("a line in time").unwrap().text
}

/// An app that lives, so that its log is looked at.
async fn living() -> Bench {
    let bench = Bench::new();
    bench.start(&bench.shell("a", "exec sleep 600")).await.unwrap();
    bench
}

#[tokio::test]
async fn the_tail_has_the_last_lines_and_no_times() {
    let bench = Bench::new();
    assert!(tail(&bench, 10).await.is_empty());
    append(&bench, &numbered(0..20_000));
    append(&bench, "unfinished");
    assert_eq!(tail(&bench, 3).await, ["line 19998", "line 19999", "unfinished"]);
    assert_eq!(tail(&bench, 15_000).await.len(), 15_000);
    assert_eq!(tail(&bench, usize::MAX).await.len(), 20_001);
    assert!(tail(&bench, 0).await.is_empty());
    let since = LogQuery { since: Some(Wall(1)), ..LogQuery::last(3) };
    assert_eq!(bench.processes().tail(&app("a"), &since).await.unwrap_err(), LogError::NoTimes(app("a")));
    let after = LogQuery { after: Some("s=1".into()), ..LogQuery::last(3) };
    assert_eq!(bench.processes().follow(&app("a"), &after).await.unwrap_err(), LogError::NoCursors(app("a")));
}

#[tokio::test]
async fn a_large_file_is_rotated_and_nothing_of_it_is_lost() {
    let bench = living().await;
    for round in 0..4 {
        append(&bench, &numbered(round * 8000..(round + 1) * 8000));
        assert_eq!(bench.processes().rotate_once(), []);
        assert_eq!(bench.log("a"), "", "it is cut");
    }
    let files: Vec<bool> = (1..=3).map(|n| bench.options.log_dir.join(format!("a.log.{n}")).exists()).collect();
    assert_eq!(files, [true, true, false]);
    append(&bench, "newest\n");
    let lines = tail(&bench, 9000).await;
    assert_eq!((lines.len(), lines[0].as_str(), lines[8999].as_str()), (9000, "line 23001", "newest"));
    assert_eq!(bench.processes().rotate_once(), []);
    assert_eq!(bench.log("a"), "newest\n", "a small file is left alone");
}

#[tokio::test]
async fn the_app_writes_on_into_the_cut_file_and_last_lines_are_of_its_life() {
    let mut bench = Bench::new();
    append(&bench, "of a former life\n");
    append(&bench, &"x".repeat(100_000));
    append(&bench, "\n");
    let script = "echo begun; while [ ! -e go ]; do sleep 0.01; done; echo after; exit 1";
    bench.start(&bench.shell("a", script)).await.unwrap();
    bench.logged("a", "begun").await;
    assert_eq!(bench.processes().rotate_once(), []);
    std::fs::write(bench.options.state_root.join("a/go"), "").unwrap();
    assert_eq!(bench.exit("a", run(1)).await.1, ["after"]);
    assert_eq!(bench.log("a"), "after\n");
    bench.start(&Launch { run: run(2), ..bench.shell("a", "exit 1") }).await.unwrap();
    assert!(bench.exit("a", run(2)).await.1.is_empty());
}

#[tokio::test]
async fn a_huge_file_keeps_its_end() {
    let bench = living().await;
    append(&bench, &numbered(0..100_000));
    bench.processes().rotate_once();
    let kept = std::fs::read_to_string(bench.options.log_dir.join("a.log.1")).unwrap();
    assert!(kept.len() < 140_000 && kept.starts_with("… ") && kept.ends_with("line 99999\n"), "{}", kept.len());
}

#[tokio::test]
async fn following_gives_the_last_lines_then_new_ones_across_a_rotation() {
    let bench = living().await;
    append(&bench, "one\ntwo\nhal");
    let mut lines = bench.processes().follow(&app("a"), &LogQuery::last(1)).await.unwrap();
    assert_eq!(next(&mut lines).await, "two");
    append(&bench, "f\n");
    assert_eq!(next(&mut lines).await, "half");
    append(&bench, &numbered(0..8000));
    for number in 0..10 {
        assert_eq!(next(&mut lines).await, format!("line {number}"));
    }
    // Most of it is not read yet when the file is cut.
    assert_eq!(bench.processes().rotate_once(), []);
    append(&bench, "after the cut\n");
    for number in 10..8000 {
        assert_eq!(next(&mut lines).await, format!("line {number}"));
    }
    assert_eq!(next(&mut lines).await, "after the cut");
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_how_much_it_missed() {
    let bench = living().await;
    let mut lines = bench.processes().follow(&app("a"), &LogQuery::last(0)).await.unwrap();
    append(&bench, "first\n");
    assert_eq!(next(&mut lines).await, "first");
    append(&bench, &numbered(0..300_000));
    let (mut seen, mut dropped) = (0, 0);
    loop {
        let line = next(&mut lines).await;
        match line.strip_prefix("… ").and_then(|rest| rest.strip_suffix(" lines dropped …")) {
            Some(number) => dropped += number.parse::<u32>().unwrap(),
            None => seen += 1,
        }
        if line == "line 299999" {
            break;
        }
    }
    assert!(dropped > 0);
    assert_eq!(seen + dropped, 300_000);
}

#[tokio::test]
async fn following_a_log_that_is_not_there_yet_waits_for_it() {
    let bench = Bench::new();
    let mut lines = bench.processes().follow(&app("a"), &LogQuery::last(10)).await.unwrap();
    append(&bench, "hello\n");
    assert_eq!(next(&mut lines).await, "hello");
}
