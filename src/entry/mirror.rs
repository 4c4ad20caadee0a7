//! The desk of a daemon that does not decide: it shows what its worker tells, and refuses commands with who decides.

use std::collections::BTreeSet;
use std::sync::Arc;

use nbs_core::command::{Denied, Verdict};
use nbs_core::mirror::Mirrored;
use nbs_core::name::AppId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::entry::{Desk, EntryHandle, FleetView, REQUESTS_WAITING_MAX, Request, desk};
use crate::ports::Record;

/// Pieces shown in one go, so that a burst makes one snapshot.
const TURN_MAX: usize = 256;

/// Makes the handle of a worker's daemon, and the loop to be spawned by the caller.
pub fn mirror(
    record: Arc<dyn Record>,
    pieces: mpsc::Receiver<Mirrored>,
    shutdown: CancellationToken,
) -> (EntryHandle, impl Future<Output = ()> + Send) {
    let (handle, desk) = desk(record, REQUESTS_WAITING_MAX);
    let mirror = Mirror { desk, pieces, view: FleetView::default() };
    (handle, mirror.run(shutdown))
}

struct Mirror {
    desk: Desk,
    pieces: mpsc::Receiver<Mirrored>,
    view: FleetView,
}

impl Mirror {
    async fn run(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some(piece) = self.pieces.recv() => {
                    let mut changed = BTreeSet::new();
                    self.take(piece, &mut changed);
                    for _ in 1..TURN_MAX {
                        let Ok(piece) = self.pieces.try_recv() else { break };
                        self.take(piece, &mut changed);
                    }
                    let changed: Vec<AppId> = changed.into_iter().collect();
                    self.desk.publish(self.view.clone(), &changed, &[], false);
                }
                Some(request) = self.desk.requests.recv() => self.refuse(request),
            }
        }
    }

    fn take(&mut self, piece: Mirrored, changed: &mut BTreeSet<AppId>) {
        match piece {
            Mirrored::App(name, view) => {
                self.view.show_app(name.clone(), view.map(|view| *view));
                changed.insert(name);
            }
            // A worker shows itself and nobody else.
            Mirrored::Environment(view) => {
                self.view.show_environments([(view.registration.environment.clone(), Some(*view))]);
            }
            Mirrored::Standing(text) => self.view.read_only = Some(text.into()),
        }
    }

    fn refuse(&self, request: Request) {
        let why = || self.view.read_only.as_deref().unwrap_or("this daemon takes no commands").to_string();
        // Whoever asked may have gone.
        match request {
            Request::Submit(_, reply) => _ = reply.send(Ok(Verdict::Denied(Denied::ReadOnly(why())))),
            Request::Govern(_, reply) => _ = reply.send(Ok(Some(Denied::ReadOnly(why())))),
            Request::Wake(_) => {}
            Request::Queue(reply) => _ = reply.send(Vec::new()),
        }
    }
}
