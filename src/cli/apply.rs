//! `apply -f FILE`: makes what is missing, changes what differs, and with `--prune` removes what the file does not name.
//!
//! Everything is checked before anything is changed. Secrets are write-only, so a file with secrets (or the
//! password of a database) is always sent; the daemon says whether they differ.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use hyper::Method;
use nbs_core::name::EnvironmentName;
use serde_json::{Map, Value};

use super::Session;
use super::app::edit::{difference, send};
use super::app::show::{names, path};
use super::exit::{Exit, Failure, Outcome};
use super::wait::{WaitArgs, outcomes};
use crate::wire::api::app::App;
use crate::wire::api::operation::Operation;
use crate::wire::api::runtime::RuntimeList;
use crate::wire::spec::{SpecDefaults, parse_spec, render_spec};

#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    /// TOML with [[app]] tables, or JSON with the same keys ("-": JSON or TOML on standard input)
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Remove apps that the file does not name (their data is kept)
    #[arg(long)]
    prune: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before removing
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

/// What is to be done with one app.
enum Step {
    Create(Map<String, Value>),
    Change(Box<App>, Value),
    Keep,
    Remove,
}

impl Step {
    fn line(&self, name: &str) -> String {
        match self {
            Self::Create(_) => format!("+ create {name}"),
            Self::Change(_, patch) => {
                let keys: Vec<_> =
                    patch.as_object().into_iter().flat_map(|map| map.keys()).map(String::as_str).collect();
                format!("~ change {name}: {}", keys.join(", "))
            }
            Self::Keep => format!("= keep   {name}"),
            Self::Remove => format!("- remove {name}"),
        }
    }
}

pub async fn run(session: &mut Session, args: ApplyArgs) -> Outcome {
    let wanted = read(&args.file)?;
    known_runtimes(session, &args.file, &wanted).await?;
    let there: BTreeSet<String> = names(session).await?.into_iter().collect();
    let mut plan: Vec<(String, Step)> = Vec::new();
    for (name, spec) in wanted {
        let step = match there.contains(&name) {
            true => compare(session.client.read(&path(&name)).await?, spec, &args.file)?,
            false => Step::Create(spec),
        };
        plan.push((name, step));
    }
    if args.prune {
        let kept: BTreeSet<&String> = plan.iter().map(|(name, _)| name).collect();
        let gone: Vec<String> = there.iter().filter(|name| !kept.contains(name)).cloned().collect();
        plan.extend(gone.into_iter().map(|name| (name, Step::Remove)));
    }
    print(session, &plan)?;
    if args.dry_run {
        session.out.say("nothing was done (--dry-run)");
        return Ok(());
    }
    let removed: Vec<&str> =
        plan.iter().filter(|(_, step)| matches!(step, Step::Remove)).map(|(name, _)| name.as_str()).collect();
    if !removed.is_empty() {
        session.out.confirm(&format!("remove {}?", removed.join(", ")), args.yes)?;
    }
    carry_out(session, plan, &args).await
}

/// A runtime that is nowhere would fail half-way; only the daemon knows which there are.
async fn known_runtimes(session: &mut Session, file: &Path, wanted: &BTreeMap<String, Map<String, Value>>) -> Outcome {
    let list: RuntimeList = session.client.read("/api/v1/runtimes").await?;
    let mut told = Vec::new();
    for (app, spec) in wanted {
        let runtime = spec.get("runtime").and_then(Value::as_str).unwrap_or_default();
        let Some(found) = list.runtimes.iter().find(|known| known.name == runtime) else {
            told.push(format!("{}: {app}: runtime: there is no runtime {runtime}", file.display()));
            continue;
        };
        let places = spec.get("environments").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let without = places.filter(|place| !found.environments.iter().any(|known| known == place));
        told.extend(without.map(|place| {
            format!("{}: {app}: environments: there is no runtime {runtime} in environment {place}", file.display())
        }));
    }
    match told.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(Exit::Refused, told.join("\n       "))
            .hint("`nbsupervisor runtime list` shows what there is, and where; nothing was changed")),
    }
}

