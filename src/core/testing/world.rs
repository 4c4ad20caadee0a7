//! The simulated host: processes with a fate, that outlive the daemon and not the boot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::effect::Effect;
use crate::environment::FoundLife;
use crate::id::Run;
use crate::launch::{Address, Launch};
use crate::name::AppId;
use crate::observation::{Answer, Fact, HookFailure, Identity, Observation, SpawnFailure, SpawnFailureKind};
use crate::reason::{ExitOutcome, Reason, ReasonCode};
use crate::recipe::{Adapter, HookId, HookKind};
use crate::testing::database::DatabaseServer;
use crate::testing::members::{Known, Member};
use crate::testing::random::Random;
use crate::testing::units::Unit;
use crate::time::Mono;

/// A simulated process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Whose.
    pub app: AppId,
    /// Which life.
    pub run: Run,
    /// Identity.
    pub identity: Identity,
    /// The port that it was given.
    pub port: u16,
    /// When its probe says yes, if ever.
    ready_at: Option<Mono>,
    /// When it ends by itself, if ever.
    dies_at: Option<Mono>,
    /// Whether it ends at the first signal.
    obeys: bool,
    /// Whether a child of it outlives its main process.
    leaves_child: bool,
    /// Whether it belongs to a unit: nothing of it outlives its main process.
    of_unit: bool,
}

/// The host.
#[derive(Debug, Clone)]
pub struct World {
    /// Random choices.
    pub random: Random,
    /// The boot.
    pub boot: u64,
    /// Living main processes by pid.
    pub processes: BTreeMap<u32, Process>,
    /// Units by app.
    pub(super) units: BTreeMap<AppId, Unit>,
    /// Apps that run in host processes.
    pub members: BTreeMap<AppId, Member>,
    /// Hosts that the adapter was told of.
    pub(super) attached: BTreeMap<AppId, Identity>,
    /// Members that the adapter was told of.
    pub(super) known: BTreeMap<AppId, Known>,
    /// Lives that nobody looks after.
    strays: std::collections::BTreeSet<(AppId, Run)>,
    /// Children that outlived their main process.
    orphans: Vec<(AppId, Run)>,
    next_pid: u32,
    /// Facts on their way to the daemon.
    pub facts: Vec<(Mono, Observation)>,
    /// Faults are over: every process becomes ready soon and lives.
    pub calm: bool,
    /// Hooks that were run, each with the command that asked for the start.
    hooks: std::collections::BTreeSet<(AppId, crate::id::Seq, HookId)>,
    /// The version on disk.
    pub version: u64,
    /// Steps of upgrades that run, each with its end.
    upgrading: BTreeMap<AppId, Mono>,
    /// Starts of which a step of an upgrade was begun and has not ended well.
    unfinished: std::collections::BTreeSet<(AppId, crate::id::Seq)>,
    /// The database server, if apps have databases here.
    pub database: Option<DatabaseServer>,
    /// The entry's record was changed behind its back: the number of a command may mean another one now.
    pub numbers_reused: bool,
    /// What must never be, found so far.
    pub violations: Vec<String>,
}

impl World {
    /// A host after its first boot.
    pub fn new(random: Random) -> Self {
        Self {
            random,
            boot: 1,
            processes: BTreeMap::new(),
            units: BTreeMap::new(),
            members: BTreeMap::new(),
            attached: BTreeMap::new(),
            known: BTreeMap::new(),
            strays: std::collections::BTreeSet::new(),
            orphans: Vec::new(),
            next_pid: 100,
            facts: Vec::new(),
            calm: false,
            hooks: std::collections::BTreeSet::new(),
            database: None,
            version: 1,
            upgrading: BTreeMap::new(),
            unfinished: std::collections::BTreeSet::new(),
            numbers_reused: false,
            violations: Vec::new(),
        }
    }

    /// The boot ID as text.
    pub fn boot_id(&self) -> String {
        format!("boot-{}", self.boot)
    }

