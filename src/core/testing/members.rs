//! Simulated members of host processes: they live in a process, end with it, and may be woken or lost by it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::effect::Effect;
use crate::id::Run;
use crate::launch::Launch;
use crate::name::AppId;
use crate::observation::{Answer, Fact, Identity, SpawnFailure, SpawnFailureKind};
use crate::reason::{Reason, ReasonCode};
use crate::recipe::{Check, Ready};
use crate::shared::{Call, Expect, Listed, Listing, Method, Shared, host_of};
use crate::spec::Limits;
use crate::template::Template;
use crate::testing::sim::runtime_name;
use crate::testing::world::World;
use crate::time::Mono;

/// How often hosts are asked for their lists.
const POLL: Duration = Duration::from_secs(5);

/// An app that runs in a host process.
#[derive(Debug, Clone)]
pub struct Member {
    /// Which life.
    pub run: Run,
    /// The process.
    pub pid: u32,
    ready_at: Option<Mono>,
    /// When its host loses it, if ever.
    lost_at: Option<Mono>,
    /// Its host woke it by itself.
    woken: bool,
}

/// What the adapter knows of a member.
#[derive(Debug, Clone)]
pub(super) struct Known {
    host: AppId,
    run: Run,
    runs: bool,
    told_at: Mono,
    /// When its host wakes it though nobody asked, if ever.
    wakes_at: Option<Mono>,
}

/// How simulated apps share a process.
pub(super) fn shared() -> Shared {
    let call = Call {
        method: Method::Post,
        path: Template::default(),
        headers: BTreeMap::new(),
        body: None,
        expect: Expect::default(),
        timeout: Duration::from_secs(1),
    };
    let list = Listing {
        call: call.clone(),
        items: String::new(),
        name: String::new(),
        status: String::new(),
        message: None,
        running: Vec::new(),
        stopped: Vec::new(),
        failed: Vec::new(),
        busy: Vec::new(),
        interval: Duration::from_secs(5),
    };
    Shared {
        host: host_of(&runtime_name()).expect("a short name"),
        env: BTreeMap::new(),
        database: None,
        limits: Limits::default(),
        select: None,
        login: None,
        setup: Vec::new(),
        list,
        create: None,
        update: None,
        start: call.clone(),
        stop: call,
        stop_timeout: Duration::from_secs(1),
        remove: None,
        upgrade: None,
        ready: Ready {
            check: Check::Tcp,
            interval: Duration::from_millis(50),
            timeout: Duration::from_secs(5),
            max_timeout: Duration::from_secs(5),
        },
        alive: None,
        version: None,
    }
}

impl World {
    /// Acts on what is about hosts; whether it was.
    pub(super) fn act_in_host(&mut self, now: Mono, effect: &Effect) -> bool {
        match effect {
            Effect::HostUp(plan) => _ = self.attached.insert(plan.host.clone(), plan.identity.clone()),
            Effect::HostDown(host) => _ = self.attached.remove(host),
            Effect::Member { app, run, plan, runs } => self.know(now, app, &plan.host, *run, *runs),
            Effect::Spawn(launch) => match &launch.member {
                Some(plan) => {
                    self.know(now, &launch.app, &plan.host, launch.run, true);
                    self.start_member(now, launch);
                }
                None => return false,
            },
            Effect::KillTree { app, run, adapter: crate::recipe::Adapter::Shared } => self.stop_member(now, app, *run),
            Effect::WatchReady(watch) if watch.launch.member.is_some() => {
                let member = self.members.get(&watch.launch.app).filter(|member| member.run == watch.launch.run);
                if let Some(at) = member.and_then(|member| member.ready_at) {
                    let after = at.since(now).as_millis() as u64 + 1;
                    self.tell(now, after, watch.launch.app.clone(), watch.launch.run, Fact::Readiness(Answer::Ready));
                }
            }
            Effect::CleanUp { app, .. } => {
                if self.host_of(app).is_some() {
                    self.members.remove(app);
                }
                self.known.remove(app);
                return false;
            }
            _ => return false,
        }
        true
    }

    fn know(&mut self, now: Mono, app: &AppId, host: &AppId, run: Run, runs: bool) {
        let known = Known { host: host.clone(), run, runs, told_at: now, wakes_at: None };
        self.known.insert(app.clone(), known);
    }

