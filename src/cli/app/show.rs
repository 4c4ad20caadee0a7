//! `app list|show|why|open`.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::Session;
use crate::cli::client::{encode, with_query};
use crate::cli::environment::size;
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::out::{count, join_pages, seconds};
use crate::wire::api::app::{App, Instance};
use crate::wire::api::cause::Why;
use crate::wire::api::daemon::Status;

#[derive(Debug, Default, clap::Args)]
pub struct ListArgs {
    /// Placed in this environment
    #[arg(long, visible_alias = "env", value_name = "NAME")]
    environment: Option<String>,
    /// In this status
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Name or title contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    apps: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
}

/// The part of an app that the list shows; the rest of the answer is passed over.
#[derive(Deserialize)]
struct Row {
    name: String,
    status: String,
    intent: String,
    instances: Vec<RowInstance>,
    spec: RowSpec,
}

#[derive(Deserialize)]
struct RowSpec {
    runtime: String,
}

#[derive(Deserialize)]
struct RowInstance {
    environment: String,
    status: String,
    #[serde(default)]
    leaving: bool,
    #[serde(default)]
    local: Option<RowLocal>,
    version: Option<String>,
    address: Option<String>,
    restarts: u32,
    reason: Option<RowReason>,
}

#[derive(Deserialize)]
struct RowLocal {
    action: String,
    actor: String,
}

#[derive(Deserialize)]
struct RowReason {
    text: String,
}

#[derive(Deserialize)]
struct Rows {
    apps: Vec<Row>,
}

pub async fn list(session: &mut Session, args: ListArgs) -> Outcome {
    let filtered = args.environment.is_some() || args.status.is_some() || args.filter.is_some();
    let text = pages(session, &args).await?;
    if session.out.is_json() {
        return session.out.data(text);
    }
    let rows = rows(&text)?.into_iter().map(|app| {
        let places: Vec<_> = app.instances.iter().map(place).collect();
        let status = summary(&app);
        let restarts: u32 = app.instances.iter().map(|instance| instance.restarts).sum();
        let reason = reason(&app).unwrap_or_default();
        let version = all(app.instances.iter().filter_map(|instance| instance.version.as_deref()));
        let address = all(app.instances.iter().filter_map(|instance| instance.address.as_deref()));
        let (restarts, places) = (restarts.to_string(), places.join(", "));
        vec![app.name, status, app.intent, app.spec.runtime, version, places, address, restarts, reason]
    });
    let header = ["NAME", "STATUS", "INTENT", "RUNTIME", "VERSION", "ENVIRONMENT", "ADDRESS", "RESTARTS", "REASON"];
    let empty = if filtered {
        "no app is like that: `nbsupervisor app list` without filters shows all"
    } else {
        "there is no app yet: `nbsupervisor app create NAME --runtime R` makes one, `nbsupervisor runtime list` shows what can run"
    };
    session.out.table(&header, rows.collect(), empty)
}

/// The status of an app; with several instances, how many of them share it: `running 1/2`.
fn summary(app: &Row) -> String {
    let counted: Vec<_> = app.instances.iter().filter(|instance| !instance.leaving).collect();
    if counted.len() < 2 {
        return app.status.clone();
    }
    let same = counted.iter().filter(|instance| instance.status == app.status).count();
    format!("{} {same}/{}", app.status, counted.len())
}

/// Where an instance is, with what is not as usual there.
fn place(instance: &RowInstance) -> String {
    match (instance.leaving, instance.status.as_str()) {
        (true, _) => format!("{} (leaving)", instance.environment),
        (false, "unknown") => format!("{} (silent)", instance.environment),
        _ => instance.environment.clone(),
    }
}

/// Why not all is well, and where.
fn reason(app: &Row) -> Option<String> {
    let at = |instance: &RowInstance, text: String| match app.instances.len() {
        1 => text,
        _ => format!("{}: {text}", instance.environment),
    };
    let bad = app.instances.iter().filter(|instance| instance.status != "running");
    let failed = bad.filter_map(|instance| Some(at(instance, instance.reason.as_ref()?.text.clone())));
    let local = app.instances.iter().filter_map(|instance| {
        let local = instance.local.as_ref()?;
        Some(at(instance, format!("{} on its host by {}", local.action, local.actor)))
    });
    failed.chain(local).next()
}

/// What all instances have, each value once.
fn all<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    if seen.is_empty() { "-".into() } else { seen.join(", ") }
}

/// All pages as one answer; the first page as it came, if it is the only one.
async fn pages(session: &mut Session, args: &ListArgs) -> Outcome<Vec<u8>> {
    let mut all: Vec<Box<RawValue>> = Vec::new();
    let mut cursor = None;
    loop {
        let query = [
            ("environment", args.environment.clone()),
            ("status", args.status.clone()),
            ("q", args.filter.clone()),
            ("cursor", cursor.clone()),
        ];
        let answer = session.client.get(&with_query("/api/v1/apps", &query)).await?;
        if cursor.is_none() && answer.text.ends_with(b"\"next_cursor\":null}") {
            return Ok(answer.text.into());
        }
        let page: Page = answer.parse()?;
        all.extend(page.apps);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(join_pages("apps", &all).into_bytes());
        }
    }
}