    /// Acts on an effect, as the adapters would.
    pub fn act(&mut self, now: Mono, effect: &Effect) {
        if let Effect::Spawn(launch) | Effect::Hook { launch, .. } | Effect::AskInstalled { launch, .. } = effect {
            // A new life may have the name of one whose ledger was lost.
            self.strays.remove(&(launch.app.clone(), launch.run));
        }
        if let Some((app, run, fact)) = self.database.as_mut().and_then(|server| server.act(effect)) {
            return self.tell(now, 20, app, run, fact);
        }
        if self.act_in_host(now, effect) {
            return;
        }
        match effect {
            Effect::Spawn(launch) => self.spawn(now, launch),
            Effect::Signal { app, run, .. } => self.signal(now, app, *run),
            Effect::KillTree { app, run, .. } => self.kill_tree(now, app, *run),
            Effect::Hook { launch, hook, .. } => {
                if !self.hooks.insert((launch.app.clone(), launch.run.seq, *hook)) && !self.numbers_reused {
                    let (app, seq) = (&launch.app, launch.run.seq);
                    self.violations.push(format!("{hook} of {app} was run twice for command {seq}"));
                }
                if hook.kind != HookKind::Prepare {
                    self.unfinished.insert((launch.app.clone(), launch.run.seq));
                    self.upgrading.insert(launch.app.clone(), now.after(Duration::from_millis(300)));
                    if let Some(other) = self.processes.values().find(|process| process.app == launch.app) {
                        self.violations.push(format!("{} is upgraded while {} still lives", launch.app, other.run));
                    }
                }
                let failed = !self.calm && self.random.chance(10);
                let failure = HookFailure { text: "simulated".into(), last_log: Vec::new() };
                let result = if failed { Err(failure) } else { Ok(()) };
                self.tell(now, 300, launch.app.clone(), launch.run, Fact::HookEnded { hook: *hook, result });
            }
            Effect::WatchReady(watch) => {
                let pid = watch.pid;
                if let Some(process) = self.processes.get(&pid).filter(|process| process.run == watch.launch.run) {
                    let (app, run, ready_at) = (process.app.clone(), process.run, process.ready_at);
                    if let Some(at) = ready_at {
                        let after = at.since(now).as_millis() as u64 + 1;
                        self.tell(now, after, app, run, Fact::Readiness(Answer::Ready));
                    }
                }
            }
            Effect::AskInstalled { launch, .. } => {
                let known = self.calm || self.random.chance(90);
                let answer = if known { Ok(self.version.to_string()) } else { Err("simulated".into()) };
                self.tell(now, 20, launch.app.clone(), launch.run, Fact::Installed(answer));
            }
            Effect::Adopt(life) => self.look_after(now, life),
            Effect::CleanUp { app, run, .. } => self.tell(now, 3, app.clone(), *run, Fact::CleanedUp),
            _ => {}
        }
    }

    /// Somebody looks after a stray from now on: what happened to it meanwhile is told.
    fn look_after(&mut self, now: Mono, life: &FoundLife) {
        self.strays.remove(&(life.app.clone(), life.run));
        let lives = self.processes.values().any(|process| process.app == life.app && process.run == life.run);
        match self.unit_state(life) {
            Some(fact) => self.tell(now, 1, life.app.clone(), life.run, fact),
            None if lives => {}
            None => {
                let leftovers = self.orphans.contains(&(life.app.clone(), life.run));
                let outcome = ExitOutcome::Unknown;
                let fact = Fact::Exited { outcome, cause: None, last_log: Vec::new(), leftovers };
                self.tell(now, 1, life.app.clone(), life.run, fact);
            }
        }
    }

    /// The apps of which a step of an upgrade runs now.
    pub fn in_upgrade(&self, now: Mono) -> impl Iterator<Item = &AppId> {
        self.upgrading.iter().filter(move |(_, end)| **end > now).map(|(app, _)| app)
    }

    /// The worker's ledger is lost: hooks may be run again, as nobody knows that they were.
    pub fn forget_hooks(&mut self) {
        self.hooks.clear();
        self.unfinished.clear();
    }

    /// Somebody on the host asked for this app's start anew.
    pub fn forget_hooks_of(&mut self, app: &AppId) {
        self.hooks.retain(|(other, _, _)| other != app);
        self.unfinished.retain(|(other, _)| other != app);
    }

    /// Whether a life's process is there and ready.
    pub fn is_ready(&self, now: Mono, app: &AppId, run: Run) -> bool {
        if let Some(member) = self.members.get(app) {
            return member.run == run;
        }
        let mut of_life = self.processes.values().filter(|process| process.app == *app && process.run == run);
        of_life.any(|process| process.ready_at.is_some_and(|at| at < now))
    }

