//! What must hold in the simulated fleet: at every step, and when the faults have stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::command::EnvironmentAction;
use crate::limits;
use crate::name::{AppId, EnvironmentName};
use crate::order::LocalAction;
use crate::phase::{Phase, Status};
use crate::record::{AppLife, AppRow, PlacementRow};
use crate::testing::fleet_sim::entry::Entry;
use crate::testing::fleet_sim::host::SLOTS;
use crate::testing::fleet_sim::{FleetSim, Seen};
use crate::view::OperationStatus;

/// How long after the last fault everything must be as it should be. Turns must run out, and operations of environments
/// that were forgotten or drained in their midst are waited for.
const CALM: Duration = Duration::from_secs(15 * 60);

impl FleetSim {
    pub(super) fn check(&mut self) -> Result<(), String> {
        for entry in &mut self.entries {
            if let Some(what) = entry.violations.pop() {
                return Err(what);
            }
        }
        for host in &mut self.hosts {
            if let Some(what) = host.world.violations.pop() {
                return Err(format!("{}: {what}", host.name));
            }
            let in_turn = host.disk.instances.values().filter(|row| row.in_turn).count();
            if in_turn > SLOTS as usize && host.unsure_until < self.now.mono {
                return Err(format!("{}: {in_turn} ordered starts in flight with {SLOTS} slots", host.name));
            }
        }
        self.check_processes()?;
        self.check_kills()?;
        self.check_turns()?;
        self.check_upgrades()?;
        self.check_views()?;
        for (which, id) in &self.accepted {
            if !self.entries[*which].disk.operations.contains_key(id) {
                return Err(format!("accepted operation {id} is not in the record"));
            }
        }
        Ok(())
    }

    /// Never two processes of one app in one environment.
    fn check_processes(&self) -> Result<(), String> {
        for host in &self.hosts {
            let mut seen: BTreeMap<&AppId, u32> = BTreeMap::new();
            for process in host.world.processes.values() {
                *seen.entry(&process.app).or_default() += 1;
            }
            if let Some((app, count)) = seen.into_iter().find(|(_, count)| *count > 1) {
                return Err(format!("{count} processes of {app} in {}", host.name));
            }
        }
        Ok(())
    }

    /// Promise 1: what runs is stopped or restarted only because somebody asked for it.
    fn check_kills(&mut self) -> Result<(), String> {
        for host in &mut self.hosts {
            for (app, run) in std::mem::take(&mut host.kills) {
                let asked = self
                    .asked
                    .iter()
                    .any(|asked| asked.app == app && asked.seq > run.seq && asked.environments.contains(&host.name));
                let local = self.local.iter().any(|(other, environment)| *other == app && *environment == host.name);
                if !asked && !local && !self.record_changed {
                    return Err(format!("{}: {app} {run} ran and was stopped, and nobody asked", host.name));
                }
            }
        }
        Ok(())
    }

    /// Promise 5: one start at a time per app, until a turn's deadline.
    fn check_turns(&self) -> Result<(), String> {
        if self.now.mono < self.turns_unsure {
            return Ok(());
        }
        let mut starting: BTreeMap<&AppId, &EnvironmentName> = BTreeMap::new();
        for host in self.hosts.iter().filter(|host| host.unsure_until < self.now.mono) {
            for (app, row) in host.disk.instances.iter().filter(|(_, row)| row.in_turn) {
                let deadline = self.deadlines.get(&(app.clone(), host.name.clone()));
                let in_time = deadline.is_some_and(|deadline| self.now.mono <= *deadline);
                if !in_time || row.phase == Phase::Running {
                    continue;
                }
                if let Some(other) = starting.insert(app, &host.name) {
                    return Err(format!("{app} starts in {other} and {} at once", host.name));
                }
            }
        }
        Ok(())
    }

