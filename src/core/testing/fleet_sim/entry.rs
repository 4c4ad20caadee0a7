//! An entry in the simulated fleet: its record, and the daemon's loop with its side of the bus.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fleet::{Bus as BusState, Fleet, Standing};
use crate::id::{EntryId, OperationId, Reign};
use crate::limits;
use crate::name::{AppId, EnvironmentName};
use crate::order::{Goal, Order, Report};
use crate::record::{AppRow, Change};
use crate::testing::disk::Disk;
use crate::testing::fleet_sim::bus::{Bus, Claim, Sent};
use crate::testing::random::Random;
use crate::time::{Mono, Now};

/// The daemon.
#[derive(Debug)]
pub(super) struct Brain {
    pub(super) fleet: Fleet,
    session: u64,
    believed: BTreeMap<EnvironmentName, u64>,
    connected: bool,
    /// It reigns, as far as it knows.
    pub(super) claimed: bool,
    next_claim: Mono,
    next_poll: Mono,
    intents: BTreeMap<(EnvironmentName, AppId), Option<Order>>,
    unlocks: Vec<(AppId, u64)>,
}

/// What cuts an entry's turn off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    BeforeCommit,
    AfterCommit,
    BetweenOrders,
}

/// The entry.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: EntryId,
    pub(super) disk: Disk,
    /// A copy of the record, as a backup would be.
    pub(super) copy: Option<Disk>,
    pub(super) brain: Option<Brain>,
    pub(super) back_at: Mono,
    pub(super) cut: Option<Cut>,
    pub(super) violations: Vec<String>,
    /// Turns that were granted, and whether with the time for an upgrade.
    pub(super) grants: Vec<(AppId, EnvironmentName, bool)>,
    /// What it did to apps by itself: an upgrade that was found to be due, a move that was put back.
    pub(super) own_will: Vec<AppRow>,
    pub(super) story: Vec<String>,
}

/// What a turn may use.
pub(super) struct Around<'a> {
    pub(super) now: Now,
    pub(super) random: &'a mut Random,
    pub(super) calm: bool,
    pub(super) bus: &'a mut Bus,
    pub(super) ids: &'a mut u64,
    pub(super) turn_timeout: Duration,
}

impl Entry {
    pub(super) fn new(id: &str, disk: Disk) -> Self {
        let id = EntryId::parse(id).expect("a literal ID");
        Self {
            id,
            disk,
            copy: None,
            brain: None,
            back_at: Mono::default(),
            cut: None,
            violations: Vec::new(),
            grants: Vec::new(),
            own_will: Vec::new(),
            story: Vec::new(),
        }
    }

    pub(super) fn crash(&mut self, back_at: Mono) {
        self.brain = None;
        self.back_at = back_at;
    }

    pub(super) fn start(&mut self, now: Now, session: u64, bus: &Bus) {
        let recovered = self.disk.recover();
        let seen = bus.claim.as_ref().filter(|_| bus.reaches(self.id.as_str())).map(|(reign, _)| reign.epoch);
        let epoch = seen.unwrap_or_default().max(recovered.epoch).next();
        self.disk.commit(vec![Change::Reign(epoch)]);
        let reign = Reign { epoch, entry: self.id.clone() };
        let mut fleet = Fleet::new(Standing { reign, local: None }, recovered, now);
        fleet.publish_all();
        self.brain = Some(Brain {
            fleet,
            session,
            believed: BTreeMap::new(),
            connected: false,
            claimed: false,
            next_claim: now.mono,
            next_poll: now.mono,
            intents: BTreeMap::new(),
            unlocks: Vec::new(),
        });
        self.story.push(format!("{} starts with epoch {epoch}", self.id));
    }

    /// Commits, and looks whether an operation that has ended changes.
    pub(super) fn commit(&mut self, changes: Vec<Change>) {
        for change in &changes {
            if let Change::App(row) = change
                && (row.upgrade.as_ref().is_some_and(|upgrade| upgrade.automatic && !upgrade.go)
                    || row.moving.as_ref().is_some_and(|moving| moving.back.is_some()))
            {
                self.own_will.push((**row).clone());
            }
            if let Change::Operation(row) = change
                && let Some(known) = self.disk.operations.get(&row.view.id)
                && known.view.status.has_ended()
                && known.view.status != row.view.status
            {
                self.violations
                    .push(format!("operation {} ended twice: {:?}, {:?}", row.view.seq, known.view, row.view));
            }
        }
        self.disk.commit(changes);
    }