    fn spawn(&mut self, now: Mono, launch: &Arc<Launch>) {
        let (app, run) = (launch.app.clone(), launch.run);
        if self.members.contains_key(&app) {
            self.violations.push(format!("{app} was started as {run} while it runs in a host"));
        }
        if self.unfinished.contains(&(app.clone(), run.seq)) && !self.numbers_reused {
            self.violations.push(format!("{app} was started as {run} though a step of its upgrade did not end well"));
        }
        if let Some(other) = self.processes.values().find(|process| process.app == app) {
            self.violations.push(format!("{app} was started as {run} while {} still lives", other.run));
        }
        if self.orphans.iter().any(|(orphan, _)| *orphan == app) {
            self.violations.push(format!("{app} was started as {run} while children of an earlier life still live"));
        }
        if let Some(unit) = self.units.get(&app) {
            self.violations.push(format!("{app} was started as {run} while its unit of {} is still there", unit.run));
        }
        self.violations.extend(self.database.as_ref().and_then(|server| server.judge_spawn(&app, run)));
        if !self.calm && self.random.chance(5) {
            let reason = Reason::new(ReasonCode::SpawnFailed, "simulated");
            let failure = SpawnFailure { reason, kind: SpawnFailureKind::Transient };
            return self.tell(now, 1, app, run, Fact::SpawnFailed(failure));
        }
        let identity = self.new_process(now, &app, run, port_of(launch), launch.unit.is_some());
        if let Some(unit) = Unit::of(launch, identity.clone()) {
            self.units.insert(app.clone(), unit);
        }
        self.tell(now, 2, app, run, Fact::Spawned { identity, notes: Vec::new() });
    }

    /// A new process with a fate.
    pub(super) fn new_process(&mut self, now: Mono, app: &AppId, run: Run, port: u16, of_unit: bool) -> Identity {
        self.next_pid += 1;
        let pid = self.next_pid;
        let invocation = of_unit.then(|| format!("{pid:032x}"));
        let start_ticks = if of_unit { 0 } else { u64::from(pid) };
        let identity = Identity { pid, start_ticks, boot: self.boot_id(), invocation };
        let slow = self.random.below(5_000);
        let ready_at = (self.calm || self.random.chance(90)).then(|| now.after(Duration::from_millis(slow)));
        let fate = self.random.below(20_000);
        let dies_at = (!self.calm && self.random.chance(30)).then(|| now.after(Duration::from_millis(fate)));
        let process = Process {
            app: app.clone(),
            run,
            identity: identity.clone(),
            port,
            ready_at,
            dies_at,
            obeys: self.random.chance(80),
            leaves_child: self.random.chance(20) && !of_unit,
            of_unit,
        };
        self.processes.insert(pid, process);
        identity
    }

    fn signal(&mut self, now: Mono, app: &AppId, run: Run) {
        self.stop_unit(now, app, run);
        let found = self.processes.iter().find(|(_, process)| process.app == *app && process.run == run);
        if let Some((pid, process)) = found
            && process.obeys
        {
            self.end(now, *pid, ExitOutcome::Code(0));
        }
    }

    fn kill_tree(&mut self, now: Mono, app: &AppId, run: Run) {
        self.stop_unit(now, app, run);
        let found = self.processes.iter().find(|(_, process)| process.app == *app && process.run == run);
        if let Some(pid) = found.map(|(pid, _)| *pid) {
            self.end(now, pid, ExitOutcome::Signal(9));
        }
        // What is left dies with the fact that tells it, see `arrived`.
        self.tell(now, 5, app.clone(), run, Fact::TreeGone);
    }

    /// Ends a process, by itself or by force.
    pub fn end(&mut self, now: Mono, pid: u32, outcome: ExitOutcome) {
        let Some(process) = self.processes.remove(&pid) else { return };
        self.end_members(pid);
        if process.of_unit {
            return self.unit_ended(now, &process.app, outcome);
        }
        if process.leaves_child {
            self.orphans.push((process.app.clone(), process.run));
        }
        let fact = Fact::Exited { outcome, cause: None, last_log: Vec::new(), leftovers: process.leaves_child };
        self.tell(now, 1, process.app, process.run, fact);
    }

