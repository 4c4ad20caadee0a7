//! Each third-party crate has a home: the rooms that may name it.

use super::source::{File, Finding, Tree, assert_none, room};

/// Everywhere but in the core.
const ANYWHERE: &[&str] = &["*"];
/// The rooms that speak HTTP.
const HTTP: &[&str] = &["gateway", "ask", "probe", "shared", "admin", "console", "cli"];

/// The homes. `assemble`, `demo` and `main` may name any: they join.
const HOMES: &[(&str, &[&str])] = &[
    ("anstream", &["cli"]),
    ("arc-swap", &["entry", "worker", "gateway", "admin", "config", "redis_bus", "usage"]),
    ("axum", &["admin", "console"]),
    ("chacha20poly1305", &["security"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("comfy-table", &["cli"]),
    ("ed25519-dalek", &["security"]),
    ("futures-core", &["systemd"]),
    (
        "getrandom",
        &[
            "admin",
            "cli",
            "clock",
            "config",
            "console",
            "entry",
            "gateway",
            "lifecycle",
            "process",
            "redis_bus",
            "security",
            "store",
            "worker",
        ],
    ),
    ("hkdf", &["security"]),
    ("hmac", &["security"]),
    ("http-body-util", HTTP),
    ("hyper", HTTP),
    ("hyper-util", HTTP),
    ("imbl", &["entry", "worker", "gateway", "admin"]),
    ("jiff", &["wire", "admin", "cli", "telemetry", "gateway"]),
    ("nbs-core", ANYWHERE),
    ("maud", &["console"]),
    ("nix", &["process", "ground", "config", "lifecycle", "admin", "gateway", "cli", "store", "usage", "probe"]),
    ("redis", &["redis_bus"]),
    ("rusqlite", &["store"]),
    ("tokio-postgres", &["database"]),
    ("postgres-protocol", &["database"]),
    ("rustls", &["redis_bus"]),
    ("rustix", &["process", "ground", "usage", "probe", "gateway", "admin", "lifecycle", "security", "store", "clock"]),
    ("sd-notify", &["lifecycle"]),
    ("serde", &["wire", "config", "cli", "store", "admin", "console", "gateway", "journal"]),
    (
        "serde_json",
        &[
            "wire",
            "config",
            "cli",
            "store",
            "admin",
            "console",
            "gateway",
            "ask",
            "probe",
            "shared",
            "journal",
            "redis_bus",
        ],
    ),
    ("sha2", &["store", "admin", "console", "process", "security"]),
    ("signal-hook", &["lifecycle"]),
    ("subtle", &["admin", "console"]),
    ("sysinfo", &["usage"]),
    ("thiserror", ANYWHERE),
    ("tokio", ANYWHERE),
    ("tokio-util", ANYWHERE),
    ("toml", &["config", "cli"]),
    // systemd, shared: a bus and a host process come and go while nobody asks for anything, and an operator must read of it.
    (
        "tracing",
        &[
            "systemd",
            "shared",
            "redis_bus",
            "worker",
            "entry",
            "gateway",
            "admin",
            "console",
            "telemetry",
            "lifecycle",
            "tasks",
            "cli",
        ],
    ),
    ("tracing-journald", &["telemetry"]),
    ("tracing-subscriber", &["telemetry"]),
    ("zbus", &["systemd"]),
    ("zeroize", &["security"]),
];

/// The rooms that join others.
const JOINERS: &[&str] = &["assemble", "demo", "lib", "main"];

/// The crates that the product is to be built on, and the room that must use each as soon as that room exists.
const FOUNDATION: &[(&str, &str)] = &[
    ("tokio", "entry"),
    ("nix", "process"),
    ("zbus", "systemd"),
    ("redis", "redis_bus"),
    ("serde", "wire"),
    ("toml", "config"),
    ("sysinfo", "usage"),
    ("tracing-journald", "telemetry"),
    ("axum", "admin"),
    ("signal-hook", "lifecycle"),
];

/// The keys of `[dependencies]` with their lines.
pub fn dependencies(manifest: &str) -> Vec<(usize, &str)> {
    let mut inside = false;
    let mut found = Vec::new();
    for (number, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && !line.starts_with(['#', ' ', ']']) {
            found.extend(line.split_once('=').map(|(name, _)| (number + 1, name.trim())));
        }
    }
    found
}

/// Where a file names a crate: `name::…`, `use name;`, not as a part of another path.
fn names(file: &File, krate: &str) -> Vec<usize> {
    let ident = krate.replace('-', "_");
    let is_use = |at: usize| {
        let before = file.code[..at].trim_end();
        let after = &file.code[at + ident.len()..];
        let inside_path = before.ends_with("::") || before.ends_with('.') || before.ends_with("r#");
        !inside_path && (after.starts_with("::") || (before.ends_with("use") && after.starts_with(';')))
    };
    file.places(&ident).filter(|at| is_use(*at)).collect()
}

fn manifest(tree: &Tree) -> &str {
    tree.get("Cargo.toml").map_or("", |file| &file.text)
}

/// Each crate that is named outside its home, or that has none.
pub fn homes(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, name) in dependencies(manifest(tree)) {
        if !HOMES.iter().any(|(known, _)| *known == name) {
            let text = format!("{name} has no home: list its rooms in tests/tidy/crates.rs");
            findings.push(Finding { path: "Cargo.toml".into(), line, text });
        }
    }
    for file in tree.shipped().filter(|file| !file.path.starts_with("src/core/")) {
        let own = room(&file.path).unwrap_or_default();
        for (krate, rooms) in HOMES.iter().filter(|(_, rooms)| *rooms != ANYWHERE && !rooms.contains(&own)) {
            if JOINERS.contains(&own) {
                continue;
            }
            for at in names(file, krate).into_iter().filter(|at| !file.in_test(*at)) {
                let text = format!(
                    "{krate} is at home in {rooms:?}, not in {own}: ask that room, or list {own} with a reason"
                );
                findings.push(file.finding(at, text));
            }
        }
    }
    findings
}

/// A room that exists uses the crate that it was made for.
pub fn foundation(tree: &Tree) -> Vec<Finding> {
    let known = dependencies(manifest(tree));
    let mut findings = Vec::new();
    for (krate, home) in FOUNDATION.iter().filter(|(_, home)| tree.has_room(home)) {
        let direct = known.iter().any(|(_, name)| name == krate);
        let used =
            tree.shipped().filter(|file| room(&file.path) == Some(home)).any(|file| !names(file, krate).is_empty());
        if !(direct && used) {
            let text = format!("src/{home} is there, so {krate} must be a direct dependency and be used in it");
            findings.push(Finding { path: "Cargo.toml".into(), line: 0, text });
        }
    }
    findings
}

/// Nothing is depended on and not used.
pub fn unused(tree: &Tree) -> Vec<Finding> {
    let used = |krate: &str| tree.shipped().any(|file| !names(file, krate).is_empty());
    let unused = dependencies(manifest(tree)).into_iter().filter(|(_, name)| !used(name));
    let finding = |(line, name): (usize, &str)| Finding {
        path: "Cargo.toml".into(),
        line,
        text: format!("{name} is used nowhere: take it out"),
    };
    unused.map(finding).collect()
}

#[test]
fn crates_are_named_in_their_homes_only() {
    assert_none(&homes(&Tree::real()));
}

#[test]
fn rooms_use_the_crates_they_were_made_for() {
    assert_none(&foundation(&Tree::real()));
}

#[test]
fn nothing_is_depended_on_without_use() {
    let tree = Tree::real();
    if tree.has_room("assemble") {
        assert_none(&unused(&tree));
    }
}

#[test]
fn the_home_rule_bites() {
    let bad = [
        ("src/gateway/mod.rs", "use rusqlite::Connection;"),
        ("src/store/mod.rs", "fn f() { axum::serve() }"),
        ("src/worker/mod.rs", "#[derive(serde::Serialize)] struct S;"),
        ("src/wire/mod.rs", "use toml;"),
        ("Cargo.toml", "[dependencies]\nleft-pad = \"1\"\n"),
    ];
    for sample in bad {
        assert_eq!(homes(&Tree::sample(&[sample])).len(), 1, "{sample:?}");
    }
    let good = [
        ("src/store/mod.rs", "use rusqlite::Connection; // axum::serve"),
        ("src/worker/mod.rs", "mod usage { pub mod redis {} } use self::usage::redis::X; let toml = 1; toml.x()"),
        ("src/worker/mod.rs", "#[cfg(test)]\nmod tests { use serde_json::json; }"),
        ("Cargo.toml", "[dependencies]\ntokio = \"1\"\n[dev-dependencies]\nleft-pad = \"1\"\n"),
    ];
    for sample in good {
        assert_none(&homes(&Tree::sample(&[sample])));
    }
}

#[test]
fn the_foundation_rule_bites() {
    let room = ("src/systemd/mod.rs", "use zbus::Connection;");
    assert_eq!(foundation(&Tree::sample(&[room])).len(), 1, "no dependency");
    let manifest = ("Cargo.toml", "[dependencies]\nzbus = \"5\"\n");
    assert_eq!(foundation(&Tree::sample(&[manifest, ("src/systemd/mod.rs", "")])).len(), 1, "not used");
    assert_none(&foundation(&Tree::sample(&[manifest, room])));
    assert_none(&foundation(&Tree::sample(&[manifest])));
}

#[test]
fn unused_dependencies_are_found() {
    let manifest = ("Cargo.toml", "[dependencies]\nimbl = \"7\"\nnix = \"0\"\n");
    assert_eq!(unused(&Tree::sample(&[manifest, ("src/x.rs", "use nix::unistd;")])).len(), 1);
}
