//! Asks by a command: status 0 is yes. How it is run, and killed when it takes too long, is the runner's business.

use std::time::Duration;

use nbs_core::launch::Launch;
use nbs_core::observation::Answer;
use nbs_core::reason::ExitOutcome;

use crate::ask::words;
use crate::ports::CommandRunner;

/// Runs the command once. Its output is not the app's log: a probe every few seconds would drown it.
pub(super) async fn ask(runner: &dyn CommandRunner, launch: &Launch, argv: &[String], timeout: Duration) -> Answer {
    let output = runner.run(launch, argv, timeout, false).await;
    let end = match output.result {
        Ok(ExitOutcome::Code(0)) => return Answer::Ready,
        Ok(outcome) => outcome.reason().text,
        Err(why) => why,
    };
    let saw = match output.last_log.last().map(|line| words::tame(line, words::SEEN_MAX)) {
        Some(line) if !line.is_empty() => format!("the command {end}: {line}"),
        _ => format!("the command {end}"),
    };
    Answer::NotYet { saw, progress: None, failed: false }
}
