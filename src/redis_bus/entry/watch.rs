//! Looks at leases each second and at usage every few, and keeps the app cache.
//!
//! A lease counts by the signed beat in it, with a number that grew, in the present session: neither a copied lease nor
//! one that is kept alive by somebody else is a sign of life.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use nbs_core::limits;
use nbs_core::name::EnvironmentName;
use nbs_core::order::Report;
use redis::Value;
use tokio_util::sync::CancellationToken;

use crate::redis_bus::entry::shared::Shared;
use crate::redis_bus::keys::{self, EnvironmentKeyNames};
use crate::redis_bus::link::Link;
use crate::redis_bus::stream::text;
use crate::redis_bus::trouble::{Cause, Trouble};
use crate::security::envelope::MacKind;
use crate::wire::redis::{read_lease_value, read_usage};

/// Between two looks at leases.
const LOOK: Duration = Duration::from_secs(1);
/// Usage and the names of environments are looked at once in so many looks.
const SELDOM: u64 = 5;
/// Keys asked for in one command.
const KEYS: usize = 256;

/// What was seen last, so that only what changed is looked into.
#[derive(Default)]
struct Seen {
    leases: HashMap<EnvironmentName, String>,
    usage: HashMap<EnvironmentName, String>,
    /// Names that Redis holds; whether they mean anything is not known.
    names: BTreeSet<EnvironmentName>,
}

pub(super) async fn run(shared: &Shared, shutdown: &CancellationToken) {
    let mut seen = Seen::default();
    let mut looks = 0;
    loop {
        let pause = match look(shared, &mut seen, looks).await {
            Ok(()) => LOOK,
            Err(_) => shared.links.cache.pause().await.max(LOOK),
        };
        looks += 1;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn look(shared: &Shared, seen: &mut Seen, looks: u64) -> Result<(), Trouble> {
    let link = &shared.links.cache;
    if looks.is_multiple_of(SELDOM) {
        seen.names = names(shared, link).await?;
    }
    let mut environments: BTreeSet<EnvironmentName> = shared.known().into_iter().collect();
    environments.extend(seen.names.iter().take(limits::ENVIRONMENTS_MAX).cloned());
    let environments: Vec<EnvironmentName> = environments.into_iter().collect();
    for (environment, lease) in changed(link, &environments, |names| names.lease, &mut seen.leases).await? {
        hear(shared, environment, &lease).await;
    }
    if looks.is_multiple_of(SELDOM) {
        let usage = changed(link, &environments, |names| names.usage, &mut seen.usage).await?;
        let opened = usage.into_iter().filter_map(|(environment, text)| {
            let key = EnvironmentKeyNames::of(&environment).usage;
            let body = shared.open(&environment, MacKind::Usage, &key, &text)?;
            match read_usage(&body) {
                Ok(record) => Some((environment, record)),
                Err(error) => {
                    shared.alarm.body(&key, &error);
                    None
                }
            }
        });
        shared.take_usage(opened.collect());
    }
    if shared.standing.borrow().reigns {
        write_apps(shared, link).await?;
    }
    Ok(())
}

async fn names(shared: &Shared, link: &Link) -> Result<BTreeSet<EnvironmentName>, Trouble> {
    let members = match link.ask(redis::cmd("SMEMBERS").arg(keys::ENVIRONMENTS)).await {
        Ok(Value::Array(members) | Value::Set(members)) => members,
        Err(trouble) if trouble.cause == Cause::WrongType => {
            shared.alarm.refused(keys::ENVIRONMENTS, "it is no set");
            link.ask(redis::cmd("DEL").arg(keys::ENVIRONMENTS)).await?;
            Vec::new()
        }
        other => other.map(|_| Vec::new())?,
    };
    Ok(members.iter().filter_map(|member| EnvironmentName::parse(&text(member)?).ok()).collect())
}

/// The values of one key of each environment that are other than before.
async fn changed(
    link: &Link,
    environments: &[EnvironmentName],
    key: impl Fn(EnvironmentKeyNames) -> String,
    seen: &mut HashMap<EnvironmentName, String>,
) -> Result<Vec<(EnvironmentName, String)>, Trouble> {
    let mut found = Vec::new();
    for some in environments.chunks(KEYS) {
        let mut cmd = redis::cmd("MGET");
        for environment in some {
            cmd.arg(key(EnvironmentKeyNames::of(environment)));
        }
        let Value::Array(values) = link.ask(&cmd).await? else { continue };
        for (environment, value) in some.iter().zip(values) {
            let Some(value) = text(&value) else { continue };
            if seen.get(environment) != Some(&value) {
                seen.insert(environment.clone(), value.clone());
                found.push((environment.clone(), value));
            }
        }
    }
    seen.retain(|environment, _| environments.binary_search(environment).is_ok());
    Ok(found)
}

async fn hear(shared: &Shared, environment: EnvironmentName, text: &str) {
    let key = EnvironmentKeyNames::of(&environment).lease;
    let Ok(lease) = read_lease_value(text) else {
        shared.alarm.refused(&key, "it is no lease");
        return;
    };
    if shared.believe(&environment, MacKind::Beat, &key, &lease.m).is_some() {
        shared.report(environment, Report::Alive).await;
    }
}

async fn write_apps(shared: &Shared, link: &Link) -> Result<(), Trouble> {
    let shown = shared.take_shown();
    if shown.is_empty() {
        return Ok(());
    }
    let (mut set, mut gone) = (redis::cmd("HSET"), redis::cmd("HDEL"));
    set.arg(keys::APPS);
    gone.arg(keys::APPS);
    let (mut sets, mut goes) = (false, false);
    for (app, text) in &shown {
        match text {
            Some(text) => {
                set.arg(app.as_str()).arg(text);
                sets = true;
            }
            None => {
                gone.arg(app.as_str());
                goes = true;
            }
        }
    }
    let commands: Vec<redis::Cmd> =
        [(sets, set), (goes, gone)].into_iter().filter(|(any, _)| *any).map(|(_, c)| c).collect();
    let results = match link.ask_all(&commands).await {
        Ok(results) => results,
        Err(trouble) => {
            shared.put_shown_back(shown);
            return Err(trouble);
        }
    };
    match results.into_iter().find_map(Result::err) {
        None => Ok(()),
        Some(trouble) => {
            shared.put_shown_back(shown);
            if trouble.cause == Cause::WrongType {
                link.ask(redis::cmd("DEL").arg(keys::APPS)).await?;
            }
            Err(trouble)
        }
    }
}
