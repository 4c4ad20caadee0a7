//! The file that carries an app's environment to its unit: text that systemd reads back exactly, and its place on disk.
//!
//! A file and not properties, as any user of the host may read the properties of a unit. Deliberately absent: when it is
//! written and removed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nbs_core::launch::Launch;
use nbs_core::reason::{Reason, ReasonCode};

/// The environment of a launch as a file for systemd.
///
/// # Errors
/// `bad_property`: a variable that cannot be expressed, by its name; never its value.
pub(crate) fn of(launch: &Launch) -> Result<String, Reason> {
    let mut env = launch.env.clone();
    env.insert("NBS_APP".into(), launch.app.to_string());
    env.insert("NBS_RUN".into(), launch.run.to_string());
    text(&env)
}

/// Variables as a file for systemd. In double quotes only `"`, `\`, `$` and a backtick are special, and a backslash takes
/// that away; nothing is put in place of `$NAME`, and a line may go on over its end.
fn text(env: &BTreeMap<String, String>) -> Result<String, Reason> {
    let mut text = String::new();
    for (name, value) in env {
        if let Some(fault) = fault(name, value) {
            let told = format!("the variable {name:?} cannot be handed to a unit of systemd: {fault}");
            return Err(Reason::new(ReasonCode::BadProperty, told));
        }
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            if matches!(c, '"' | '\\' | '$' | '`') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push_str("\"\n");
    }
    Ok(text)
}

/// Why systemd would leave the variable out, which it does without an error.
fn fault(name: &str, value: &str) -> Option<&'static str> {
    let first_ok = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !first_ok || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Some("its name has other characters than letters, digits and _");
    }
    let bad = |c: char| (c.is_ascii_control() && c != '\n' && c != '\t') || is_noncharacter(c);
    value.contains(bad).then_some("its value has control characters beside tab and newline")
}

/// Code points that Unicode keeps out of texts; systemd takes a file with one for damaged.
fn is_noncharacter(c: char) -> bool {
    let c = u32::from(c);
    (0xfdd0..=0xfdef).contains(&c) || c & 0xfffe == 0xfffe
}

/// Puts the file in its place, for root (or the daemon's own user) alone, and whole at every moment.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write(file: &Path, text: &str) -> io::Result<()> {
    let mut name = file.as_os_str().to_os_string();
    name.push(".new");
    let new = Path::new(&name);
    // One of a crash may be there with another mode or as a link: never written through.
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut open: File = File::options().write(true).create_new(true).mode(0o600).open(new)?;
    open.write_all(text.as_bytes())?;
    fs::rename(new, file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn one(value: &str) -> Result<String, Reason> {
        text(&BTreeMap::from([("A".to_string(), value.to_string())]))
    }

    #[test]
    fn what_is_special_in_quotes_is_escaped_and_nothing_else() {
        assert_eq!(one("a b#;'%\té\n").unwrap(), "A=\"a b#;'%\té\n\"\n");
        assert_eq!(one("\"\\$`").unwrap(), "A=\"\\\"\\\\\\$\\`\"\n");
    }

    #[test]
    fn a_value_that_cannot_be_told_names_its_variable_and_not_itself() {
        let reason = one("hush\u{1}").unwrap_err();
        assert_eq!(reason.code, ReasonCode::BadProperty);
        assert!(reason.text.contains("\"A\"") && !reason.text.contains("hush"), "{}", reason.text);
        assert!(text(&BTreeMap::from([("A B".to_string(), String::new())])).is_err());
    }

    #[test]
    fn the_file_is_for_its_owner_alone_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("crm.env");
        fs::write(dir.path().join("crm.env.new"), "left by a crash").unwrap();
        for text in ["A=\"1\"\n", "A=\"2\"\n"] {
            write(&file, text).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_unit_is_told_whose_life_it_is() {
        let text = of(&crate::systemd::properties::tests::launch()).unwrap();
        assert!(text.contains("NBS_APP=\"crm\"\n") && text.contains("SECRET=\"hush-hush\"\n"), "{text}");
    }
}
