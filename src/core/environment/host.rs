//! Hosts: processes in which several apps run.
//!
//! A host is an instance like any other, which nobody ordered: it is started when the first of its members wants to run
//! (or is to be taken out of it), and stopped when none does. It takes no turn, as the member that it is started for has
//! one. Nobody outside hears of it but through its members: it is in no report. When it ends, all its members end; when
//! it runs again, they are started again in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::effect::Effect;
use crate::environment::Environment;
use crate::id::{Generation, Seq};
use crate::instance::{Context, Instance, inputs};
use crate::name::{AppId, RuntimeName};
use crate::order::{Report, RunGoal};
use crate::phase::Phase;
use crate::reason::{Reason, ReasonCode};
use crate::recipe::Recipe;
use crate::record::LedgerGoal;
use crate::shared::{RunningHost, host_of, host_spec, is_host};
use crate::spec::{AppSpec, Hosting, StartMode};
use crate::time::Now;

/// The recipes, each with what follows from it for shared hosting.
#[derive(Debug, Clone, Default)]
pub(crate) struct Book {
    own: BTreeMap<RuntimeName, Arc<Recipe>>,
    hosts: BTreeMap<RuntimeName, Arc<Recipe>>,
    members: BTreeMap<RuntimeName, Arc<Recipe>>,
}

impl Book {
    pub(crate) fn new(own: BTreeMap<RuntimeName, Arc<Recipe>>) -> Self {
        let derived = |derive: fn(&Recipe) -> Option<Recipe>| {
            let pairs = own.iter().filter_map(|(name, recipe)| Some((name.clone(), Arc::new(derive(recipe)?))));
            pairs.collect()
        };
        Self { hosts: derived(Recipe::for_host), members: derived(Recipe::for_member), own }
    }

    /// The recipes as they were given.
    pub(crate) fn own(&self) -> &BTreeMap<RuntimeName, Arc<Recipe>> {
        &self.own
    }

    /// The recipe for members of this runtime's host.
    pub(crate) fn member(&self, runtime: &RuntimeName) -> Option<&Arc<Recipe>> {
        self.members.get(runtime)
    }

    /// The recipe that a spec is run by. `hosting`: as it runs, which may be other than the spec wants by now.
    pub(crate) fn recipe(&self, spec: &AppSpec, hosting: Hosting) -> Option<&Arc<Recipe>> {
        let book = match hosting {
            _ if is_host(&spec.name) => &self.hosts,
            Hosting::Shared => &self.members,
            Hosting::Dedicated => &self.own,
        };
        book.get(&spec.runtime)
    }
}

/// What is known of hosts and their members, beside their instances.
#[derive(Debug, Clone, Default)]
pub(super) struct Hosts {
    /// Who belongs to which runtime's host.
    members: BTreeMap<RuntimeName, BTreeSet<AppId>>,
    of: BTreeMap<AppId, RuntimeName>,
    /// Hosts that run.
    pub(super) up: BTreeMap<RuntimeName, RunningHost>,
    /// Hosts that gave up, and whose members were told.
    failed: BTreeSet<RuntimeName>,
    /// What a host said of its progress, as its members were told.
    progress: BTreeMap<RuntimeName, String>,
    /// Runtimes where something changed.
    unsettled: BTreeSet<RuntimeName>,
}

impl Hosts {
    /// Takes note of where an app belongs now; none: nowhere.
    pub(super) fn note(&mut self, app: &AppId, runtime: Option<&RuntimeName>) {
        let former = self.of.get(app);
        self.unsettled.extend(former.cloned());
        self.unsettled.extend(runtime.cloned());
        if former == runtime {
            return;
        }
        if let Some(former) = self.of.remove(app)
            && let Some(members) = self.members.get_mut(&former)
        {
            members.remove(app);
        }
        if let Some(runtime) = runtime {
            self.members.entry(runtime.clone()).or_default().insert(app.clone());
            self.of.insert(app.clone(), runtime.clone());
        }
    }

    /// A host changed.
    pub(super) fn touch(&mut self, host: &AppId) {
        let runtime = host.as_str().strip_prefix(crate::shared::HOST).map(RuntimeName::parse);
        self.unsettled.extend(runtime.into_iter().flatten());
    }

