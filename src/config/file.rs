//! The main file and the drop-ins beside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::problem::{Origin, Problem};
use super::reader::Notes;
use super::sources::{Sources, Standard};
use super::trust;
use super::value::{self, Table};

/// Reads `nbsupervisor.toml`, then `nbsupervisor.d/*.toml` beside it in order of their names, each laid over the last.
pub fn read(sources: &Sources, standard: &Standard, notes: &Notes) -> Table {
    let main = sources.config_file.clone().unwrap_or_else(|| standard.config_file());
    let mut table = Table::new();
    let must_exist = sources.config_file.is_some();
    let drop_ins = toml_files(&main.with_file_name("nbsupervisor.d"), notes);
    for (file, must_exist) in [(main, must_exist)].into_iter().chain(drop_ins.into_iter().map(|file| (file, true))) {
        match fs::read_to_string(&file) {
            Ok(text) => match value::parse_file(&file, &text) {
                Ok(over) => value::merge(&mut table, over),
                Err(problems) => problems.into_iter().for_each(|problem| notes.problem(problem)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => continue,
            Err(error) => notes.problem(unreadable(&file, &error)),
        }
        if let Some(mistrust) = fs::metadata(&file).ok().and_then(|meta| trust::mistrust(&meta, sources.uid)) {
            notes.problem(Problem::warning(Origin::of_file(&file), "", mistrust.text, mistrust.hint));
        }
    }
    table
}

/// The `*.toml` files of a directory in order of their names; a missing directory has none.
pub fn toml_files(dir: &Path, notes: &Notes) -> Vec<PathBuf> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            notes.problem(unreadable(dir, &error));
            return Vec::new();
        }
    };
    let mut files: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_toml(path)).collect();
    files.sort();
    files
}

/// Whether it is a file for us: `*.toml`, not hidden (editors leave hidden ones behind).
fn is_toml(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    path.extension().is_some_and(|extension| extension == "toml") && !hidden
}

/// A file or directory that cannot be read, as a problem with its remedy.
pub fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let (text, hint) = match error.kind() {
        io::ErrorKind::NotFound => ("no such file".to_string(), "check the path".to_string()),
        io::ErrorKind::PermissionDenied => ("permission denied".into(), "let the daemon's user read it".to_string()),
        io::ErrorKind::InvalidData => ("this is not UTF-8".into(), "save it as UTF-8".into()),
        _ => (format!("it cannot be read: {error}"), String::new()),
    };
    Problem::error(Origin::of_file(path), "", text, hint)
}