fn rows(text: &[u8]) -> Outcome<Vec<Row>> {
    let unread = |error| Failure::new(Exit::Failed, format!("the daemon's answer cannot be read: {error}"));
    serde_json::from_slice(text).map(|list: Rows| list.apps).map_err(unread)
}

/// The names of all apps.
pub async fn names(session: &mut Session) -> Outcome<Vec<String>> {
    let text = pages(session, &ListArgs::default()).await?;
    Ok(rows(&text)?.into_iter().map(|app| app.name).collect())
}

pub async fn show(session: &mut Session, name: &str) -> Outcome {
    let answer = session.client.get(&path(name)).await?;
    if session.out.is_json() {
        return session.out.data(&answer.text);
    }
    let app: App = answer.parse()?;
    let mut lines = Vec::new();
    let mut line = |key: &str, value: String| lines.push(format!("{key:<14} {value}"));
    let text = |key: &str| app.spec.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    line("name", app.name.clone());
    text("title").into_iter().for_each(|title| line("title", title));
    line("status", if app.removing { format!("{}, being removed", app.status) } else { app.status.to_string() });
    line("intent", app.intent.to_string());
    line("runtime", text("runtime").unwrap_or_default());
    line("start mode", text("start_mode").unwrap_or_default());
    line("url", app.url.clone());
    line("generation", app.generation.to_string());
    line("created", app.created_at.clone());
    for part in ["env", "secrets", "database", "limits", "labels"] {
        let map = app.spec.get(part).and_then(|value| value.as_object());
        let map = map.filter(|map| map.get("mode").is_none_or(|mode| mode != "none"));
        for (key, value) in map.into_iter().flatten() {
            let shown = match (part, value.as_str()) {
                ("secrets", _) => format!("{key} (not shown)"),
                (_, Some(text)) => format!("{key}={text}"),
                (_, None) if value.is_null() => continue,
                (_, None) => format!("{key}={value}"),
            };
            line(part, shown);
        }
    }
    app.data.iter().for_each(|held| line("data", held.clone()));
    for instance in &app.instances {
        show_instance(instance, &app, &mut line);
    }
    session.out.data(lines.join("\n"))
}

fn show_instance(instance: &Instance, app: &App, line: &mut impl FnMut(&str, String)) {
    let (generation, intent) = (app.generation, app.intent.as_ref());
    let last = instance.last_status.as_ref().map(|last| format!(" (last {last})")).unwrap_or_default();
    let age = instance.age_ms.map(|ms| format!(", heard {} ago", seconds(ms))).unwrap_or_default();
    let leaving = if instance.leaving { ", leaving" } else { "" };
    let state = format!("{}{last}{leaving}", instance.status);
    line("instance", format!("{}: {state} since {}{age}", instance.environment, instance.since));
    if instance.intent != intent && !instance.leaving {
        line("  intent", instance.intent.to_string());
    }
    if let Some(local) = &instance.local {
        line(
            "  local",
            format!("{} on that host by {}, {}; holds until a later command", local.action, local.actor, local.at),
        );
    }
    if let Some(pid) = instance.pid {
        let (adapter, address) = (instance.adapter.as_deref(), instance.address.as_deref());
        line(
            "  process",
            format!(
                "pid {pid} ({}){}",
                adapter.unwrap_or("-"),
                address.map(|at| format!(", at {at}")).unwrap_or_default()
            ),
        );
    }
    instance.unit.iter().for_each(|unit| line("  unit", unit.clone()));
    instance.version.iter().for_each(|version| line("  version", version.clone()));
    instance.progress.iter().for_each(|progress| line("  progress", progress.clone()));
    if let Some(reason) = &instance.reason {
        line("  reason", format!("{} [{}]", reason.text, reason.code));
        line("  remedy", reason.remedy.to_string());
    }
    if instance.restarts > 0 {
        line("  restarts", instance.restarts.to_string());
    }
    instance.next_attempt_at.iter().for_each(|at| line("  next attempt", at.clone()));
    if let Some(usage) = &instance.usage {
        let cpu = usage.cpu_percent.map(|cpu| format!("{cpu:.1} % CPU"));
        let memory = usage.memory_bytes.map(|bytes| format!("{} memory", size(bytes)));
        let tasks = usage.tasks.map(|tasks| count(tasks, "task"));
        line("  usage", cpu.into_iter().chain(memory).chain(tasks).collect::<Vec<_>>().join(", "));
    }
    if instance.spec_generation != 0 && instance.spec_generation != generation {
        line("  runs", format!("generation {} of the spec; a restart brings the newest", instance.spec_generation));
    }
    instance.notes.iter().for_each(|note| line("  note", note.clone()));
    instance.last_log.iter().for_each(|text| line("  last log", text.clone()));
}

