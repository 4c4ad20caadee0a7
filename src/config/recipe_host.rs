//! What a recipe leans on that this host may lack: programs, directories, users. All of it may come later, so these are
//! warnings.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nbs_core::template::Template;
use nix::unistd::{Group, User};

use super::problem::{Origin, Problem};
use super::reader::{Given, Notes};
use super::trust::user_name;

/// Notes what is missing on this host. `by_systemd`: an app without a user gets one of its own.
pub fn check(
    file: &Path,
    (daemon_uid, by_systemd): (u32, bool),
    program: Option<Given<Template>>,
    working_dir: Option<Given<Template>>,
    user: Option<Given<String>>,
    group: Option<Given<String>>,
    notes: &Notes,
) {
    if let Some((given, path)) = program.as_ref().and_then(|given| Some((given, plain(&given.value)?))) {
        check_program(given, &path, notes);
    }
    if let Some((given, path)) = working_dir.as_ref().and_then(|given| Some((given, plain(&given.value)?)))
        && !Path::new(&path).is_dir()
    {
        notes.warn(given, format!("there is no directory {path}"), "make it, or correct working_dir");
    }
    match &user {
        Some(user) => check_user(user, daemon_uid, notes),
        None if daemon_uid == 0 && !by_systemd => {
            let problem =
                Problem::warning(Origin::of_file(file), "user", "apps of this runtime run as root", "set user");
            notes.problem(problem);
        }
        None => {}
    }
    if let Some(group) = &group
        && matches!(Group::from_name(&group.value), Ok(None))
    {
        notes.warn(group, format!("there is no group {}", group.value), "make it, or correct group");
    }
}

fn check_program(given: &Given<Template>, path: &str, notes: &Notes) {
    if !path.starts_with('/') {
        return;
    }
    match fs::metadata(path) {
        Err(_) => notes.warn(given, format!("there is no program {path}"), "install it, or correct command"),
        Ok(meta) if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 => {
            notes.warn(given, format!("{path} is not executable"), "chmod +x it, or correct command");
        }
        Ok(_) => {}
    }
}

fn check_user(user: &Given<String>, daemon_uid: u32, notes: &Notes) {
    match User::from_name(&user.value) {
        Ok(None) => notes.warn(user, format!("there is no user {}", user.value), "make it, or correct user"),
        Ok(Some(found)) if daemon_uid != 0 && found.uid.as_raw() != daemon_uid => {
            let text = format!("the daemon runs as {} and cannot run apps as {}", user_name(daemon_uid), user.value);
            notes.warn(user, text, "run it as root, or remove user");
        }
        // A directory service that does not answer says nothing about the user.
        Ok(Some(_)) | Err(_) => {}
    }
}

/// The text of a template without placeholders.
fn plain(template: &Template) -> Option<String> {
    match template.placeholders().next() {
        Some(_) => None,
        None => template.render(|_| None).ok(),
    }
}
