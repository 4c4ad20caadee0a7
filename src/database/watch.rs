//! One watch for each server: a connection that is held open, so that its end is known at once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nbs_core::database::{Endpoint, Watch};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::fault::Fault;
use super::session::Session;
use crate::ports::DatabaseNews;

/// Pause between two questions to a server that answers.
const QUIET: Duration = Duration::from_secs(5);
/// Pause between two attempts to reach one that does not.
const SILENT: Duration = Duration::from_secs(1);
/// Pause after a connection has ended, so that a server which ends every one is not asked without a break.
const AGAIN: Duration = Duration::from_millis(100);
/// Pause between two attempts where the server refuses this user: it is there, and writes each of them into its log.
const REFUSED: Duration = Duration::from_secs(15);

/// The watches of this host.
pub(super) struct Watches {
    news: mpsc::Sender<DatabaseNews>,
    running: Mutex<BTreeMap<Endpoint, AbortHandle>>,
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.running.get_mut().unwrap_or_else(PoisonError::into_inner).values().for_each(AbortHandle::abort);
    }
}

impl Watches {
    pub(super) fn new(news: mpsc::Sender<DatabaseNews>) -> Self {
        Self { news, running: Mutex::default() }
    }

    /// Begins to watch; a watch of the same server is replaced.
    pub(super) fn begin(&self, watch: Watch) {
        let endpoint = watch.login.endpoint.clone();
        let teller = Teller { endpoint: endpoint.clone(), news: self.news.clone(), told: None };
        let task = tokio::spawn(run(watch, teller)).abort_handle();
        let former = self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(endpoint, task);
        former.inspect(AbortHandle::abort);
    }

    pub(super) fn end(&self, endpoint: &Endpoint) {
        let task = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(endpoint);
        task.inspect(AbortHandle::abort);
    }
}

/// Tells what is new.
struct Teller {
    endpoint: Endpoint,
    news: mpsc::Sender<DatabaseNews>,
    told: Option<Result<(), String>>,
}

impl Teller {
    async fn tell(&mut self, state: Result<(), String>) {
        if self.told.as_ref() != Some(&state) {
            self.told = Some(state.clone());
            // The worker ends only together with the daemon.
            let _ = self.news.send((self.endpoint.clone(), state)).await;
        }
    }
}

async fn run(watch: Watch, mut teller: Teller) {
    loop {
        match Session::open(&watch.login).await {
            Ok(session) => {
                teller.tell(Ok(())).await;
                // Whether the server is gone or only this connection, the next attempt tells.
                hold(session).await;
                tokio::time::sleep(AGAIN).await;
            }
            Err(fault) => {
                let pause = if fault.is_silence() { SILENT } else { REFUSED };
                teller.tell(state(&fault)).await;
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// A server that refuses answers.
fn state(fault: &Fault) -> Result<(), String> {
    if fault.is_silence() { Err(fault.said().to_string()) } else { Ok(()) }
}

/// Returns when the connection has ended, or the server no longer answers on it.
async fn hold(mut session: Session) {
    loop {
        tokio::select! {
            () = session.ended() => return,
            () = tokio::time::sleep(QUIET) => {}
        }
        if !matches!(tokio::time::timeout(QUIET, session.run("SELECT 1")).await, Ok(Ok(()))) {
            return;
        }
    }
}
