//! All instances of one host: order fencing, slots, deadlines, and what the entry is told.
//!
//! Invariant: at most `concurrent_starts` ordered starts are in flight; an order older than one already taken up is
//! refused; every step's `Remember` effects come before what they allow. Deliberately absent: which app starts next
//! (the entry's `admission`), and any trust in what is not in the ledger.
//!
//! The fence: orders of a lower epoch than that of the entry it follows are refused, and those of another entry in the
//! same epoch; a higher epoch is followed from then on. A host that was standalone and becomes a worker of another entry
//! followed its own former entry, whose epochs say nothing about the new one's: the shell then passes no `follows`, or
//! the new entry would be locked out until its epoch is higher by chance.

mod alone;
mod databases;
mod host;
mod stray;

pub(crate) use host::Book;
use host::Hosts;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::database::Endpoint;
use crate::effect::Effect;
use crate::id::{Epoch, Reign, Run, Seq};
use crate::instance::{Context, Instance};
use crate::launch::Places;
use crate::name::{AppId, EnvironmentName, RuntimeName};
use crate::observation::{Identity, Observation};
use crate::order::{
    Capacity, Goal, InstanceReport, LocalAction, LocalOverride, Order, Refusal, Registration, Report, RunGoal,
    RuntimeSummary, SharedSummary,
};
use crate::phase::Phase;
use crate::port_book::PortBook;
use crate::recipe::{Adapter, Recipe};
use crate::record::{LedgerGoal, LedgerRow};
use crate::shared::{SecretSource, is_host, secrets_in};
use crate::time::{Mono, Now};

pub(crate) use databases::Databases;

/// What does not change while the daemon runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directories and names.
    pub places: Places,
    /// Ports for apps.
    pub port_range: RangeInclusive<u16>,
    /// Ordered starts that may be in flight.
    pub concurrent_starts: u32,
    /// Version of the daemon.
    pub version: String,
    /// This boot of the host.
    pub boot: String,
    /// What runs apps whose recipe does not say.
    pub adapter: Adapter,
    /// The host's own name, for people.
    pub host: String,
    /// Where visitors reach the environment's gateway, and where the entry's does; see `Registration`.
    pub url: Option<String>,
    /// See `Registration`.
    pub proxy_url: Option<String>,
    /// What the host has.
    pub capacity: Option<Capacity>,
    /// The entry is another daemon, so the worker brings back by itself what it can after a reboot of its host.
    pub autonomous: bool,
    /// After so long without a word of the entry, apps that are placed elsewhere too are brought back as well.
    pub start_without_entry_after: Option<Duration>,
    /// Where the secrets of hosts come from.
    pub secrets: SecretSource,
}

/// What happens to an environment.
#[derive(Debug, Clone)]
pub enum Input {
    /// The entry ordered. `age`: how long ago it was sent.
    Order(Order, Duration),
    /// What should be, read from where the entry keeps it for those who missed an order. Never answered with a refusal, as
    /// nobody waits for the answer.
    Intent(Order),
    /// Somebody on the host itself asked, past the entry.
    Local {
        /// About which app.
        app: AppId,
        /// What.
        action: LocalAction,
        /// Who.
        actor: String,
    },
    /// A fact.
    Observed(Observation),
    /// A database server answers, or why it does not.
    Database(Endpoint, Result<(), String>),
    /// The recipes were read again.
    Recipes(BTreeMap<RuntimeName, Arc<Recipe>>),
    /// Time has passed.
    Tick,
}

/// A former life's process, as an adapter found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLife {
    /// Whose.
    pub app: AppId,
    /// Which life.
    pub run: Run,
    /// Its main process.
    pub identity: Option<Identity>,
    /// Who runs it.
    pub adapter: Adapter,
    /// The port that it was given, where the adapter can tell. Asked for only where the ledger does not know the life.
    pub port: Option<u16>,
}