    fn members_of(&self, runtime: &RuntimeName) -> Vec<AppId> {
        self.members.get(runtime).into_iter().flatten().cloned().collect()
    }
}

impl Environment {
    /// Starts and stops hosts as their members want, and tells members of their hosts, until nothing follows any more.
    pub(super) fn settle_hosts(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some(runtime) = self.hosts.unsettled.pop_first() {
            let Some(host) = host_of(&runtime) else { continue };
            self.tell_members(now, &runtime, &host, effects);
            self.start_or_stop_host(now, &runtime, &host, effects);
        }
    }

    /// At the start of the daemon, before anything is known of members: the hosts that run.
    pub(super) fn find_hosts(&mut self, effects: &mut Vec<Effect>) {
        let runtimes: Vec<RuntimeName> = self.hosts.unsettled.iter().cloned().collect();
        for runtime in runtimes {
            let Some(host) = host_of(&runtime) else { continue };
            let running = self.instances.get(&host).and_then(|instance| instance.running_host());
            if let Some(running) = running
                && let Ok(plan) = self.host_plan(&host, &running)
            {
                effects.push(plan);
                self.hosts.up.insert(runtime, running);
            }
        }
    }

    /// What became of the host is told to its members.
    fn tell_members(&mut self, now: Now, runtime: &RuntimeName, host: &AppId, effects: &mut Vec<Effect>) {
        let instance = self.instances.get(host);
        let now_up = instance.and_then(|instance| instance.running_host());
        let (phase, reason) = instance.map_or((Phase::Stopped, None), |i| (i.row.phase, i.row.reason.clone()));
        let was_up = self.hosts.up.get(runtime);
        if was_up != now_up.as_ref() {
            if self.hosts.up.remove(runtime).is_some() {
                effects.push(Effect::HostDown(host.clone()));
                let why = ended(host, reason.as_ref());
                self.with_members(now, runtime, effects, |instance, ctx| instance.host_down(ctx, &why));
            }
            if let Some(running) = now_up {
                match self.host_plan(host, &running) {
                    Ok(plan) => effects.push(plan),
                    // As it is, it is of no use. Nobody waits for it then, so it is stopped.
                    Err(why) => {
                        self.with_members(now, runtime, effects, |instance, ctx| instance.host_failed(ctx, &why));
                        return;
                    }
                }
                self.hosts.up.insert(runtime.clone(), running);
                self.with_members(now, runtime, effects, Instance::host_up);
            }
        }
        if phase != Phase::Failed {
            self.hosts.failed.remove(runtime);
        } else if self.hosts.failed.insert(runtime.clone()) {
            let why = ended(host, reason.as_ref());
            self.with_members(now, runtime, effects, |instance, ctx| instance.host_failed(ctx, &why));
            // Nobody can tell it any more that an app is removed; what is left of the app here goes all the same.
            self.with_members(now, runtime, effects, |instance, _| instance.leave_host());
        }
        self.tell_progress(runtime, host, effects);
    }

    fn host_plan(&self, host: &AppId, running: &RunningHost) -> Result<Effect, Reason> {
        let missing = || Reason::new(ReasonCode::BadRecipe, "there is no [shared] in its recipe any more");
        let instance = self.instances.get(host).ok_or_else(missing)?;
        let LedgerGoal::Run(goal) = &instance.row.goal else { return Err(missing()) };
        let recipe = self.book.recipe(&goal.spec, Hosting::Dedicated).ok_or_else(missing)?;
        let shared = recipe.shared.as_ref().ok_or_else(missing)?;
        let plan = inputs(&instance.row, goal, recipe, &self.settings.places).host_plan(shared, running)?;
        Ok(Effect::HostUp(Arc::new(plan)))
    }

    /// While they wait, members show what their host says of its progress.
    fn tell_progress(&mut self, runtime: &RuntimeName, host: &AppId, effects: &mut Vec<Effect>) {
        let progress = self.instances.get(host).and_then(|instance| instance.progress()).map(str::to_string);
        if self.hosts.progress.get(runtime) == progress.as_ref() {
            return;
        }
        match progress {
            Some(text) => _ = self.hosts.progress.insert(runtime.clone(), text),
            None => _ = self.hosts.progress.remove(runtime),
        }
        for app in self.hosts.members_of(runtime) {
            if let Some(instance) = self.instances.get(&app).filter(|instance| instance.waits_for_host()) {
                effects.push(Effect::Report(self.report_of(instance)));
            }
        }
    }

