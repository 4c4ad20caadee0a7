//! `app create`: flags (or a JSON file) to a spec.

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use hyper::Method;
use nbs_core::spec::{Hosting, StartMode};
use serde_json::{Map, Value};

use super::database::DatabaseArgs;
use crate::cli::Session;
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::wait::{WaitArgs, outcomes};
use crate::wire::api::app::App;

#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// The app's ID
    #[arg(required_unless_present = "json")]
    name: Option<String>,
    /// What runs it
    #[arg(long, required_unless_present = "json")]
    runtime: Option<String>,
    /// A name for people
    #[arg(long)]
    title: Option<String>,
    /// Where it runs (repeatable)
    #[arg(long = "environment", value_name = "NAME")]
    environments: Vec<String>,
    /// Whose process it runs in: its own, or one that it shares with other apps of its runtime
    #[arg(long, value_name = "HOW", value_parser = hostings())]
    hosting: Option<String>,
    /// When it starts
    #[arg(long, value_name = "MODE", value_parser = modes())]
    start_mode: Option<String>,
    /// Run the recipe's upgrade steps before a start that finds another version on disk
    #[arg(long)]
    auto_upgrade: bool,
    /// A variable (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// A secret variable: asked for, or read from a file (repeatable)
    #[arg(long = "secret", value_name = "KEY[=@FILE]")]
    secrets: Vec<String>,
    #[command(flatten)]
    database: DatabaseArgs,
    /// Memory at most, such as 512M
    #[arg(long, value_name = "SIZE")]
    memory_max: Option<String>,
    /// CPU time at most, such as 150%
    #[arg(long, value_name = "PERCENT")]
    cpu_quota: Option<String>,
    /// Processes and threads at most
    #[arg(long, value_name = "NUMBER")]
    tasks_max: Option<u64>,
    /// Share of the disks' time beside other apps, 1 to 10000; 100 is usual
    #[arg(long, value_name = "WEIGHT")]
    io_weight: Option<u32>,
    /// A label (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Use the name of a removed app again
    #[arg(long)]
    reuse: bool,
    /// The spec as JSON, under the other flags ("-": standard input)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    wait: WaitArgs,
}

fn modes() -> clap::builder::PossibleValuesParser {
    StartMode::ALL.iter().map(|mode| mode.as_str()).collect::<Vec<_>>().into()
}

/// The ways of hosting, for completion and errors.
pub fn hostings() -> clap::builder::PossibleValuesParser {
    Hosting::ALL.iter().map(|hosting| hosting.as_str()).collect::<Vec<_>>().into()
}

pub async fn run(session: &mut Session, args: CreateArgs) -> Outcome {
    let wait = args.wait.clone();
    let spec = spec(args)?;
    let answer = session.client.change(Method::POST, "/api/v1/apps", Some(&Value::Object(spec))).await?;
    let app: App = answer.parse()?;
    if session.out.is_json() {
        // The app is the answer; what becomes of its first start is another question.
        return session.out.data(&answer.text);
    }
    session.out.say(format!("{} is created, at {}", app.name, app.url));
    if app.intent == "on-demand" {
        let how = format!("`nbsupervisor app start {}` starts it now", app.name);
        session.out.say(format!("it starts when it is first visited; {how}"));
    }
    outcomes(session, app.operation.into_iter().collect(), &wait).await
}