    /// The living host process that the adapter was told of.
    fn host_of(&self, app: &AppId) -> Option<&Identity> {
        let identity = self.attached.get(&self.known.get(app)?.host)?;
        self.processes.get(&identity.pid).filter(|process| process.identity == *identity).map(|_| identity)
    }

    fn start_member(&mut self, now: Mono, launch: &Launch) {
        let (app, run) = (launch.app.clone(), launch.run);
        if self.processes.values().any(|process| process.app == app) {
            self.violations.push(format!("{app} was started in a host as {run} while it has a process of its own"));
        }
        // A start that meets what the host woke a moment ago is the host's to make the best of.
        if let Some(other) = self.members.get(&app).filter(|other| !other.woken) {
            self.violations.push(format!("{app} was started in a host as {run} while {} runs there", other.run));
        }
        let failed = |code| {
            let reason = Reason::new(code, "simulated");
            Fact::SpawnFailed(SpawnFailure { reason, kind: SpawnFailureKind::Transient })
        };
        let Some(identity) = self.host_of(&app).cloned() else {
            return self.tell(now, 1, app, run, failed(ReasonCode::HostEnded));
        };
        if !self.calm && self.random.chance(5) {
            return self.tell(now, 1, app, run, failed(ReasonCode::HostRefused));
        }
        let (slow, fate) = (self.random.below(3_000), self.random.below(20_000));
        let ready_at = (self.calm || self.random.chance(90)).then(|| now.after(Duration::from_millis(slow)));
        let lost_at = (!self.calm && self.random.chance(20)).then(|| now.after(Duration::from_millis(fate)));
        self.members.insert(app.clone(), Member { run, pid: identity.pid, ready_at, lost_at, woken: false });
        self.tell(now, 2, app, run, Fact::Spawned { identity, notes: Vec::new() });
    }

    fn stop_member(&mut self, now: Mono, app: &AppId, run: Run) {
        let there = self.host_of(app).is_some() && self.members.contains_key(app);
        let refused = there && !self.calm && self.random.chance(10);
        let (wakes, after) = (self.random.chance(20), self.random.below(15_000));
        if let Some(known) = self.known.get_mut(app) {
            known.runs = false;
            known.told_at = now;
            known.wakes_at = (wakes && !self.calm).then(|| now.after(Duration::from_millis(after)));
        }
        if refused {
            let reason = Reason::new(ReasonCode::HostRefused, "simulated");
            return self.tell(now, 50, app.clone(), run, Fact::NotStopped(reason));
        }
        if there {
            self.members.remove(app);
        }
        self.tell(now, 5, app.clone(), run, Fact::TreeGone);
    }

    /// A process ended, and with it what it hosted.
    pub(super) fn end_members(&mut self, pid: u32) {
        self.members.retain(|_, member| member.pid != pid);
    }

    /// Hosts lose and wake members by themselves; their lists tell.
    pub(super) fn pass_in_hosts(&mut self, now: Mono) {
        let calm = self.calm;
        self.members.retain(|_, member| calm || member.lost_at.is_none_or(|at| at > now));
        for app in self.known.keys().cloned().collect::<Vec<_>>() {
            let Some(pid) = self.host_of(&app).map(|identity| identity.pid) else { continue };
            let Some(known) = self.known.get_mut(&app) else { continue };
            if known.wakes_at.is_some_and(|at| at <= now) && !calm && !known.runs {
                known.wakes_at = None;
                let member = Member { run: known.run, pid, ready_at: Some(now), lost_at: None, woken: true };
                self.members.entry(app.clone()).or_insert(member);
            }
            let (run, runs, due) = (known.run, known.runs, known.told_at.after(POLL) <= now);
            let lives = self.members.contains_key(&app);
            if due && lives != runs {
                known.told_at = now;
                let listed = if lives { Listed::Running } else { Listed::Stopped };
                self.tell(now, 1, app, run, Fact::Listed(listed));
            }
        }
    }

    /// When a host's list has something to tell, or a host does something by itself.
    pub(super) fn next_in_hosts(&self) -> Option<Mono> {
        let lost = self.members.values().filter_map(|member| member.lost_at).filter(|_| !self.calm);
        let known = self.known.iter().filter(|(app, _)| self.host_of(app).is_some());
        let due = known.filter_map(|(app, known)| {
            let wakes = known.wakes_at.filter(|_| !self.calm && !known.runs);
            let told = (self.members.contains_key(app) != known.runs).then(|| known.told_at.after(POLL));
            [wakes, told].into_iter().flatten().min()
        });
        lost.chain(due).min()
    }
}