    /// The report of an instance, with what it waits for.
    pub(super) fn report_of(&self, instance: &Instance) -> Report {
        let mut report = instance.report();
        if let Report::Instance(report) = &mut report
            && report.progress.is_none()
            && instance.waits_for_host()
        {
            report.progress = instance.host_runtime().and_then(|runtime| self.hosts.progress.get(runtime)).cloned();
        }
        report
    }

    fn start_or_stop_host(&mut self, now: Now, runtime: &RuntimeName, host: &AppId, effects: &mut Vec<Effect>) {
        let members = self.hosts.members_of(runtime);
        let any = |test: fn(&Instance) -> bool| {
            members.iter().any(|app| self.instances.get(app).is_some_and(|instance| test(instance)))
        };
        let (awaited, needed) = (any(Instance::waits_for_host), any(Instance::needs_host));
        let row = self.instances.get(host).map(|instance| &instance.row);
        let phase = row.map(|row| row.phase);
        let wants_run = row.is_some_and(|row| matches!(row.goal, LedgerGoal::Run(_)));
        let is_left = row.is_some_and(|row| row.phase == Phase::Stopped && row.goal == LedgerGoal::Stop);
        let at_rest = matches!(phase, None | Some(Phase::Stopped | Phase::Failed));
        if awaited && (at_rest || !wants_run) {
            self.start_host(now, runtime, host, effects);
        } else if wants_run && !awaited && !needed {
            self.order_host(now, host, LedgerGoal::Stop, effects);
        } else if members.is_empty() && is_left {
            self.order_host(now, host, LedgerGoal::Remove { purge_data: false, drop: None }, effects);
        }
    }

    fn start_host(&mut self, now: Now, runtime: &RuntimeName, host: &AppId, effects: &mut Vec<Effect>) {
        let taken_up = self.take_up_stray(now, host, effects);
        let places = &self.settings.places;
        let mut spec = AppSpec::minimal(host.clone(), runtime.clone(), places.environment.clone());
        // A boot of the machine alone is no reason to have it: its members say.
        spec.start_mode = StartMode::Manual;
        if let Some(recipe) = self.book.recipe(&spec, Hosting::Dedicated) {
            spec = host_spec(recipe, spec, &self.settings.secrets);
        }
        let derive = |name: &str| self.settings.secrets.derive(&format!("{host}/{name}"));
        let (jwt, db_secret) = (derive("jwt"), derive("db"));
        let entry = self.instances.entry(host.clone());
        let instance = entry.or_insert_with(|| Box::new(Instance::new(host.clone(), now)));
        let begun = instance.row.run.seq;
        let start_seq = if taken_up { begun } else { begun.next() };
        (instance.row.generation, instance.row.intent_seq) = (Generation(1), start_seq);
        let goal = LedgerGoal::Run(RunGoal {
            start_seq,
            spec: Arc::new(spec),
            jwt,
            db_secret,
            turn: None,
            upgrade_seq: Seq(0),
            installed: None,
        });
        match taken_up {
            true => self.with_instance(now, host, effects, |instance, ctx| instance.take_up_host(ctx, goal)),
            false => self.order_host(now, host, goal, effects),
        }
    }

    fn order_host(&mut self, now: Now, host: &AppId, goal: LedgerGoal, effects: &mut Vec<Effect>) {
        self.with_instance(now, host, effects, |instance, ctx| instance.take_goal_of_host(ctx, goal));
    }

    fn with_members(
        &mut self,
        now: Now,
        runtime: &RuntimeName,
        effects: &mut Vec<Effect>,
        mut step: impl FnMut(&mut Instance, &mut Context<'_>),
    ) {
        for app in self.hosts.members_of(runtime) {
            self.with_instance(now, &app, effects, |instance, ctx| step(instance, ctx));
        }
    }
}

/// Why the members of a host do not run.
fn ended(host: &AppId, reason: Option<&Reason>) -> Reason {
    let why = reason.map_or_else(|| "is being stopped".to_string(), |reason| format!("does not run: {reason}"));
    Reason::new(ReasonCode::HostEnded, format!("{host} {why}"))
}