fn spec(args: CreateArgs) -> Outcome<Map<String, Value>> {
    let mut spec = match &args.json {
        Some(file) => read_object(file)?,
        None => Map::new(),
    };
    let texts = [
        ("name", args.name),
        ("runtime", args.runtime),
        ("title", args.title),
        ("hosting", args.hosting),
        ("start_mode", args.start_mode),
    ];
    spec.extend(texts.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?.into()))));
    if !args.environments.is_empty() {
        spec.insert("environments".into(), args.environments.into());
    }
    for (key, pairs) in [("env", args.env), ("labels", args.labels)] {
        for pair in pairs {
            let (name, value) = split(key, &pair)?;
            put(&mut spec, key, name, value.into());
        }
    }
    for secret in args.secrets {
        let (name, value) = read_secret(&secret)?;
        put(&mut spec, "secrets", &name, value.into());
    }
    args.database.add(&mut spec)?;
    let limits = [
        ("memory_max", args.memory_max.map(Value::from)),
        ("cpu_quota", args.cpu_quota.map(Value::from)),
        ("tasks_max", args.tasks_max.map(Value::from)),
        ("io_weight", args.io_weight.map(Value::from)),
    ];
    for (key, value) in limits {
        if let Some(value) = value {
            put(&mut spec, "limits", key, value);
        }
    }
    if args.auto_upgrade {
        spec.insert("auto_upgrade".into(), true.into());
    }
    if args.reuse {
        spec.insert("reuse".into(), true.into());
    }
    Ok(spec)
}

/// Puts a value into a table of a spec.
pub fn put(spec: &mut Map<String, Value>, table: &str, key: &str, value: Value) {
    let entry = spec.entry(table).or_insert_with(|| Value::Object(Map::new()));
    if let Some(map) = entry.as_object_mut() {
        map.insert(key.into(), value);
    }
}

fn split<'a>(what: &str, pair: &'a str) -> Outcome<(&'a str, &'a str)> {
    let hint = match what {
        "env" => "write KEY=VALUE; where the app runs is said with --environment NAME",
        _ => "write KEY=VALUE",
    };
    let wrong = || Failure::usage(format!("{pair:?} is no KEY=VALUE of {what}"), hint);
    pair.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(wrong)
}

/// A secret never stands on the command line, where every user of the host could read it.
pub fn read_secret(given: &str) -> Outcome<(String, String)> {
    let Some((key, source)) = given.split_once('=') else { return Ok((given.into(), ask(given)?)) };
    let Some(file) = source.strip_prefix('@') else {
        return Err(Failure::usage(
            format!("the value of {key} must not stand on the command line, where others can read it"),
            "leave the value out and type it, or name a file that holds it: …=@FILE",
        ));
    };
    let text = std::fs::read_to_string(file).map_err(|error| {
        let text = format!("{key} cannot be read from {file}: {error}");
        Failure::usage(text, "name a file that you may read")
    })?;
    Ok((key.into(), text.strip_suffix('\n').unwrap_or(&text).into()))
}

/// Asks on a terminal without showing what is typed; else takes one line of standard input.
fn ask(key: &str) -> Outcome<String> {
    let terminal = std::io::stdin().is_terminal();
    if terminal {
        eprint!("value of {key} (not shown): ");
    }
    let echo = |word: &str| terminal.then(|| std::process::Command::new("stty").arg(word).status());
    echo("-echo");
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    echo("echo");
    if terminal {
        eprintln!();
    }
    match read {
        Ok(0) => {
            let hint = "type it, pipe it in, or name a file that holds it: …=@FILE";
            Err(Failure::usage(format!("no value for {key} came"), hint))
        }
        Ok(_) => Ok(line.trim_end_matches(['\n', '\r']).into()),
        Err(error) => Err(Failure::new(Exit::Failed, format!("standard input cannot be read: {error}"))),
    }
}

/// Reads a JSON object from a file, or from standard input by `-`.
pub fn read_object(file: &Path) -> Outcome<Map<String, Value>> {
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map(|_| ())
    } else {
        std::fs::read_to_string(file).map(|read| text = read)
    };
    let place = if file.as_os_str() == "-" { "standard input".to_string() } else { file.display().to_string() };
    read.map_err(|error| {
        Failure::usage(format!("{place} cannot be read: {error}"), "name a JSON file, or - for standard input")
    })?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::usage(format!("{place} is no JSON object: {error}"), "write an object: { \"name\": … }")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_on_the_command_line_is_refused() {
        let failure = read_secret("TOKEN=abc").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(!failure.text.contains("abc"), "{}", failure.text);
    }

    #[test]
    fn a_pair_needs_a_key() {
        assert_eq!(split("env", "A=b=c").unwrap(), ("A", "b=c"));
        assert!(split("env", "A").is_err() && split("env", "=x").is_err());
    }
}
