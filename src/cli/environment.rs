//! `env list|show`.

use clap::Subcommand;

use super::Session;
use super::client::encode;
use super::exit::Outcome;
use super::out::seconds;
use crate::wire::api::environment::{Environment, EnvironmentList};

#[derive(Debug, Subcommand)]
pub enum EnvVerb {
    /// List environments
    List,
    /// Show one
    Show {
        /// Which
        name: String,
    },
}

pub async fn run(session: &mut Session, verb: EnvVerb) -> Outcome {
    match verb {
        EnvVerb::List => list(session).await,
        EnvVerb::Show { name } => show(session, &name).await,
    }
}

async fn list(session: &mut Session) -> Outcome {
    let answer = session.client.get("/api/v1/environments").await?;
    if session.out.is_json() {
        return session.out.data(&answer.text);
    }
    let list: EnvironmentList = answer.parse()?;
    let rows = list.environments.iter().map(|env| {
        let runtimes: Vec<_> = env.runtimes.iter().map(|runtime| runtime.name.as_str()).collect();
        vec![
            env.name.clone(),
            env.status.to_string(),
            env.version.clone(),
            env.instances.to_string(),
            age(env),
            runtimes.join(", "),
        ]
    });
    let header = ["NAME", "STATUS", "VERSION", "INSTANCES", "HEARD", "RUNTIMES"];
    session.out.table(&header, rows.collect(), "there is no environment: is a worker running?")
}

async fn show(session: &mut Session, name: &str) -> Outcome {
    let answer = session.client.get(&format!("/api/v1/environments/{}", encode(name))).await?;
    if session.out.is_json() {
        return session.out.data(&answer.text);
    }
    let env: Environment = answer.parse()?;
    let mut lines = vec![
        ("name", env.name.clone()),
        ("status", env.status.to_string()),
        ("version", env.version.clone()),
        ("heard", age(&env)),
        ("instances", env.instances.to_string()),
        ("concurrent starts", env.concurrent_starts.to_string()),
    ];
    if let Some(capacity) = &env.capacity {
        lines.push(("capacity", format!("{} CPUs, {} memory", capacity.cpus, size(capacity.memory_bytes))));
    }
    if let Some(usage) = &env.usage {
        let cpu = usage.cpu_percent.map(|cpu| format!("{cpu:.1} % CPU")).into_iter();
        let memory = usage.memory_bytes.map(|bytes| format!("{} memory", size(bytes)));
        lines.push(("usage", cpu.chain(memory).collect::<Vec<_>>().join(", ")));
    }
    for runtime in &env.runtimes {
        let version = runtime.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
        lines.push(("runtime", format!("{}{version}", runtime.name)));
    }
    let lines: Vec<_> = lines.into_iter().map(|(key, value)| format!("{key:<18} {value}")).collect();
    session.out.data(lines.join("\n"))
}

fn age(env: &Environment) -> String {
    format!("{} ago", seconds(env.lease_age_ms))
}

/// Bytes for people, one decimal.
pub fn size(bytes: u64) -> String {
    let units = [(1u64 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, letter)) => format!("{:.1}{letter}", bytes as f64 / *unit as f64),
        None => format!("{bytes}B"),
    }
}
