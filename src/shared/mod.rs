//! Adapter: apps in host processes, driven over the host's own HTTP interface.
//!
//! A host and its members are told by the core; what is asked of them stands in the recipe, filled in. This room sends the
//! requests, waits until the host's own list says that they took effect, and tells when the list says otherwise than it
//! should. It never takes an answer's word for it, as some hosts say yes to everything. Every request may be sent twice;
//! every wait has an end, and ends at once when the host does. Deliberately absent: what follows from what is told.
//!
//! `host.rs`: one host that runs. `member.rs`: the story of a start, of a stop and of a removal. `call.rs`: one request.

mod call;
mod host;
mod member;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nbs_core::id::Run;
use nbs_core::launch::Launch;
use nbs_core::name::AppId;
use nbs_core::observation::{Fact, Observation, SpawnFailure};
use nbs_core::shared::{HostPlan, MemberPlan};
use nbs_core::signal::Signal;

use crate::ports::{BoxFuture, Found, Hosts, Known, ObservationSender, ProcessControl, Started};

use host::Host;
use member::Member;

/// The apps of this host (the machine) that share processes. Must be used inside a tokio runtime.
#[derive(Clone)]
pub struct SharedApps {
    inner: Arc<Inner>,
}

struct Inner {
    observations: ObservationSender,
    desk: Mutex<Desk>,
}

/// Who is there.
#[derive(Default)]
struct Desk {
    hosts: HashMap<AppId, Arc<Host>>,
    members: HashMap<AppId, Member>,
}

impl SharedApps {
    /// An adapter that sends what it sees to `observations`.
    pub fn new(observations: ObservationSender) -> Self {
        Self { inner: Arc::new(Inner { observations, desk: Mutex::default() }) }
    }
}

impl Inner {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn host(&self, name: &AppId) -> Option<Arc<Host>> {
        self.desk().hosts.get(name).cloned()
    }

    async fn tell(&self, app: &AppId, run: Run, fact: Fact) {
        // The receiver ends only together with the daemon.
        let _ = self.observations.send(Observation { app: app.clone(), run, fact }).await;
    }
}

impl Hosts for SharedApps {
    fn up(&self, plan: Arc<HostPlan>) {
        let host = Arc::new(Host::new(plan));
        let name = host.plan.host.clone();
        let former = self.inner.desk().hosts.insert(name, host.clone());
        if let Some(former) = former {
            former.ended.cancel();
        }
        tokio::spawn(host::look_after(Arc::downgrade(&self.inner), host));
    }

    fn down(&self, host: &AppId) {
        if let Some(host) = self.inner.desk().hosts.remove(host) {
            host.ended.cancel();
        }
    }

    fn member(&self, app: &AppId, run: Run, plan: Arc<MemberPlan>, runs: bool) {
        self.inner.desk().members.entry(app.clone()).or_default().know(run, plan, runs);
    }
}

impl ProcessControl for SharedApps {
    fn start<'a>(&'a self, launch: &'a Launch) -> BoxFuture<'a, Result<Started, SpawnFailure>> {
        Box::pin(member::start(&self.inner, launch))
    }

    /// A host knows no signals; it is asked once to stop a member, see `kill_tree`.
    fn signal<'a>(&'a self, _: &'a AppId, _: Run, _: Signal) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Stops a member, and tells `TreeGone` when its host says so, or `NotStopped`.
    fn kill_tree<'a>(&'a self, app: &'a AppId, run: Run) -> BoxFuture<'a, ()> {
        Box::pin(member::stop(&self.inner, app, run))
    }

    /// What lives in a host is told by the host's own life, which another adapter finds.
    fn adopt(&self, _: Vec<Known>) -> BoxFuture<'_, Found> {
        Box::pin(std::future::ready(Found::default()))
    }

    fn clean_up<'a>(&'a self, app: &'a AppId, _purge_data: bool) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(member::remove(&self.inner, app))
    }
}