/// The worker's brain.
#[derive(Debug, Clone)]
pub struct Environment {
    settings: Settings,
    book: Book,
    hosts: Hosts,
    /// Boxed: a half-empty node of the map would hold several times what its instances need.
    instances: BTreeMap<AppId, Box<Instance>>,
    /// Instances in their turn; kept beside them, so that an order costs no walk over all.
    turns: usize,
    due: BTreeSet<(Mono, AppId)>,
    ports: PortBook,
    databases: Databases,
    /// The entry whose orders count.
    follows: Option<Reign>,
    /// Lives of apps that the ledger does not know.
    strays: BTreeMap<AppId, Vec<FoundLife>>,
    /// Apps that were removed in this life of the daemon, with the order that said so: an older one that arrives late does
    /// not bring them back.
    gone: BTreeMap<AppId, (Epoch, Seq)>,
    /// The last turn of each app that was given back for want of a slot.
    spent: BTreeMap<AppId, (Epoch, u64)>,
    /// Apps that start without a turn of the entry, once a slot is free; see `alone`.
    waiting: BTreeSet<AppId>,
    /// When it stops waiting for the entry's word.
    alone_at: Option<Mono>,
    /// Since when it looks after its host.
    began: Now,
}

/// Removed apps that are remembered; see `Environment::gone`.
const GONE_MAX: usize = 4096;

impl Environment {
    /// An environment that goes on from its ledger.
    pub fn new(
        settings: Settings,
        recipes: BTreeMap<RuntimeName, Arc<Recipe>>,
        rows: Vec<LedgerRow>,
        follows: Option<Reign>,
    ) -> Self {
        let mut ports = PortBook::new(settings.port_range.clone());
        // Every remembered port first, so that no newcomer takes one from under a living app.
        for row in &rows {
            if row.port.is_some() {
                ports.reserve(&row.app, row.port);
            }
        }
        let turns = rows.iter().filter(|row| row.in_turn).count();
        let instances: BTreeMap<AppId, Box<Instance>> =
            rows.into_iter().map(|row| (row.app.clone(), Box::new(Instance::from_row(row)))).collect();
        let mut hosts = Hosts::default();
        for (app, instance) in &instances {
            hosts.note(app, instance.host_runtime());
        }
        Self {
            settings,
            book: Book::new(recipes),
            hosts,
            instances,
            turns,
            due: BTreeSet::new(),
            ports,
            databases: Databases::default(),
            follows,
            strays: BTreeMap::new(),
            gone: BTreeMap::new(),
            spent: BTreeMap::new(),
            waiting: BTreeSet::new(),
            alone_at: None,
            began: Now::default(),
        }
    }

    /// The lives that may still be there, for the adapter to look for.
    pub fn expected_lives(&self) -> Vec<FoundLife> {
        // What runs in a host lives and ends with it; see `recover`.
        let may_live = |instance: &&Instance| {
            !matches!(instance.row.phase, Phase::Stopped | Phase::Failed) && instance.row.adapter != Adapter::Shared
        };
        let life = |instance: &Instance| FoundLife {
            app: instance.row.app.clone(),
            run: instance.row.run,
            identity: instance.row.identity.clone(),
            adapter: instance.row.adapter,
            port: instance.row.port,
        };
        self.instances.values().map(AsRef::as_ref).filter(may_live).map(life).collect()
    }

