//! One entry and one environment on one host, driven by a seed: commands, crashes of apps, crashes of the daemon at any
//! step (before the commit, between commit and act, in the midst of acting), reboots, lost and doubled orders, a database
//! server that goes and comes.
//!
//! The shell here does what the loops do, in the same order. What must hold is checked at every step; when the faults
//! stop, what should be must come to be, and every accepted operation must end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::command::{Action, Command, Verdict};
use crate::effect::Effect;
use crate::environment::{Environment, Input, Settings};
use crate::fleet::{Fleet, Standing};
use crate::id::{EntryId, OperationId, Reign, Seq};
use crate::intent::Intent;
use crate::launch::Places;
use crate::limits;
use crate::name::{AppId, EnvironmentName, RuntimeName};
use crate::order::{Order, Report};
use crate::phase::Phase;
use crate::recipe::{Adapter, Check, Hook, Listen, Ready, Recipe, StopSteps, Upkeep};
use crate::record::{AppLife, Change, LedgerRow};
use crate::restart::RestartPolicy;
use crate::secret::SecretText;
use crate::shared::{SecretSource, is_host};
use crate::signal::Signal;
use crate::spec::{AppSpec, Hosting, Limits, StartMode};
use crate::template::Template;
use crate::testing::database::{self, DatabaseServer};
use crate::testing::disk::Disk;
use crate::testing::members;
use crate::testing::random::Random;
use crate::testing::world::World;
use crate::time::{Mono, Now, Wall};
use crate::unit::Sandbox;

const SLOTS: u32 = 2;
/// Secrets of apps for databases.
pub(super) const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef";

struct Daemon {
    fleet: Fleet,
    environment: Environment,
    orders: VecDeque<Order>,
    reports: VecDeque<Report>,
}

/// The simulation.
pub struct Sim {
    seed: u64,
    now: Now,
    random: Random,
    disk: Disk,
    world: World,
    daemon: Option<Daemon>,
    recipe: Arc<Recipe>,
    ids: u64,
    accepted: Vec<(Seq, AppId, OperationId)>,
    /// What the accepted commands, in their order, make of each app's intent: run or not.
    wanted: BTreeMap<AppId, (Seq, bool)>,
    /// Apps whose last accepted removal took their data.
    purged: BTreeSet<AppId>,
    /// The last things that happened, for a failure's story.
    story: VecDeque<String>,
    /// Whether acting is cut off in the midst of the present turn.
    dying: bool,
}

/// What a run of the simulation saw, to know that it was worth it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Commands that were accepted.
    pub accepted: usize,
    /// Operations that ended done.
    pub done: usize,
    /// Apps that run at the end.
    pub running: usize,
    /// Those of them that run in a host.
    pub hosted: usize,
}

fn environment_name() -> EnvironmentName {
    EnvironmentName::parse("local").expect("a literal name")
}

pub(super) fn runtime_name() -> RuntimeName {
    RuntimeName::parse("sim").expect("a literal name")
}

pub(super) fn recipe(random: &mut Random) -> Recipe {
    let hook = Hook { command: vec![Template::default()], timeout: Duration::from_secs(5) };
    Recipe {
        name: runtime_name(),
        description: String::new(),
        command: vec![Template::default()],
        working_dir: None,
        app_dir: None,
        adapter: None,
        environment: BTreeMap::new(),
        listen: Listen::Port,
        strip_prefix: true,
        user: None,
        group: None,
        ready: Ready {
            check: Check::Tcp,
            interval: Duration::from_millis(50),
            timeout: Duration::from_secs(10),
            max_timeout: Duration::from_secs(20),
        },
        alive: None,
        version: None,
        prepare: (0..random.below(3)).map(|_| hook.clone()).collect(),
        stop: StopSteps(vec![(Signal::TERM, Duration::from_secs(3))]),
        restart: RestartPolicy { delay: Duration::from_millis(random.below(3) * 500), burst: 8, ..Default::default() },
        limits: Limits::default(),
        max_limits: Limits::default(),
        paths: Default::default(),
        app_id_pattern: None,
        sandbox: Sandbox::Standard,
        unit: Vec::new(),
        shared: Some(Arc::new(members::shared())),
        upkeep: Upkeep {
            backup: (0..random.below(2)).map(|_| hook.clone()).collect(),
            upgrade: (0..1 + random.below(2)).map(|_| hook.clone()).collect(),
            installed: random.chance(70).then(|| vec![Template::default()]),
            restart_on_file: None,
        },
    }
}

pub(super) fn secrets() -> SecretSource {
    SecretSource(Arc::new(|name| SecretText::new(name)))
}

