//! A worker's host in the simulated fleet: its world, its ledger, and the daemon's loop with its side of the bus.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::effect::Effect;
use crate::environment::{Environment, Input, Settings};
use crate::launch::Places;
use crate::limits;
use crate::name::{AppId, EnvironmentName};
use crate::order::Report;
use crate::phase::Phase;
use crate::recipe::{Adapter, Recipe};
use crate::record::Change;
use crate::testing::disk::Disk;
use crate::testing::fleet_sim::bus::{Bus, Message};
use crate::testing::fleet_sim::entry::brief;
use crate::testing::random::Random;
use crate::testing::sim::{runtime_name, secrets};
use crate::testing::world::World;
use crate::time::{Mono, Now};

pub(super) const SLOTS: u32 = 2;

/// The daemon.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) environment: Environment,
    outbox: BTreeMap<AppId, Report>,
    others: VecDeque<Report>,
    hello_due: bool,
    session: u64,
    number: u64,
    next_renewal: Mono,
    next_round: Mono,
    wipes: u64,
}

/// The host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: EnvironmentName,
    pub(super) world: World,
    pub(super) disk: Disk,
    pub(super) daemon: Option<Worker>,
    /// When a dead daemon is started again.
    pub(super) back_at: Mono,
    /// The next turn is cut off in its midst.
    pub(super) dying: bool,
    adapter: Adapter,
    /// When it last wrote anything to the bus.
    pub(super) spoke: Mono,
    /// Its ledger was lost: until then what it says of turns is a guess.
    pub(super) unsure_until: Mono,
    /// Kills of what ran and was ready, to be justified.
    pub(super) kills: Vec<(AppId, crate::id::Run)>,
    pub(super) story: Vec<String>,
}

impl Host {
    pub(super) fn new(name: EnvironmentName, random: Random, units: bool) -> Self {
        let adapter = if units { Adapter::Systemd } else { Adapter::Process };
        Self {
            name,
            world: World::new(random),
            disk: Disk::default(),
            daemon: None,
            back_at: Mono::default(),
            dying: false,
            adapter,
            spoke: Mono::default(),
            unsure_until: Mono::default(),
            kills: Vec::new(),
            story: Vec::new(),
        }
    }

    pub(super) fn crash(&mut self, back_at: Mono) {
        self.daemon = None;
        self.world.silence();
        self.back_at = back_at;
    }

    pub(super) fn start(&mut self, now: Now, recipe: &Arc<Recipe>, bus: &Bus) {
        let recovered = self.disk.recover();
        let boot = self.world.boot_id();
        let same_boot = recovered.boot.as_ref().is_none_or(|known| *known == boot);
        let settings = Settings {
            places: Places {
                state_root: "/s".into(),
                run_root: "/r".into(),
                environment: self.name.clone(),
                time_zone: None,
                databases: Default::default(),
            },
            port_range: 1000..=1100,
            concurrent_starts: SLOTS,
            version: "0".into(),
            boot: boot.clone(),
            adapter: self.adapter,
            host: self.name.to_string(),
            url: None,
            proxy_url: None,
            capacity: None,
            autonomous: true,
            start_without_entry_after: None,
            secrets: secrets(),
        };
        let recipes = BTreeMap::from([(runtime_name(), recipe.clone())]);
        let mut environment = Environment::new(settings, recipes, recovered.instances, recovered.follows);
        self.disk.commit(vec![Change::Boot(boot)]);
        let (alive, strays) = self.world.adopt(now.mono, &environment.expected_lives());
        let effects = environment.recover(now, alive, strays, same_boot);
        self.daemon = Some(Worker {
            environment,
            outbox: BTreeMap::new(),
            others: VecDeque::new(),
            hello_due: true,
            session: 0,
            number: now.mono.0.as_millis() as u64 * 1000,
            next_renewal: now.mono,
            next_round: now.mono,
            wipes: bus.wipes,
        });
        let effects = effects.into_iter().filter(|effect| !matches!(effect, Effect::Report(Report::Instance(_))));
        self.carry_out(now.mono, effects.collect());
    }

