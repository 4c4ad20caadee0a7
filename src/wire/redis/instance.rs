//! A report of one instance, as it stands in messages.

use nbs_core::id::{Generation, Run, Seq};
use nbs_core::launch::Address;
use nbs_core::name::AppId;
use nbs_core::order::{InstanceReport, Select, UpgradeReport};
use nbs_core::phase::Phase;
use nbs_core::recipe::Adapter;
use nbs_core::time::Wall;
use serde::{Deserialize, Serialize};

use super::bounds;
use crate::wire::record::{LocalShape, ReasonShape, RowError, name, word};

#[derive(Serialize, Deserialize)]
pub(super) struct InstanceShape {
    app: String,
    intent_seq: u64,
    run: String,
    generation: u64,
    phase: String,
    in_turn: bool,
    reason: Option<ReasonShape>,
    since: u64,
    pid: Option<u32>,
    adapter: String,
    address: Option<AddressShape>,
    strip_prefix: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    select: Option<SelectShape>,
    restarts: u32,
    next_attempt: Option<u64>,
    version: Option<String>,
    progress: Option<String>,
    #[serde(default)]
    last_log: Vec<String>,
    #[serde(default)]
    notes: Vec<String>,
    #[serde(default)]
    local: Option<LocalShape>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    removing: bool,
    /// Not in reports of versions before it; nor are the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upgraded: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    wants_upgrade: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    installed: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct SelectShape {
    header: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AddressShape {
    Port(u16),
    Unix(String),
}

impl InstanceShape {
    /// Texts for people are cut to their bounds.
    pub(super) fn of(report: &InstanceReport) -> Result<Self, RowError> {
        let mut report = report.clone();
        bounds::clip_report(&mut report);
        bounds::report(&report)?;
        let address = report.address.map(|address| match address {
            Address::Port(port) => AddressShape::Port(port),
            Address::Unix(path) => AddressShape::Unix(path.to_string_lossy().into_owned()),
        });
        Ok(Self {
            app: report.app.to_string(),
            intent_seq: report.intent_seq.0,
            run: report.run.to_string(),
            generation: report.generation.0,
            phase: report.phase.as_str().into(),
            in_turn: report.in_turn,
            reason: report.reason.as_ref().map(ReasonShape::of),
            since: report.since.0,
            pid: report.pid,
            adapter: report.adapter.as_str().into(),
            address,
            strip_prefix: report.strip_prefix,
            select: report.select.map(|select| SelectShape { header: select.header }),
            restarts: report.restarts,
            next_attempt: report.next_attempt.map(|at| at.0),
            version: report.version,
            progress: report.progress,
            last_log: report.last_log,
            notes: report.notes,
            local: report.local.as_ref().map(LocalShape::of),
            removing: report.removing,
            upgraded: Some(report.upgrade.done.0).filter(|seq| *seq > 0),
            wants_upgrade: report.upgrade.wanted,
            installed: report.upgrade.installed,
        })
    }

    pub(super) fn into_report(self) -> Result<InstanceReport, RowError> {
        let address = self.address.map(|address| match address {
            AddressShape::Port(port) => Address::Port(port),
            AddressShape::Unix(path) => Address::Unix(path.into()),
        });
        let report = InstanceReport {
            app: name(AppId::parse(&self.app))?,
            intent_seq: Seq(self.intent_seq),
            run: word("run", &self.run, Run::parse(&self.run))?,
            generation: Generation(self.generation),
            phase: word("phase", &self.phase, Phase::parse(&self.phase))?,
            in_turn: self.in_turn,
            reason: self.reason.map(ReasonShape::into_reason).transpose()?,
            since: Wall(self.since),
            pid: self.pid,
            adapter: word("adapter", &self.adapter, Adapter::parse(&self.adapter))?,
            address,
            strip_prefix: self.strip_prefix,
            select: self
                .select
                .map(|select| word("select.header", &select.header, Select::by_header(&select.header)))
                .transpose()?,
            restarts: self.restarts,
            next_attempt: self.next_attempt.map(Wall),
            version: self.version,
            progress: self.progress,
            last_log: self.last_log,
            notes: self.notes,
            local: self.local.map(LocalShape::into_local).transpose()?,
            removing: self.removing,
            upgrade: UpgradeReport {
                done: Seq(self.upgraded.unwrap_or_default()),
                wanted: self.wants_upgrade,
                installed: self.installed,
            },
        };
        bounds::report(&report)?;
        Ok(report)
    }
}