    /// Takes up what was found of them. To be called once, before any other step.
    pub fn recover(&mut self, now: Now, alive: Vec<FoundLife>, strays: Vec<FoundLife>, same_boot: bool) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut alive: BTreeMap<(AppId, Run), Option<Identity>> =
            alive.into_iter().map(|life| ((life.app, life.run), life.identity)).collect();
        self.began = now;
        for life in strays {
            // An older life of an app that is ours is ours to end; what claims an app that we do not know is only told.
            match self.instances.contains_key(&life.app) {
                false => self.keep_stray(life, &mut effects),
                true => self.with_instance(now, &life.app, &mut effects, |instance, ctx| {
                    instance.sweep(ctx, life.run, life.adapter);
                }),
            }
        }
        // Hosts first: what lives in them is told by them.
        let (hosts, apps): (Vec<AppId>, Vec<AppId>) = self.instances.keys().cloned().partition(is_host);
        for app in hosts.into_iter() {
            let run = self.instances.get(&app).map_or(Run::default(), |instance| instance.row.run);
            let found = alive.remove(&(app.clone(), run)).flatten();
            self.with_instance(now, &app, &mut effects, |instance, ctx| instance.recover(ctx, found, same_boot));
        }
        self.find_hosts(&mut effects);
        for app in apps {
            let instance = self.instances.get(&app);
            let run = instance.map_or(Run::default(), |instance| instance.row.run);
            let in_host = instance.filter(|instance| instance.lives_on(&self.hosts.up));
            let in_host = in_host.and_then(|instance| instance.row.identity.clone());
            let found = alive.remove(&(app.clone(), run)).flatten().or(in_host);
            self.with_instance(now, &app, &mut effects, |instance, ctx| {
                instance.introduce(ctx, found.is_some() && instance.row.adapter == Adapter::Shared);
                instance.recover(ctx, found, same_boot);
            });
        }
        self.begin_alone(now, &mut effects);
        self.settle_hosts(now, &mut effects);
        effects
    }

    /// One input, and what follows from it.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Order(order, age) => self.order(now, order, Some(age), &mut effects),
            Input::Intent(order) => self.order(now, order, None, &mut effects),
            Input::Local { app, action, actor } => self.local(now, &app, action, actor, &mut effects),
            Input::Observed(Observation { app, run, fact }) => {
                self.with_instance(now, &app, &mut effects, |instance, ctx| instance.observe(ctx, run, fact));
            }
            Input::Database(endpoint, state) => self.database_told(now, &endpoint, state, &mut effects),
            Input::Recipes(recipes) => {
                self.book = Book::new(recipes);
                effects.push(Effect::Report(Report::Runtimes(self.runtimes())));
            }
            Input::Tick => {}
        }
        while let Some((due, app)) = self.due.first().cloned().filter(|(due, _)| *due <= now.mono) {
            self.due.remove(&(due, app.clone()));
            self.with_instance(now, &app, &mut effects, |instance, ctx| instance.deadline(ctx));
        }
        self.step_alone(now, &mut effects);
        self.settle_hosts(now, &mut effects);
        effects
    }

    /// When it wants to be stepped next.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.due.first().map(|(due, _)| *due).into_iter().chain(self.alone_at()).min()
    }

    /// What the environment says of itself, and all it has.
    pub fn hello(&self) -> Report {
        Report::Hello { registration: self.registration().into(), instances: self.reports() }
    }

    /// Its name.
    pub fn name(&self) -> &EnvironmentName {
        &self.settings.places.environment
    }

    /// The ledger's row of an app, and what the entry is told of it.
    pub(crate) fn seen(&self, app: &AppId) -> Option<(&LedgerRow, Report)> {
        let instance = self.instances.get(app).filter(|_| !is_host(app))?;
        Some((&instance.row, self.report_of(instance)))
    }

    /// What the environment says of itself.
    pub fn registration(&self) -> Registration {
        Registration {
            environment: self.settings.places.environment.clone(),
            version: self.settings.version.clone(),
            boot: self.settings.boot.clone(),
            concurrent_starts: self.settings.concurrent_starts,
            runtimes: self.runtimes(),
            host: self.settings.host.clone(),
            url: self.settings.url.clone(),
            proxy_url: self.settings.proxy_url.clone(),
            capacity: self.settings.capacity,
            databases: self.endpoints(),
            follows: self.follows.clone(),
        }
    }

    /// Every instance's report.
    pub fn reports(&self) -> Vec<InstanceReport> {
        let report = |instance: &Instance| match self.report_of(instance) {
            Report::Instance(report) => Some(*report),
            _ => None,
        };
        let apps = self.instances.iter().filter(|(app, _)| !is_host(app)).map(|(_, instance)| instance.as_ref());
        apps.filter_map(report).chain(self.stray_reports()).collect()
    }

    fn runtimes(&self) -> BTreeMap<RuntimeName, RuntimeSummary> {
        self.book.own().values().map(|recipe| (recipe.name.clone(), summary(recipe, self.settings.adapter))).collect()
    }

    /// `age`: of an order; none for what was read as an intent.
    fn order(&mut self, now: Now, order: Order, age: Option<Duration>, effects: &mut Vec<Effect>) {
        let app = order.app.clone();
        if is_host(&app) {
            // No app has such a name; what runs under it is not the entry's to order.
            effects.extend(age.map(|_| Effect::Report(Report::Removed { app, intent_seq: order.intent_seq })));
            return;
        }
        if let Some(why) = self.refusal(&order, age.unwrap_or_default()) {
            if let (Refusal::Busy, Goal::Run(RunGoal { turn: Some(turn), .. })) = (why, &order.goal) {
                // The entry takes the turn back, so another copy of this order must not use it.
                self.spent.insert(app.clone(), (order.reign.epoch, turn.number));
            }
            let refused = Report::Refused { app, intent_seq: order.intent_seq, why };
            effects.extend(age.map(|_| Effect::Report(refused)));
            return;
        }
        if age.is_some() {
            self.heard_entry();
        }
        if self.follows.as_ref() != Some(&order.reign) {
            self.follows = Some(order.reign.clone());
            effects.push(Effect::Follow(order.reign.clone()));
        }
        let start = matches!(&order.goal, Goal::Run(goal) if goal.start_seq > self.begun(&app));
        let taken_up = self.take_up_stray(now, &app, effects);
        let instance = self.instances.entry(app.clone()).or_insert_with(|| Box::new(Instance::new(app.clone(), now)));
        if instance.is_overridden(order.intent_seq) {
            // Whoever sends it again has not heard that it was taken up.
            effects.push(Effect::Report(instance.report()));
            return;
        }
        let row = &mut instance.row;
        if let Goal::Run(RunGoal { turn: Some(turn), .. }) = &order.goal {
            row.turn = turn.number;
        } else if row.epoch != order.reign.epoch {
            row.turn = 0;
        }
        (row.epoch, row.generation, row.intent_seq) = (order.reign.epoch, order.generation, order.intent_seq);
        let goal = match order.goal {
            Goal::Run(mut goal) => {
                goal.turn = None;
                LedgerGoal::Run(goal)
            }
            Goal::Stop => LedgerGoal::Stop,
            Goal::Remove { purge_data, drop } => LedgerGoal::Remove { purge_data, drop },
        };
        self.with_instance(now, &app, effects, |instance, ctx| match taken_up {
            true => instance.take_up(ctx, goal),
            false => instance.take_goal(ctx, goal, start),
        });
    }

    fn refusal(&self, order: &Order, age: Duration) -> Option<Refusal> {
        let foreign = |seen: &Reign| {
            order.reign.epoch < seen.epoch || (order.reign.epoch == seen.epoch && order.reign.entry != seen.entry)
        };
        if self.follows.as_ref().is_some_and(foreign) {
            return Some(Refusal::Foreign);
        }
        let known = self.instances.get(&order.app);
        let seen = known.map(|i| (i.row.epoch, i.row.intent_seq, i.row.generation));
        if seen.is_some_and(|seen| (order.reign.epoch, order.intent_seq, order.generation) < seen) {
            return Some(Refusal::Stale);
        }
        let gone = self.gone.get(&order.app).filter(|_| known.is_none());
        if gone.is_some_and(|gone| (order.reign.epoch, order.intent_seq) < *gone) {
            return Some(Refusal::Stale);
        }
        let Goal::Run(goal) = &order.goal else { return None };
        if goal.start_seq <= self.begun(&order.app) {
            return None;
        }
        match goal.turn {
            None => Some(Refusal::Late),
            Some(turn) if age > turn.accept_by => Some(Refusal::Late),
            // A turn is used once; this one was, or a later one of the same reign was.
            Some(turn)
                if self.spent.get(&order.app).is_some_and(|spent| (order.reign.epoch, turn.number) <= *spent) =>
            {
                Some(Refusal::Late)
            }
            Some(turn) if known.is_some_and(|i| i.row.epoch == order.reign.epoch && turn.number <= i.row.turn) => {
                Some(Refusal::Late)
            }
            Some(_) => {
                let others = self.turns - usize::from(known.is_some_and(|i| i.in_turn()));
                (others >= self.settings.concurrent_starts as usize).then_some(Refusal::Busy)
            }
        }
    }

    /// Somebody on the host asked, past the entry. What is not here cannot be helped here.
    fn local(&mut self, now: Now, app: &AppId, action: LocalAction, actor: String, effects: &mut Vec<Effect>) {
        if is_host(app) {
            return;
        }
        let local = LocalOverride { action, actor, at: now.wall };
        self.with_instance(now, app, effects, |instance, ctx| instance.take_local(ctx, local));
    }

    /// Runs one step of an instance and turns what changed into effects: `Remember` before all others, the report last.
    fn with_instance(
        &mut self,
        now: Now,
        app: &AppId,
        effects: &mut Vec<Effect>,
        step: impl FnOnce(&mut Instance, &mut Context<'_>),
    ) {
        let Some(instance) = self.instances.get_mut(app) else { return };
        let (before, had_turn) = (instance.due(), instance.in_turn());
        let mut own = Vec::new();
        let places = &self.settings.places;
        let (book, adapter, autonomous) = (&self.book, self.settings.adapter, self.settings.autonomous);
        let (hosts, ports, databases) = (&self.hosts.up, &mut self.ports, &self.databases);
        let effects_of_step = &mut own;
        let mut context =
            Context { now, book, hosts, places, adapter, autonomous, databases, ports, effects: effects_of_step };
        step(instance, &mut context);
        self.databases.follow(app, instance.database_watch(places), effects);
        match is_host(app) {
            true => self.hosts.touch(app),
            false => self.hosts.note(app, instance.host_runtime()),
        }
        self.turns = self.turns + usize::from(instance.in_turn()) - usize::from(had_turn);
        if let Some(due) = before {
            self.due.remove(&(due, app.clone()));
        }
        if let Some(due) = instance.due() {
            self.due.insert((due, app.clone()));
        }
        if instance.waits_for_slot() {
            self.waiting.insert(app.clone());
        }
        if !instance.take_changed() {
            effects.append(&mut own);
            return;
        }
        if instance.is_gone() {
            let (intent_seq, port) = (instance.row.intent_seq, instance.row.port);
            self.gone.insert(app.clone(), (instance.row.epoch, intent_seq));
            self.spent.remove(app);
            if self.gone.len() > GONE_MAX {
                self.gone.pop_first();
            }
            effects.push(Effect::Forget(app.clone()));
            effects.append(&mut own);
            if !is_host(app) {
                effects.push(Effect::Report(Report::Removed { app: app.clone(), intent_seq }));
            }
            self.hosts.note(app, None);
            if let Some(port) = port {
                self.ports.release(app, port);
            }
            self.turns -= usize::from(instance.in_turn());
            self.databases.follow(app, None, effects);
            self.instances.remove(app);
            return;
        }
        effects.push(Effect::Remember(Box::new(instance.row.clone())));
        effects.append(&mut own);
        let host_is_up = instance.row.made_in.as_ref().is_none_or(|runtime| self.hosts.up.contains_key(runtime));
        if host_is_up {
            effects.extend(instance.clean_up(places));
        }
        if !is_host(app) {
            let instance = &self.instances[app];
            effects.push(Effect::Report(self.report_of(instance)));
        }
    }
}

fn summary(recipe: &Recipe, host: Adapter) -> RuntimeSummary {
    RuntimeSummary {
        name: recipe.name.clone(),
        description: recipe.description.clone(),
        adapter: recipe.adapter_on(host),
        listen: recipe.listen,
        strip_prefix: recipe.strip_prefix,
        max_limits: recipe.max_limits,
        paths: recipe.paths.clone(),
        app_id_pattern: recipe.app_id_pattern.clone(),
        secrets_needed: recipe.secrets_needed(),
        needs_database: recipe.needs_database(),
        turn_timeout: recipe.turn_timeout(),
        shared: recipe.shared.as_ref().zip(recipe.shared_turn_timeout()).map(|(shared, turn_timeout)| SharedSummary {
            turn_timeout,
            secrets_needed: secrets_in(shared.templates_of_apps().into_iter().map(|(_, template)| template)),
            needs_database: shared.needs_database(),
        }),
        upgrade_timeout: recipe.upkeep.upgrade_timeout(),
    }
}
