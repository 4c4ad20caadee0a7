//! From the order to a ready process: database, hooks, spawn, readiness, and the watching of what runs.

use std::sync::Arc;
use std::time::Duration;

use crate::effect::{Effect, VersionQuestion, Watch};
use crate::launch::{Inputs, Launch, Question};
use crate::limits;
use crate::observation::{Answer, Identity, SpawnFailure, SpawnFailureKind};
use crate::phase::Phase;
use crate::quantity::short_duration;
use crate::reason::{Reason, ReasonCode};
use crate::recipe::{Adapter, Check, HookId, Recipe, VersionProbe};
use crate::record::LedgerGoal;
use crate::restart::RestartWhen;
use crate::spec::Hosting;

use super::{Context, Instance, Then, failed_if_persists, inputs};

/// How long one answer of a readiness question may take.
const READY_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

impl Instance {
    /// A fresh start, as ordered: the slate is clean.
    pub(super) fn begin(&mut self, ctx: &mut Context<'_>) {
        let LedgerGoal::Run(goal) = &self.row.goal else { return };
        self.row.run = self.next_run(goal.start_seq);
        self.row.restarts = 0;
        self.row.reason = None;
        self.row.last_log.clear();
        self.history.clear();
        self.port_attempts = 0;
        self.spawn(ctx);
    }

    /// The next step of a start: sweep, database, hooks, then the process.
    pub(super) fn spawn(&mut self, ctx: &mut Context<'_>) {
        if !self.sweeping.is_empty() {
            self.enter(ctx, Phase::Backoff);
            self.sweep_again(ctx);
            return;
        }
        let adapter = self.recipe_adapter(ctx);
        if adapter == Adapter::Shared
            && ctx.recipe_of(&self.row.goal).is_some()
            && self.host_runtime().is_none_or(|runtime| !ctx.hosts.contains_key(runtime))
        {
            return self.wait_for_host(ctx);
        }
        let launch = match self.make_launch(ctx, adapter) {
            Ok(launch) => launch,
            Err(reason) => return self.fail(ctx, reason),
        };
        self.row.run_generation = self.row.generation;
        self.row.identity = None;
        self.version = None;
        self.progress = None;
        self.saw = None;
        self.failing_since = None;
        self.alive_failures = 0;
        self.notes.clear();
        if adapter == Adapter::Shared {
            // Remembered before it is asked for, so that whatever was made is also taken away.
            self.row.made_in = self.host_runtime().cloned();
        }
        if self.prepare_database(ctx) {
            return;
        }
        let hooks = self.recipe.as_ref().map_or(0, |recipe| recipe.prepare.len());
        if (self.row.hooks_done as usize) < hooks {
            return self.run_hook(ctx, launch);
        }
        self.row.hook_begun = false;
        if self.upgrade_first(ctx, &launch) {
            return;
        }
        self.enter(ctx, Phase::Spawning);
        ctx.effects.push(Effect::Spawn(launch));
    }

    /// Who is to run the next life.
    fn recipe_adapter(&self, ctx: &Context<'_>) -> Adapter {
        match &self.row.goal {
            LedgerGoal::Run(goal) if goal.spec.hosting == Hosting::Shared => Adapter::Shared,
            goal => ctx.recipe_of(goal).map_or(self.row.adapter, |recipe| recipe.adapter_on(ctx.adapter)),
        }
    }

    pub(super) fn make_launch(&mut self, ctx: &mut Context<'_>, adapter: Adapter) -> Result<Arc<Launch>, Reason> {
        self.row.adapter = adapter;
        let LedgerGoal::Run(goal) = &self.row.goal else {
            return Err(Reason::new(ReasonCode::SpawnFailed, "there is nothing to start"));
        };
        let runtime = &goal.spec.runtime;
        let hosting = if adapter == Adapter::Shared { Hosting::Shared } else { Hosting::Dedicated };
        let recipe = ctx.book.recipe(&goal.spec, hosting).cloned().ok_or_else(|| {
            let lacks = match ctx.book.recipe(&goal.spec, Hosting::Dedicated) {
                Some(_) => "no [shared] in its recipe",
                None => "no usable recipe",
            };
            Reason::new(ReasonCode::BadRecipe, format!("runtime {runtime} has {lacks} on this host"))
        })?;
        if recipe.listen.needs_port() {
            self.row.port = ctx.ports.reserve(&self.row.app, self.row.port);
            if self.row.port.is_none() {
                return Err(Reason::new(ReasonCode::PortInUse, "every port of environment.port_range is taken"));
            }
        }
        let host = ctx.hosts.get(runtime).filter(|_| adapter == Adapter::Shared);
        let inputs = Inputs { host, ..inputs(&self.row, goal, &recipe, ctx.places) };
        let launch = Arc::new(inputs.launch()?);
        self.recipe = Some(recipe);
        self.launch = Some(launch.clone());
        Ok(launch)
    }