/// Each step; one that fails does not keep the others back.
async fn carry_out(session: &mut Session, plan: Vec<(String, Step)>, args: &ApplyArgs) -> Outcome {
    let mut operations = Vec::new();
    let mut worst = None;
    for (name, step) in plan {
        match perform(session, &name, step).await {
            Ok(operation) => operations.extend(operation),
            Err(failure) if failure.exit == Exit::Unreachable => return Err(failure),
            Err(mut failure) => {
                failure.text = format!("{}: {name}: {}", args.file.display(), failure.text);
                session.out.fail(&failure);
                worst.get_or_insert(failure.exit);
            }
        }
    }
    outcomes(session, operations, &args.wait).await?;
    worst.map_or(Ok(()), |exit| Err(Failure::told(exit)))
}

async fn perform(session: &mut Session, name: &str, step: Step) -> Outcome<Option<Operation>> {
    match step {
        Step::Keep => Ok(None),
        Step::Create(spec) => {
            let answer = session.client.change(Method::POST, "/api/v1/apps", Some(&Value::Object(spec))).await?;
            Ok(answer.parse::<App>()?.operation)
        }
        Step::Change(app, patch) => Ok(send(session, &app, &patch).await?.1.operation),
        Step::Remove => session.client.change(Method::DELETE, &path(name), None).await?.parse().map(Some),
    }
}

fn print(session: &Session, plan: &[(String, Step)]) -> Outcome {
    if !session.out.is_json() {
        let lines: Vec<_> = plan.iter().map(|(name, step)| step.line(name)).collect();
        return session.out.data(lines.join("\n"));
    }
    let steps = plan.iter().map(|(name, step)| match step {
        Step::Create(_) => serde_json::json!({ "app": name, "action": "create" }),
        Step::Change(_, patch) => {
            let keys: Vec<_> = patch.as_object().into_iter().flat_map(|map| map.keys()).collect();
            serde_json::json!({ "app": name, "action": "change", "keys": keys })
        }
        Step::Keep => serde_json::json!({ "app": name, "action": "keep" }),
        Step::Remove => serde_json::json!({ "app": name, "action": "remove" }),
    });
    session.out.data(serde_json::json!({ "plan": steps.collect::<Vec<_>>() }).to_string())
}

/// What differs between an app and what the file wants of it. What the file leaves out goes back to its default, but for
/// the environments.
fn compare(app: App, wanted: Map<String, Value>, file: &Path) -> Outcome<Step> {
    let environments = app.instances.iter().filter_map(|i| EnvironmentName::parse(&i.environment).ok()).collect();
    let secrets = wanted.get("secrets").and_then(Value::as_object).cloned().unwrap_or_default();
    let password = wanted.get("database").and_then(|database| database.get("password")).cloned();
    let mut wanted = wanted;
    wanted.remove("reuse");
    let defaults = SpecDefaults { environments: Some(environments) };
    let spec = parse_spec(&Value::Object(wanted), &defaults).map_err(|errors| {
        faults(
            file,
            &app.name,
            errors.iter().map(|error| (error.field.as_str(), error.detail.as_str(), error.hint.as_str())),
        )
    })?;
    let mut patch = difference(&app.spec, &render_spec(&spec));
    if let Value::Object(map) = &mut patch {
        let gone = map.remove("secrets");
        let gone = gone.as_ref().and_then(Value::as_object).into_iter().flatten();
        let gone = gone.filter(|(name, _)| !secrets.contains_key(*name)).map(|(name, _)| (name.clone(), Value::Null));
        let secrets: Map<String, Value> = gone.chain(secrets.clone()).collect();
        if !secrets.is_empty() {
            map.insert("secrets".into(), secrets.into());
        }
        if let Some(password) = password.filter(Value::is_string) {
            let database = map.entry("database").or_insert_with(|| Value::Object(Map::new()));
            database["password"] = password;
        }
    }
    match patch.as_object() {
        Some(map) if map.is_empty() => Ok(Step::Keep),
        _ => Ok(Step::Change(Box::new(app), patch)),
    }
}

