//! What systemd is told while the daemon runs: that it lives, and how its apps are.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::entry::{EntryHandle, FleetView};
use crate::lifecycle::liveness::{self, Part};
use crate::lifecycle::notify::{self, Watchdog};
use crate::worker::WorkerHandle;

/// How often the status line may change.
const STATUS_PAUSE: Duration = Duration::from_secs(5);

/// Tells it until `end`. `doors` says where the daemon is reached.
pub(super) fn begin(
    entry: EntryHandle,
    worker: Option<WorkerHandle>,
    doors: String,
    end: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let status = tell_status(entry.clone(), doors, end.clone());
        match Watchdog::of_process() {
            None => status.await,
            Some(watchdog) => _ = tokio::join!(status, liveness::watch(watchdog, parts(entry, worker), end)),
        }
    })
}

/// What must answer. The record is read, not written: a full disk is no reason to start anew.
fn parts(entry: EntryHandle, worker: Option<WorkerHandle>) -> Vec<Part> {
    let reader = entry.clone();
    let part = |name, ask| Part { name, ask };
    let mut parts = vec![
        part(
            "entry",
            Box::new(move || {
                let entry = entry.clone();
                Box::pin(async move {
                    entry.queue().await;
                    true
                })
            }),
        ),
        part(
            "record",
            Box::new(move || {
                let reader = reader.clone();
                Box::pin(async move {
                    let _ = reader.record().tokens().await;
                    true
                })
            }),
        ),
    ];
    parts.extend(worker.map(|worker| {
        let ask = move || -> liveness::Answer {
            let worker = worker.clone();
            Box::pin(async move { worker.ping().await })
        };
        part("worker", Box::new(ask))
    }));
    parts
}

/// One line for `systemctl status`.
pub(super) fn status_line(view: &FleetView, doors: &str) -> String {
    format!("{} apps, {} running; {doors}", view.apps.len(), view.running)
}

async fn tell_status(entry: EntryHandle, doors: String, end: CancellationToken) {
    let mut told = String::new();
    loop {
        // No snapshot is kept between two looks: it would keep alive whatever has changed since.
        let line = status_line(&entry.view(), &doors);
        if line != told && notify::status(&line).is_ok() {
            told = line;
        }
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(STATUS_PAUSE) => {}
        }
    }
}
