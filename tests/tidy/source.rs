//! The tree under test, and a reader that tells code from comments and strings.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Something that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Path from the root of the repository.
    pub path: String,
    /// 1-based; 0 where it is about the whole file.
    pub line: usize,
    /// What is wrong and what to do about it.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

/// A file of the tree.
#[derive(Debug, Clone)]
pub struct File {
    /// Path from the root of the repository, with `/`.
    pub path: String,
    /// As it stands.
    pub text: String,
    /// For Rust: the text with comments and the inside of strings blanked out, byte for byte as long. Else empty.
    pub code: String,
    /// For Rust: byte ranges of `code` that exist in tests only.
    test_ranges: Vec<(usize, usize)>,
    /// Whether another file declares it as a module for tests.
    declared_for_tests: bool,
}

impl File {
    /// Reads the parts of a text.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let code = if path.ends_with(".rs") { blank(&text) } else { String::new() };
        let test_ranges = test_ranges(&code);
        Self { path, text, code, test_ranges, declared_for_tests: false }
    }

    /// Whether this is a Rust file.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it is shipped: Rust under `src/`.
    pub fn is_shipped(&self) -> bool {
        self.is_rust() && self.path.starts_with("src/")
    }

    /// Whether the byte at `at` exists in tests only.
    pub fn in_test(&self, at: usize) -> bool {
        let by_path = self.path.starts_with("tests/")
            || self.path.starts_with("src/core/tests/")
            || self.declared_for_tests
            || self.path.contains("/testing/");
        by_path || self.in_inline_test(at)
    }

    /// The files that a `#[cfg(test)] mod name;` in this one stands for, as paths without their end.
    fn modules_for_tests(&self) -> Vec<String> {
        let (folder, name) = self.path.trim_end_matches(".rs").rsplit_once('/').unwrap_or_default();
        let folder =
            if matches!(name, "mod" | "lib" | "main") { folder.to_string() } else { format!("{folder}/{name}") };
        let declared = self.test_ranges.iter().filter_map(|(from, to)| {
            let (_, module) = self.code[*from..*to].strip_suffix(';')?.rsplit_once("mod ")?;
            Some(format!("{folder}/{module}"))
        });
        declared.collect()
    }

    /// Whether the byte at `at` stands inside an item that exists in tests only.
    pub fn in_inline_test(&self, at: usize) -> bool {
        self.test_ranges.iter().any(|(from, to)| (*from..*to).contains(&at))
    }

    /// The line of a byte, 1-based.
    pub fn line(&self, at: usize) -> usize {
        self.text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// The finding that `text` is wrong at a byte.
    pub fn finding(&self, at: usize, text: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line: self.line(at), text: text.into() }
    }

    /// Where `needle` stands in the code, not as a part of a longer name.
    pub fn places<'a>(&'a self, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
        let code = &self.code;
        let starts_name = needle.starts_with(is_name);
        let ends_name = needle.ends_with(is_name);
        code.match_indices(needle).map(|(at, _)| at).filter(move |at| {
            let before = code[..*at].chars().next_back();
            let after = code[*at + needle.len()..].chars().next();
            !(starts_name && before.is_some_and(is_name) || ends_name && after.is_some_and(is_name))
        })
    }
}

/// Whether a character can stand in a name.
pub fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The name that a text begins with.
pub fn leading_name(text: &str) -> &str {
    &text[..text.find(|c| !is_name(c)).unwrap_or(text.len())]
}

/// The files that the rules look at.
#[derive(Debug, Default)]
pub struct Tree {
    /// In the order of their paths.
    pub files: Vec<File>,
}

impl Tree {
    /// The real one.
    pub fn real() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut paths = Vec::new();
        walk(root, &mut paths);
        paths.sort();
        let files = paths.iter().filter_map(|path| {
            let name = path.strip_prefix(root).ok()?.to_str()?.to_string();
            Some(File::new(name, fs::read_to_string(path).ok()?))
        });
        let tree = Self::of(files.collect());
        assert!(tree.files.iter().filter(|file| file.is_shipped()).count() > 10, "the walk found no sources");
        tree
    }

    /// One made of samples.
    pub fn sample(files: &[(&str, &str)]) -> Self {
        Self::of(files.iter().map(|(path, text)| File::new(*path, *text)).collect())
    }

    fn of(mut files: Vec<File>) -> Self {
        let for_tests: Vec<String> = files.iter().flat_map(File::modules_for_tests).collect();
        for file in &mut files {
            let stem = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
            file.declared_for_tests = for_tests.iter().any(|module| stem == module);
        }
        Self { files }
    }

    /// A file by its path.
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The Rust files.
    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }

    /// The Rust files under `src/`.
    pub fn shipped(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_shipped())
    }

    /// The rooms of `src/` that exist, by name.
    pub fn has_room(&self, room: &str) -> bool {
        let (folder, file) = (format!("src/{room}/"), format!("src/{room}.rs"));
        self.files.iter().any(|f| f.path.starts_with(&folder) || f.path == file)
    }
}