/// Reads and checks a file: apps by name.
fn read(file: &Path) -> Outcome<BTreeMap<String, Map<String, Value>>> {
    let place = file.display();
    let wrong = |text: String| Failure::new(Exit::Refused, format!("{place}: {text}"));
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    let text =
        text.map_err(|error| Failure::usage(format!("{place} cannot be read: {error}"), "name a file with -f"))?;
    let value: Value = match text.trim_start().starts_with(['{', '[']) && !text.trim_start().starts_with("[[") {
        true => serde_json::from_str(&text).map_err(|error| wrong(format!("it is not JSON: {error}")))?,
        false => toml::from_str(&text).map_err(|error| wrong(format!("it is not TOML: {error}")))?,
    };
    let list = match value {
        Value::Array(list) => list,
        Value::Object(mut map) => {
            let list = map.remove("app").or_else(|| map.remove("apps"));
            if let Some(key) = map.keys().next() {
                return Err(
                    wrong(format!("there is no {key:?} here")).hint("write [[app]] tables (JSON: { \"app\": [ … ] })")
                );
            }
            match list {
                Some(Value::Array(list)) => list,
                _ => {
                    return Err(
                        wrong("it names no apps".into()).hint("write [[app]] tables (JSON: { \"app\": [ … ] })")
                    );
                }
            }
        }
        _ => return Err(wrong("it names no apps".into())),
    };
    check(file, list)
}

/// Every fault of every app, before anything is done.
fn check(file: &Path, list: Vec<Value>) -> Outcome<BTreeMap<String, Map<String, Value>>> {
    // Which environments there are is the daemon's to say; the check is of the form.
    let anywhere = EnvironmentName::parse("local").ok().into_iter().collect();
    let defaults = SpecDefaults { environments: Some(anywhere) };
    let mut apps = BTreeMap::new();
    let mut told: Vec<String> = Vec::new();
    for (i, value) in list.into_iter().enumerate() {
        let name = value.get("name").and_then(Value::as_str).map_or_else(|| format!("app[{i}]"), str::to_owned);
        let Value::Object(map) = value else {
            told.push(format!("{}: {name}: it is no table", file.display()));
            continue;
        };
        let mut spec = map.clone();
        spec.remove("reuse");
        if let Err(errors) = parse_spec(&Value::Object(spec), &defaults) {
            let errors = errors.iter().map(|error| (error.field.as_str(), error.detail.as_str(), error.hint.as_str()));
            told.push(faults(file, &name, errors).text);
        }
        if apps.insert(name.clone(), map).is_some() {
            told.push(format!("{}: {name}: it stands twice in the file", file.display()));
        }
    }
    if told.is_empty() { Ok(apps) } else { Err(Failure::new(Exit::Refused, told.join("\n       "))) }
}

fn faults<'a>(file: &Path, app: &str, errors: impl Iterator<Item = (&'a str, &'a str, &'a str)>) -> Failure {
    let line =
        |(field, detail, hint): (&str, &str, &str)| format!("{}: {app}: {field}: {detail}; {hint}", file.display());
    Failure::new(Exit::Refused, errors.map(line).collect::<Vec<_>>().join("\n       "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_names_file_and_app() {
        let list = serde_json::json!([{ "name": "crm" }, { "name": "Bad", "runtime": "node" }, 3]);
        let Value::Array(list) = list else { panic!("a list") };
        let failure = check(Path::new("apps.toml"), list).unwrap_err();
        assert_eq!(failure.exit, Exit::Refused);
        for part in ["apps.toml: crm: runtime", "apps.toml: Bad: name", "apps.toml: app[2]"] {
            assert!(failure.text.contains(part), "{part} is not in {}", failure.text);
        }
    }

    #[test]
    fn an_app_that_is_as_wanted_is_kept() {
        let wanted = serde_json::json!({ "name": "crm", "runtime": "node", "env": { "A": "1" } });
        let Value::Object(wanted) = wanted else { panic!("an object") };
        let defaults = SpecDefaults { environments: Some(EnvironmentName::parse("local").into_iter().collect()) };
        let spec = parse_spec(&Value::Object(wanted.clone()), &defaults).unwrap();
        let app = |spec: Value| App {
            name: "crm".into(),
            generation: 1,
            status: "running".into(),
            intent: "run".into(),
            url: "/apps/crm/".into(),
            spec,
            instances: vec![],
            removing: false,
            created_at: String::new(),
            last_operation: None,
            data: vec![],
            operation: None,
        };
        let mut placed = wanted.clone();
        placed.insert("environments".into(), serde_json::json!(["local"]));
        let file = Path::new("x");
        assert!(matches!(compare(app(render_spec(&spec)), placed.clone(), file), Ok(Step::Keep)));
        placed.insert("env".into(), serde_json::json!({ "B": "2" }));
        let Ok(Step::Change(_, patch)) = compare(app(render_spec(&spec)), placed, file) else { panic!("no change") };
        assert_eq!(patch, serde_json::json!({ "env": { "A": null, "B": "2" } }));
    }
}
