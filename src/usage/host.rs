//! The host's figures by `sysinfo`, refreshed for CPU and memory alone: it never gets to list processes, disks or
//! networks, and keeps a few hundred bytes per CPU.

use std::time::Duration;

use sysinfo::{MemoryRefreshKind, System};
use tokio::time::Instant;

use super::pressure::Pressure;

/// Asked more often than this, the same figures are given again: CPU shares of a shorter time are noise.
const FRESH: Duration = Duration::from_secs(1);

/// What the host has and uses. Zeros where the system tells nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct HostUsage {
    /// Logical CPUs.
    pub cpus: u32,
    /// Memory it has.
    pub memory_total: u64,
    /// Memory in use, caches that can be given up not counted.
    pub memory_used: u64,
    /// Since the measurement before; 100 = all CPUs busy. In the first one, since the host's boot.
    pub cpu_percent: f32,
    /// Work that waited; none where the kernel does not tell.
    pub pressure: Option<Pressure>,
}

/// Measures the host. Made at first use.
#[derive(Default)]
pub(super) struct HostMeter {
    system: Option<System>,
    last: Option<(Instant, HostUsage)>,
}

impl HostMeter {
    /// The figures of this moment, or those of less than `FRESH` ago.
    pub fn measure(&mut self) -> HostUsage {
        let now = Instant::now();
        if let Some((then, usage)) = self.last
            && now.duration_since(then) < FRESH
        {
            return usage;
        }
        if self.system.is_none() {
            self.system = System::new().ok();
        }
        let Some(system) = &mut self.system else { return HostUsage::default() };
        system.refresh_cpu_usage();
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let usage = HostUsage {
            cpus: u32::try_from(system.cpus().len()).unwrap_or(u32::MAX),
            memory_total: system.total_memory(),
            memory_used: system.used_memory(),
            cpu_percent: system.global_cpu_usage(),
            pressure: Pressure::read(),
        };
        self.last = Some((now, usage));
        usage
    }
}