/// Which room of `src/` a path belongs to: `src/gateway/hold.rs` and `src/gateway.rs` to `gateway`.
pub fn room(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/")?;
    Some(rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs"))
}

/// Fails with every finding, if there are any.
pub fn assert_none(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{} finding(s):\n{}", lines.len(), lines.join("\n"));
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && !matches!(name.as_str(), "target" | ".git" | "node_modules") {
            walk(&path, found);
        } else if !is_folder {
            found.push(path);
        }
    }
}

/// Blanks comments and the inside of strings and character literals; line ends and lengths stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => find(bytes, at, b"\n"),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_comment_end(bytes, at),
            b'r' if raw_hashes(bytes, at).is_some() => raw_string_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'\'' => char_end(bytes, at),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("whole characters were blanked, so the rest is UTF-8 still")
}

fn find(bytes: &[u8], from: usize, needle: &[u8]) -> usize {
    let found = bytes[from..].windows(needle.len()).position(|window| window == needle);
    found.map_or(bytes.len(), |offset| from + offset)
}

fn block_comment_end(bytes: &[u8], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// How many `#` a raw string that begins here has; `None` if none begins here.
fn raw_hashes(bytes: &[u8], at: usize) -> Option<usize> {
    let starts_word = match at.checked_sub(1).map(|before| bytes[before]) {
        Some(b'b' | b'c') => true,
        Some(before) => !(before.is_ascii_alphanumeric() || before == b'_'),
        None => true,
    };
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    (starts_word && bytes.get(at + 1 + hashes) == Some(&b'"')).then_some(hashes)
}

fn raw_string_end(bytes: &[u8], at: usize) -> usize {
    let hashes = raw_hashes(bytes, at).unwrap_or(0);
    let mut end_mark = vec![b'"'];
    end_mark.resize(1 + hashes, b'#');
    (find(bytes, at + 2 + hashes, &end_mark) + end_mark.len()).min(bytes.len())
}

fn string_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of a character literal; the place itself for a lifetime.
fn char_end(bytes: &[u8], from: usize) -> usize {
    if bytes.get(from + 1) == Some(&b'\\') {
        return (find(bytes, from + 3, b"'") + 1).min(bytes.len());
    }
    // One character of 1 to 4 bytes, then the closing mark; anything else is a lifetime or a label.
    let width = match bytes.get(from + 1) {
        Some(0xF0..) => 4,
        Some(0xE0..) => 3,
        Some(0xC0..) => 2,
        _ => 1,
    };
    if bytes.get(from + 1 + width) == Some(&b'\'') { from + 2 + width } else { from }
}

/// The place after the brace that closes the one at `open`.
pub fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (offset, byte) in code.as_bytes()[open..].iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return open + offset + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

fn test_ranges(code: &str) -> Vec<(usize, usize)> {
    let marks = ["#[cfg(test)]", "#[cfg(any(test", "#![cfg(test)]"];
    let mut ranges = Vec::new();
    for (at, mark) in marks.iter().flat_map(|mark| code.match_indices(mark)) {
        if mark.starts_with("#!") {
            ranges.push((0, code.len()));
            continue;
        }
        let rest = &code[at + mark.len()..];
        if let Some(offset) = rest.find(['{', ';']) {
            let stop = at + mark.len() + offset;
            let end = if code.as_bytes()[stop] == b'{' { closing(code, stop) } else { stop + 1 };
            ranges.push((at, end));
        }
    }
    ranges
}

#[test]
fn strings_and_comments_are_blanked_and_nothing_else() {
    let text = concat!(
        "let a = \"x { // \\\" y\"; // } tail\n",
        "let b = r#\"raw \" { \"#; /* a /* nested { */ b */ let c = '{'; let d = '\\''; let e: &'static str = br\"}\";\n",
        "let f = 'ä'; let g = \"é{\"; let r#type = 1;"
    );
    let code = blank(text);
    assert_eq!(code.len(), text.len());
    assert!(!code.contains(['{', '}', '"']) && !code.contains("tail"), "{code}");
    for kept in ["let a =", "let c =", "let d =", "&'static str", "let g =", "let r#type = 1;"] {
        assert!(code.contains(kept), "{kept} is missing in {code}");
    }
}

#[test]
fn test_modules_are_told_from_the_rest() {
    let file = File::new("src/x.rs", "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { if x {} } }\nfn c() {}\n");
    let at = |needle: &str| file.code.find(needle).expect("it is in the sample");
    assert!(!file.in_test(at("fn a")) && file.in_test(at("fn b")) && !file.in_test(at("fn c")));
}

#[test]
fn files_declared_for_tests_are_told_from_the_rest() {
    let tree = Tree::sample(&[
        ("src/wire/mod.rs", "#[cfg(test)]\n#[allow(x)]\npub(crate) mod samples;\nmod spec;"),
        ("src/wire/spec.rs", "#[cfg(test)]\nmod tests;\nfn f() {}"),
        ("src/wire/samples.rs", "x"),
        ("src/wire/spec/tests.rs", "x"),
    ]);
    let in_test: Vec<bool> = tree.files.iter().map(|file| file.in_test(file.code.len() - 1)).collect();
    assert_eq!(in_test, [false, false, true, true]);
}
