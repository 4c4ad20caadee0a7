//! `queue`, `ops`, `events`.

use std::time::Duration;

use nbs_core::quantity::format_duration;

use super::Session;
use super::client::{encode, with_query};
use super::exit::Outcome;
use super::stream;
use crate::wire::api::event::{Event, EventList};
use crate::wire::api::operation::{Operation, OperationList};
use crate::wire::api::queue::{Queue, QueueEntry};

#[derive(Debug, clap::Args)]
pub struct OpsArgs {
    /// Show this operation
    id: Option<String>,
    /// Of this app
    #[arg(long, conflicts_with = "id")]
    app: Option<String>,
    /// How many
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: usize,
}

#[derive(Debug, clap::Args)]
pub struct EventsArgs {
    /// Go on as they come
    #[arg(short, long)]
    follow: bool,
    /// About this app
    #[arg(long)]
    app: Option<String>,
    /// After the event of this number
    #[arg(long, value_name = "SEQ")]
    since: Option<u64>,
    /// How many
    #[arg(short = 'n', long, default_value_t = 50)]
    limit: usize,
}

pub async fn queue(session: &mut Session) -> Outcome {
    let answer = session.client.get("/api/v1/queue").await?;
    if session.out.is_json() {
        return session.out.data(&answer.text);
    }
    let queue: Queue = answer.parse()?;
    let rows = queue.queue.into_iter().map(|entry| {
        let eta = entry.eta_ms.map_or_else(|| "-".into(), |ms| format_duration(Duration::from_millis(ms)));
        let position = entry.position.to_string();
        let waits_for = waits_for(&entry);
        vec![position, entry.app, entry.environment, waits_for, entry.priority.into(), entry.since, eta]
    });
    let header = ["PLACE", "APP", "ENVIRONMENT", "WAITS FOR", "PRIORITY", "SINCE", "ETA"];
    session.out.table(&header, rows.collect(), "no start waits for its turn")
}

/// What a start waits for, in words.
fn waits_for(entry: &QueueEntry) -> String {
    match entry.waits_for.as_str() {
        "slot" => format!("a free slot in {}", entry.environment),
        other if other.strip_prefix("environment ") == Some(&entry.environment) => {
            format!("{} to take starts", entry.environment)
        }
        other => format!("its start in {other}"),
    }
}

pub async fn ops(session: &mut Session, args: OpsArgs) -> Outcome {
    if let Some(id) = args.id {
        let answer = session.client.get(&format!("/api/v1/operations/{}", encode(&id))).await?;
        if session.out.is_json() {
            return session.out.data(&answer.text);
        }
        return one(session, &answer.parse()?);
    }
    let query = [("app", args.app), ("limit", Some(args.limit.to_string()))];
    let answer = session.client.get(&with_query("/api/v1/operations", &query)).await?;
    if session.out.is_json() {
        return session.out.data(&answer.text);
    }
    let list: OperationList = answer.parse()?;
    let rows = list.operations.into_iter().map(|op| {
        vec![
            op.id,
            op.app,
            op.action.into(),
            op.environments.join(", "),
            op.status.into(),
            op.created_at,
            op.actor,
            op.reason.unwrap_or_default(),
        ]
    });
    let header = ["ID", "APP", "ACTION", "ENVIRONMENTS", "STATUS", "CREATED", "BY", "REASON"];
    session.out.table(&header, rows.collect(), "nothing was asked yet")
}

fn one(session: &Session, operation: &Operation) -> Outcome {
    let mut lines = vec![
        ("id", operation.id.clone()),
        ("app", operation.app.clone()),
        ("action", operation.action.to_string()),
        ("environments", operation.environments.join(", ")),
        ("status", operation.status.to_string()),
        ("created", operation.created_at.clone()),
        ("by", operation.actor.clone()),
    ];
    lines.extend(operation.finished_at.clone().map(|at| ("finished", at)));
    lines.extend(operation.reason.clone().map(|reason| ("reason", reason)));
    let lines: Vec<_> = lines.into_iter().map(|(key, value)| format!("{key:<13} {value}")).collect();
    session.out.data(lines.join("\n"))
}

pub async fn events(session: &mut Session, args: EventsArgs) -> Outcome {
    let since = args.since.map(|since| since.to_string());
    let query = [("app", args.app.clone()), ("since", since), ("limit", Some(args.limit.to_string()))];
    let answer = session.client.get(&with_query("/api/v1/events", &query)).await?;
    let list: EventList = answer.parse()?;
    if session.out.is_json() && !args.follow {
        return session.out.data(&answer.text);
    }
    if list.events.is_empty() && !args.follow {
        session.out.say("nothing happened yet");
    }
    for event in &list.events {
        show(session, event)?;
    }
    if !args.follow {
        return Ok(());
    }
    // Without an event to go on from, all that comes is new.
    let mut last = list.events.last().map(|event| event.seq).or(args.since).unwrap_or(0);
    let path = with_query("/api/v1/events", &[("app", args.app)]);
    loop {
        let headers = [("last-event-id", last.to_string())];
        let body = stream::open(session, &path, "text/event-stream", &headers).await?;
        let mut lines = stream::Lines::new(body);
        while let Some(line) = lines.next().await {
            let Some(data) = line.strip_prefix("data: ") else { continue };
            if let Ok(event) = serde_json::from_str::<Event>(data) {
                last = event.seq;
                show(session, &event)?;
            }
        }
        session.out.say("the daemon went away; waiting for it …");
    }
}

fn show(session: &Session, event: &Event) -> Outcome {
    if session.out.is_json() {
        return session.out.data(serde_json::to_string(event).unwrap_or_default());
    }
    let place = event.environment.as_deref().map(|place| format!(" in {place}")).unwrap_or_default();
    let app = event.app.as_deref().map(|app| format!("{app}{place}: ")).unwrap_or_default();
    session.out.data(format!("{}  {:<20}  {app}{}", event.at, event.kind, event.message))
}
