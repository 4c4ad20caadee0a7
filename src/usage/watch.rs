//! Decides which files of an app's control group are read in a sample.
//!
//! Reading a file costs 8 to 20 µs, all of a group's about 90: too much for 1000 idle apps. CPU time is read every time.
//! The rest is read again when the app has used CPU worth looking at since it was last read, because what did not run
//! allocated nothing, started nothing and hardly waited; and in any case every two to three minutes, each app at a time
//! of its own, for what others do to it: the kernel that takes memory back, a disk that stalls. So measuring costs about
//! 1 % of what the app itself uses, whatever that is, and some 16 µs for one that does nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::group::{Group, Transfer};
use super::stat::{Proc, Scale, Sum};
use super::{AppUsage, MemorySource, Pressure, share};

/// CPU time in microseconds after which memory and tasks are read again (some 40 µs). In it, a program can fill some 10 MB.
const SIZE_AFTER: u64 = 5_000;
/// The same for bytes and pressure (some 40 µs).
const FLOW_AFTER: u64 = 50_000;
/// Everything is read again after this and up to `SPREAD` more.
const REST: Duration = Duration::from_secs(120);
const SPREAD: u32 = 60;

/// What measuring needs.
pub(super) struct Kit {
    pub proc: Proc,
    pub scale: Scale,
    /// Text of the file just read.
    pub buffer: Vec<u8>,
}

impl Kit {
    /// The share of a CPU over a main process's life.
    pub fn since_start(&self, sum: &Sum, uptime: Option<f64>) -> f32 {
        let age = uptime.map_or(0.0, |uptime| uptime - sum.start as f64 / self.scale.ticks_per_second);
        share(sum.ticks as f64 / self.scale.ticks_per_second, age)
    }
}

/// A group, and what was last read of it.
pub(super) struct Watch {
    group: Group,
    pid: u32,
    cpu_micros: u64,
    at: Instant,
    /// CPU time when memory and tasks were read.
    size_at: u64,
    /// CPU time when bytes and pressure were read.
    flow_at: u64,
    all_due: Instant,
    usage: AppUsage,
}

impl Watch {
    /// Begins, with all figures. None when the process is gone, or is in this group no more.
    pub fn begin(group: Group, pid: u32, kit: &mut Kit, uptime: Option<f64>) -> Option<Self> {
        let cpu_micros = group.cpu_micros(&mut kit.buffer)?;
        let at = Instant::now();
        let sum = group.processes(&kit.proc, pid, &mut kit.buffer);
        if sum.start == 0 {
            return None;
        }
        // A group can be older than the process in it and count what its forerunner used; processes only count their own.
        let cpu_percent = kit.since_start(&sum, uptime);
        let usage = AppUsage { cpu_percent, ..AppUsage::of_tree(&sum, kit.scale) };
        let mut watch =
            Self { group, pid, cpu_micros, at, size_at: cpu_micros, flow_at: cpu_micros, all_due: at, usage };
        watch.read_size(kit, Some(sum));
        watch.read_flow(kit);
        watch.all_due = at + rest(pid);
        Some(watch)
    }

    /// The figures now; none when the group is gone.
    pub fn sample(&mut self, kit: &mut Kit) -> Option<AppUsage> {
        let cpu_micros = self.group.cpu_micros(&mut kit.buffer)?;
        let now = Instant::now();
        let used = cpu_micros.saturating_sub(self.cpu_micros);
        self.usage.cpu_percent = share(used as f64 / 1e6, now.duration_since(self.at).as_secs_f64());
        (self.cpu_micros, self.at) = (cpu_micros, now);
        let all = now >= self.all_due;
        if all {
            self.all_due = now + rest(self.pid);
        }
        if all || cpu_micros.saturating_sub(self.size_at) >= SIZE_AFTER {
            self.read_size(kit, None);
        }
        if all || cpu_micros.saturating_sub(self.flow_at) >= FLOW_AFTER {
            self.read_flow(kit);
        }
        Some(self.usage)
    }

    /// The figures of the last sample.
    pub fn usage(&self) -> AppUsage {
        self.usage
    }

    /// What the controllers do not tell is added up over the group's processes.
    fn read_size(&mut self, kit: &mut Kit, sum: Option<Sum>) {
        self.size_at = self.cpu_micros;
        let memory = self.group.memory(&mut kit.buffer);
        let tasks = self.group.tasks(&mut kit.buffer);
        let (memory, source, tasks) = match (memory, tasks) {
            (Some(memory), Some(tasks)) => (memory, MemorySource::Cgroup, tasks),
            (memory, tasks) => {
                let sum = sum.unwrap_or_else(|| self.group.processes(&kit.proc, self.pid, &mut kit.buffer));
                let source = if memory.is_some() { MemorySource::Cgroup } else { MemorySource::ProcRss };
                (memory.unwrap_or(sum.rss_pages * kit.scale.page_bytes), source, tasks.unwrap_or(sum.tasks))
            }
        };
        (self.usage.memory_bytes, self.usage.memory_source, self.usage.tasks) = (memory, source, tasks);
    }

    fn read_flow(&mut self, kit: &mut Kit) {
        self.flow_at = self.cpu_micros;
        let transfer: Option<Transfer> = self.group.transfer(&mut kit.buffer);
        self.usage.io_read_bytes = transfer.map(|transfer| transfer.read);
        self.usage.io_write_bytes = transfer.map(|transfer| transfer.written);
        let pressure: Option<Pressure> = self.group.pressure(&mut kit.buffer);
        self.usage.pressure = pressure;
    }
}

/// Process numbers follow each other, so apps that were started together are not due together.
fn rest(pid: u32) -> Duration {
    REST + Duration::from_secs(u64::from(pid % SPREAD))
}