    pub(super) fn run_hook(&mut self, ctx: &mut Context<'_>, launch: Arc<Launch>) {
        let index = self.row.hooks_done;
        let (LedgerGoal::Run(goal), Some(recipe)) = (&self.row.goal, &self.recipe) else { return };
        let hook = &recipe.prepare[index as usize];
        let key = format!("prepare[{index}].command");
        match inputs(&self.row, goal, recipe, ctx.places).command(&key, &hook.command) {
            Err(reason) => self.fail(ctx, reason),
            Ok(argv) => {
                let timeout = hook.timeout;
                self.row.hook_begun = true;
                self.enter(ctx, Phase::Preparing);
                ctx.effects.push(Effect::Hook { launch, hook: HookId::prepare(index), argv, timeout });
            }
        }
    }

    pub(super) fn spawned(&mut self, ctx: &mut Context<'_>, identity: Identity, notes: Vec<String>) {
        match self.row.phase {
            Phase::Spawning => {
                self.row.identity = Some(identity);
                self.notes.extend(notes);
                if self.row.adapter == Adapter::Shared {
                    self.note_limits();
                }
                self.began = ctx.now.mono;
                self.wait_for_ready(ctx, false);
            }
            Phase::Stopping if self.row.identity.is_none() && !self.is_killing() => {
                self.row.identity = Some(identity);
                self.began = ctx.now.mono;
                self.changed = true;
                self.stop_step(ctx);
            }
            _ => {}
        }
    }

    pub(super) fn wait_for_ready(&mut self, ctx: &mut Context<'_>, adopted: bool) {
        let (Some(recipe), Some(launch), LedgerGoal::Run(goal), Some(identity)) =
            (self.recipe.clone(), self.launch.clone(), &self.row.goal, &self.row.identity)
        else {
            return;
        };
        let pid = identity.pid;
        let question = inputs(&self.row, goal, &recipe, ctx.places).question("ready", &recipe.ready.check);
        self.enter(ctx, Phase::Starting);
        match question {
            Err(reason) => self.begin_stop(ctx, Then::Crash(reason)),
            Ok(question) => {
                self.last_moment = ctx.now.mono.after(recipe.ready.max_timeout);
                self.due = Some(ctx.now.mono.after(recipe.ready.timeout).min(self.last_moment));
                if recipe.ready.check == Check::Started && self.row.restarts > 0 {
                    // Nothing can be asked of it, so staying up is its answer.
                    self.due = Some(ctx.now.mono.after(limits::STEADY));
                    return;
                }
                if question == Question::Notify && launch.unit.is_some() {
                    self.saw = Some("no READY=1 yet".into());
                    return; // systemd hears it, and the adapter tells
                }
                ctx.effects.push(Effect::WatchReady(Watch {
                    launch,
                    pid,
                    adopted,
                    question,
                    interval: recipe.ready.interval,
                    timeout: READY_ANSWER_TIMEOUT,
                }));
            }
        }
    }

    pub(super) fn spawn_failed(&mut self, ctx: &mut Context<'_>, failure: SpawnFailure) {
        match self.row.phase {
            Phase::Spawning => match failure.kind {
                SpawnFailureKind::PortBusy if self.port_attempts < limits::PORT_ATTEMPTS_MAX => {
                    self.port_attempts += 1;
                    self.row.port = ctx.ports.reserve_after(&self.row.app, self.row.port);
                    self.spawn(ctx);
                }
                SpawnFailureKind::Transient if failure.reason.code == ReasonCode::HostEnded => {
                    self.ended_with_host(ctx, failure.reason);
                }
                SpawnFailureKind::Transient if self.awaits_systemd(&failure.reason) => {
                    self.row.in_turn = false;
                    self.row.run.attempt += 1;
                    self.row.reason = Some(failure.reason);
                    self.back_off(ctx, limits::SYSTEMD_RETRY);
                }
                SpawnFailureKind::Transient => self.crash(ctx, failure.reason, true, Duration::ZERO),
                SpawnFailureKind::PortBusy | SpawnFailureKind::Permanent => self.fail(ctx, failure.reason),
            },
            Phase::Stopping => self.finish_stop(ctx),
            _ => {}
        }
    }

    /// Whether it waits until systemd answers: that is no failure of the app, and uses up none of its attempts.
    fn awaits_systemd(&self, reason: &Reason) -> bool {
        let again = |recipe: &Recipe| recipe.restart.policy != RestartWhen::Never;
        reason.code == ReasonCode::SystemdUnavailable && self.recipe.as_deref().is_some_and(again)
    }