impl Sim {
    /// The simulation of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let recipe = Arc::new(recipe(&mut random));
        let mut world = World::new(Random::new(seed ^ 0xABCD));
        world.database = Some(DatabaseServer::default());
        let now = Now { mono: Mono(Duration::from_secs(3600)), wall: Wall(1_700_000_000_000) };
        let mut sim = Self {
            seed,
            now,
            random,
            disk: Disk::default(),
            world,
            daemon: None,
            recipe,
            ids: 0,
            accepted: Vec::new(),
            wanted: BTreeMap::new(),
            purged: BTreeSet::new(),
            story: VecDeque::new(),
            dying: false,
        };
        sim.boot_daemon();
        sim
    }

    /// Runs it: `steps` with faults, then calm until all is settled.
    ///
    /// # Errors
    /// What must never be, with the seed that shows it.
    pub fn run(mut self, steps: usize) -> Result<Seen, String> {
        for step in 0..steps {
            self.step();
            self.check().map_err(|what| format!("seed {} step {step}: {what}\n{}", self.seed, self.story()))?;
        }
        self.world.calm = true;
        self.world.database.iter_mut().for_each(|server| server.down = false);
        self.tell("calm");
        self.settle_down().map_err(|what| format!("seed {} when calm: {what}\n{}", self.seed, self.story()))
    }

    fn tell(&mut self, what: impl std::fmt::Debug) {
        self.story.push_back(format!("{:>9.3} {what:?}", self.now.mono.0.as_secs_f64() - 3600.0));
        if self.story.len() > 120 {
            self.story.pop_front();
        }
    }

    fn story(&self) -> String {
        self.story.iter().map(|line| line.chars().take(220).chain(['\n']).collect::<String>()).collect()
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..=24 => self.command(),
            25..=27 => self.crash_daemon(),
            28 => self.reboot(),
            32..=33 => self.world.database.iter_mut().for_each(|server| server.down = !server.down),
            29..=31 => self.dying = true, // the next turn of the worker is cut off in its midst
            34 => self.world.version += 1, // another version is installed
            _ => self.advance(),
        }
        self.turns();
    }

    fn advance(&mut self) {
        let next = self.daemon.as_ref().and_then(|daemon| {
            let deadlines = [daemon.fleet.next_deadline(self.now), daemon.environment.next_deadline()];
            deadlines.into_iter().flatten().min()
        });
        let target = [next, self.world.next_event()].into_iter().flatten().min();
        let pause = target.map_or(Duration::from_secs(1), |at| at.since(self.now.mono));
        self.pass(pause.min(Duration::from_secs(3600)));
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono.after(time);
        self.now.wall = Wall(self.now.wall.0 + time.as_millis() as u64);
        self.world.pass(self.now.mono);
        if self.daemon.is_none() {
            self.boot_daemon();
        }
    }

    fn new_id(&mut self) -> OperationId {
        self.ids += 1;
        OperationId::from_parts(self.now.wall.0, u128::from(self.ids))
    }

    fn command(&mut self) {
        if self.daemon.is_none() {
            return;
        }
        let names = ["a", "b", "c", "d", "e", "f"];
        let name = AppId::parse(names[self.random.below(6) as usize]).expect("a literal name");
        let mut spec = AppSpec::minimal(name.clone(), runtime_name(), environment_name());
        spec.start_mode = StartMode::ALL[self.random.below(3) as usize];
        spec.database = database::asked(&name);
        // Most apps stay what they are; now and then one moves in with the others, or out.
        let shared = ["d", "e", "f"].contains(&name.as_str()) != self.random.chance(10);
        spec.hosting = if shared { Hosting::Shared } else { Hosting::Dedicated };
        spec.labels.insert("n".into(), self.random.below(3).to_string());
        spec.auto_upgrade = self.random.chance(25);
        let action = match self.random.below(14) {
            0..=2 => Action::Create {
                spec: Arc::new(spec),
                jwt: SecretText::new("x"),
                db_secret: SecretText::new(SECRET),
                reuse: true,
            },
            3..=5 => Action::Start,
            6..=7 => Action::Stop,
            8..=9 => Action::Restart,
            10 => match self.disk.apps.get(&name) {
                Some(row) => Action::Update {
                    spec: Arc::new(AppSpec { start_mode: row.spec.start_mode, ..spec }),
                    if_match: row.generation,
                    db_secret: SecretText::new(SECRET),
                },
                None => Action::Start,
            },
            11 => Action::Upgrade,
            12 => Action::RotateSecret { jwt: SecretText::new("y"), restart: self.random.chance(50) },
            _ => Action::Remove { purge_data: self.random.chance(50) },
        };
        let id = self.new_id();
        if self.random.chance(10) {
            return self.wake(&name, id);
        }
        let command = Command { app: name, action, actor: "sim".into(), id, idempotency: None, environments: None };
        let cut_off = self.random.below(40);
        let Some(daemon) = &mut self.daemon else { return };
        let decision = daemon.fleet.decide(self.now, &command);
        self.tell((&command.app, command.action.kind(), &decision.verdict, cut_off));
        let Some(daemon) = &mut self.daemon else { return };
        match cut_off {
            // The daemon dies before the commit: the client heard nothing, nothing may remain.
            0 => return self.crash_daemon(),
            // The disk is full: taken back.
            1 => return daemon.fleet.undo(self.now, decision.undo),
            _ => {}
        }
        self.disk.commit(decision.changes);
        if cut_off == 2 {
            // It dies after the commit and before the answer: it may take effect or not be known to the client.
            self.note(&command, &decision.verdict);
            return self.crash_daemon();
        }
        self.note(&command, &decision.verdict);
    }

    fn wake(&mut self, name: &AppId, id: OperationId) {
        let Some(daemon) = &mut self.daemon else { return };
        if let Some(decision) = daemon.fleet.wake(self.now, name, id) {
            self.disk.commit(decision.changes);
            if let Verdict::Accepted(view) = decision.verdict {
                self.wanted.insert(name.clone(), (view.seq, true));
            }
        }
    }

    fn note(&mut self, command: &Command, verdict: &Verdict) {
        let Verdict::Accepted(view) = verdict else { return };
        self.accepted.push((view.seq, view.app.clone(), view.id));
        match &command.action {
            Action::Remove { purge_data: true } => _ = self.purged.insert(view.app.clone()),
            Action::Remove { purge_data: false } | Action::Create { .. } => _ = self.purged.remove(&view.app),
            _ => {}
        }
        let run = match &command.action {
            Action::Create { spec, .. } => Some(spec.start_mode == StartMode::WithSupervisor),
            Action::Start | Action::Restart | Action::Upgrade | Action::Wake => Some(true),
            Action::Stop | Action::Remove { .. } => Some(false),
            Action::Update { .. } | Action::RotateSecret { .. } | Action::Move { .. } => None,
        };
        if let Some(run) = run {
            let latest = self.wanted.entry(view.app.clone()).or_insert((view.seq, run));
            if view.seq >= latest.0 {
                *latest = (view.seq, run);
            }
        }
    }

    fn crash_daemon(&mut self) {
        self.tell("daemon crashes");
        self.daemon = None;
        self.world.silence();
    }

    fn reboot(&mut self) {
        self.tell("host reboots");
        self.daemon = None;
        self.world.reboot();
        // What a reboot brings back is the start mode's to say; a start that had not begun is still to come.
        for (name, row) in &self.disk.apps {
            let begun = self.disk.instances.get(name).map_or(Seq(0), |instance| instance.run.seq);
            let to_come = row.placements.iter().any(|p| p.intent.wants_running() && p.start_seq > begun);
            // An upgrade that was cut off or has failed is left as it is.
            let broke = self.disk.instances.get(name).zip(row.upgrade.as_ref()).is_some_and(|(instance, upgrade)| {
                let in_step = instance.phase == Phase::Upgrading && instance.hook_begun;
                let ended = in_step || instance.phase == Phase::Failed;
                ended && begun >= upgrade.seq && instance.upgrade.done < upgrade.seq
            });
            if to_come || broke {
                continue;
            }
            let stays = row.intent() == Intent::Run && row.spec.start_mode == StartMode::WithSupervisor;
            if let Some(wanted) = self.wanted.get_mut(name)
                && !stays
            {
                wanted.1 = false;
            }
        }
    }

    fn boot_daemon(&mut self) {
        let recovered = self.disk.recover();
        let same_boot = recovered.boot.as_deref().is_none_or(|boot| boot == self.world.boot_id());
        let settings = Settings {
            places: Places {
                state_root: "/s".into(),
                run_root: "/r".into(),
                environment: environment_name(),
                time_zone: None,
                databases: database::servers(),
            },
            port_range: 1000..=1100,
            concurrent_starts: SLOTS,
            version: "0".into(),
            boot: self.world.boot_id(),
            adapter: self.adapter(),
            host: "sim".into(),
            url: None,
            proxy_url: None,
            capacity: None,
            autonomous: false,
            start_without_entry_after: None,
            secrets: secrets(),
        };
        let recipes = BTreeMap::from([(runtime_name(), self.recipe.clone())]);
        let mut environment =
            Environment::new(settings, recipes, recovered.instances.clone(), recovered.follows.clone());
        let epoch = recovered.epoch.next();
        self.disk.commit(vec![Change::Reign(epoch)]);
        let entry = EntryId::parse("sim").expect("a literal ID");
        let standing = Standing { reign: Reign { epoch, entry }, local: Some(environment_name()) };
        let fleet = Fleet::new(standing, recovered, self.now);
        let (alive, strays) = self.world.adopt(self.now.mono, &environment.expected_lives());
        let effects = environment.recover(self.now, alive, strays, same_boot);
        let hello = environment.hello();
        self.daemon = Some(Daemon { fleet, environment, orders: VecDeque::new(), reports: VecDeque::from([hello]) });
        let effects = effects.into_iter().filter(|effect| !matches!(effect, Effect::Report(Report::Instance(_))));
        self.carry_out(effects.collect());
    }

    /// Most hosts stay what they are; now and then one is found to have systemd, or not, at the next start.
    fn adapter(&mut self) -> Adapter {
        let units = self.seed.is_multiple_of(2) != self.random.chance(15);
        if units { Adapter::Systemd } else { Adapter::Process }
    }

    /// Worker and entry take their turns until nothing is left to take.
    fn turns(&mut self) {
        for _ in 0..200 {
            let observed = self.world.arrived(self.now.mono).into_iter().map(Input::Observed);
            let Some(daemon) = &mut self.daemon else { return };
            let orders = daemon.orders.drain(..).map(|order| Input::Order(order, Duration::ZERO));
            let news = self.world.database.as_mut().and_then(DatabaseServer::news);
            let news = news.map(|(server, state)| Input::Database(server, state));
            let inputs: Vec<Input> = observed.chain(orders).chain(news).chain([Input::Tick]).collect();
            let idle = inputs.len() == 1;
            let effects: Vec<Effect> =
                inputs.into_iter().flat_map(|input| daemon.environment.step(self.now, input)).collect();
            let idle = idle && effects.is_empty();
            self.carry_out(effects);
            let Some(daemon) = &mut self.daemon else { return };
            let reports: Vec<Report> = daemon.reports.drain(..).collect();
            let idle = idle && reports.is_empty();
            self.entry_turn(reports);
            let Some(daemon) = &self.daemon else { return };
            if idle && daemon.orders.is_empty() {
                return;
            }
        }
        self.world.violations.push("worker and entry never come to rest".into());
    }

    fn entry_turn(&mut self, reports: Vec<Report>) {
        let (now, mut ids) = (self.now, self.ids);
        let mut new_id = || {
            ids += 1;
            OperationId::from_parts(now.wall.0, u128::from(ids))
        };
        let Some(daemon) = &mut self.daemon else { return };
        let mut changes: Vec<Change> = Vec::new();
        for report in reports {
            changes.extend(daemon.fleet.observe(now, &environment_name(), report, &mut new_id));
        }
        self.disk.commit(changes);
        let settled = daemon.fleet.settle(now);
        self.disk.commit(settled.urgent.into_iter().chain(settled.changes).collect());
        let orders: Vec<Order> = settled.orders.into_iter().map(|(_, order)| order).collect();
        for order in orders {
            // Some are lost on the way, some arrive twice.
            let copies = match self.random.below(20) {
                _ if self.world.calm => 1,
                0 => 0,
                1 => 2,
                _ => 1,
            };
            let Some(daemon) = &mut self.daemon else { return };
            daemon.orders.extend(std::iter::repeat_n(order.clone(), copies));
            self.tell((&order.app, order.intent_seq, copies, &order.goal));
        }
        self.ids = ids;
    }

    /// Commit, then act; a dying daemon commits and acts on a part only.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        let rows = effects.iter().filter_map(|effect| match effect {
            Effect::Remember(row) => Some(Change::Instance(row.clone())),
            Effect::Forget(app) => Some(Change::ForgetInstance(app.clone())),
            _ => None,
        });
        self.disk.commit(rows.collect());
        let dies_after = match std::mem::take(&mut self.dying) && !effects.is_empty() {
            true => Some(self.random.below(effects.len() as u64) as usize),
            false => None,
        };
        for (i, effect) in effects.into_iter().enumerate() {
            self.tell(&effect);
            if dies_after == Some(i) {
                return self.crash_daemon();
            }
            match effect {
                // A host that is made anew counts its lives from the first again.
                Effect::Forget(app) if is_host(&app) => self.world.forget_hooks_of(&app),
                Effect::Report(report) => {
                    let Some(daemon) = &mut self.daemon else { return };
                    daemon.reports.push_back(report);
                }
                other => {
                    self.check_kill(&other);
                    self.world.act(self.now.mono, &other);
                }
            }
        }
    }

    /// A process that runs as wanted is never signalled.
    fn check_kill(&mut self, effect: &Effect) {
        let (Effect::Signal { app, run, .. } | Effect::KillTree { app, run, .. }) = effect else { return };
        let lives = self.world.processes.values().any(|process| process.app == *app && process.run == *run)
            || self.world.members.get(app).is_some_and(|member| member.run == *run);
        let row = self.disk.instances.get(app);
        let runs_as_wanted = row.is_some_and(|row| row.phase == Phase::Running && row.run == *run);
        if lives && runs_as_wanted {
            self.world.violations.push(format!("{app} {run} runs as it should and is killed"));
        }
        if is_host(app) && lives {
            let identity = row.and_then(|row| row.identity.clone());
            let runs = |row: &&LedgerRow| row.phase == Phase::Running && row.adapter == Adapter::Shared;
            let mut members = self.disk.instances.values().filter(runs);
            if let Some(member) = members.find(|member| member.identity == identity && identity.is_some()) {
                self.world.violations.push(format!("{app} is killed while {} runs in it", member.app));
            }
        }
    }

    fn check(&mut self) -> Result<(), String> {
        if let Some(what) = self.world.violations.pop() {
            return Err(what);
        }
        let in_turn = self.daemon.as_ref().map_or(0, |daemon| {
            let reports = daemon.environment.reports();
            reports.iter().filter(|report| report.in_turn).count()
        });
        if in_turn > SLOTS as usize {
            return Err(format!("{in_turn} ordered starts in flight with {SLOTS} slots"));
        }
        for (seq, app, id) in &self.accepted {
            if !self.disk.operations.contains_key(id) {
                return Err(format!("accepted operation {seq} on {app} is not in the record"));
            }
        }
        Ok(())
    }

    fn settle_down(&mut self) -> Result<Seen, String> {
        let end = self.now.mono.after(limits::OPERATION_WAIT * 3);
        let mut resend_over = false;
        while self.now.mono < end {
            self.advance();
            self.turns();
            self.check()?;
            let quiet = self.world.next_event().is_none();
            let waiting = self.disk.operations.values().any(|row| !row.view.status.has_ended());
            let settled = self.disk.instances.values().all(|row| row.phase.is_settled());
            if quiet && settled && !waiting && resend_over {
                break;
            }
            if quiet && settled && !waiting {
                // One more resend interval, in case an order was lost.
                self.pass(limits::ORDER_RESEND * 2);
                self.turns();
                resend_over = true;
            }
        }
        self.check_end()
    }

    fn check_end(&self) -> Result<Seen, String> {
        let mut seen = Seen { accepted: self.accepted.len(), ..Seen::default() };
        for (seq, app, id) in &self.accepted {
            let row = self.disk.operations.get(id).ok_or_else(|| format!("operation {seq} on {app} is lost"))?;
            if !row.view.status.has_ended() {
                return Err(format!("operation {seq} on {app} never ended: {:?}", row.view));
            }
            seen.done += usize::from(row.view.status == crate::view::OperationStatus::Done);
        }
        for (name, row) in &self.disk.apps {
            let alive = self.world.processes.values().filter(|process| process.app == *name).count()
                + usize::from(self.world.members.contains_key(name));
            let phase = self.disk.instances.get(name).map(|row| row.phase);
            let wants = row.intent().wants_running() && row.life == AppLife::Kept;
            let right = match (wants, phase) {
                (true, Some(Phase::Running)) => alive == 1,
                (true, Some(Phase::Failed | Phase::Stopped)) => alive == 0,
                (true, _) => false,
                (false, _) => alive == 0,
            };
            if !right {
                return Err(format!("{name}: intent {:?}, phase {phase:?}, {alive} processes", row.intent()));
            }
            let made = self.world.database.as_ref().is_some_and(|server| server.made.contains(name));
            if made && row.life == AppLife::Removed && self.purged.contains(name) {
                return Err(format!("{name} is gone with its data, and its database is there"));
            }
            seen.running += alive;
            if let Some((seq, run)) = self.wanted.get(name)
                && *run != row.intent().wants_running()
            {
                return Err(format!("{name}: command {seq} wants run={run}, the intent is {:?}", row.intent()));
            }
        }
        let hosts = self.world.processes.values().filter(|process| is_host(&process.app)).count();
        let hosted = self.world.members.len();
        if hosts != usize::from(hosted > 0) {
            return Err(format!("{hosts} hosts run for {hosted} apps"));
        }
        seen.hosted = hosted;
        Ok(seen)
    }
}
