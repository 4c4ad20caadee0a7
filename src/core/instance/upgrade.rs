//! Upgrades: which version is on disk is asked, then the steps run, once for a start, before its process.
//!
//! The entry says when (`RunGoal::upgrade_seq`), as it alone knows that the app is stopped everywhere else. With
//! `auto_upgrade` another version on disk than ran last is an upgrade too: an app with one environment goes on by itself,
//! one with several waits for the entry's word. A step is remembered before it runs; one that was cut off has failed, and
//! an upgrade that has failed is not begun again for the same start. What is under way is not cut off for a restart.
//! Deliberately absent: a file watch's rule for what is new (the prober's).

use std::sync::Arc;
use std::time::Duration;

use crate::effect::Effect;
use crate::launch::Launch;
use crate::observation::HookFailure;
use crate::order::{LocalAction, LocalOverride, RunGoal, UpgradeReport};
use crate::phase::Phase;
use crate::reason::{Reason, ReasonCode};
use crate::recipe::{HookId, HookKind, Recipe};
use crate::record::LedgerGoal;
use crate::spec::Hosting;

use super::{Context, Instance, inputs};

/// Pause between two looks at `restart.on_file`. One look is one system call, and whoever uploads a plugin waits longer.
const FILE_INTERVAL: Duration = Duration::from_secs(2);

/// What is to be done before the process.
enum Due {
    Nothing,
    Ask(Vec<String>),
    Wait,
    Step,
}

impl Instance {
    /// What comes after the prepare hooks and before the process. Whether anything does; it goes on with `spawn`.
    pub(super) fn upgrade_first(&mut self, ctx: &mut Context<'_>, launch: &Arc<Launch>) -> bool {
        let (LedgerGoal::Run(goal), Some(recipe)) = (&self.row.goal, self.recipe.clone()) else { return false };
        match self.due_before_process(ctx, goal, &recipe) {
            Err(reason) => {
                self.fail(ctx, reason);
                true
            }
            Ok(Due::Nothing) => false,
            Ok(Due::Ask(argv)) => {
                self.enter(ctx, Phase::Preparing);
                self.asking = true;
                ctx.effects.push(Effect::AskInstalled { launch: launch.clone(), argv });
                true
            }
            Ok(Due::Wait) => {
                self.enter(ctx, Phase::Upgrading);
                self.progress = Some("it waits until it is stopped elsewhere".into());
                true
            }
            Ok(Due::Step) => {
                if !self.is_upgrading() {
                    self.row.upgrade.begun = self.row.run.seq;
                    self.row.upgrade.steps = 0;
                }
                self.upgrade_step(ctx, launch, &recipe)
            }
        }
    }

    fn due_before_process(&self, ctx: &Context<'_>, goal: &RunGoal, recipe: &Recipe) -> Result<Due, Reason> {
        let (start, note) = (self.row.run.seq, &self.row.upgrade);
        if self.is_upgrading() {
            return Ok(Due::Step);
        }
        let dedicated = goal.spec.hosting == Hosting::Dedicated;
        if let Some(argv) = recipe.upkeep.installed.as_ref().filter(|_| dedicated && note.asked < start) {
            return Ok(Due::Ask(inputs(&self.row, goal, recipe, ctx.places).command("installed.exec", argv)?));
        }
        if note.begun >= start {
            return Ok(Due::Nothing);
        }
        let another = goal.installed.is_some() && note.installed.is_some() && goal.installed != note.installed;
        let wanted = dedicated && goal.spec.auto_upgrade && another && !recipe.upkeep.upgrade.is_empty();
        Ok(match goal.upgrade_seq == start {
            true => Due::Step,
            false if wanted && goal.spec.environments.len() > 1 => Due::Wait,
            false if wanted => Due::Step,
            false => Due::Nothing,
        })
    }

    /// Whether steps of the present start's upgrade are done and others are to follow.
    fn is_upgrading(&self) -> bool {
        self.row.phase == Phase::Upgrading && self.row.upgrade.begun == self.row.run.seq
    }

    /// The next step. Whether there is one, or anything else before the process.
    fn upgrade_step(&mut self, ctx: &mut Context<'_>, launch: &Arc<Launch>, recipe: &Recipe) -> bool {
        let LedgerGoal::Run(goal) = &self.row.goal else { return false };
        // In a host the start itself is the upgrade: the steps are for a process of one's own.
        let steps = (goal.spec.hosting == Hosting::Dedicated).then_some(&recipe.upkeep);
        let Some((hook, what)) = steps.and_then(|upkeep| upkeep.step(self.row.upgrade.steps)) else {
            self.row.upgrade.done = self.row.upgrade.begun;
            self.progress = None;
            if goal.start_seq > self.row.run.seq {
                self.begin(ctx);
                return true;
            }
            return false;
        };
        let key = format!("{}[{}].command", hook.key(), hook.index);
        match inputs(&self.row, goal, recipe, ctx.places).command(&key, &what.command) {
            Err(reason) => self.fail(ctx, reason),
            Ok(argv) => {
                let (number, of) = (self.row.upgrade.steps + 1, recipe.upkeep.steps());
                self.row.hook_begun = true;
                self.enter(ctx, Phase::Upgrading);
                self.progress = Some(format!("{}, step {number} of {of}", hook.key()));
                ctx.effects.push(Effect::Hook { launch: launch.clone(), hook, argv, timeout: what.timeout });
            }
        }
        true
    }