    pub(super) fn readiness(&mut self, ctx: &mut Context<'_>, answer: Answer) {
        if self.row.phase != Phase::Starting {
            return;
        }
        match answer {
            Answer::Ready => self.running(ctx),
            Answer::NotYet { saw, progress, failed } => {
                self.saw = Some(saw);
                let moved = progress.is_some() && progress != self.progress;
                if moved {
                    self.progress = progress;
                    self.changed = true;
                }
                match failed {
                    true => _ = self.failing_since.get_or_insert(ctx.now.mono),
                    false => self.failing_since = None,
                }
                self.move_start_deadline(ctx, moved);
            }
        }
    }

    /// The deadline moves on while the progress changes, up to the last moment; a persisting failure comes before it.
    pub(super) fn move_start_deadline(&mut self, ctx: &mut Context<'_>, moved: bool) {
        let Some(recipe) = &self.recipe else { return };
        if moved {
            self.due = Some(ctx.now.mono.after(recipe.ready.timeout).min(self.last_moment));
        }
        if let (Some(since), Some(persists)) = (self.failing_since, failed_if_persists(recipe)) {
            let verdict = since.after(persists);
            self.due = Some(self.due.map_or(verdict, |due| due.min(verdict)));
        }
    }

    pub(super) fn start_deadline(&mut self, ctx: &mut Context<'_>) {
        let Some(recipe) = self.recipe.clone() else { return };
        if recipe.ready.check == Check::Started {
            return self.running(ctx);
        }
        let now = ctx.now.mono;
        let persisted = self.failing_since.zip(failed_if_persists(&recipe)).is_some_and(|(s, p)| now >= s.after(p));
        let saw = self.saw.clone().unwrap_or_else(|| "no answer".into());
        let reason = if persisted {
            let words = self.progress.clone().unwrap_or(saw);
            Reason::new(ReasonCode::ProbeFailed, format!("its readiness probe says that it failed: {words}"))
        } else {
            let waited = short_duration(now.since(self.began));
            Reason::new(ReasonCode::StartTimeout, format!("not ready after {waited} (last answer: {saw})"))
        };
        self.begin_stop(ctx, Then::Crash(reason));
    }

    pub(super) fn running(&mut self, ctx: &mut Context<'_>) {
        self.row.in_turn = false;
        self.progress = None;
        self.next_attempt = None;
        self.enter(ctx, Phase::Running);
        self.watch_running(ctx);
    }

    /// Asks a running instance for its version, and again and again whether it is alive and wants to be restarted.
    pub(super) fn watch_running(&mut self, ctx: &mut Context<'_>) {
        self.watch_file(ctx);
        let (Some(recipe), Some(launch), LedgerGoal::Run(goal), Some(identity)) =
            (&self.recipe, &self.launch, &self.row.goal, &self.row.identity)
        else {
            return;
        };
        let inputs = inputs(&self.row, goal, recipe, ctx.places);
        if let Some(alive) = &recipe.alive {
            match inputs.question("alive", &alive.check) {
                Err(reason) => self.notes.push(format!("liveness is not watched: {reason}")),
                Ok(question) => ctx.effects.push(Effect::WatchAlive(Watch {
                    launch: launch.clone(),
                    pid: identity.pid,
                    adopted: false,
                    question,
                    interval: alive.interval,
                    timeout: alive.timeout,
                })),
            }
        }
        let question = match &recipe.version {
            None => return,
            Some(VersionProbe::Http { path, json }) => inputs
                .command("version.http", std::slice::from_ref(path))
                .map(|path| VersionQuestion::Http { path: path.concat(), json: json.clone() }),
            Some(VersionProbe::Exec(argv)) => inputs.command("version.exec", argv).map(VersionQuestion::Exec),
        };
        if let Ok(question) = question {
            ctx.effects.push(Effect::AskVersion { launch: launch.clone(), question });
        }
    }

    pub(super) fn liveness(&mut self, ctx: &mut Context<'_>, failure: Option<String>) {
        if self.row.phase != Phase::Running {
            return;
        }
        let Some(why) = failure else {
            self.alive_failures = 0;
            return;
        };
        self.alive_failures += 1;
        let bearable = self.recipe.as_ref().and_then(|recipe| recipe.alive.as_ref()).map_or(1, |alive| alive.failures);
        if self.alive_failures >= bearable {
            let text = format!("its liveness probe failed {} times in a row: {why}", self.alive_failures);
            self.begin_stop(ctx, Then::Crash(Reason::new(ReasonCode::NotAlive, text)));
        }
    }
}