    /// One turn of the loop. Whether anything happened.
    pub(super) fn turn(&mut self, now: Now, random: &mut Random, bus: &mut Bus, local: Vec<Input>) -> bool {
        let mut inputs = local;
        inputs.extend(self.world.arrived(now.mono).into_iter().map(Input::Observed));
        let reaches = bus.reaches(self.name.as_str());
        let Some(daemon) = &mut self.daemon else { return false };
        if reaches {
            if now.mono >= daemon.next_renewal || daemon.wipes != bus.wipes {
                daemon.next_renewal = now.mono.after(limits::LEASE_RENEW);
                daemon.number += 1;
                let session = bus.claim.as_ref().map_or(0, |(_, session)| *session);
                if (session != 0 && session != daemon.session) || daemon.wipes != bus.wipes {
                    (daemon.session, daemon.wipes) = (session, bus.wipes);
                    daemon.hello_due = true;
                }
                bus.beat(now.mono, &self.name, daemon.session, daemon.number);
                self.spoke = now.mono;
            }
            if now.mono >= daemon.next_round {
                daemon.next_round = now.mono.after(limits::ANTI_ENTROPY);
                daemon.hello_due = true;
                inputs.extend(bus.intents_of(&self.name).into_iter().map(Input::Intent));
            }
            for (message, age) in bus.receive(now.mono, &self.name) {
                match message {
                    Message::Order(order) => inputs.push(Input::Order(order, age)),
                    Message::RollCall(session) => {
                        daemon.environment.heard_entry();
                        daemon.session = session;
                        daemon.hello_due = true;
                    }
                }
            }
        }
        inputs.push(Input::Tick);
        let idle = inputs.len() == 1;
        let effects: Vec<Effect> = inputs.into_iter().flat_map(|input| daemon.environment.step(now, input)).collect();
        let idle = idle && effects.is_empty();
        self.carry_out(now.mono, effects);
        if reaches {
            self.flush(now.mono, random, bus);
        }
        !idle
    }

    fn flush(&mut self, now: Mono, random: &mut Random, bus: &mut Bus) {
        let calm = self.world.calm;
        let Some(daemon) = &mut self.daemon else { return };
        let mut letters: Vec<Report> = std::mem::take(&mut daemon.outbox).into_values().collect();
        letters.extend(daemon.others.drain(..));
        if std::mem::take(&mut daemon.hello_due) {
            letters.push(daemon.environment.hello());
        }
        for report in letters {
            daemon.number += 1;
            bus.report(now, random, calm, (&self.name, daemon.session, daemon.number), report);
            self.spoke = now;
        }
    }

    /// Commit, then act; a dying daemon acts on a part only.
    fn carry_out(&mut self, now: Mono, effects: Vec<Effect>) {
        let before: BTreeMap<AppId, Phase> =
            self.disk.instances.iter().map(|(app, row)| (app.clone(), row.phase)).collect();
        let rows = effects.iter().filter_map(|effect| match effect {
            Effect::Remember(row) => Some(Change::Instance(row.clone())),
            Effect::Forget(app) => Some(Change::ForgetInstance(app.clone())),
            Effect::Follow(reign) => Some(Change::Follow(reign.clone())),
            _ => None,
        });
        self.disk.commit(rows.collect());
        let dies_after = match std::mem::take(&mut self.dying) && !effects.is_empty() {
            true => Some(now.0.as_millis() as usize % effects.len()),
            false => None,
        };
        for (i, effect) in effects.into_iter().enumerate() {
            self.story.push(match &effect {
                Effect::Report(report) => format!("{} tells {}", self.name, brief(report)),
                Effect::Remember(row) => {
                    let (app, run, phase, intent) = (&row.app, row.run, row.phase, row.intent_seq);
                    format!("{} ledger {app} {run} {phase:?} intent {intent} turn {}", self.name, row.in_turn)
                }
                Effect::Spawn(launch) => format!("{} starts {} {}", self.name, launch.app, launch.run),
                Effect::Hook { launch, hook, .. } => {
                    format!("{} runs {hook} of {} {}", self.name, launch.app, launch.run)
                }
                Effect::Signal { app, run, .. } => format!("{} signals {app} {run}", self.name),
                Effect::KillTree { app, run, .. } => format!("{} kills {app} {run}", self.name),
                Effect::Adopt(life) => format!("{} takes up {} {}", self.name, life.app, life.run),
                Effect::Follow(reign) => format!("{} follows {} of epoch {}", self.name, reign.entry, reign.epoch),
                _ => String::new(),
            });
            if dies_after == Some(i) {
                self.story.push(format!("{} dies in the midst of acting", self.name));
                return self.crash(now.after(Duration::from_millis(500)));
            }
            match effect {
                Effect::Report(report) => self.keep(report),
                other => {
                    if let Effect::Signal { app, run, .. } | Effect::KillTree { app, run, .. } = &other
                        && self.world.is_ready(now, app, *run)
                        && before.get(app).is_none_or(|phase| *phase == Phase::Running)
                    {
                        self.kills.push((app.clone(), *run));
                    }
                    self.world.act(now, &other);
                }
            }
        }
    }

    fn keep(&mut self, report: Report) {
        let Some(daemon) = &mut self.daemon else { return };
        match report {
            Report::Instance(report) => _ = daemon.outbox.insert(report.app.clone(), Report::Instance(report)),
            Report::Removed { ref app, .. } => {
                daemon.outbox.remove(app);
                daemon.others.push_back(report);
            }
            other => daemon.others.push_back(other),
        }
    }

    pub(super) fn next_event(&self, reaches: bool) -> Option<Mono> {
        let own = self.daemon.as_ref().map_or(vec![Some(self.back_at)], |daemon| {
            let on_bus = reaches.then(|| daemon.next_renewal.min(daemon.next_round));
            vec![daemon.environment.next_deadline(), on_bus]
        });
        own.into_iter().chain([self.world.next_event()]).flatten().min()
    }
}
