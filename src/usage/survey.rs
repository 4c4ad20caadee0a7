//! For each app, finds out how it can be measured, and measures it.
//!
//! An app in a control group of its own is measured by that group (`watch.rs`); all others together by one pass over
//! `/proc` (`tree.rs`), which does not take place when there are none. A process can be brought into its group after it was
//! started, therefore one that was in none is looked at again: in its first samples, and then now and then.

use std::collections::{BTreeMap, HashMap};

use nbs_core::name::AppId;
use tokio::time::Instant;

use super::place::Hierarchy;
use super::stat::{self, Proc, Scale, Sum};
use super::watch::{Kit, Watch};
use super::{AppUsage, MemorySource, Subject, share, tree};

/// Samples in which an app without a group is asked for one every time.
const FIRST_LOOKS: u8 = 3;
/// After those, it is asked in every so many samples, at 15 µs.
const LOOK_EVERY: u8 = 16;

/// What is remembered of an app. Another main process means that there is nothing to compare with.
struct Seat {
    pid: u32,
    way: Way,
}

enum Way {
    /// By its own group.
    Group(Box<Watch>),
    /// By its process tree: start and CPU time at the last sample, and how often a group was looked for.
    Tree { before: Option<(u64, u64)>, looks: u8 },
}

impl Way {
    const UNKNOWN: Self = Self::Tree { before: None, looks: 0 };
}

/// What is known of the apps that are measured.
pub(super) struct Survey {
    hierarchy: Option<Hierarchy>,
    kit: Option<Kit>,
    seats: HashMap<AppId, Seat>,
    trees_at: Option<Instant>,
}

impl Survey {
    /// Nothing is known yet. Control groups are below `hierarchy`, if anywhere.
    pub fn new(hierarchy: Option<Hierarchy>) -> Self {
        let kit = Proc::open().ok().map(|proc| Kit { proc, scale: Scale::of_this_host(), buffer: Vec::new() });
        Self { hierarchy, kit, seats: HashMap::new(), trees_at: None }
    }

    /// The figures of these apps; an app without any is left out. A process that several of them share is measured once.
    /// Takes some 20 µs for each app, all of it in the kernel's files, so it is not to be called where others wait.
    pub fn measure(&mut self, list: Vec<Subject>) -> HashMap<AppId, AppUsage> {
        let (list, members) = apart(list);
        let mut seats = std::mem::take(&mut self.seats);
        self.seats.reserve(list.len());
        let mut figures = HashMap::with_capacity(list.len());
        let mut trees = Vec::new();
        let uptime = stat::uptime();
        for (app, pid) in list {
            let known = seats.remove(&app).filter(|seat| seat.pid == pid);
            let mut seat = known.unwrap_or(Seat { pid, way: Way::UNKNOWN });
            match self.by_group(&app, &mut seat, uptime) {
                Some(usage) => {
                    figures.insert(app.clone(), usage);
                    self.seats.insert(app, seat);
                }
                None => trees.push((app, seat)),
            }
        }
        self.by_tree(trees, uptime, &mut figures);
        for (member, host) in members {
            let usage = figures.get(&host).copied();
            let usage = usage.map(|usage| AppUsage { memory_source: MemorySource::Host, ..usage });
            figures.extend(usage.map(|usage| (member, usage)));
        }
        figures
    }

    /// The app's figures by its group. Where it has none, the seat says so afterwards.
    fn by_group(&mut self, app: &AppId, seat: &mut Seat, uptime: Option<f64>) -> Option<AppUsage> {
        let (Some(kit), Some(hierarchy)) = (&mut self.kit, &self.hierarchy) else { return None };
        if let Way::Group(watch) = &mut seat.way {
            if let Some(usage) = watch.sample(kit) {
                return Some(usage);
            }
            seat.way = Way::UNKNOWN;
        }
        if let Way::Tree { looks, .. } = &mut seat.way {
            let due = *looks < FIRST_LOOKS || *looks % LOOK_EVERY == (seat.pid % u32::from(LOOK_EVERY)) as u8;
            // Goes round without ever being one of the first again.
            *looks = looks.checked_add(1).unwrap_or(LOOK_EVERY);
            if !due {
                return None;
            }
        }
        let watch = Watch::begin(hierarchy.find(&kit.proc, app, seat.pid)?, seat.pid, kit, uptime)?;
        let usage = watch.usage();
        seat.way = Way::Group(Box::new(watch));
        Some(usage)
    }

    fn by_tree(&mut self, apps: Vec<(AppId, Seat)>, uptime: Option<f64>, figures: &mut HashMap<AppId, AppUsage>) {
        let Some(kit) = self.kit.as_ref().filter(|_| !apps.is_empty()) else {
            self.trees_at = None;
            return;
        };
        let mains: Vec<u32> = apps.iter().map(|(_, seat)| seat.pid).collect();
        let sums = tree::sums(&kit.proc, &mains);
        let now = Instant::now();
        let elapsed = self.trees_at.replace(now).map(|then| now.duration_since(then).as_secs_f64());
        for ((app, mut seat), sum) in apps.into_iter().zip(sums) {
            let (Some(sum), Way::Tree { before, .. }) = (sum, &mut seat.way) else { continue };
            let cpu_percent = since(*before, &sum, elapsed, kit.scale).unwrap_or_else(|| kit.since_start(&sum, uptime));
            *before = Some((sum.start, sum.ticks));
            figures.insert(app.clone(), AppUsage { cpu_percent, ..AppUsage::of_tree(&sum, kit.scale) });
            self.seats.insert(app, seat);
        }
    }
}

/// The processes to measure, each once, and which apps share which of them.
fn apart(list: Vec<Subject>) -> (BTreeMap<AppId, u32>, Vec<(AppId, AppId)>) {
    let mut processes = BTreeMap::new();
    let mut members = Vec::new();
    for Subject { app, pid, host } in list {
        match host {
            None => _ = processes.insert(app, pid),
            Some(host) => {
                processes.insert(host.clone(), pid);
                members.push((app, host));
            }
        }
    }
    (processes, members)
}

/// The share of a CPU since the sample before, unless that was of another process with the same number. A tree's time can
/// shrink, when a child whose end nobody waited for is gone; that counts as nothing.
fn since(before: Option<(u64, u64)>, sum: &Sum, elapsed: Option<f64>, scale: Scale) -> Option<f32> {
    let (_, ticks) = before.filter(|(start, _)| *start == sum.start)?;
    Some(share(sum.ticks.saturating_sub(ticks) as f64 / scale.ticks_per_second, elapsed?))
}
