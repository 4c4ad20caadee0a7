//! What apps and the host use.

use serde::{Deserialize, Serialize};

use super::Word;

/// What an app uses, with all of its processes. A figure that cannot be had is `null`, never 0.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AppUsage {
    /// Percent of one CPU.
    pub cpu_percent: Option<f64>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Where that figure comes from: `cgroup` (the memory controller, without inactive file cache) or `proc_rss` (resident
    /// memory of all processes, added up).
    pub memory_source: Option<Word>,
    /// Processes and threads.
    pub tasks: Option<u64>,
    /// Bytes read from devices since the app's control group exists, which is made anew at each start.
    #[serde(default)]
    pub io_read_bytes: Option<u64>,
    /// Bytes written to devices, likewise.
    #[serde(default)]
    pub io_write_bytes: Option<u64>,
    /// Pressure, where the app has a control group of its own.
    #[serde(default)]
    pub pressure: Option<Pressure>,
}

/// What a host has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capacity {
    /// CPUs.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// What a host uses.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HostUsage {
    /// Percent of all CPUs together.
    pub cpu_percent: Option<f64>,
    /// Bytes of memory in use.
    pub memory_bytes: Option<u64>,
    /// Pressure, where the kernel tells it.
    pub pressure: Option<Pressure>,
}

/// Share of the last ten seconds in which some task waited, in percent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Pressure {
    /// For a CPU.
    pub cpu: f64,
    /// For memory.
    pub memory: f64,
    /// For disks.
    pub io: f64,
}

/// `GET /usage`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageList {
    /// The host of the environment that was asked for, else that of the first.
    pub host: Option<HostUsage>,
    /// What it has.
    pub capacity: Option<Capacity>,
    /// The hosts of all environments, or of the one that was asked for.
    #[serde(default)]
    pub hosts: Vec<HostUsageRow>,
    /// Apps with a process, by name.
    pub apps: Vec<AppUsageRow>,
}

/// One host's line in `GET /usage`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostUsageRow {
    /// Of which environment.
    pub environment: String,
    /// What it uses.
    pub usage: Option<HostUsage>,
    /// What it has.
    pub capacity: Option<Capacity>,
}

/// One app's line in `GET /usage`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppUsageRow {
    /// Which app.
    pub app: String,
    /// Where.
    pub environment: String,
    /// Its figures.
    #[serde(flatten)]
    pub usage: AppUsage,
}
