//! One entry (and now and then a second one by mistake), one to four workers, and a lossy bus between them, driven by a
//! seed: commands of all kinds, edits that widen and move, drain and forget, local words, visitors; crashes at any step,
//! reboots, outages, partitions, wipes, lost ledgers, records restored from an older copy.
//!
//! The loops here do what the real ones do, in the same order (`entry`, `host`); `bus` does what the scripts do. What must
//! hold is checked at every step (`check`); when the faults stop, what should be must come to be, and every accepted
//! operation must end. Deliberately absent: the entry's own environment, which `sim` drives.

mod bus;
mod check;
mod command;
mod entry;
mod host;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::environment::Input;
use crate::id::{OperationId, Seq};
use crate::limits;
use crate::name::{AppId, EnvironmentName};
use crate::recipe::Recipe;
use crate::testing::disk::Disk;
use crate::testing::random::Random;
use crate::testing::sim::recipe;
use crate::time::{Mono, Now, Wall};

use bus::Bus;
use entry::{Around, Cut, Entry};
use host::Host;

/// What a run of the simulation saw, to know that it was worth it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Commands that were accepted.
    pub accepted: usize,
    /// Operations that ended done.
    pub done: usize,
    /// Instances that run at the end.
    pub running: usize,
    /// Faults.
    pub faults: usize,
    /// Seconds from the last fault until all was as it should be.
    pub calm_seconds: u64,
}

/// An accepted command, for the question why something was stopped.
#[derive(Debug, Clone)]
struct Asked {
    seq: Seq,
    app: AppId,
    environments: Vec<EnvironmentName>,
}

/// The simulation.
pub struct FleetSim {
    seed: u64,
    now: Now,
    random: Random,
    recipe: Arc<Recipe>,
    entries: Vec<Entry>,
    hosts: Vec<Host>,
    bus: Bus,
    ids: u64,
    calm: bool,
    calm_since: Option<Mono>,
    /// Operations that were accepted, by the entry that did.
    accepted: Vec<(usize, OperationId)>,
    asked: Vec<Asked>,
    /// What the accepted commands make of each instance: run or not.
    wanted: BTreeMap<(AppId, EnvironmentName), (Seq, bool)>,
    /// Local words that may have stopped something.
    local: Vec<(AppId, EnvironmentName)>,
    /// When each turn ends, at the earliest.
    deadlines: BTreeMap<(AppId, EnvironmentName), Mono>,
    /// A record was changed behind everybody's back: what is stopped may follow from that.
    record_changed: bool,
    /// Until then nobody can know every turn.
    turns_unsure: Mono,
    /// Ends of outages and partitions.
    heals: Vec<(Mono, String)>,
    faults: usize,
    /// Environments that were forgotten: what runs there, nobody knows.
    forgotten: BTreeSet<EnvironmentName>,
    /// Which of the rarer faults this seed has.
    profile: u64,
    story: VecDeque<String>,
}

const MEMBERS: [&str; 4] = ["env_a", "env_b", "env_c", "env_d"];

