//! `env list|show|drain|undrain|forget`.
//!
//! Decides how an environment is shown to people. Deliberately absent: the files of a new worker (`worker_files`).

use clap::Subcommand;
use hyper::Method;

use super::Session;
use super::client::encode;
use super::exit::{Exit, Failure, Outcome};
use super::out::{count, seconds};
use super::worker_files::AddArgs;
use crate::wire::api::environment::{Environment, EnvironmentChange, EnvironmentList};

#[derive(Debug, Subcommand)]
pub enum EnvVerb {
    /// List environments
    List,
    /// Show one
    Show {
        /// Which
        name: String,
    },
    /// Print (or write) the files that make a new worker; needs no daemon
    Add(AddArgs),
    /// Give environments no new starts; what runs there runs on
    Drain {
        /// Which
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Give drained environments starts again
    Undrain {
        /// Which
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Strike an environment off that is gone for good: what was there is held to be gone
    Forget {
        /// Which
        name: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

pub async fn run(session: &mut Session, verb: EnvVerb) -> Outcome {
    match verb {
        EnvVerb::List => list(session).await,
        EnvVerb::Show { name } => show(session, &name).await,
        // Told by whoever made this session: it needs no daemon.
        EnvVerb::Add(_) => Ok(()),
        EnvVerb::Drain { names } => each(session, &names, "drain").await,
        EnvVerb::Undrain { names } => each(session, &names, "undrain").await,
        EnvVerb::Forget { name, yes } => forget(session, &name, yes).await,
    }
}

fn path(name: &str) -> String {
    format!("/api/v1/environments/{}", encode(name))
}

async fn list(session: &mut Session) -> Outcome {
    let answer = session.client.get("/api/v1/environments").await?;
    if session.out.is_json() {
        return session.out.data(&answer.text);
    }
    let list: EnvironmentList = answer.parse()?;
    let rows = list.environments.iter().map(|env| {
        let runtimes: Vec<_> = env.runtimes.iter().map(|runtime| runtime.name.as_str()).collect();
        let reason = env.reason.as_ref().map(|reason| reason.text.clone());
        let url = env.proxy_url.clone().or_else(|| env.url.clone());
        vec![
            env.name.clone(),
            status(env),
            or_dash(Some(&env.host)),
            env.version.clone(),
            env.instances.to_string(),
            age(env),
            or_dash(url.as_ref()),
            runtimes.join(", "),
            reason.unwrap_or_default(),
        ]
    });
    let header = ["NAME", "STATUS", "HOST", "VERSION", "INSTANCES", "HEARD", "URL", "RUNTIMES", "REASON"];
    let empty = "there is no environment: is a worker running? `nbsupervisor env add NAME --url URL` makes one";
    session.out.table(&header, rows.collect(), empty)
}

/// One word or two: an environment can be silent and draining.
pub fn status(env: &Environment) -> String {
    if env.draining && env.status != "draining" { format!("{}, draining", env.status) } else { env.status.to_string() }
}

fn or_dash(text: Option<&String>) -> String {
    text.filter(|text| !text.is_empty()).cloned().unwrap_or_else(|| "-".into())
}

async fn show(session: &mut Session, name: &str) -> Outcome {
    let answer = session.client.get(&path(name)).await?;
    if session.out.is_json() {
        return session.out.data(&answer.text);
    }
    let env: Environment = answer.parse()?;
    let lines = lines(&env).into_iter().map(|(key, value)| format!("{key:<18} {value}"));
    session.out.data(lines.collect::<Vec<_>>().join("\n"))
}

fn lines(env: &Environment) -> Vec<(&'static str, String)> {
    let mut lines = vec![("name", env.name.clone()), ("status", status(env))];
    if let Some(reason) = &env.reason {
        lines.push(("  reason", format!("{} [{}]", reason.text, reason.code)));
        lines.push(("  remedy", reason.remedy.to_string()));
    }
    if !env.host.is_empty() {
        let local = if env.local { " (this one)" } else { "" };
        lines.push(("host", format!("{}{local}", env.host)));
    }
    lines.push(("version", env.version.clone()));
    lines.push(("heard", format!("{}, at {}", age(env), env.last_heartbeat_at)));
    lines.extend(env.url.clone().map(|url| ("url", url)));
    lines.extend(env.proxy_url.clone().map(|url| ("proxy url", url)));
    match (env.proxy_reachable, &env.proxy_error) {
        (Some(true), _) => lines.push(("reached", "yes".into())),
        (Some(false), error) => {
            lines.push(("reached", format!("no: {}", error.as_deref().unwrap_or("no reason given"))))
        }
        (None, _) => {}
    }
    lines.push(("instances", env.instances.to_string()));
    lines.push(("concurrent starts", env.concurrent_starts.to_string()));
    if let Some(capacity) = &env.capacity {
        let cpus = count(capacity.cpus, "CPU");
        lines.push(("capacity", format!("{cpus}, {} memory", size(capacity.memory_bytes))));
    }
    if let Some(usage) = &env.usage {
        let cpu = usage.cpu_percent.map(|cpu| format!("{cpu:.1} % CPU")).into_iter();
        let memory = usage.memory_bytes.map(|bytes| format!("{} memory", size(bytes)));
        let shown = cpu.chain(memory).collect::<Vec<_>>().join(", ");
        lines.extend(Some(shown).filter(|shown| !shown.is_empty()).map(|shown| ("usage", shown)));
    }
    for runtime in &env.runtimes {
        let version = runtime.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
        lines.push(("runtime", format!("{}{version}", runtime.name)));
    }
    lines
}

/// Each in turn; one that is refused does not keep the others back.
async fn each(session: &mut Session, names: &[String], action: &str) -> Outcome {
    let mut worst: Option<Exit> = None;
    for name in names {
        match change(session, name, action).await {
            Ok(()) => {}
            Err(failure) if failure.exit == Exit::Unreachable => return Err(failure),
            Err(failure) => {
                session.out.fail(&failure);
                worst.get_or_insert(failure.exit);
            }
        }
    }
    worst.map_or(Ok(()), |exit| Err(Failure::told(exit)))
}

async fn change(session: &mut Session, name: &str, action: &str) -> Outcome {
    let answer = session.client.change(Method::POST, &format!("{}/{action}", path(name)), None).await?;
    if session.out.is_json() {
        return session.out.data(&answer.text);
    }
    let EnvironmentChange { already, environment } = answer.parse()?;
    let instances = count(environment.instances as u64, "instance");
    session.out.say(match (action, already) {
        ("drain", true) => format!("{name} was draining already"),
        ("drain", false) => {
            format!("{name} is draining: it gets no new starts, and {instances} there run on as they do")
        }
        (_, true) => format!("{name} was not draining"),
        (_, false) => format!("{name} gets starts again"),
    });
    Ok(())
}

async fn forget(session: &mut Session, name: &str, yes: bool) -> Outcome {
    let env: Environment = session.client.read(&path(name)).await?;
    if env.status != "unavailable" {
        // The daemon knows the remedy; asking first would be in vain.
        return session.client.change(Method::DELETE, &path(name), None).await.map(|_| ());
    }
    let instances = count(env.instances as u64, "instance");
    let question = format!(
        "forget {name}, last heard {}? Its {instances} will be held to be gone, whatever still runs there.",
        age(&env)
    );
    session.out.confirm(&question, yes)?;
    session.client.change(Method::DELETE, &path(name), None).await?;
    session.out.say(format!("{name} is forgotten; should its daemon come back, it registers anew"));
    Ok(())
}

/// How long ago it was heard.
pub fn age(env: &Environment) -> String {
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
