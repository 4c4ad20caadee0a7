//! `app rotate-secret|move`: what changes an app beside its spec.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::show::path;
use crate::cli::Session;
use crate::cli::exit::{Failure, Outcome};
use crate::cli::wait::{WaitArgs, outcomes};
use crate::wire::api::operation::{MovePlan, Operation};

#[derive(Debug, clap::Args)]
pub struct RotateArgs {
    /// Which app
    name: String,
    /// Restart it, so that the new secret counts at once
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, clap::Args)]
pub struct MoveArgs {
    /// Which app
    name: String,
    /// Where it is to run (repeatable; those that are not named are left)
    #[arg(long = "environment", visible_alias = "env", value_name = "NAME")]
    environments: Vec<String>,
    /// How it is to run: a process of its own, or one it shares
    #[arg(long, value_parser = ["dedicated", "shared"])]
    hosting: Option<String>,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

pub async fn rotate(session: &mut Session, args: RotateArgs) -> Outcome {
    let body = json!({ "restart": args.restart });
    let place = format!("{}/rotate-secret", path(&args.name));
    let answer = session.client.change(Method::POST, &place, Some(&body)).await?;
    let operation: Operation = answer.parse()?;
    if !args.restart && !session.out.is_json() {
        let how = format!("`nbsupervisor app restart {}` brings it into effect now", args.name);
        session.out.say(format!("the new secret counts from the next start of {} on; {how}", args.name));
    }
    outcomes(session, vec![operation], &args.wait).await
}

pub async fn relocate(session: &mut Session, args: MoveArgs) -> Outcome {
    let mut body = Map::new();
    if !args.environments.is_empty() {
        body.insert("environments".into(), args.environments.into());
    }
    body.extend(args.hosting.map(|hosting| ("hosting".to_string(), Value::from(hosting))));
    if body.is_empty() {
        let hint = "say --environment NAME, or --hosting dedicated or shared";
        return Err(Failure::usage(format!("where {} is to go is not said", args.name), hint));
    }
    body.insert("dry_run".into(), args.dry_run.into());
    let place = format!("{}/move", path(&args.name));
    let answer = session.client.change(Method::POST, &place, Some(&Value::Object(body))).await?;
    if !args.dry_run {
        return outcomes(session, vec![answer.parse()?], &args.wait).await;
    }
    if session.out.is_json() {
        return session.out.data(&answer.text);
    }
    let plan: MovePlan = answer.parse()?;
    plan.steps.iter().try_for_each(|step| session.out.data(step))
}
