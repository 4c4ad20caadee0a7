//! Tells the entry what the worker's loop reports: of each app the newest only, kept until Redis has it.
//!
//! Reports are state, so an older one is replaced by a newer one and a full telling replaces all before it. Nothing is
//! sent before an entry was seen: it would not be believed. What gets lost behind Redis is told again within a minute.

use std::collections::BTreeMap;
use std::time::Duration;

use nbs_core::name::AppId;
use nbs_core::order::Report;
use redis::Cmd;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::ports::News;
use crate::redis_bus::speech;
use crate::redis_bus::trouble::{Cause, Trouble};
use crate::redis_bus::worker::shared::Shared;
use crate::redis_bus::{BATCH, keys};
use crate::security::envelope::{MacKind, Session};

/// Reports about one app that do not replace each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    State,
    Refusal,
    Stray,
}

#[derive(Default)]
struct Outbox {
    hello: Option<Report>,
    runtimes: Option<Report>,
    apps: BTreeMap<(AppId, About), Report>,
}

pub(super) async fn run(shared: &Shared, mut reports: mpsc::Receiver<News>, shutdown: &CancellationToken) {
    let mut outbox = Outbox::default();
    let (mut tenure, mut session) = (shared.tenure.subscribe(), shared.session.subscribe());
    let mut pause = Duration::ZERO;
    loop {
        let ready = shared.holds() && *session.borrow() != Session::NONE && !outbox.is_empty();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            news = reports.recv() => match news {
                Some(News::Report(_, report)) => outbox.take(shared, report),
                Some(_) => {}
                None => return,
            },
            Ok(()) = tenure.changed() => {}
            Ok(()) = session.changed() => {}
            () = tokio::time::sleep(pause), if ready => {}
        }
        while let Ok(news) = reports.try_recv() {
            if let News::Report(_, report) = news {
                outbox.take(shared, report);
            }
        }
        if !shared.holds() || *session.borrow() == Session::NONE {
            continue;
        }
        pause = match outbox.flush(shared).await {
            Ok(()) => Duration::ZERO,
            Err(_) => shared.links.command.pause().await,
        };
    }
}

impl Outbox {
    fn is_empty(&self) -> bool {
        self.hello.is_none() && self.runtimes.is_none() && self.apps.is_empty()
    }

    fn take(&mut self, shared: &Shared, report: Report) {
        let (app, about) = match &report {
            // The lease says so.
            Report::Alive => return,
            Report::Hello { registration, .. } => {
                shared.registration.send_if_modified(|known| {
                    let changed = known.as_ref() != Some(registration);
                    *known = Some((**registration).clone());
                    changed
                });
                self.runtimes = None;
                self.apps.retain(|(_, about), _| *about != About::State);
                self.hello = Some(report);
                return;
            }
            Report::Runtimes(_) => {
                self.runtimes = Some(report);
                return;
            }
            Report::Instance(instance) => (instance.app.clone(), About::State),
            Report::Removed { app, .. } => (app.clone(), About::State),
            Report::Refused { app, .. } => (app.clone(), About::Refusal),
            Report::Stray { app, .. } => (app.clone(), About::Stray),
        };
        self.apps.insert((app, about), report);
    }

    /// Sends what there is; what Redis did not take stays.
    async fn flush(&mut self, shared: &Shared) -> Result<(), Trouble> {
        if let Some(hello) = &self.hello {
            send(shared, std::slice::from_ref(hello)).await?;
            self.hello = None;
        }
        if let Some(runtimes) = &self.runtimes {
            send(shared, std::slice::from_ref(runtimes)).await?;
            self.runtimes = None;
        }
        while !self.apps.is_empty() {
            let batch: Vec<(AppId, About)> = self.apps.keys().take(BATCH).cloned().collect();
            let reports: Vec<Report> = batch.iter().filter_map(|key| self.apps.get(key).cloned()).collect();
            send(shared, &reports).await?;
            for key in batch {
                self.apps.remove(&key);
            }
        }
        Ok(())
    }
}

/// Appends reports to the stream, all or an error. What was appended before an error is told twice, which changes nothing.
async fn send(shared: &Shared, reports: &[Report]) -> Result<(), Trouble> {
    let mut commands: Vec<Cmd> = Vec::with_capacity(reports.len());
    for report in reports {
        let bodies = speech::reports(report, shared.time.number()).unwrap_or_else(|error| {
            tracing::error!("a report cannot be sent: {error}");
            Vec::new()
        });
        for body in bodies {
            commands.extend(append(shared, body));
        }
    }
    for some in commands.chunks(BATCH) {
        for result in shared.links.command.ask_all(some).await? {
            match result {
                Err(trouble) if trouble.cause == Cause::WrongType => {
                    shared.alarm.refused(keys::REPORTS, "it is no stream");
                    shared.links.command.ask(redis::cmd("DEL").arg(keys::REPORTS)).await?;
                    return Err(trouble);
                }
                other => _ = other?,
            }
        }
    }
    Ok(())
}

/// The command that appends a message; none for one that cannot be, which must not be in the way of all others.
fn append(shared: &Shared, body: String) -> Option<Cmd> {
    let message = shared.wrap(MacKind::Report, body);
    let message = message.map_err(|error| tracing::error!("a report cannot be sent: {error}")).ok()?;
    let mut cmd = redis::cmd("XADD");
    cmd.arg(keys::REPORTS).arg("MAXLEN").arg("~").arg(keys::REPORTS_KEPT).arg("*");
    cmd.arg("e").arg(shared.environment.as_str()).arg("m").arg(message);
    Some(cmd)
}