pub async fn why(session: &mut Session, name: &str) -> Outcome {
    let answer = session.client.get(&format!("{}/why", path(name))).await?;
    if session.out.is_json() {
        return session.out.data(&answer.text);
    }
    let why: Why = answer.parse()?;
    let mut lines = Vec::new();
    for cause in &why.causes {
        lines.push(format!("{:<12} {}", cause.topic, cause.text));
        lines.extend(cause.remedy.iter().map(|remedy| format!("{:<12} → {remedy}", "")));
    }
    // What it wrote before it fell is the next question of whoever reads this.
    if why.causes.iter().any(|cause| cause.topic == "process" && cause.remedy.is_some()) {
        let app: App = session.client.read(&path(name)).await?;
        let texts = app.instances.iter().flat_map(|instance| &instance.last_log);
        lines.extend(texts.map(|text| format!("{:<12} {text}", "last log")));
    }
    session.out.data(lines.join("\n"))
}

pub async fn open(session: &mut Session, name: &str) -> Outcome {
    let app: App = session.client.read(&path(name)).await?;
    let status: Status = session.client.read("/api/v1/status").await?;
    let Some(base) = status.gateway_url else {
        return Err(Failure::new(Exit::Failed, "the gateway is switched off").hint("set gateway.listen"));
    };
    let url = format!("{}{}", reachable(&base).trim_end_matches('/'), app.url);
    if session.out.is_json() {
        session.out.data(serde_json::json!({ "url": url }).to_string())?;
    } else {
        session.out.data(&url)?;
    }
    let desktop = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if desktop {
        // Where it cannot be opened, the address was printed.
        let _ = std::process::Command::new("xdg-open").arg(&url).spawn();
    }
    Ok(())
}

/// A gateway on every address is no address to open; here, this host is the one that is meant.
fn reachable(gateway: &str) -> String {
    gateway.replacen("//0.0.0.0:", "//127.0.0.1:", 1).replacen("//[::]:", "//[::1]:", 1)
}

/// An app's path.
pub fn path(name: &str) -> String {
    format!("/api/v1/apps/{}", encode(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: &str, instances: &[(&str, &str, bool)]) -> Row {
        let instance = |(environment, status, leaving): &(&str, &str, bool)| RowInstance {
            environment: environment.to_string(),
            status: status.to_string(),
            leaving: *leaving,
            local: None,
            version: None,
            address: None,
            restarts: 0,
            reason: None,
        };
        let instances = instances.iter().map(instance).collect();
        let spec = RowSpec { runtime: "node".into() };
        Row { name: "crm".into(), status: status.into(), intent: "run".into(), instances, spec }
    }

    #[test]
    fn a_row_of_several_instances_says_how_many_share_the_status() {
        assert_eq!(summary(&row("running", &[("local", "running", false)])), "running");
        let two = row("running", &[("env_a", "running", false), ("env_b", "queued", false)]);
        assert_eq!(summary(&two), "running 1/2");
        // One that leaves is no part of the whole any more.
        let leaving = row("running", &[("env_a", "running", false), ("env_b", "stopping", true)]);
        assert_eq!((summary(&leaving).as_str(), place(&leaving.instances[1]).as_str()), ("running", "env_b (leaving)"));
        assert_eq!(place(&row("unknown", &[("env_a", "unknown", false)]).instances[0]), "env_a (silent)");
    }

    #[test]
    fn a_reason_names_its_environment_where_there_are_several() {
        let mut two = row("running", &[("env_a", "running", false), ("env_b", "error", false)]);
        two.instances[1].reason = Some(RowReason { text: "exited with status 3".into() });
        assert_eq!(reason(&two).as_deref(), Some("env_b: exited with status 3"));
        let mut one = row("stopped", &[("env_b", "stopped", false)]);
        one.instances[0].local = Some(RowLocal { action: "stop".into(), actor: "ann".into() });
        assert_eq!(reason(&one).as_deref(), Some("stop on its host by ann"));
        let values = ["1.2", "1.2", "1.3"].into_iter();
        assert_eq!((all(values), all([].into_iter())), ("1.2, 1.3".to_string(), "-".to_string()));
    }

    #[test]
    fn an_address_to_open_is_one_that_can_be_opened() {
        assert_eq!(reachable("http://0.0.0.0:13000"), "http://127.0.0.1:13000");
        assert_eq!(reachable("http://[::]:80"), "http://[::1]:80");
        assert_eq!(reachable("http://10.0.0.2:13000"), "http://10.0.0.2:13000");
    }
}
