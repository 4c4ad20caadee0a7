//! What a worker starts without its entry's turn: after a reboot of its host, and what a database server kept waiting.
//! Either may be many apps at once, so they start as slots of this host allow, which the entry's turns share.
//!
//! After a reboot it does so only where the entry is another daemon (`Settings::autonomous`); an entry in the same daemon
//! decides by itself.
//!
//! The rule that keeps both from starting the same app: what the worker brings back by itself is told as waiting for its
//! next attempt (`Backoff`, for the reason that the host was restarted) from its first hello on, and keeps the start that
//! was ordered last, as after a crash. Of an instance that is not at rest in the first hello of a new boot the entry asks
//! no start, and leaves its intent as it is (`fleet/boot.rs`). Everything else rests until the entry asks:
//! - placed here alone, with-supervisor: starts at once, as slots allow;
//! - placed in several environments: waits for its turn, or for `start_without_entry_after`;
//! - on-first-visit is asleep, manual is stopped, and what was stopped here by a local word stays so.

use crate::effect::Effect;
use crate::environment::Environment;
use crate::name::AppId;
use crate::time::{Mono, Now};

impl Environment {
    /// The daemon begins, and knows who waits for a slot of this host.
    pub(super) fn begin_alone(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.began = now;
        if self.settings.autonomous {
            self.alone_at = self.settings.start_without_entry_after.map(|after| now.mono.after(after));
        }
        self.start_waiting(now, effects);
    }

    /// The entry is there: nothing of several environments is started without it any more.
    pub fn heard_entry(&mut self) {
        self.alone_at = None;
    }

    pub(super) fn step_alone(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.alone_at.is_some_and(|at| at <= now.mono) {
            self.alone_at = None;
            let left = self.instances.iter().filter(|(_, instance)| instance.rests_after_boot());
            let left: Vec<AppId> = left.map(|(app, _)| app.clone()).collect();
            for app in left {
                self.with_instance(now, &app, effects, |instance, ctx| instance.wait_for_slot(ctx));
            }
        }
        self.start_waiting(now, effects);
    }

    /// When `step_alone` has something to do by time alone.
    pub(super) fn alone_at(&self) -> Option<Mono> {
        self.alone_at
    }

    fn start_waiting(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while self.turns < self.settings.concurrent_starts as usize {
            let Some(app) = self.waiting.pop_first() else { return };
            if self.instances.get(&app).is_some_and(|instance| instance.waits_for_slot()) {
                self.with_instance(now, &app, effects, |instance, ctx| instance.start_alone(ctx));
            }
        }
    }
}
