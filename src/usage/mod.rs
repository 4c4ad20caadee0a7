//! Measures what the host and its apps use.
//!
//! Decided here: host figures come from the `sysinfo` crate (`host.rs`, its only home), pressure from the kernel's PSI
//! files (`pressure.rs`). An app in a control group of its own (`place.rs`) is measured by that group's files (`group.rs`),
//! of which CPU time is read in every sample and the rest when it can have changed (`watch.rs`); any other app by one pass
//! over `/proc` (`tree.rs`); which of the two it is, `survey.rs` finds out. Readers take the last figures from a snapshot
//! and never wait for a measurement, except for the host's when sampling is off.
//!
//! Memory by the group is `memory.current` without `memory.stat`'s `inactive_file`: files that were read once and would be
//! given up first. That is what container tools show as an app's memory, and what the host's figure leaves out too; an app
//! that reads many files would else seem to sit at its limit. `systemctl status` shows `memory.current` itself. Without the
//! memory controller it is the resident memory of the group's processes, added up. Bytes of I/O are those of all devices,
//! as systemd counts them.
//!
//! Deliberately absent: history, thresholds, logging, the files of version 1 of control groups, the count of OOM kills
//! (whoever ends an app's run knows why), and PSS: the kernel walks every page table for it, a thousand times the cost of
//! RSS. What is shared between an app's processes therefore counts in each, and `memory_source` says so.

mod group;
mod host;
mod place;
mod pressure;
mod sampler;
mod stat;
mod survey;
mod tree;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use nbs_core::name::AppId;
use tokio::sync::watch as channel;

use host::HostMeter;
use stat::{Scale, Sum};

pub use host::HostUsage;
pub use pressure::Pressure;
pub use sampler::UsageSampler;

/// Where a memory figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemorySource {
    /// The memory controller of the app's own control group, without inactive file cache.
    Cgroup,
    /// Resident memory of every process of the group or tree, added up; shared pages count in each.
    ProcRss,
    /// The process that hosts it beside other apps: every figure is of all of them together.
    Host,
}

impl MemorySource {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::ProcRss => "proc_rss",
            Self::Host => "host",
        }
    }
}

/// An app that is to be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Which.
    pub app: AppId,
    /// Its main process, or its host's.
    pub pid: u32,
    /// The host that it shares with other apps, if it does.
    pub host: Option<AppId>,
}

impl Subject {
    /// An app with a process of its own.
    pub fn alone(app: AppId, pid: u32) -> Self {
        Self { app, pid, host: None }
    }
}

/// What an app used, with all of its processes.
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
    /// Read from devices since its control group exists; none without the io controller.
    pub io_read_bytes: Option<u64>,
    /// Written to devices, likewise.
    pub io_write_bytes: Option<u64>,
    /// Work of its control group that waited; none without a group of its own.
    pub pressure: Option<Pressure>,
}

impl AppUsage {
    /// What `/proc` tells; the share of CPU is not in it.
    fn of_tree(sum: &Sum, scale: Scale) -> Self {
        Self {
            cpu_percent: 0.0,
            memory_bytes: sum.rss_pages * scale.page_bytes,
            memory_source: MemorySource::ProcRss,
            tasks: sum.tasks,
            io_read_bytes: None,
            io_write_bytes: None,
            pressure: None,
        }
    }
}

/// CPU seconds per second, in percent. Process trees count in ticks of 10 ms: over less than some of them a share says
/// nothing.
fn share(cpu: f64, seconds: f64) -> f32 {
    if seconds < 0.05 { 0.0 } else { (cpu / seconds * 100.0) as f32 }
}

#[derive(Default)]
struct Shared {
    apps: ArcSwap<HashMap<AppId, AppUsage>>,
    /// None while sampling is off.
    host: ArcSwapOption<HostUsage>,
    meter: Mutex<HostMeter>,
    /// How many samples were taken.
    samples: channel::Sender<u64>,
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

    /// Changes with each sample, when its figures can be had.
    pub fn sampled(&self) -> channel::Receiver<u64> {
        self.0.samples.subscribe()
    }
}