    /// Takes over although another one reigns.
    pub(super) fn promote(&mut self, around: &mut Around<'_>) {
        let Some(brain) = self.brain.as_mut().filter(|_| around.bus.reaches(self.id.as_str())) else { return };
        let highest = around.bus.claim.as_ref().map_or(brain.fleet.reign().epoch, |(reign, _)| reign.epoch);
        let mut changes = brain.fleet.bus(around.now, BusState::Ahead(highest));
        let reign = brain.fleet.reign().clone();
        around.bus.claim(&reign, brain.session, true);
        (brain.claimed, brain.connected) = (true, true);
        changes.extend(brain.fleet.bus(around.now, BusState::Up));
        brain.fleet.publish_all();
        self.story.push(format!("{} is promoted with epoch {}", self.id, reign.epoch));
        self.commit(changes);
        self.call_roll(around);
    }

    fn call_roll(&mut self, around: &mut Around<'_>) {
        let Some(brain) = &self.brain else { return };
        let known = brain.fleet.environments().chain(&around.bus.environments);
        let names: std::collections::BTreeSet<EnvironmentName> = known.cloned().collect();
        for name in names {
            around.bus.roll_call(around.now.mono, around.random, around.calm, &name, brain.session);
        }
    }

    /// Connects, claims, and learns how the bus is.
    fn claim(&mut self, around: &mut Around<'_>) {
        let now = around.now;
        let Some(brain) = &mut self.brain else { return };
        if !around.bus.reaches(self.id.as_str()) {
            if std::mem::take(&mut brain.connected) {
                brain.fleet.bus(now, BusState::Down);
            }
            return;
        }
        if brain.connected && now.mono < brain.next_claim {
            return;
        }
        brain.next_claim = now.mono.after(limits::LEASE_RENEW);
        if brain.fleet.read_only().is_some() && around.bus.claim.is_none() {
            // One that does not reign leaves an empty place to the one that did.
            return;
        }
        let mut changes = Vec::new();
        let mut answer = around.bus.claim(brain.fleet.reign(), brain.session, false);
        if let Claim::Ahead(epoch) = answer {
            changes.extend(brain.fleet.bus(now, BusState::Ahead(epoch)));
            answer = around.bus.claim(brain.fleet.reign(), brain.session, false);
        }
        let mut call = false;
        match answer {
            Claim::Other(_) => {
                brain.claimed = false;
                brain.connected = true;
                changes.extend(brain.fleet.bus(now, BusState::Fenced("another entry reigns".into())));
            }
            Claim::Ahead(_) => {}
            Claim::Done { was_missing } => {
                if was_missing && brain.claimed {
                    changes.extend(brain.fleet.bus(now, BusState::Wiped));
                    call = true;
                }
                if !brain.connected || !brain.claimed {
                    changes.extend(brain.fleet.bus(now, BusState::Up));
                    call = true;
                }
                (brain.connected, brain.claimed) = (true, true);
            }
        }
        self.commit(changes);
        if call {
            self.call_roll(around);
        }
    }

    /// One turn of the loop. Whether anything happened.
    pub(super) fn turn(&mut self, around: &mut Around<'_>) -> bool {
        self.claim(around);
        let reaches = around.bus.reaches(self.id.as_str());
        let now = around.now;
        let Some(brain) = &mut self.brain else { return false };
        let mut inputs: Vec<(EnvironmentName, Report)> = Vec::new();
        let mut call = false;
        if reaches && brain.claimed {
            if now.mono >= brain.next_poll {
                brain.next_poll = now.mono.after(Duration::from_secs(1));
                for (who, beat) in around.bus.beats(now.mono) {
                    let last = brain.believed.entry(who.clone()).or_default();
                    if beat.session == brain.session && beat.number > *last {
                        *last = beat.number;
                        inputs.push((who, Report::Alive));
                    }
                }
            }
            for letter in around.bus.read_reports(now.mono) {
                if now.mono.since(letter.written) > limits::LEASE_LOST {
                    // It says nothing of the present, and must not pass for a sign of life: all are asked anew.
                    call = true;
                    continue;
                }
                let last = brain.believed.entry(letter.from.clone()).or_default();
                if letter.session == brain.session && letter.number > *last {
                    *last = letter.number;
                    inputs.push((letter.from, letter.report));
                }
            }
        }
        let busy = !inputs.is_empty();
        let mut changes = Vec::new();
        let ids = &mut *around.ids;
        let mut new_id = || {
            *ids += 1;
            OperationId::from_parts(now.wall.0, u128::from(*ids))
        };
        for (who, report) in inputs {
            if !matches!(report, Report::Alive) {
                self.story.push(format!("{} hears {who}: {}", self.id, brief(&report)));
            }
            changes.extend(brain.fleet.observe(now, &who, report, &mut new_id));
        }
        let settled = brain.fleet.settle(now);
        changes.extend(settled.urgent.into_iter().chain(settled.changes));
        for note in settled.intents {
            brain.intents.insert((note.environment, note.app), note.order);
        }
        brain.unlocks.extend(settled.ended_turns);
        let cut = self.cut.take();
        if cut == Some(Cut::BeforeCommit) {
            return self.die(around);
        }
        self.commit(changes);
        if cut == Some(Cut::AfterCommit) {
            return self.die(around);
        }
        let busy = busy || !settled.orders.is_empty();
        if call {
            self.call_roll(around);
        }
        self.send(around, settled.orders, cut.is_some());
        self.publish(around);
        busy
    }

