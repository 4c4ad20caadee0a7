//! `app edit`: a merge patch from flags, from a file, or from what the editor left.

use std::path::PathBuf;

use hyper::Method;
use serde_json::{Map, Value};

use super::create::{hostings, read_object};
use super::show::path;
use crate::cli::Session;
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::wire::api::app::App;

#[derive(Debug, clap::Args)]
pub struct EditArgs {
    /// Which app
    name: String,
    /// Set a key of the spec, such as env.TZ=UTC or limits.memory_max=1G (repeatable)
    #[arg(id = "edit_set", long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Take a key of the spec away (repeatable)
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
    /// Where it is to run from now on: name every environment (repeatable); it leaves those that are not named
    #[arg(long = "environment", visible_alias = "env", value_name = "NAME")]
    environments: Vec<String>,
    /// Whose process it runs in from its next start on: its own, or one that it shares
    #[arg(long, value_name = "HOW", value_parser = hostings())]
    hosting: Option<String>,
    /// A merge patch as JSON ("-": standard input)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["edit_set", "unset", "environments", "hosting"])]
    json: Option<PathBuf>,
}

impl EditArgs {
    fn is_empty(&self) -> bool {
        self.set.is_empty() && self.unset.is_empty() && self.environments.is_empty() && self.hosting.is_none()
    }
}

pub async fn run(session: &mut Session, args: EditArgs) -> Outcome {
    let app: App = session.client.read(&path(&args.name)).await?;
    let patch = match &args.json {
        Some(file) => Value::Object(read_object(file)?),
        None if args.is_empty() => in_editor(&app)?,
        None => from_flags(&args)?,
    };
    if patch.as_object().is_some_and(Map::is_empty) {
        session.out.say("nothing was changed");
        return Ok(());
    }
    let (text, changed) = send(session, &app, &patch).await?;
    if session.out.is_json() {
        return session.out.data(text);
    }
    session.out.say(format!("{} is at generation {}", changed.name, changed.generation));
    tell_moves(session, &app, &changed);
    if changed.instances.iter().any(|i| i.pid.is_some() && i.spec_generation != changed.generation) {
        session.out.say(format!("what needs a restart takes effect by `nbsupervisor app restart {}`", changed.name));
    }
    Ok(())
}

/// Where it goes, and where it leaves.
fn tell_moves(session: &Session, before: &App, after: &App) {
    let was = |name: &str| before.instances.iter().any(|i| i.environment == name && !i.leaving);
    let (leaving, stays): (Vec<_>, Vec<_>) = after.instances.iter().partition(|instance| instance.leaving);
    let names = |list: Vec<&str>| list.join(", ");
    let gone: Vec<&str> = leaving.iter().map(|i| i.environment.as_str()).filter(|name| was(name)).collect();
    let new: Vec<&str> = stays.iter().map(|i| i.environment.as_str()).filter(|name| !was(name)).collect();
    if !gone.is_empty() {
        session.out.say(format!("it is being taken away from {}", names(gone)));
    }
    if !new.is_empty() {
        session.out.say(format!("it is placed in {} from now on; `nbsupervisor queue` shows its turn", names(new)));
    }
}

/// Sends a patch made from this app.
pub async fn send(session: &mut Session, app: &App, patch: &Value) -> Outcome<(Vec<u8>, App)> {
    let headers = [("if-match", format!("\"{}\"", app.generation))];
    let answer = session.client.send(Method::PATCH, &path(&app.name), Some(patch), &headers).await?;
    Ok((answer.text.to_vec(), answer.parse()?))
}

fn from_flags(args: &EditArgs) -> Outcome<Value> {
    let mut patch = Map::new();
    for pair in &args.set {
        let wrong = || Failure::usage(format!("{pair:?} is no KEY=VALUE"), "write --set env.TZ=UTC");
        let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
        place(&mut patch, key, read(key, value)?)?;
    }
    for key in &args.unset {
        place(&mut patch, key, Value::Null)?;
    }
    if !args.environments.is_empty() {
        place(&mut patch, "environments", args.environments.clone().into())?;
    }
    if let Some(hosting) = &args.hosting {
        place(&mut patch, "hosting", hosting.as_str().into())?;
    }
    Ok(Value::Object(patch))
}

/// Variables, secrets and labels are texts; everything else is JSON where it parses.
fn read(key: &str, value: &str) -> Outcome<Value> {
    let table = key.split('.').next().unwrap_or_default();
    if table == "secrets" || key == "database.password" {
        let text = format!("the value of {key} must not stand on the command line, where others can read it");
        return Err(Failure::usage(text, "write the secret into a JSON file: --json FILE (or - for standard input)"));
    }
    let text = matches!(table, "env" | "labels") || key.contains(".env.");
    Ok(if text { value.into() } else { serde_json::from_str(value).unwrap_or_else(|_| value.into()) })
}