    /// While a step of an upgrade runs, the app runs nowhere.
    fn check_upgrades(&self) -> Result<(), String> {
        if self.record_changed || self.now.mono < self.turns_unsure {
            return Ok(());
        }
        for host in &self.hosts {
            for app in host.world.in_upgrade(self.now.mono) {
                let others = self.hosts.iter().filter(|other| other.name != host.name);
                let sure = others.filter(|other| {
                    let local = self.local.iter().any(|(about, place)| about == app && *place == other.name);
                    !local && !self.forgotten.contains(&other.name) && other.unsure_until < self.now.mono
                });
                for other in sure {
                    if other.world.processes.values().any(|process| process.app == *app) {
                        return Err(format!("{app} is upgraded in {} and runs in {}", host.name, other.name));
                    }
                    if other.world.in_upgrade(self.now.mono).any(|another| another == app) {
                        return Err(format!("{app} is upgraded in {} and {} at once", host.name, other.name));
                    }
                }
            }
        }
        Ok(())
    }

    /// Promise 4: nothing is shown to run where nobody has spoken for longer than a lease; the carrier may hold a beat as
    /// long as it lasts.
    fn check_views(&self) -> Result<(), String> {
        for entry in &self.entries {
            let Some(brain) = &entry.brain else { continue };
            let mut counts: BTreeMap<&EnvironmentName, usize> = BTreeMap::new();
            let views = entry.disk.apps.keys().filter_map(|name| Some((name, brain.fleet.app_view(self.now, name)?)));
            let views: Vec<_> = views.collect();
            for instance in views.iter().flat_map(|(_, view)| &view.instances) {
                *counts.entry(&instance.environment).or_default() += 1;
            }
            for name in brain.fleet.environments() {
                let told = brain.fleet.environment_view(self.now, name).map_or(0, |view| view.instances);
                let counted = counts.get(name).copied().unwrap_or(0);
                if told != counted {
                    return Err(format!("{name} is said to have {told} instances, and has {counted}"));
                }
            }
            for (name, view) in &views {
                for instance in view.instances.iter().filter(|instance| instance.status == Status::Running) {
                    let host = self.hosts.iter().find(|host| host.name == instance.environment);
                    let spoke = host.map(|host| self.now.mono.since(host.spoke)).unwrap_or_default();
                    if spoke > limits::LEASE_LOST * 2 + Duration::from_secs(3) {
                        return Err(format!("{name} reads running in {}, silent for {spoke:?}", instance.environment));
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn settle_down(&mut self) -> Result<Seen, String> {
        self.tell("calm");
        self.calm = true;
        self.calm_since = Some(self.now.mono);
        self.heals.clear();
        self.bus.down = false;
        self.bus.cut.clear();
        let reigning = self.bus.claim.as_ref().map(|(reign, _)| reign.entry.clone());
        if reigning.is_none() && self.entries.len() > 1 {
            self.record_was_changed();
        }
        // Of two, one that was told that the other reigns leaves an empty place to it, for ever.
        let may = |entry: &Entry| entry.brain.as_ref().is_none_or(|brain| brain.fleet.read_only().is_none());
        let reigns = self.entries.iter().position(|entry| Some(&entry.id) == reigning.as_ref());
        let which = reigns.or_else(|| self.entries.iter().position(may)).unwrap_or(0);
        // The mistake is mended: one entry stays.
        let entry = self.entries.swap_remove(which);
        self.entries = vec![entry];
        self.accepted.retain(|(owner, _)| *owner == which);
        self.accepted.iter_mut().for_each(|(owner, _)| *owner = 0);
        self.entries[0].cut = None;
        for host in &mut self.hosts {
            host.world.calm = true;
            host.dying = false;
            host.back_at = host.back_at.min(self.now.mono);
        }
        self.entries[0].back_at = self.entries[0].back_at.min(self.now.mono);
        let begin = self.now.mono;
        let mut undrained = false;
        while self.now.mono < begin.after(CALM) {
            self.advance();
            if !undrained && self.entries[0].brain.as_ref().is_some_and(|brain| brain.claimed) {
                undrained = true;
                for environment in self.hosts.iter().map(|host| host.name.clone()).collect::<Vec<_>>() {
                    self.govern_with(0, environment, EnvironmentAction::Undrain);
                }
            }
            self.turns();
            self.check()?;
            let rested = self.now.mono > begin.after(limits::ANTI_ENTROPY * 2);
            if undrained && rested && self.check_end().is_ok() {
                break;
            }
        }
        let took = self.now.mono.since(begin);
        self.check_end().map(|seen| Seen { calm_seconds: took.as_secs(), ..seen })
    }

    fn check_end(&self) -> Result<Seen, String> {
        let disk = &self.entries[0].disk;
        let mut seen = Seen { accepted: self.accepted.len(), faults: self.faults, ..Seen::default() };
        for row in disk.operations.values() {
            if !row.view.status.has_ended() {
                return Err(format!("an operation never ended: {:?}", row.view));
            }
        }
        for (_, id) in &self.accepted {
            let done = disk.operations.get(id).is_some_and(|row| row.view.status == OperationStatus::Done);
            seen.done += usize::from(done);
        }
        for host in &self.hosts {
            for process in host.world.processes.values() {
                let app = disk.apps.get(&process.app);
                let placement = app.filter(|app| app.life == AppLife::Kept).and_then(|app| app.placement(&host.name));
                if app.is_some() && placement.is_none() {
                    return Err(format!("{} still runs in {}, where it should not be", process.app, host.name));
                }
            }
        }
        for (name, row) in disk.apps.iter().filter(|(_, row)| row.life == AppLife::Kept) {
            for placement in &row.placements {
                seen.running += self.check_placement(name, row, placement)?;
            }
        }
        if let Some((name, _)) = disk.apps.iter().find(|(_, row)| matches!(row.life, AppLife::Removing { .. })) {
            return Err(format!("{name} is never gone"));
        }
        if let Some((name, _)) = disk.apps.iter().find(|(_, row)| row.moving.is_some()) {
            return Err(format!("{name} is neither there nor back"));
        }
        Ok(seen)
    }

    fn check_placement(&self, name: &AppId, row: &AppRow, placement: &PlacementRow) -> Result<usize, String> {
        let environment = &placement.environment;
        let Some(host) = self.hosts.iter().find(|host| host.name == *environment) else { return Ok(0) };
        let alive = host.world.processes.values().filter(|process| process.app == *name).count();
        let instance = host.disk.instances.get(name);
        let phase = instance.map(|row| row.phase);
        let wants = placement.intent.wants_running();
        let local = instance.and_then(|row| row.local.as_ref()).map(|local| local.action);
        let at = format!("{name} in {environment}: intent {:?}, phase {phase:?}, {alive} processes", placement.intent);
        if placement.leaving {
            return Err(format!("{at}: never leaves"));
        }
        let right = match (wants, phase) {
            _ if local == Some(LocalAction::Stop) => alive == 0,
            (true, Some(Phase::Running)) => alive == 1,
            (true, Some(Phase::Failed | Phase::Stopped)) => alive == 0,
            (true, _) => false,
            (false, _) => alive == 0,
        };
        if !right {
            return Err(at);
        }
        let rebooted = instance.and_then(|row| row.reason.as_ref());
        let rebooted = rebooted.is_some_and(|reason| reason.code == crate::reason::ReasonCode::Rebooted);
        let held = row.upgrade.as_ref().is_some_and(|upgrade| upgrade.environment != *environment);
        if wants && !held && rebooted && phase == Some(Phase::Stopped) && local != Some(LocalAction::Stop) {
            return Err(format!("{at}: it does not come back after the reboot"));
        }
        if instance.is_some_and(|instance| instance.intent_seq < row.intent_seq) {
            return Err(format!("{at}: it has not taken up command {}", row.intent_seq));
        }
        if let Some((seq, run)) = self.wanted.get(&(name.clone(), environment.clone()))
            && *run != wants
        {
            return Err(format!("{at}: command {seq} wants run={run}"));
        }
        let view = self.entries[0].brain.as_ref().and_then(|brain| brain.fleet.app_view(self.now, name));
        let shown = view.and_then(|view| view.instances.into_iter().find(|i| i.environment == *environment));
        let shown = shown.map(|instance| instance.status);
        if (shown == Some(Status::Running)) != (alive == 1) {
            return Err(format!("{at}: it is shown as {shown:?}"));
        }
        Ok(alive)
    }
}
