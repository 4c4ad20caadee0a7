//! `runtime list|show|check`; check works without a daemon.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::Session;
use super::exit::{Exit, Failure, Outcome};
use super::out::{Out, count};
use crate::config::{Problem, Sources, load_recipe_file};
use crate::wire::api::runtime::{RuntimeLimits, RuntimeList};

#[derive(Debug, Subcommand)]
pub enum RuntimeVerb {
    /// List runtimes
    List,
    /// Show one
    Show {
        /// Which
        name: String,
    },
    /// Check a recipe file, or all of recipes_dir; needs no daemon
    Check {
        /// A recipe file
        file: Option<PathBuf>,
    },
}

/// What a check without a daemon needs.
pub struct Offline {
    /// Where the configuration comes from.
    pub sources: Sources,
}

pub async fn run(session: &mut Session, verb: RuntimeVerb, offline: Offline) -> Outcome {
    match verb {
        RuntimeVerb::List => list(session).await,
        RuntimeVerb::Show { name } => show(session, &name).await,
        RuntimeVerb::Check { file: Some(file) } => check_file(&file, &session.out),
        RuntimeVerb::Check { file: None } => check_all(&offline.sources, &session.out),
    }
}

async fn list(session: &mut Session) -> Outcome {
    let answer = session.client.get("/api/v1/runtimes").await?;
    if session.out.is_json() {
        return session.out.data(&answer.text);
    }
    let list: RuntimeList = answer.parse()?;
    let rows = list.runtimes.iter().map(|runtime| {
        let places = runtime.environments.join(", ");
        vec![
            runtime.name.clone(),
            runtime.adapter.to_string(),
            runtime.listen.to_string(),
            places,
            runtime.description.clone(),
        ]
    });
    let empty = "there is no runtime: put a recipe into recipes_dir (`nbsupervisor config show` tells where), then `nbsupervisor runtime check`";
    session.out.table(&["NAME", "ADAPTER", "LISTEN", "ENVIRONMENTS", "DESCRIPTION"], rows.collect(), empty)?;
    for problem in &list.problems {
        let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
        let field = problem.field.as_deref().map(|field| format!(" {field}:")).unwrap_or_default();
        session.out.warn(format!("{}{line}:{field} {}", problem.file, problem.detail));
    }
    Ok(())
}

async fn show(session: &mut Session, name: &str) -> Outcome {
    let list: RuntimeList = session.client.read("/api/v1/runtimes").await?;
    let Some(runtime) = list.runtimes.iter().find(|runtime| runtime.name == name) else {
        return Err(Failure::new(Exit::NotFound, format!("there is no runtime {name:?}"))
            .hint("`nbsupervisor runtime list` shows what there is"));
    };
    if session.out.is_json() {
        return session.out.data(serde_json::to_string(runtime).unwrap_or_default());
    }
    let mut lines = vec![
        ("name", runtime.name.clone()),
        ("description", runtime.description.clone()),
        ("adapter", runtime.adapter.to_string()),
        ("hosting", runtime.hosting.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        ("listen", runtime.listen.to_string()),
        ("strip prefix", runtime.strip_prefix.to_string()),
        ("environments", runtime.environments.join(", ")),
        ("longest start", runtime.turn_timeout.clone()),
        ("limits at most", limits(&runtime.max_limits)),
    ];
    lines.extend(runtime.app_id_pattern.clone().map(|pattern| ("app ID pattern", pattern)));
    if !runtime.secrets_needed.is_empty() {
        lines.push(("secrets needed", runtime.secrets_needed.join(", ")));
    }
    let lines: Vec<_> = lines.into_iter().map(|(key, value)| format!("{key:<15} {value}")).collect();
    session.out.data(lines.join("\n"))
}

fn limits(limits: &RuntimeLimits) -> String {
    let memory = limits.memory_max.as_ref().map(|memory| format!("memory {memory}"));
    let cpu = limits.cpu_quota.as_ref().map(|cpu| format!("CPU {cpu}"));
    let tasks = limits.tasks_max.map(|tasks| format!("{tasks} tasks"));
    let weight = limits.io_weight.map(|weight| format!("IO weight {weight}"));
    let all: Vec<_> = memory.into_iter().chain(cpu).chain(tasks).chain(weight).collect();
    if all.is_empty() { "none".into() } else { all.join(", ") }
}

/// Checks one file.
pub fn check_file(file: &Path, out: &Out) -> Outcome {
    let (recipe, problems) = load_recipe_file(file);
    let name = recipe.map(|recipe| recipe.name.to_string());
    verdict(
        &problems,
        out,
        &format!("{}: good{}", file.display(), name.map(|n| format!(", runtime {n}")).unwrap_or_default()),
    )
}

fn check_all(sources: &Sources, out: &Out) -> Outcome {
    let places = crate::config::places(sources).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let dir = &places.recipes_dir;
    let (recipes, problems) = crate::config::load_recipes(dir);
    verdict(&problems, out, &format!("{}: {} good", dir.display(), count(recipes.len() as u64, "recipe")))
}

/// Prints problems; any error among them fails.
pub fn verdict(problems: &[Problem], out: &Out, good: &str) -> Outcome {
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    if out.is_json() {
        let rows: Vec<_> = problems.iter().map(shown).collect();
        out.data(serde_json::json!({ "problems": rows, "errors": errors }).to_string())?;
    } else {
        for problem in problems {
            let word = if problem.is_error() { "error" } else { "warning" };
            out.data(format!("{word}: {problem}"))?;
        }
        if errors == 0 {
            out.data(good)?;
        }
    }
    if errors == 0 { Ok(()) } else { Err(Failure::told(Exit::Failed)) }
}

fn shown(problem: &Problem) -> serde_json::Value {
    serde_json::json!({
        "severity": if problem.is_error() { "error" } else { "warning" },
        "origin": problem.origin.to_string(), "line": problem.line(),
        "field": problem.key, "detail": problem.text, "hint": problem.hint,
    })
}