impl FleetSim {
    /// The simulation of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5EED);
        let recipe = Arc::new(recipe(&mut random));
        let now = Now { mono: Mono(Duration::from_secs(3600)), wall: Wall(1_700_000_000_000) };
        let count = 1 + random.below(4) as usize;
        let host = |(i, name): (usize, &&str)| {
            let name = EnvironmentName::parse(name).expect("a literal name");
            Host::new(name, Random::new(seed ^ (0xABCD + i as u64)), (seed + i as u64).is_multiple_of(2))
        };
        let hosts = MEMBERS.iter().enumerate().take(count).map(host).collect();
        let profile = random.draw() >> 20;
        let mut sim = Self {
            seed,
            now,
            random,
            recipe,
            entries: vec![Entry::new("e1", Disk::default())],
            hosts,
            bus: Bus::default(),
            ids: 0,
            calm: false,
            calm_since: None,
            accepted: Vec::new(),
            asked: Vec::new(),
            wanted: BTreeMap::new(),
            local: Vec::new(),
            deadlines: BTreeMap::new(),
            record_changed: false,
            turns_unsure: Mono::default(),
            heals: Vec::new(),
            faults: 0,
            forgotten: BTreeSet::new(),
            profile,
            story: VecDeque::new(),
        };
        sim.revive();
        sim.turns();
        sim
    }

    /// Runs it: `steps` with faults, then calm until all is settled.
    ///
    /// # Errors
    /// What must never be, with the seed that shows it.
    pub fn run(mut self, steps: usize) -> Result<Seen, String> {
        for step in 0..steps {
            self.step();
            self.check().map_err(|what| format!("seed {} step {step}: {what}\n{}", self.seed, self.told()))?;
        }
        self.settle_down().map_err(|what| format!("seed {} when calm: {what}\n{}", self.seed, self.told()))
    }

    fn tell(&mut self, what: impl std::fmt::Display) {
        if self.calm_since.is_some_and(|since| self.now.mono > since.after(Duration::from_secs(20))) {
            return;
        }
        self.story.push_back(format!("{:>9.3} {what}", self.now.mono.0.as_secs_f64() - 3600.0));
        while self.story.len() > 3000 {
            self.story.pop_front();
        }
    }

    fn told(&self) -> String {
        self.story.iter().map(|line| line.chars().take(330).chain(['\n']).collect::<String>()).collect()
    }

    fn has(&self, bit: u64) -> bool {
        self.profile >> bit & 1 == 1
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..=15 => self.command(),
            16 => self.govern(),
            17..=18 => self.local_word(),
            26 => {
                self.tell("another version is installed everywhere");
                self.hosts.iter_mut().for_each(|host| host.world.version += 1);
            }
            19..=25 => {
                self.faults += 1;
                self.fault();
            }
            _ => self.advance(),
        }
        self.turns();
    }

    fn fault(&mut self) {
        let host = self.random.below(self.hosts.len() as u64) as usize;
        let soon = self.now.mono.after(Duration::from_millis(self.random.below(20_000)));
        let end = self.now.mono.after(Duration::from_millis(self.random.below(40_000)));
        let name = self.hosts[host].name.clone();
        match self.random.below(16) {
            0 | 1 => {
                self.tell("e1 crashes");
                self.entries[0].crash(soon);
            }
            2 | 3 => {
                let cuts = [Cut::BeforeCommit, Cut::AfterCommit, Cut::BetweenOrders];
                let which = self.random.below(self.entries.len() as u64) as usize;
                self.entries[which].cut = Some(cuts[self.random.below(3) as usize]);
            }
            4 => {
                self.tell(format_args!("{name}: its daemon crashes"));
                self.hosts[host].crash(soon);
            }
            5 | 6 => self.hosts[host].dying = true,
            7 => self.reboot(host, soon),
            8 if self.has(0) => {
                self.tell("the bus goes down");
                self.bus.down = true;
                self.heals.push((end, String::new()));
            }
            9 | 10 => {
                let who = if self.random.chance(30) { "e1".to_string() } else { name.to_string() };
                self.tell(format_args!("{who} is cut off"));
                self.bus.cut.insert(who.clone());
                self.heals.push((end, who));
            }
            11 if self.has(1) => {
                self.tell("the bus is wiped");
                self.bus.wipe();
                // Locks go with it; an entry that did not grant a turn knows nothing of it.
                if self.entries.len() > 1 {
                    self.turns_unsure = self.now.mono.after(self.turn_timeout() * 2);
                }
            }
            12 if self.has(2) => {
                self.tell(format_args!("{name}: its ledger is lost"));
                self.hosts[host].crash(self.now.mono);
                self.hosts[host].disk = Disk::default();
                self.hosts[host].world.forget_hooks();
                self.hosts[host].unsure_until = self.now.mono.after(self.turn_timeout() * 2);
                // Local words were in it.
                self.local.push((AppId::parse("lost").expect("a literal name"), name));
            }
            13 if self.has(3) && self.has(4) => self.copy_or_restore(soon),
            14 if self.has(3) && self.has(5) => self.second_entry(),
            _ => self.advance(),
        }
    }

    fn reboot(&mut self, host: usize, soon: Mono) {
        let name = self.hosts[host].name.clone();
        self.tell(format_args!("{name}: the host reboots"));
        self.hosts[host].crash(soon);
        self.hosts[host].world.reboot();
        // What a reboot brings back is the start mode's to say.
        self.wanted.retain(|(_, environment), _| *environment != name);
    }

    fn copy_or_restore(&mut self, soon: Mono) {
        match self.entries[0].copy.take() {
            None => self.entries[0].copy = Some(self.entries[0].disk.clone()),
            Some(copy) => {
                self.tell("e1: its record is restored from a copy");
                self.entries[0].disk = copy;
                self.entries[0].crash(soon);
                self.record_was_changed();
            }
        }
    }

    fn second_entry(&mut self) {
        if self.entries.len() == 1 {
            self.tell("a second entry is started by mistake");
            let disk = self.entries[0].copy.clone().unwrap_or_else(|| self.entries[0].disk.clone());
            self.entries.push(Entry::new("e2", disk));
            if self.bus.claim.is_none() {
                self.record_was_changed();
            }
            return;
        }
        if self.random.chance(40) {
            let which = self.random.below(2) as usize;
            let (entry, mut around) = self.entry(which);
            entry.promote(&mut around);
            // It may hold an older copy, and forgets what the other one accepted.
            self.record_was_changed();
        }
    }

    fn record_was_changed(&mut self) {
        self.record_changed = true;
        for host in &mut self.hosts {
            host.world.numbers_reused = true;
        }
        self.wanted.clear();
        self.turns_unsure = self.now.mono.after(self.turn_timeout() * 2);
        self.accepted.retain(|(which, id)| self.entries[*which].disk.operations.contains_key(id));
    }

    /// The longest turn, one with an upgrade.
    fn turn_timeout(&self) -> Duration {
        let more = self.recipe.upkeep.upgrade_timeout().unwrap_or_default();
        self.recipe.turn_timeout() + more + limits::ACCEPT_BY
    }

    fn entry(&mut self, which: usize) -> (&mut Entry, Around<'_>) {
        let turn_timeout = self.turn_timeout();
        let around = Around {
            now: self.now,
            random: &mut self.random,
            calm: self.calm,
            bus: &mut self.bus,
            ids: &mut self.ids,
            turn_timeout,
        };
        (&mut self.entries[which], around)
    }

    fn advance(&mut self) {
        let now = self.now;
        let of_entries = self.entries.iter().map(|entry| entry.next_event(now, self.bus.reaches(entry.id.as_str())));
        let of_hosts = self.hosts.iter().map(|host| host.next_event(self.bus.reaches(host.name.as_str())));
        let heals = self.heals.iter().map(|(at, _)| Some(*at));
        let all = of_entries.chain(of_hosts).chain(heals).chain([self.bus.next_arrival(now.mono)]);
        let pause = all.flatten().min().map_or(Duration::from_secs(1), |at| at.since(now.mono));
        let pause = pause.clamp(Duration::from_millis(1), Duration::from_secs(60));
        self.now.mono = now.mono.after(pause);
        self.now.wall = Wall(now.wall.0 + pause.as_millis() as u64);
        for host in &mut self.hosts {
            host.world.pass(self.now.mono);
        }
        self.heal();
        self.revive();
    }

    fn heal(&mut self) {
        let now = self.now.mono;
        let over: Vec<String> = self.heals.iter().filter(|(at, _)| *at <= now).map(|(_, who)| who.clone()).collect();
        self.heals.retain(|(at, _)| *at > now);
        for who in over {
            self.tell(format_args!("{} again", if who.is_empty() { "the bus works" } else { &who }));
            match who.is_empty() {
                true => self.bus.down = false,
                false => _ = self.bus.cut.remove(&who),
            }
        }
    }

    /// Starts the daemons whose time has come.
    fn revive(&mut self) {
        for which in 0..self.entries.len() {
            let entry = &mut self.entries[which];
            if entry.brain.is_none() && entry.back_at <= self.now.mono {
                self.ids += 1;
                entry.start(self.now, self.ids, &self.bus);
                if self.bus.claim.is_none() && self.entries.len() > 1 {
                    // The place is empty, and it takes it, whoever had it before.
                    self.record_was_changed();
                }
            }
        }
        for host in &mut self.hosts {
            if host.daemon.is_none() && host.back_at <= self.now.mono {
                host.start(self.now, &self.recipe, &self.bus);
            }
        }
    }

    /// All take their turns until nothing is left to do now.
    fn turns(&mut self) {
        for _ in 0..200 {
            let mut busy = false;
            for which in 0..self.entries.len() {
                let (entry, mut around) = self.entry(which);
                busy |= entry.turn(&mut around);
                self.after_entry(which);
            }
            for which in 0..self.hosts.len() {
                busy |= self.host_turn(which, Vec::new());
            }
            if !busy {
                return;
            }
        }
        self.entries[0].violations.push("entry and workers never come to rest".into());
    }

    fn host_turn(&mut self, which: usize, local: Vec<Input>) -> bool {
        let host = &mut self.hosts[which];
        let busy = host.turn(self.now, &mut self.random, &mut self.bus, local);
        for line in std::mem::take(&mut self.hosts[which].story) {
            if !line.is_empty() {
                self.tell(line);
            }
        }
        busy
    }

    fn after_entry(&mut self, which: usize) {
        for line in std::mem::take(&mut self.entries[which].story) {
            self.tell(line);
        }
        for row in std::mem::take(&mut self.entries[which].own_will) {
            let environments = row.placements.iter().map(|placement| placement.environment.clone()).collect();
            self.asked.push(Asked { seq: row.intent_seq, app: row.spec.name.clone(), environments });
        }
        let usual = self.recipe.turn_timeout() + limits::ACCEPT_BY;
        for (app, environment, upgrades) in std::mem::take(&mut self.entries[which].grants) {
            let end = self.now.mono.after(if upgrades { self.turn_timeout() } else { usual });
            let deadline = self.deadlines.entry((app, environment)).or_insert(end);
            *deadline = (*deadline).max(end);
        }
    }
}
