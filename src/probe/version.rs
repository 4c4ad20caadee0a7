//! Finds out an app's own version, once it is ready.
//!
//! An app that does not tell is asked a few times more and then left alone: a version is nice to see, nothing hangs on it.

use std::sync::Arc;
use std::time::Duration;

use nbs_core::launch::Launch;
use nbs_core::observation::Fact;
use nbs_core::reason::ExitOutcome;
use serde_json::Value;

use super::http;
use super::watch::Teller;
use crate::ask::{json, words};
use crate::ports::{CommandRunner, VersionQuestion};

/// How often it is asked.
const TRIES: u32 = 5;
/// Pause after the first try; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Wait for one answer. Interpreters take seconds to load on a busy host.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Characters of a version.
const VERSION_MAX: usize = 64;

/// Asks until there is a version, and tells it.
pub(super) async fn find(launch: Arc<Launch>, question: VersionQuestion, runner: Arc<dyn CommandRunner>, to: Teller) {
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(FIRST_PAUSE * 2u32.pow(attempt - 1)).await;
        }
        let found = Box::pin(ask(&launch, &question, &*runner)).await;
        let version = found.map(|text| words::tame(&text, VERSION_MAX)).filter(|text| !text.is_empty());
        if let Some(version) = version {
            to.tell(Fact::Version(version)).await;
            return;
        }
    }
}

async fn ask(launch: &Launch, question: &VersionQuestion, runner: &dyn CommandRunner) -> Option<String> {
    match question {
        VersionQuestion::Http { path, json } => {
            let answer = http::get(launch.address.as_ref(), path, true);
            let response = tokio::time::timeout(TIMEOUT, answer).await.ok()?.ok()?;
            if !(200..300).contains(&response.status) {
                return None;
            }
            json::text_at(&serde_json::from_slice::<Value>(&response.body).ok()?, json)
        }
        VersionQuestion::Exec(argv) => {
            let output = runner.run(launch, argv, TIMEOUT, false).await;
            let ended_well = output.result == Ok(ExitOutcome::Code(0));
            output.last_log.into_iter().find(|line| !line.trim().is_empty()).filter(|_| ended_well)
        }
    }
}