/// The path of a key: names of variables, secrets and labels may have dots and are one part.
fn parts(key: &str) -> Vec<&str> {
    let limit = match key.split('.').next() {
        Some("env" | "secrets" | "labels") => 2,
        Some("placements") => 4,
        _ => 8,
    };
    key.splitn(limit, '.').collect()
}

fn place(patch: &mut Map<String, Value>, key: &str, value: Value) -> Outcome {
    let parts = parts(key);
    if parts.iter().any(|part| part.is_empty()) {
        return Err(Failure::usage(format!("{key:?} is no key"), "write it like limits.memory_max"));
    }
    let Some((last, tables)) = parts.split_last() else { return Ok(()) };
    let mut map = patch;
    for table in tables {
        let entry = map.entry(*table).or_insert_with(|| Value::Object(Map::new()));
        let Some(inner) = entry.as_object_mut() else {
            return Err(Failure::usage(format!("{key:?} is within a key that is set as well"), "set one of them"));
        };
        map = inner;
    }
    map.insert((*last).into(), value);
    Ok(())
}

/// The spec in `$EDITOR` as JSON; the patch is what came out different.
fn in_editor(app: &App) -> Outcome<Value> {
    let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()));
    let Some(editor) = editor else {
        let hint = "say --set KEY=VALUE, --unset KEY or --json FILE, or set EDITOR";
        return Err(Failure::usage("there is nothing to change and no $EDITOR", hint));
    };
    let failed = |what: &str, error: &dyn std::fmt::Display| Failure::new(Exit::Failed, format!("{what}: {error}"));
    let text = serde_json::to_string_pretty(&app.spec).map_err(|error| failed("the spec cannot be shown", &error))?;
    let file = scratch(&app.name, &text).map_err(|error| failed("no file for the editor", &error))?;
    // Through a shell, as EDITOR may hold arguments (`code --wait`); the file's name is an argument of its own.
    let line = format!("{editor} \"$1\"");
    let status = std::process::Command::new("/bin/sh").args(["-c", &line, "sh"]).arg(&file).status();
    let after = std::fs::read_to_string(&file);
    let _ = std::fs::remove_file(&file);
    if !status.map_err(|error| failed("the editor cannot be started", &error))?.success() {
        return Err(Failure::new(Exit::Failed, "the editor ended with an error; nothing was changed"));
    }
    let after = after.map_err(|error| failed("the edited file cannot be read", &error))?;
    let after: Value = serde_json::from_str(&after).map_err(|error| {
        Failure::new(Exit::Refused, format!("what was edited is not JSON: {error}; nothing was changed"))
    })?;
    Ok(difference(&app.spec, &after))
}

/// A new file that only this user can read.
fn scratch(name: &str, text: &str) -> std::io::Result<PathBuf> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    let path = std::env::temp_dir().join(format!("nbsupervisor-{name}-{:016x}.json", u64::from_ne_bytes(bytes)));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(text.as_bytes())?;
    Ok(path)
}

/// The merge patch (RFC 7396) that makes `after` of `before`.
pub fn difference(before: &Value, after: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (before, after) else { return after.clone() };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(same) if same == value => {}
            Some(other) if other.is_object() && value.is_object() => {
                patch.insert(key.clone(), difference(other, value));
            }
            None if value.is_null() => {}
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    patch.extend(gone.map(|key| (key.clone(), Value::Null)));
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_difference_is_a_merge_patch() {
        let before = json!({ "a": 1, "env": { "A": "1", "B": "2" }, "gone": "x", "same": [1] });
        let after = json!({ "a": 2, "env": { "A": "1", "C": "3" }, "same": [1] });
        assert_eq!(difference(&before, &after), json!({ "a": 2, "env": { "B": null, "C": "3" }, "gone": null }));
        assert_eq!(difference(&before, &before), json!({}));
    }

    #[test]
    fn flags_become_a_patch_and_variables_stay_texts() {
        let args = EditArgs {
            name: "crm".into(),
            set: vec!["env.PORT=8080".into(), "limits.tasks_max=9".into(), "labels.a.b=x".into(), "title=T".into()],
            unset: vec!["env.OLD".into()],
            environments: vec!["env_a".into(), "env_b".into()],
            hosting: Some("shared".into()),
            json: None,
        };
        let wanted = json!({
            "env": { "PORT": "8080", "OLD": null }, "limits": { "tasks_max": 9 }, "labels": { "a.b": "x" }, "title": "T",
            "environments": ["env_a", "env_b"], "hosting": "shared",
        });
        assert_eq!(from_flags(&args).unwrap(), wanted);
    }

    #[test]
    fn a_secret_is_not_set_by_a_flag() {
        assert!(read("secrets.K", "v").is_err() && read("database.password", "v").is_err());
    }
}
