//! Documents speak of things that exist: tests, files, reason codes, recipe keys; and of the product alone.

use nbs_core::directive;
use nbs_core::reason::ReasonCode;
use nbs_core::sandbox::STANDARD;

use super::source::{Finding, Tree, assert_none};

/// Each test named in docs/promises.md as `path::test_name`, or each suite as `path`, that is not there.
pub fn promised_tests(tree: &Tree) -> Vec<Finding> {
    let Some(file) = tree.get("docs/promises.md") else {
        return vec![Finding { path: "docs/promises.md".into(), line: 0, text: "is missing".into() }];
    };
    let mut findings = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for name in code_spans(line).filter(|name| name.starts_with("src/") || name.starts_with("tests/")) {
            let (path, test) = name.split_once("::").unwrap_or((name, ""));
            let there = tree.get(path).is_some_and(|f| test.is_empty() || f.text.contains(&format!("fn {test}(")));
            if !there {
                let text =
                    format!("{name} does not exist: write it, or take the name out and say what is not tested yet");
                findings.push(Finding { path: file.path.clone(), line: number + 1, text });
            }
        }
    }
    findings
}

/// What stands between back-ticks.
fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Relative links of Markdown files that lead nowhere.
pub fn dead_links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (number, line) in file.text.lines().enumerate() {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
                let target = link.split('#').next().unwrap_or_default().trim_end_matches('/');
                if target.is_empty() || target.contains("://") || is_there(tree, &join(folder, target)) {
                    continue;
                }
                let text = format!("the link to {link} leads nowhere");
                findings.push(Finding { path: file.path.clone(), line: number + 1, text });
            }
        }
    }
    findings
}

fn is_there(tree: &Tree, path: &str) -> bool {
    let folder = format!("{path}/");
    tree.files.iter().any(|file| file.path == path || file.path.starts_with(&folder))
}

fn join(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The table of docs/reasons.md, as it should be.
fn reasons_table() -> String {
    let rows = ReasonCode::ALL.iter().map(|reason| format!("| `{}` | {} |\n", reason.code(), reason.remedy()));
    format!("| code | what to do |\n| --- | --- |\n{}", rows.collect::<String>())
}

/// docs/reasons.md has exactly the codes that the core knows.
pub fn reasons(tree: &Tree) -> Vec<Finding> {
    let path = "docs/reasons.md";
    let expected = reasons_table();
    let text = tree.get(path).map_or("", |file| &file.text);
    let table: String = text.lines().filter(|line| line.starts_with('|')).map(|line| format!("{line}\n")).collect();
    if table == expected {
        return Vec::new();
    }
    let text = format!("differs from src/core/reason.rs; its table must be:\n{expected}");
    vec![Finding { path: path.into(), line: 0, text }]
}

/// The tables of docs/sandbox.md, as they should be.
fn sandbox_tables() -> String {
    let sandbox = STANDARD.iter().map(|row| {
        let user = if row.by_user_manager { "yes" } else { "no" };
        format!("| `{}={}` | {} | {} | {user} |\n", row.name, row.value.shown(), row.takes, row.misses)
    });
    let directives = directive::DIRECTIVES
        .iter()
        .map(|row| format!("| `{}` | {} | `{}` |\n", row.name, directive::what(row.kind), row.sample));
    let own = directive::OWN.iter().map(|(name, instead)| format!("| `{name}` | {instead} |\n"));
    format!(
        "| property | takes away | who misses it | under a user's manager |\n| --- | --- | --- | --- |\n{}\
         | directive | takes | for instance |\n| --- | --- | --- |\n{}| directive | instead |\n| --- | --- |\n{}",
        sandbox.collect::<String>(),
        directives.collect::<String>(),
        own.collect::<String>()
    )
}

/// docs/sandbox.md shows the sandbox and the directives that the core knows.
pub fn sandbox(tree: &Tree) -> Vec<Finding> {
    let path = "docs/sandbox.md";
    let expected = sandbox_tables();
    let text = tree.get(path).map_or("", |file| &file.text);
    let table: String = text.lines().filter(|line| line.starts_with('|')).map(|line| format!("{line}\n")).collect();
    if table == expected {
        return Vec::new();
    }
    let text = format!("differs from src/core/sandbox.rs or directive.rs; its tables must be:\n{expected}");
    vec![Finding { path: path.into(), line: 0, text }]
}

/// docs/recipes.md has a row for every key of an example recipe, and for every placeholder.
pub fn recipe_keys(tree: &Tree) -> Vec<Finding> {
    let text = tree.get("docs/recipes.md").map_or("", |file| &file.text);
    let mut findings = Vec::new();
    for name in nbs_core::template::Placeholder::names() {
        if !text.contains(&format!("`{{{name}}}`")) {
            let text = format!("the placeholder {{{name}}} has no row");
            findings.push(Finding { path: "docs/recipes.md".into(), line: 0, text });
        }
    }
    for file in tree.files.iter().filter(|file| file.path.starts_with("examples/") && file.path.ends_with(".toml")) {
        let Ok(table) = file.text.parse::<toml::Table>() else {
            findings.push(Finding { path: file.path.clone(), line: 0, text: "is no TOML".into() });
            continue;
        };
        // A Cargo manifest, or a file of apps, is no recipe.
        if !table.contains_key("command") {
            continue;
        }
        for key in table.keys().filter(|key| !text.contains(&format!("| `{key}"))) {
            let text = format!("the key {key} has no row in docs/recipes.md");
            findings.push(Finding { path: file.path.clone(), line: 0, text });
        }
    }
    findings
}

#[test]
fn promised_tests_exist() {
    assert_none(&promised_tests(&Tree::real()));
}

#[test]
fn links_lead_somewhere() {
    assert_none(&dead_links(&Tree::real()));
}

#[test]
fn the_sandbox_is_documented_as_it_is() {
    assert_none(&sandbox(&Tree::real()));
}

#[test]
fn the_reason_codes_are_documented() {
    assert_none(&reasons(&Tree::real()));
}

#[test]
fn the_recipe_keys_are_documented() {
    assert_none(&recipe_keys(&Tree::real()));
}

#[test]
fn the_document_rules_bite() {
    let there = ("tests/x.rs", "fn is_kept() {}");
    for name in ["tests/x.rs::is_broken", "tests/y.rs::is_kept", "tests/nothing/run"] {
        let promises = format!("1. Kept (`{name}`, `tests/x.rs::is_kept`)");
        assert_eq!(promised_tests(&Tree::sample(&[there, ("docs/promises.md", &promises)])).len(), 1, "{name}");
    }
    assert_eq!(promised_tests(&Tree::default()).len(), 1);
    let links = ("docs/a.md", "[a](b.md) [b](../README.md#x) [c](https://example.com) [d](#here)");
    assert_eq!(dead_links(&Tree::sample(&[links])).len(), 2);
    assert_none(&dead_links(&Tree::sample(&[links, ("docs/b.md", ""), ("README.md", "")])));
    assert_eq!(reasons(&Tree::default()).len(), 1);
    assert_eq!(sandbox(&Tree::default()).len(), 1);
    assert_none(&sandbox(&Tree::sample(&[("docs/sandbox.md", &sandbox_tables())])));
    assert_none(&reasons(&Tree::sample(&[("docs/reasons.md", &format!("Text.\n\n{}\nMore.", reasons_table()))])));
    let holes = nbs_core::template::Placeholder::names().count();
    let recipe = ("examples/x.toml", "command = []\nnew_key = 1\n");
    assert_eq!(recipe_keys(&Tree::sample(&[recipe])).len(), holes + 2);
}
