//! `app start|stop|restart|upgrade|remove` and `stop-all`: several at once, and wait for the outcome.

use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::local;
use super::show::{names, path};
use crate::cli::Session;
use crate::cli::client::with_query;
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::out::count;
use crate::cli::wait::{WaitArgs, outcomes};
use crate::wire::api::app::App;
use crate::wire::api::operation::Operation;

/// Connections for many commands: what comes together shares one flush of the record, instead of waiting for one each.
const CONNECTIONS: usize = 32;
/// Up to so many commands are sent one after another, and so are accepted in the order they were named in.
const IN_ORDER_MAX: usize = 8;

type Request = (Method, String, Option<Value>);

#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Which apps
    #[arg(required_unless_present = "all", value_name = "NAME")]
    names: Vec<String>,
    /// Every app
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// In this environment only (repeatable)
    #[arg(long = "environment", visible_alias = "env", value_name = "NAME")]
    environments: Vec<String>,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Debug, clap::Args)]
pub struct LocalArgs {
    #[command(flatten)]
    run: RunArgs,
    /// On this worker alone, past its entry; holds until a later command at the entry
    #[arg(long, conflicts_with = "environments")]
    local: bool,
}

#[derive(Debug, clap::Args)]
pub struct WholeArgs {
    /// Which apps
    #[arg(required_unless_present = "all", value_name = "NAME")]
    names: Vec<String>,
    /// Every app
    #[arg(long, conflicts_with = "names")]
    all: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, clap::Args)]
pub struct RemoveArgs {
    /// Which apps
    #[arg(required_unless_present = "all", value_name = "NAME")]
    names: Vec<String>,
    /// Every app
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Remove their data too
    #[arg(long)]
    purge_data: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Only say what would be removed, and what kept
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, clap::Args)]
pub struct StopAllArgs {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

pub async fn run(session: &mut Session, action: &str, args: RunArgs) -> Outcome {
    let names = if args.all { names(session).await? } else { args.names };
    let body = (!args.environments.is_empty()).then(|| json!({ "environments": args.environments }));
    let requests = names.iter().map(|name| (Method::POST, format!("{}/{action}", path(name)), body.clone()));
    submit(session, requests.collect(), &args.wait).await
}

/// About whole apps.
pub async fn whole(session: &mut Session, action: &str, args: WholeArgs) -> Outcome {
    let WholeArgs { names, all, wait } = args;
    run(session, action, RunArgs { names, all, environments: Vec::new(), wait }).await
}

pub async fn run_or_local(session: &mut Session, action: &'static str, args: LocalArgs) -> Outcome {
    if !args.local {
        return run(session, action, args.run).await;
    }
    let names = if args.run.all { names(session).await? } else { args.run.names };
    local::run(session, action, names, &args.run.wait).await
}

pub async fn remove(session: &mut Session, args: RemoveArgs) -> Outcome {
    let names = if args.all { names(session).await? } else { args.names };
    let mut apps: Vec<App> = Vec::new();
    // Of many, nobody reads the list of what is kept.
    let told = args.dry_run || args.purge_data || names.len() <= IN_ORDER_MAX;
    for name in names.iter().filter(|_| told) {
        // One that is not there is told by its removal.
        match session.client.read(&path(name)).await {
            Ok(app) => apps.push(app),
            Err(failure) if failure.exit == Exit::Unreachable || args.dry_run => return Err(failure),
            Err(_) => {}
        }
    }
    let data = || apps.iter().flat_map(|app| app.data.iter().map(|held| format!("{}: {held}", app.name)));
    if args.dry_run {
        return dry_run(session, &apps, args.purge_data);
    }
    // Apps named one by one with their data kept come back by `create --reuse`; anything more is asked about.
    if !names.is_empty() && (args.all || args.purge_data) {
        let kept = if args.purge_data { " and their data, for good" } else { "" };
        if args.purge_data {
            data().for_each(|held| session.out.say(format!("to be deleted: {held}")));
        }
        session.out.confirm(&format!("remove {}{kept}?", names.join(", ")), args.yes)?;
    }
    let purge = args.purge_data.then(|| "true".to_string());
    let requests =
        names.iter().map(|name| (Method::DELETE, with_query(&path(name), &[("purge_data", purge.clone())]), None));
    submit(session, requests.collect(), &args.wait).await?;
    if !args.purge_data && !args.wait.no_wait && !names.is_empty() {
        data().for_each(|held| session.out.say(format!("kept: {held}")));
        session.out.say("data is kept; `app remove --purge-data` would have removed it");
    }
    Ok(())
}

fn dry_run(session: &Session, apps: &[App], purge_data: bool) -> Outcome {
    if session.out.is_json() {
        let app = |app: &App| json!({ "app": app.name, "data": app.data, "purge_data": purge_data });
        return session.out.data(json!({ "remove": apps.iter().map(app).collect::<Vec<_>>() }).to_string());
    }
    let word = if purge_data { "delete" } else { "keep" };
    let lines = apps.iter().flat_map(|app| {
        let held = app.data.iter().map(move |held| format!("{word} {held}"));
        std::iter::once(format!("remove {}", app.name)).chain(held)
    });
    session.out.data(lines.collect::<Vec<_>>().join("\n"))
}

pub async fn stop_all(session: &mut Session, args: StopAllArgs) -> Outcome {
    let names = names(session).await?;
    if !names.is_empty() {
        let question = format!(
            "stop {}, all there are? They stay stopped until they are started again.",
            count(names.len() as u64, "app")
        );
        session.out.confirm(&question, args.yes)?;
    }
    let requests = names.iter().map(|name| (Method::POST, format!("{}/stop", path(name)), None));
    submit(session, requests.collect(), &args.wait).await
}

/// Sends all, then waits for all; one that is refused does not keep the others back.
async fn submit(session: &mut Session, requests: Vec<Request>, wait: &WaitArgs) -> Outcome {
    if requests.is_empty() {
        session.out.say("there is no app");
    }
    let mut operations: Vec<Operation> = Vec::new();
    let mut refused: Option<Exit> = None;
    for answer in send(session, requests).await? {
        match answer {
            Ok(operation) => operations.push(operation),
            Err(failure) if failure.exit == Exit::Unreachable => return Err(failure),
            Err(failure) => {
                session.out.fail(&failure);
                refused.get_or_insert(failure.exit);
            }
        }
    }
    outcomes(session, operations, wait).await?;
    refused.map_or(Ok(()), |exit| Err(Failure::told(exit)))
}

/// The answers to requests, in the order of these.
async fn send(session: &Session, requests: Vec<Request>) -> Outcome<Vec<Outcome<Operation>>> {
    let connections = if requests.len() > IN_ORDER_MAX { CONNECTIONS } else { 1 };
    let mut shares: Vec<Vec<(usize, Request)>> = vec![Vec::new(); connections];
    for (number, request) in requests.into_iter().enumerate() {
        shares[number % connections].push((number, request));
    }
    let mut sending = JoinSet::new();
    for share in shares {
        let mut client = session.client.another();
        sending.spawn(async move {
            let mut answers = Vec::with_capacity(share.len());
            for (number, (method, path, body)) in share {
                let answer = client.change(method, &path, body.as_ref()).await;
                answers.push((number, answer.and_then(|answer| answer.parse::<Operation>())));
            }
            answers
        });
    }
    let mut answers = Vec::new();
    while let Some(share) = sending.join_next().await {
        answers.extend(share.map_err(|error| Failure::new(Exit::Failed, format!("a command was lost: {error}")))?);
    }
    answers.sort_unstable_by_key(|(number, _)| *number);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}
