//! `--set table.key=value`. The value is TOML if it is TOML, else the plain text.

use super::problem::{Origin, Problem};
use super::reader::Notes;
use super::value::{self, Table};
use super::variable::put;

/// Reads the flags into a table; the last one of a key wins.
pub fn read(set: &[String], notes: &Notes) -> Table {
    let mut table = Table::new();
    for flag in set {
        match flag.split_once('=') {
            Some((key, text)) if is_key(key.trim()) => {
                let key = key.trim();
                let path: Vec<&str> = key.split('.').collect();
                put(&mut table, &path, value::parse_loose(text.trim(), Origin::Flag(key.into())));
            }
            _ => {
                let text = "this is not KEY=VALUE";
                let hint = "write --set table.key=value, such as --set gateway.listen=0.0.0.0:80";
                notes.problem(Problem::error(Origin::Flag(flag.as_str().into()), "", text, hint));
            }
        }
    }
    table
}

fn is_key(key: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    key.split('.').all(is_word)
}
