//! What a host and its apps use, as any reader of Redis can understand it.

use std::collections::BTreeMap;

use nbs_core::limits::APPS_MAX;
use nbs_core::name::AppId;
use serde::{Deserialize, Serialize};

use super::{VERSION, bounds, read};
use crate::wire::api::usage::{AppUsage, Pressure};
use crate::wire::record::{RowError, name, write};

/// No figure of a share is above this many percent: a hundred thousand CPUs.
const PERCENT_MAX: f64 = 1e7;

/// What a host uses and has. A figure that cannot be had is `null`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HostUsage {
    /// Percent of all CPUs together.
    pub cpu_percent: Option<f64>,
    /// Bytes of memory in use.
    pub memory_bytes: Option<u64>,
    /// Bytes of memory.
    pub memory_total: Option<u64>,
    /// CPUs.
    pub cpus: Option<u32>,
    /// Pressure, where the kernel tells it.
    pub pressure: Option<Pressure>,
}

/// What a host and its apps use.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Usage {
    /// When: milliseconds since 1970, by the worker's clock.
    pub at_ms: u64,
    /// The host.
    pub host: HostUsage,
    /// Apps with a process.
    pub apps: BTreeMap<AppId, AppUsage>,
}

#[derive(Serialize, Deserialize)]
struct UsageShape {
    v: u32,
    at_ms: u64,
    host: HostUsage,
    apps: BTreeMap<String, AppUsage>,
}

impl HostUsage {
    /// Refuses figures that cannot be.
    pub(super) fn check(&self) -> Result<(), RowError> {
        share("cpu_percent", self.cpu_percent)?;
        pressure(self.pressure.as_ref())
    }
}

fn share(field: &str, value: Option<f64>) -> Result<(), RowError> {
    match value {
        Some(value) if !(0.0..=PERCENT_MAX).contains(&value) => {
            Err(RowError::Damaged(format!("{field} {value} is no share")))
        }
        _ => Ok(()),
    }
}

fn pressure(value: Option<&Pressure>) -> Result<(), RowError> {
    let Some(Pressure { cpu, memory, io }) = value else { return Ok(()) };
    [cpu, memory, io].into_iter().try_for_each(|value| share("pressure", Some(*value)))
}

fn check_app(usage: &AppUsage) -> Result<(), RowError> {
    share("cpu_percent", usage.cpu_percent)?;
    if let Some(source) = &usage.memory_source {
        bounds::text("memory_source", source, bounds::SHORT_MAX)?;
    }
    pressure(usage.pressure.as_ref())
}

/// Writes what is used.
///
/// # Errors
/// It is larger than a message may be.
pub fn write_usage(usage: &Usage) -> Result<String, RowError> {
    let apps = usage.apps.iter().map(|(app, usage)| (app.to_string(), usage.clone())).collect();
    let text = write(&UsageShape { v: VERSION, at_ms: usage.at_ms, host: usage.host.clone(), apps })?;
    bounds::size(&text)?;
    Ok(text)
}

/// Reads what is used.
///
/// # Errors
/// It is damaged, too large or newer, or has figures that cannot be.
pub fn read_usage(text: &str) -> Result<Usage, RowError> {
    let shape: UsageShape = read(text)?;
    shape.host.check()?;
    bounds::entries("apps", shape.apps.len(), APPS_MAX)?;
    let mut apps = BTreeMap::new();
    for (app, usage) in shape.apps {
        check_app(&usage)?;
        apps.insert(name(AppId::parse(&app))?, usage);
    }
    Ok(Usage { at_ms: shape.at_ms, host: shape.host, apps })
}
