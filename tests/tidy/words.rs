//! Words and calls that are not used, each with what to use instead.

use super::shape::functions;
use super::source::{File, Finding, Tree, assert_none};

/// Marks of unfinished work, in two halves so that this file does not find itself.
const UNFINISHED: &[&str] = &[concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X"), concat!("HA", "CK")];
/// Calls that leave a hole, in any code.
const HOLES: &[&str] = &["todo!", "unimplemented!", "dbg!"];
/// Where tests keep their waiting: the pause between two questions about a fact.
const MAY_SLEEP: &[&str] = &["tests/support/"];
/// The one place that reads the clocks.
const CLOCK: &str = "src/clock.rs";

/// Marks of unfinished work, comments included.
pub fn unfinished(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| is_source(&file.path)) {
        for (number, line) in file.text.lines().enumerate() {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if let Some(word) = words.find(|word| UNFINISHED.contains(word)) {
                let text = format!("{word}: do it now, or open an issue and say in a sentence what is so");
                findings.push(Finding { path: file.path.clone(), line: number + 1, text });
            }
        }
        for call in HOLES {
            findings.extend(file.places(call).map(|at| file.finding(at, format!("{call} is no code"))));
        }
    }
    findings
}

fn is_source(path: &str) -> bool {
    let by_name = [".rs", ".sh", ".py", ".toml", ".service", ".slice"].iter().any(|end| path.ends_with(end));
    let by_folder = ["src/", "tests/", "examples/", "docs/", "packaging/"].iter().any(|start| path.starts_with(start));
    by_name || by_folder && !path.ends_with(".json")
}

/// Tests that are switched off.
pub fn ignored_tests(tree: &Tree) -> Vec<Finding> {
    let remedy = "a test runs or it goes: what needs a program installs it or fails";
    in_code(tree.rust(), &["#[ignore", "cfg_attr(test, ignore"], |_, _| true, remedy)
}

/// `unwrap` where a user would meet it.
pub fn unwraps(tree: &Tree) -> Vec<Finding> {
    let remedy = "outside tests: return the error, or `expect` with the reason why it cannot happen";
    in_code(tree.shipped(), &[".unwrap()"], |file, at| !file.in_test(at), remedy)
}

/// Queues without an end.
pub fn unbounded(tree: &Tree) -> Vec<Finding> {
    let remedy = "every queue is bounded and says so when it is full: use a bounded channel";
    in_code(
        tree.rust(),
        &["unbounded_channel", "UnboundedSender", "UnboundedReceiver", "unbounded()"],
        |_, _| true,
        remedy,
    )
}

/// Tests that wait for time instead of a fact. A test with paused time may: nothing is waited for there.
pub fn sleeping_tests(tree: &Tree) -> Vec<Finding> {
    let may = |file: &File| MAY_SLEEP.iter().any(|start| file.path.starts_with(start));
    let remedy = "a test waits for a fact: use an `eventually` of tests/support, or paused time";
    let calls = ["thread::sleep", "time::sleep", "sleep_until"];
    let bad = |file: &File, at: usize| file.in_test(at) && !time_is_paused(file, at);
    in_code(tree.rust().filter(|file| !may(file)), &calls, bad, remedy)
}

/// Whether the function around a place is marked with `start_paused`.
fn time_is_paused(file: &File, at: usize) -> bool {
    let innermost = functions(file).into_iter().rfind(|(from, _, to)| (*from..*to).contains(&at));
    innermost.is_some_and(|(from, ..)| {
        let before = &file.code[..from];
        before[before.rfind(['}', ';', '{']).unwrap_or(0)..].contains("start_paused = true")
    })
}

fn is_script(file: &File) -> bool {
    file.text.starts_with("#!/usr/bin/env bash") || file.path.ends_with(".sh")
}

/// Scripts of the tests that sleep without saying why.
pub fn sleeping_scripts(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.starts_with("tests/") && is_script(file)) {
        for (number, line) in file.text.lines().enumerate() {
            let line = line.trim_start();
            if line.starts_with("sleep ") && !line.contains('#') {
                let text = "a script waits for a fact: use `eventually`, or say behind the command why time is what it waits for";
                findings.push(Finding { path: file.path.clone(), line: number + 1, text: text.into() });
            }
        }
    }
    findings
}