    /// Lets those die whose time has come.
    pub fn pass(&mut self, now: Mono) {
        let dead: Vec<u32> = self
            .processes
            .iter()
            .filter(|(_, process)| !self.calm && process.dies_at.is_some_and(|at| at <= now))
            .map(|(pid, _)| *pid)
            .collect();
        for pid in dead {
            let outcome = ExitOutcome::Code(self.random.below(2) as i32);
            self.end(now, pid, outcome);
        }
        self.restart_units(now);
        self.pass_in_hosts(now);
    }

    /// The daemon died: nobody hears what is on its way.
    pub fn silence(&mut self) {
        self.database.iter_mut().for_each(DatabaseServer::forget_watch);
        self.attached.clear();
        self.known.clear();
        self.upgrading.clear();
        for (_, observation) in std::mem::take(&mut self.facts) {
            self.sweep(&observation);
        }
    }

    /// The host restarts.
    pub fn reboot(&mut self) {
        self.database.iter_mut().for_each(DatabaseServer::forget_watch);
        self.boot += 1;
        self.processes.clear();
        self.members.clear();
        self.attached.clear();
        self.known.clear();
        self.units.clear();
        self.orphans.clear();
        self.facts.clear();
    }

    /// What an adapter finds of former lives.
    pub fn adopt(&mut self, now: Mono, expected: &[FoundLife]) -> (Vec<FoundLife>, Vec<FoundLife>) {
        let mut alive = Vec::new();
        let mut strays = Vec::new();
        self.adopt_units(now, expected, &mut alive, &mut strays);
        for process in self.processes.values().filter(|process| !process.of_unit) {
            let life = FoundLife {
                app: process.app.clone(),
                run: process.run,
                identity: Some(process.identity.clone()),
                adapter: Adapter::Process,
                port: Some(process.port),
            };
            match expected.iter().any(|known| known.app == process.app && known.run == process.run) {
                true => alive.push(life),
                false => strays.push(life),
            }
        }
        for (app, run) in &self.orphans {
            let known = expected.iter().any(|life| life.app == *app && life.run == *run);
            if !known {
                let (app, run, adapter) = (app.clone(), *run, Adapter::Process);
                strays.push(FoundLife { app, run, identity: None, adapter, port: None });
            }
        }
        self.strays = strays.iter().map(|life| (life.app.clone(), life.run)).collect();
        (alive, strays)
    }

    /// The facts that have arrived by now.
    pub fn arrived(&mut self, now: Mono) -> Vec<Observation> {
        self.facts.sort_by_key(|(at, _)| *at);
        let count = self.facts.iter().take_while(|(at, _)| *at <= now).count();
        let facts: Vec<Observation> = self.facts.drain(..count).map(|(_, observation)| observation).collect();
        for observation in &facts {
            self.sweep(observation);
            if let Fact::HookEnded { result: Ok(()), .. } = &observation.fact {
                self.unfinished.remove(&(observation.app.clone(), observation.run.seq));
            }
        }
        facts
    }

    fn sweep(&mut self, observation: &Observation) {
        if observation.fact == Fact::TreeGone {
            self.orphans.retain(|(app, run)| (app, run) != (&observation.app, &observation.run));
            self.units.retain(|app, unit| (app, &unit.run) != (&observation.app, &observation.run));
        }
    }

    /// When something happens next.
    pub fn next_event(&self) -> Option<Mono> {
        let deaths = self.processes.values().filter_map(|process| process.dies_at).filter(|_| !self.calm);
        self.facts.iter().map(|(at, _)| *at).chain(deaths).chain(self.next_restart()).chain(self.next_in_hosts()).min()
    }

    pub(super) fn tell(&mut self, now: Mono, after_ms: u64, app: AppId, run: Run, fact: Fact) {
        if self.strays.contains(&(app.clone(), run)) && fact != Fact::TreeGone {
            return;
        }
        let at = now.after(Duration::from_millis(after_ms));
        self.facts.push((at, Observation { app, run, fact }));
    }
}

/// The port that a launch gives to its process.
pub(super) fn port_of(launch: &Launch) -> u16 {
    match launch.address {
        Some(Address::Port(port)) => port,
        _ => 0,
    }
}
