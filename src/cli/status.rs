//! `status`: the daemon at a glance.

use super::Session;
use super::exit::Outcome;
use super::out::{count, seconds};
use crate::wire::api::daemon::Status;

pub async fn run(session: &mut Session) -> Outcome {
    let answer = session.client.get("/api/v1/status").await?;
    if session.out.is_json() {
        return session.out.data(&answer.text);
    }
    let status: Status = answer.parse()?;
    let mut lines = vec![format!(
        "nbsupervisor {} ({}), pid {}, up {}{}",
        status.version,
        status.mode,
        status.pid,
        seconds(status.uptime_ms),
        if status.ready { "" } else { ", not ready yet" },
    )];
    lines.extend(status.read_only.iter().map(|why| format!("{:<12}  {why}", "read-only")));
    let places = [("gateway", &status.gateway_url), ("admin", &status.admin_listen), ("socket", &status.admin_socket)];
    lines.extend(places.iter().filter_map(|(name, at)| at.as_ref().map(|at| format!("{name:<12}  {at}"))));
    for environment in &status.environments {
        let host = environment.usage.as_ref().and_then(|usage| usage.cpu_percent);
        let host = host.map(|cpu| format!(", cpu {cpu:.0} %")).unwrap_or_default();
        let (name, instances) = (&environment.name, count(environment.instances as u64, "instance"));
        let presence = super::environment::status(environment);
        let why = environment.reason.as_ref().map(|reason| format!(": {}", reason.text)).unwrap_or_default();
        lines.push(format!("{:<12}  {name}: {presence}, {instances}{host}{why}", "environment"));
        if environment.proxy_reachable == Some(false) {
            let error = environment.proxy_error.as_deref().unwrap_or("no reason given");
            lines.push(format!("{:<12}  {name}: its gateway is not reached: {error}", ""));
        }
    }
    let counts: Vec<_> = status.apps_by_status.iter().map(|(status, count)| format!("{count} {status}")).collect();
    let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
    lines.push(format!("{:<12}  {}{counts}", "apps", status.apps));
    lines.push(format!(
        "{:<12}  {} under way, {} queued",
        "operations",
        status.operations_active,
        count(status.queue as u64, "start")
    ));
    for bad in &status.attention {
        let reason = bad.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        lines.push(format!(
            "{:<12}  {} is {}{reason}  (`nbsupervisor app why {}`)",
            "attention", bad.app, bad.status, bad.app
        ));
    }
    session.out.data(lines.join("\n"))?;
    if status.apps == 0 && status.read_only.is_none() {
        session.out.say("there is no app yet: `nbsupervisor runtime list` shows what can run, `nbsupervisor app create NAME --runtime R` makes one");
    }
    Ok(())
}