/// The present, read outside the one clock. Tokio's own clock is for deadlines outside the core: it can be paused.
pub fn clocks(tree: &Tree) -> Vec<Finding> {
    let remedy = format!("the time comes from {CLOCK} or as an argument; deadlines of an adapter are tokio::time's");
    let bad = |file: &File, at: usize| {
        let is_tokio = file.code[..at].ends_with("tokio::time::") || imports_tokio_instant(file);
        let in_core = file.path.starts_with("src/core/");
        let is_deadline = is_tokio && !in_core && file.code[at..].starts_with("Instant");
        !(file.in_test(at) || is_deadline)
    };
    let calls = ["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now"];
    in_code(tree.shipped().filter(|file| file.path != CLOCK), &calls, bad, &remedy)
}

fn imports_tokio_instant(file: &File) -> bool {
    let uses = file.code.split(';').filter(|statement| statement.contains("use tokio::"));
    uses.into_iter().any(|statement| statement.contains("time") && statement.contains("Instant"))
}

fn in_code<'a>(
    files: impl Iterator<Item = &'a File>,
    needles: &[&str],
    bad: impl Fn(&File, usize) -> bool,
    remedy: &str,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        for needle in needles {
            let places = file.places(needle).filter(|at| bad(file, *at));
            findings.extend(places.map(|at| file.finding(at, format!("{needle}: {remedy}"))));
        }
    }
    findings
}

#[test]
fn nothing_is_left_unfinished() {
    assert_none(&unfinished(&Tree::real()));
}

#[test]
fn no_test_is_switched_off() {
    assert_none(&ignored_tests(&Tree::real()));
}

#[test]
fn nothing_shipped_unwraps() {
    assert_none(&unwraps(&Tree::real()));
}

#[test]
fn every_queue_is_bounded() {
    assert_none(&unbounded(&Tree::real()));
}

#[test]
fn tests_wait_for_facts() {
    assert_none(&sleeping_tests(&Tree::real()));
    assert_none(&sleeping_scripts(&Tree::real()));
}

#[test]
fn one_place_reads_the_clocks() {
    assert_none(&clocks(&Tree::real()));
}

#[test]
fn the_word_rules_bite() {
    type Rule = fn(&Tree) -> Vec<Finding>;
    let cases: [(Rule, &str, &str); 13] = [
        (unfinished, "src/x.rs", concat!("// FIX", "ME: later")),
        (unfinished, "tests/a/run", concat!("# TO", "DO")),
        (unfinished, "src/x.rs", "fn f() { todo!() }"),
        (ignored_tests, "tests/x.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}"),
        (unwraps, "src/x.rs", "fn f() { g().unwrap(); }"),
        (unbounded, "src/x.rs", "let x = mpsc::unbounded_channel();"),
        (sleeping_tests, "tests/x.rs", "fn f() { std::thread::sleep(d); }"),
        (sleeping_tests, "src/x.rs", "#[cfg(test)]\nmod tests { async fn f() { tokio::time::sleep(d).await; } }"),
        (sleeping_scripts, "tests/x.sh", "  sleep 5\n"),
        (clocks, "src/x.rs", "fn f() { std::time::SystemTime::now(); }"),
        (clocks, "src/x.rs", "use std::time::Instant;\nfn f() { Instant::now(); }"),
        (clocks, "src/core/x.rs", "use tokio::time::Instant;\nfn f() { Instant::now(); }"),
        (clocks, "src/x.rs", "fn f() { jiff::Timestamp::now(); }"),
    ];
    for (rule, path, text) in cases {
        assert_eq!(rule(&Tree::sample(&[(path, text)])).len(), 1, "{path}: {text}");
    }
}

#[test]
fn the_word_rules_spare_what_is_right() {
    let good = [
        ("src/x.rs", "fn f() { g().unwrap_or(1); let a = \".unwrap() unbounded_channel\"; }"),
        ("src/y.rs", "#[cfg(test)]\nmod tests { fn f() { g().unwrap(); } }"),
        ("src/probe/mod.rs", "use tokio::time::{Instant, sleep};\nfn f() { Instant::now(); }"),
        ("src/z.rs", "fn f() { tokio::time::Instant::now(); tokio::time::sleep(d); }"),
        ("src/clock.rs", "fn f() { std::time::Instant::now(); }"),
        ("tests/p.rs", "#[tokio::test(start_paused = true)]\nasync fn f() { tokio::time::sleep(d).await; }"),
        ("tests/support/mod.rs", "fn f() { std::thread::sleep(d); }"),
        ("tests/x.sh", "sleep 20 # the length of the measurement\n"),
    ];
    let tree = Tree::sample(&good);
    for rule in [unfinished, ignored_tests, unwraps, unbounded, sleeping_tests, sleeping_scripts, clocks] {
        assert_none(&rule(&tree));
    }
}
