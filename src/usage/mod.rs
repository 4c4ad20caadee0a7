//! Measures what the host and its apps use.
//!
//! Decided here: host figures come from the `sysinfo` crate (`host.rs`, its only home), pressure from the kernel's PSI
//! files (`pressure.rs`), an app's figures from one pass over `/proc` (`tree.rs`). Readers take the last figures from a
//! snapshot and never wait for a measurement, except for the host's when sampling is off.
//!
//! Deliberately absent: history, thresholds, logging, and PSS: the kernel walks every page table for it, a thousand times
//! the cost of RSS. What is shared between an app's processes therefore counts in each, and `memory_source` says so.

mod host;
mod pressure;
mod tree;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use nbs_core::name::AppId;
use tokio::time::{Instant, MissedTickBehavior};

use host::HostMeter;
use tree::{Scale, Sum};

pub use host::HostUsage;
pub use pressure::Pressure;

/// Where a memory figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemorySource {
    /// Resident memory of every process of the tree, added up; shared pages count in each.
    ProcRss,
}

impl MemorySource {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProcRss => "proc_rss",
        }
    }
}

/// What an app used, its whole process tree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AppUsage {
    /// Since the sample before; 100 = one CPU. In its first sample, since the process began.
    pub cpu_percent: f32,
    /// Memory.
    pub memory_bytes: u64,
    /// Where `memory_bytes` comes from.
    pub memory_source: MemorySource,
    /// Threads.
    pub tasks: u32,
}

#[derive(Default)]
struct Shared {
    apps: ArcSwap<HashMap<AppId, AppUsage>>,
    /// None while sampling is off.
    host: ArcSwapOption<HostUsage>,
    meter: Mutex<HostMeter>,
}

impl Shared {
    fn meter(&self) -> MutexGuard<'_, HostMeter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the last figures. Cheap to clone.
#[derive(Clone)]
pub struct UsageHandle(Arc<Shared>);

impl UsageHandle {
    /// An app's figures; none before its first sample, when it does not run, or when sampling is off.
    pub fn of(&self, app: &AppId) -> Option<AppUsage> {
        self.0.apps.load().get(app).copied()
    }

    /// The host's figures: the last sample, or measured now (some 0.2 ms, at most once a second) when sampling is off.
    pub fn host(&self) -> HostUsage {
        match &*self.0.host.load() {
            Some(host) => **host,
            None => self.0.meter().measure(),
        }
    }
}

/// An app's CPU time at its last sample. Another process or another start means that there is nothing to compare with.
struct Before {
    pid: u32,
    start: u64,
    ticks: u64,
}

/// The sampler.
pub struct UsageSampler {
    shared: Arc<Shared>,
    scale: Scale,
    before: HashMap<AppId, Before>,
    sampled_at: Option<Instant>,
}

impl Default for UsageSampler {
    fn default() -> Self {
        Self::new()
    }
}

impl UsageSampler {
    /// A sampler that has measured nothing yet.
    pub fn new() -> Self {
        Self { shared: Arc::default(), scale: Scale::of_this_host(), before: HashMap::new(), sampled_at: None }
    }

    /// The way to its figures.
    pub fn handle(&self) -> UsageHandle {
        UsageHandle(self.shared.clone())
    }

    /// Samples at once and then at every interval, until `shutdown`. An interval of zero turns it off: no timer, no
    /// figures of apps, the host's on demand.
    pub async fn run(
        mut self,
        interval: Duration,
        list: impl Fn() -> Vec<(AppId, u32)> + Send,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        if interval.is_zero() {
            return shutdown.await;
        }
        let rounds = async {
            let mut timer = tokio::time::interval(interval);
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                timer.tick().await;
                self.sample(list()).await;
            }
        };
        tokio::select! {
            () = shutdown => {}
            () = rounds => {}
        }
        // Old figures shall not be taken for present ones.
        self.shared.host.store(None);
        self.shared.apps.store(Arc::default());
    }

    /// One sample of the host and of these apps, each with its main process.
    pub async fn sample(&mut self, list: Vec<(AppId, u32)>) {
        let host = self.shared.meter().measure();
        self.shared.host.store(Some(Arc::new(host)));
        if list.is_empty() {
            self.before.clear();
            self.shared.apps.store(Arc::default());
            return;
        }
        let sums = tree::sums(list.iter().map(|(_, pid)| *pid)).await;
        let now = Instant::now();
        let elapsed = self.sampled_at.replace(now).map(|then| now.duration_since(then).as_secs_f64());
        let uptime = tree::uptime();
        let mut figures = HashMap::with_capacity(list.len());
        let mut remembered = HashMap::with_capacity(list.len());
        for ((app, pid), sum) in list.into_iter().zip(sums) {
            let Some(sum) = sum else { continue };
            let before = self.before.get(&app).filter(|b| b.pid == pid && b.start == sum.start);
            let cpu_percent = self.cpu_percent(&sum, before, elapsed, uptime);
            let memory_bytes = sum.rss_pages * self.scale.page_bytes;
            let memory_source = MemorySource::ProcRss;
            remembered.insert(app.clone(), Before { pid, start: sum.start, ticks: sum.ticks });
            figures.insert(app, AppUsage { cpu_percent, memory_bytes, memory_source, tasks: sum.tasks });
        }
        self.before = remembered;
        self.shared.apps.store(Arc::new(figures));
    }

    /// A tree's time can shrink, when a child whose end nobody waited for is gone; that counts as nothing.
    fn cpu_percent(&self, sum: &Sum, before: Option<&Before>, elapsed: Option<f64>, uptime: Option<f64>) -> f32 {
        let (ticks, seconds) = match (before, elapsed) {
            (Some(before), Some(elapsed)) => (sum.ticks.saturating_sub(before.ticks), elapsed),
            _ => {
                let age = uptime.map_or(0.0, |uptime| uptime - sum.start as f64 / self.scale.ticks_per_second);
                (sum.ticks, age)
            }
        };
        // Ticks are 10 ms: over less than some of them a share says nothing.
        if seconds < 0.05 {
            return 0.0;
        }
        (ticks as f64 / self.scale.ticks_per_second / seconds * 100.0) as f32
    }
}
