//! Which room may import which. What is not listed is refused.

use std::collections::BTreeMap;

use super::source::{File, Finding, Tree, assert_none, leading_name, room};

/// What an adapter may import.
const ADAPTER: &[&str] = &["wire", "ports", "telemetry", "tasks"];
/// What an adapter may import that starts processes.
const STARTER: &[&str] = &["wire", "ports", "telemetry", "tasks", "ground"];

/// What an adapter may import that seals, signs or checks.
const KEYED: &[&str] = &["wire", "ports", "telemetry", "tasks", "security"];

/// What an adapter may import that asks programs over HTTP.
const ASKER: &[&str] = &["wire", "ports", "telemetry", "tasks", "ask"];

/// The edges, in reading order. Every room may use `nbs_core`; ARCHITECTURE.md shows the same table.
pub const EDGES: &[(&str, &[&str])] = &[
    ("ports", &[]),
    ("wire", &[]),
    ("clock", &["ports"]),
    ("tasks", &[]),
    ("telemetry", &[]),
    ("lifecycle", &[]),
    ("config", &[]),
    ("ground", &[]),
    ("ask", &[]),
    ("security", &["wire"]),
    ("systemd", STARTER),
    ("process", STARTER),
    ("shared", ASKER),
    ("redis_bus", KEYED),
    ("local_bus", ADAPTER),
    ("store", KEYED),
    ("probe", ASKER),
    ("usage", ADAPTER),
    ("database", ADAPTER),
    ("journal", ADAPTER),
    ("worker", &["ports", "telemetry", "tasks"]),
    ("entry", &["ports", "telemetry", "tasks"]),
    ("gateway", &["wire", "ports", "worker", "entry", "telemetry", "tasks", "security"]),
    ("admin", &["wire", "ports", "worker", "entry", "telemetry", "tasks"]),
    ("console", &["wire", "admin"]),
    ("cli", &["wire", "config", "security"]),
];

/// The rooms that join others: they may import all, and decide nothing about apps.
const JOINERS: &[&str] = &["assemble", "demo", "lib", "main"];
/// What test code may import beside its room's edges: the ports, to bring fakes of them.
const FOR_TESTS: &[&str] = &["ports", "clock"];
/// Modules of the standard library that the core has no use for. (Addresses are values, so `std::net` is not in it.)
const NOT_FOR_CORE: &[&str] = &["fs", "io", "process", "thread", "env", "os", "sync::mpsc"];
/// What does I/O in a module that the core may use.
const NO_SOCKETS: &[&str] = &["TcpListener", "TcpStream", "UdpSocket", "ToSocketAddrs"];
/// What the core may be built with.
const CORE_CRATES: &[&str] = &["thiserror", "regex-lite"];

/// Each mention of another room that its edges do not allow.
pub fn edges(tree: &Tree) -> Vec<Finding> {
    let edges: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let mut findings = Vec::new();
    for file in tree.shipped().filter(|file| !file.path.starts_with("src/core/")) {
        let Some(own) = room(&file.path).filter(|own| !JOINERS.contains(own)) else { continue };
        let Some(allowed) = edges.get(own) else {
            let text =
                format!("{own} is no room of the edges table: add it to tests/tidy/layers.rs and ARCHITECTURE.md");
            findings.push(Finding { path: file.path.clone(), line: 0, text });
            continue;
        };
        for (at, target) in mentions(file) {
            let for_tests = file.in_test(at) && FOR_TESTS.contains(&target);
            if target != own && !allowed.contains(&target) && !for_tests {
                let text = format!(
                    "{own} may not import {target}; it may import {allowed:?}. A fact that both need belongs in nbs-core, a join in assemble.rs"
                );
                findings.push(file.finding(at, text));
            }
        }
    }
    findings
}

/// Other rooms may hold handles of the worker and the entry, not reach into their files.
pub fn handles_only(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.shipped().filter(|file| !JOINERS.contains(&room(&file.path).unwrap_or_default())) {
        for target in ["worker", "entry"].into_iter().filter(|target| room(&file.path) != Some(target)) {
            for at in file.places(&format!("crate::{target}::")) {
                let next = leading_name(&file.code[at + "crate::".len() + target.len() + 2..]);
                if tree.get(&format!("src/{target}/{next}.rs")).is_some() {
                    let text = format!("{next} is inside the {target}: use what src/{target}/mod.rs offers");
                    findings.push(file.finding(at, text));
                }
            }
        }
    }
    findings
}

/// The rooms that a file names, as `crate::room`, inside `use crate::{…}`, or by climbing out with `super`.
fn mentions(file: &File) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for at in file.places("crate::").filter(|at| !file.code[..*at].ends_with('$')) {
        let rest = &file.code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group).into_iter().map(|head| (at, head))),
            None => found.push((at, leading_name(rest))),
        }
    }
    let depth = file.path.trim_start_matches("src/").trim_end_matches("/mod.rs").split('/').count();
    for at in file.places("super::").filter(|at| !file.code[..*at].ends_with("super::")) {
        let target = file.code[at..].trim_start_matches("super::");
        let climbs = (file.code.len() - at - target.len()) / "super::".len();
        // An inline test module is one level further down.
        if climbs >= depth + usize::from(file.in_inline_test(at)) {
            found.push((at, leading_name(target)));
        }
    }
    found
}