    fn die(&mut self, around: &Around<'_>) -> bool {
        self.story.push(format!("{} dies in the midst of a turn", self.id));
        self.crash(around.now.mono.after(Duration::from_millis(700)));
        true
    }

    fn send(&mut self, around: &mut Around<'_>, orders: Vec<(EnvironmentName, Order)>, dies: bool) {
        let half = orders.len() / 2;
        for (i, (to, order)) in orders.into_iter().enumerate() {
            if dies && i == half {
                _ = self.die(around);
                return;
            }
            let with_turn = matches!(&order.goal, Goal::Run(goal) if goal.turn.is_some());
            if with_turn && let Goal::Run(goal) = &order.goal {
                let upgrades = goal.spec.auto_upgrade || goal.upgrade_seq.0 > 0;
                self.grants.push((order.app.clone(), to.clone(), upgrades));
            }
            let Some(brain) = &mut self.brain else { return };
            if !around.bus.reaches(self.id.as_str()) || !brain.claimed {
                continue;
            }
            let (now, timeout) = (around.now.mono, around.turn_timeout);
            let sent = around.bus.order(now, around.random, around.calm, &to, &order, timeout);
            self.story.push(format!("{} orders {to}: {} {:?} {}", self.id, order.app, sent, goal_of(&order)));
            match sent {
                Sent::Done => {}
                Sent::Fenced => brain.next_claim = now,
                Sent::Locked => brain.fleet.undelivered(around.now, &to, &order.app, order.intent_seq),
            }
        }
    }

    fn publish(&mut self, around: &mut Around<'_>) {
        let Some(brain) = &mut self.brain else { return };
        if !around.bus.reaches(self.id.as_str()) || !brain.claimed {
            return;
        }
        let reign = brain.fleet.reign().clone();
        for ((to, app), order) in std::mem::take(&mut brain.intents) {
            if !around.bus.intent(&reign, &to, &app, order.clone()) {
                brain.intents.insert((to, app), order);
            }
        }
        for (app, turn) in brain.unlocks.drain(..) {
            around.bus.unlock(&reign.entry, reign.epoch, &app, turn);
        }
    }

    pub(super) fn next_event(&self, now: Now, reaches: bool) -> Option<Mono> {
        let Some(brain) = &self.brain else { return Some(self.back_at) };
        let on_bus = reaches.then(|| brain.next_claim.min(brain.next_poll));
        [brain.fleet.next_deadline(now), on_bus].into_iter().flatten().min()
    }
}

fn goal_of(order: &Order) -> String {
    match &order.goal {
        Goal::Run(goal) => {
            format!("run {} turn {:?} intent {}", goal.start_seq, goal.turn.map(|t| t.number), order.intent_seq)
        }
        other => format!("{other:?} intent {}", order.intent_seq),
    }
}

pub(super) fn brief(report: &Report) -> String {
    let one = |r: &crate::order::InstanceReport| {
        format!("[{} {} intent {} {:?} turn {}]", r.app, r.run, r.intent_seq, r.phase, r.in_turn)
    };
    match report {
        Report::Hello { instances, registration } => {
            format!("hello of {} {}", registration.boot, instances.iter().map(one).collect::<String>())
        }
        Report::Instance(report) => one(report),
        other => format!("{other:?}"),
    }
}
