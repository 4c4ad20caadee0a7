//! How long files and functions may be, how files begin, and what they may be called.

use super::source::{File, Finding, Tree, assert_none, closing, leading_name};

/// A file that passes this is asked for its second noun.
const FILE_LINES_MAX: usize = 600;
/// A function that passes this is asked for its steps.
const FUNCTION_LINES_MAX: usize = 70;
/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "manager"];

/// Files that are too long.
pub fn file_length(tree: &Tree) -> Vec<Finding> {
    let long = tree.rust().filter_map(|file| {
        let lines = file.text.lines().count();
        let text = format!("{lines} lines, {FILE_LINES_MAX} are allowed: find its second noun and give it a file");
        (lines > FILE_LINES_MAX).then(|| Finding { path: file.path.clone(), line: lines, text })
    });
    long.collect()
}

/// Functions that are too long.
pub fn function_length(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        for (at, name, end) in functions(file) {
            let lines = file.line(end - 1) - file.line(at) + 1;
            if lines > FUNCTION_LINES_MAX {
                let text = format!("{name} has {lines} lines, {FUNCTION_LINES_MAX} are allowed: name its steps");
                findings.push(file.finding(at, text));
            }
        }
    }
    findings
}

/// Every function with a body: where it begins, its name, and the place after its last brace.
pub fn functions(file: &File) -> Vec<(usize, &str, usize)> {
    let code = &file.code;
    let mut found = Vec::new();
    for at in file.places("fn ") {
        let name = leading_name(&code[at + "fn ".len()..]);
        let mut depth = 0i32;
        let open = code[at..].char_indices().find_map(|(offset, c)| {
            match c {
                '(' | '[' => depth += 1,
                ')' | ']' => depth -= 1,
                '{' if depth == 0 => return Some(Some(at + offset)),
                ';' if depth == 0 => return Some(None),
                _ => {}
            }
            None
        });
        if let (false, Some(Some(open))) = (name.is_empty(), open) {
            found.push((at, name, closing(code, open)));
        }
    }
    found
}

/// Files that do not say what they are. The tests of a module need not: their place says it.
pub fn module_docs(tree: &Tree) -> Vec<Finding> {
    let silent = tree.rust().filter(|file| !file.path.ends_with("/tests.rs")).filter(|file| {
        let first = file.text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!"));
        !first.is_some_and(|line| line.starts_with("//!") && line.len() > "//! .".len())
    });
    let text = "begins without a //! line: say what this file decides and what is deliberately not in it";
    silent.map(|file| Finding { path: file.path.clone(), line: 1, text: text.into() }).collect()
}

/// Files, folders and modules with an empty name.
pub fn empty_names(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let text = |name: &str| format!("{name} says nothing: name it after the noun inside");
    for file in tree.rust() {
        for part in file.path.trim_end_matches(".rs").split('/').filter(|part| EMPTY_NAMES.contains(part)) {
            findings.push(Finding { path: file.path.clone(), line: 0, text: text(part) });
        }
        for at in file.places("mod ") {
            let name = leading_name(&file.code[at + "mod ".len()..]);
            let inline = file.code[at + "mod ".len() + name.len()..].trim_start().starts_with('{');
            if inline && EMPTY_NAMES.contains(&name) {
                findings.push(file.finding(at, text(name)));
            }
        }
    }
    findings
}

#[test]
fn files_are_short() {
    assert_none(&file_length(&Tree::real()));
}

#[test]
fn functions_are_short() {
    assert_none(&function_length(&Tree::real()));
}

#[test]
fn every_file_says_what_it_is() {
    assert_none(&module_docs(&Tree::real()));
}

#[test]
fn names_say_something() {
    assert_none(&empty_names(&Tree::real()));
}

#[test]
fn the_length_rules_bite() {
    let long = |lines: usize| "    x();\n".repeat(lines);
    let file = "// x\n".repeat(FILE_LINES_MAX + 1);
    assert_eq!(file_length(&Tree::sample(&[("src/x.rs", &file)])).len(), 1);
    assert_none(&file_length(&Tree::sample(&[("src/x.rs", &file[5..])])));
    for (lines, expected) in [(FUNCTION_LINES_MAX - 2, 0), (FUNCTION_LINES_MAX - 1, 1)] {
        // The brace in the string must not end the function, nor the semicolon in the array type begin nothing.
        let code = format!("fn f(a: [u8; 4]) -> T where T: X {{ let b = \"}}\";\n{}}}\nfn g();\n", long(lines));
        assert_eq!(function_length(&Tree::sample(&[("src/x.rs", &code)])).len(), expected, "{lines}");
    }
}

#[test]
fn the_doc_rule_bites() {
    for bad in ["use std::fs;", "//!", "// A plain comment.", ""] {
        assert_eq!(module_docs(&Tree::sample(&[("src/x.rs", bad)])).len(), 1, "{bad:?}");
    }
    assert_none(&module_docs(&Tree::sample(&[("src/x.rs", "#![cfg(test)]\n//! Says it.\n")])));
}

#[test]
fn the_name_rule_bites() {
    let bad = [("src/utils.rs", ""), ("src/gateway/common/x.rs", ""), ("src/x.rs", "mod helpers { }")];
    for sample in bad {
        assert_eq!(empty_names(&Tree::sample(&[sample])).len(), 1, "{sample:?}");
    }
    assert_none(&empty_names(&Tree::sample(&[("src/x.rs", "let misc = 1; // mod utils {")])));
}