/// The first name of each element of a group: `a::b, c::{d, e}` has `a` and `c`.
fn group_heads(group: &str) -> Vec<&str> {
    let (mut heads, mut depth, mut fresh) = (Vec::new(), 0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if c.is_whitespace() => {}
            _ if fresh => {
                heads.push(leading_name(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    heads
}

/// The core is built from values alone.
pub fn core_is_pure(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.shipped().filter(|file| file.path.starts_with("src/core/")) {
        for at in NOT_FOR_CORE.iter().flat_map(|module| {
            let path = format!("std::{module}");
            file.places(&path).collect::<Vec<_>>()
        }) {
            if !file.in_test(at) {
                findings.push(file.finding(at, "the core does no I/O and asks for nothing: take it as an argument"));
            }
        }
        for word in NO_SOCKETS {
            findings.extend(file.places(word).map(|at| file.finding(at, "the core does no I/O: return an effect")));
        }
        for word in ["async fn", "async move", ".await"] {
            findings.extend(file.places(word).map(|at| file.finding(at, "the core has no async: return an effect")));
        }
    }
    let manifest = tree.get("src/core/Cargo.toml").map_or("", |file| &file.text);
    for (number, name) in super::crates::dependencies(manifest) {
        if !CORE_CRATES.contains(&name) {
            let text = format!("the core is built with {CORE_CRATES:?} only; {name} belongs in another room");
            findings.push(Finding { path: "src/core/Cargo.toml".into(), line: number, text });
        }
    }
    findings
}

/// ARCHITECTURE.md shows the same edges.
pub fn edges_are_documented(tree: &Tree) -> Vec<Finding> {
    let text = tree.get("ARCHITECTURE.md").map_or("", |file| &file.text);
    let missing = EDGES.iter().filter_map(|(room, allowed)| {
        let names: Vec<String> = allowed.iter().map(|name| format!("`{name}`")).collect();
        let row = format!("| `{room}` | {} |", if names.is_empty() { "—".into() } else { names.join(" ") });
        (!text.contains(&row)).then(|| Finding {
            path: "ARCHITECTURE.md".into(),
            line: 0,
            text: format!("the table of edges wants this row: {row}"),
        })
    });
    missing.collect()
}

#[test]
fn rooms_import_only_what_the_edges_allow() {
    assert_none(&edges(&Tree::real()));
}

#[test]
fn the_worker_and_the_entry_are_reached_through_their_handles() {
    assert_none(&handles_only(&Tree::real()));
}

#[test]
fn the_core_is_pure() {
    assert_none(&core_is_pure(&Tree::real()));
}

#[test]
fn the_architecture_shows_the_edges() {
    assert_none(&edges_are_documented(&Tree::real()));
}

#[test]
fn the_edge_rule_bites() {
    let bad = [
        ("src/gateway/hold.rs", "use crate::store::Store;"),
        ("src/gateway/hold.rs", "fn f() { crate::process::spawn() }"),
        ("src/store/mod.rs", "use crate::{wire::Row, probe::{self, Http}};"),
        ("src/worker/run.rs", "use super::super::process::Spawn;"),
        ("src/clock.rs", "use super::store::Store;"),
        ("src/attic/mod.rs", "//! A room that nobody listed."),
        ("src/cli/mod.rs", "#[cfg(test)]\nmod tests { use crate::store::Store; }"),
    ];
    for sample in bad {
        assert_eq!(edges(&Tree::sample(&[sample])).len(), 1, "{sample:?}");
    }
    let good = [
        ("src/gateway/hold.rs", "use crate::entry::EntryHandle; use super::headers; // crate::store"),
        ("src/gateway/mod.rs", "#[cfg(test)]\nmod tests { use super::*; use super::super::gateway::x; }"),
        ("src/store/mod.rs", "use crate::{ports::Record, wire::{Row, process}};"),
        ("src/assemble.rs", "use crate::store::Store;"),
        ("src/cli/mod.rs", "#[cfg(test)]\nmod tests { use crate::ports::Record; }"),
    ];
    for sample in good {
        assert_none(&edges(&Tree::sample(&[sample])));
    }
}

#[test]
fn the_handle_rule_bites() {
    let inside = ("src/entry/run.rs", "//! The loop.");
    let bad = Tree::sample(&[inside, ("src/admin/apps.rs", "use crate::entry::run::Loop;")]);
    assert_eq!(handles_only(&bad).len(), 1);
    assert_none(&handles_only(&Tree::sample(&[inside, ("src/admin/apps.rs", "use crate::entry::EntryHandle;")])));
}

#[test]
fn the_purity_rule_bites() {
    for code in ["use std::fs::read;", "fn f() { std::env::var(x); }", "pub async fn f() {}", "x.await", "TcpStream"] {
        assert_eq!(core_is_pure(&Tree::sample(&[("src/core/x.rs", code)])).len(), 1, "{code}");
    }
    let manifest = "[dependencies]\nthiserror = \"2\"\ntokio = \"1\"\n[dev-dependencies]\nproptest = \"1\"\n";
    assert_eq!(core_is_pure(&Tree::sample(&[("src/core/Cargo.toml", manifest)])).len(), 1);
}

#[test]
fn the_documentation_rule_bites() {
    assert_eq!(edges_are_documented(&Tree::default()).len(), EDGES.len());
}