    /// The hook that runs in this phase.
    fn present_hook(&self) -> Option<HookId> {
        match self.row.phase {
            Phase::Upgrading => self.recipe.as_ref()?.upkeep.step(self.row.upgrade.steps).map(|(hook, _)| hook),
            _ => Some(HookId::prepare(self.row.hooks_done)),
        }
    }

    pub(super) fn hook_ended(&mut self, ctx: &mut Context<'_>, hook: HookId, result: Result<(), HookFailure>) {
        // While it is being stopped, the end of whichever hook ran is waited for.
        let present = self.row.phase == Phase::Stopping || self.present_hook() == Some(hook);
        if !self.row.hook_begun || !present {
            return;
        }
        self.row.hook_begun = false;
        self.changed = true;
        match hook.kind {
            _ if result.is_err() => {}
            HookKind::Prepare => self.row.hooks_done += 1,
            HookKind::Backup | HookKind::Upgrade => self.row.upgrade.steps += 1,
        }
        match (self.row.phase, result) {
            (Phase::Preparing | Phase::Upgrading, Ok(())) => self.spawn(ctx),
            // A start that was ordered meanwhile is not the one that has failed.
            (Phase::Upgrading, Err(_)) if self.wanted_start() > Some(self.row.run.seq) => self.begin(ctx),
            (Phase::Preparing | Phase::Upgrading, Err(failure)) => {
                self.row.last_log = failure.last_log;
                self.progress = None;
                let text = format!("{hook} {}{}", failure.text, self.remedy(hook));
                self.fail(ctx, Reason::new(ReasonCode::HookFailed, text));
            }
            (Phase::Stopping, _) => self.finish_stop(ctx),
            _ => {}
        }
    }

    /// A hook was cut off by the end of the daemon, or of the host.
    pub(super) fn hook_interrupted(&mut self, ctx: &mut Context<'_>) {
        let hook = self.present_hook().unwrap_or(HookId { kind: HookKind::Upgrade, index: self.row.upgrade.steps });
        self.row.hook_begun = false;
        let text = format!("{hook} was cut off when the daemon ended{}", self.remedy(hook));
        self.fail(ctx, Reason::new(ReasonCode::HookInterrupted, text));
    }

    /// What can be done about an upgrade that did not end well.
    fn remedy(&self, hook: HookId) -> &'static str {
        let auto = matches!(&self.row.goal, LedgerGoal::Run(goal) if goal.spec.auto_upgrade);
        match hook.kind {
            HookKind::Prepare => "",
            _ if auto => "; `app upgrade` runs all steps again",
            _ => "; `app upgrade` runs all steps again, `app start` starts it without them",
        }
    }

    /// The version on disk was asked.
    pub(super) fn installed(&mut self, ctx: &mut Context<'_>, answer: Result<String, String>) {
        match self.row.phase {
            _ if !std::mem::take(&mut self.asking) => {}
            Phase::Preparing => {
                self.row.upgrade.asked = self.row.run.seq;
                let unknown = answer.as_ref().err().cloned();
                self.row.upgrade.installed = answer.ok();
                self.spawn(ctx);
                let note = |why| format!("the installed version cannot be told, so no upgrade follows from it: {why}");
                self.notes.extend(unknown.map(note));
            }
            Phase::Stopping => self.finish_stop(ctx),
            _ => {}
        }
    }

    /// Whether an upgrade waits for the entry's word.
    pub(super) fn awaits_entry(&self) -> bool {
        self.row.phase == Phase::Upgrading && !self.row.hook_begun
    }

    /// Whether a step of an upgrade runs, which only a stop may cut off.
    pub(super) fn is_in_step(&self) -> bool {
        self.row.phase == Phase::Upgrading && self.row.hook_begun
    }

    pub(super) fn upgrade_report(&self) -> UpgradeReport {
        let note = &self.row.upgrade;
        let installed = note.installed.clone().filter(|_| note.asked == self.row.run.seq);
        UpgradeReport { done: note.done, wanted: self.awaits_entry(), installed }
    }

    /// Watches the file by which a running app asks to be restarted.
    pub(super) fn watch_file(&mut self, ctx: &mut Context<'_>) {
        let (Some(recipe), Some(launch), LedgerGoal::Run(goal)) = (&self.recipe, &self.launch, &self.row.goal) else {
            return;
        };
        let Some(file) = &recipe.upkeep.restart_on_file else { return };
        match inputs(&self.row, goal, recipe, ctx.places).command("restart.on_file", std::slice::from_ref(file)) {
            Err(reason) => self.notes.push(format!("restart.on_file is not watched: {reason}")),
            Ok(path) => ctx.effects.push(Effect::WatchFile {
                launch: launch.clone(),
                path: path.concat().into(),
                since: self.row.since,
                interval: FILE_INTERVAL,
            }),
        }
    }

    /// The app asks to be restarted: as if somebody on its host had said so, which no crash of the daemon forgets.
    pub(super) fn restart_asked(&mut self, ctx: &mut Context<'_>) {
        if self.row.phase == Phase::Running {
            let (action, actor, at) = (LocalAction::Restart, "restart.on_file".into(), ctx.now.wall);
            self.take_local(ctx, LocalOverride { action, actor, at });
        }
    }
}
