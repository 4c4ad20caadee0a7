//! What a worker tells. A full telling that would be too large for one message is cut into parts.

use std::path::PathBuf;

use nbs_core::id::{Generation, Run, Seq};
use nbs_core::launch::Address;
use nbs_core::name::AppId;
use nbs_core::order::{InstanceReport, Refusal, Registration, Report};
use nbs_core::phase::Phase;
use nbs_core::recipe::Adapter;
use nbs_core::time::Wall;
use serde::{Deserialize, Serialize};

use crate::wire::bus::VERSION;
use crate::wire::record::{
    LocalShape, ReasonShape, RegistrationShape, RowError, RuntimeShape, name, read, word, write,
};

/// A body is cut before it gets larger than this, in bytes. With the envelope's escapes it stays below its limit.
const PART_MAX: usize = 512 << 10;

#[derive(Serialize, Deserialize)]
struct ReportShape {
    v: u32,
    #[serde(flatten)]
    what: WhatShape,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
enum WhatShape {
    Hello { registration: RegistrationShape, instances: Vec<InstanceShape> },
    HelloPart { part: u32, parts: u32, registration: Option<RegistrationShape>, instances: Vec<InstanceShape> },
    Alive,
    Runtimes { runtimes: Vec<RuntimeShape> },
    Instance { instance: Box<InstanceShape> },
    Removed { app: String, intent_seq: u64 },
    Stray { app: String, run: String, pid: Option<u32>, adapter: String },
    Refused { app: String, intent_seq: u64, why: String },
}

#[derive(Serialize, Deserialize)]
struct InstanceShape {
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
    port: Option<u16>,
    socket: Option<String>,
    strip_prefix: bool,
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
}

impl InstanceShape {
    fn of(report: &InstanceReport) -> Self {
        let (port, socket) = match &report.address {
            Some(Address::Port(port)) => (Some(*port), None),
            Some(Address::Unix(path)) => (None, Some(path.display().to_string())),
            None => (None, None),
        };
        Self {
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
            port,
            socket,
            strip_prefix: report.strip_prefix,
            restarts: report.restarts,
            next_attempt: report.next_attempt.map(|at| at.0),
            version: report.version.clone(),
            progress: report.progress.clone(),
            last_log: report.last_log.clone(),
            notes: report.notes.clone(),
            local: report.local.as_ref().map(LocalShape::of),
        }
    }

    fn into_report(self) -> Result<InstanceReport, RowError> {
        let socket = self.socket.map(|path| Address::Unix(PathBuf::from(path)));
        Ok(InstanceReport {
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
            address: self.port.map(Address::Port).or(socket),
            strip_prefix: self.strip_prefix,
            restarts: self.restarts,
            next_attempt: self.next_attempt.map(Wall),
            version: self.version,
            progress: self.progress,
            last_log: self.last_log,
            notes: self.notes,
            local: self.local.map(LocalShape::into_local).transpose()?,
        })
    }
}

/// What a message told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// All of it.
    Whole(Report),
    /// A part of a full telling.
    Part {
        /// Which, from 0.
        part: u32,
        /// Of how many.
        parts: u32,
        /// In the first part only.
        registration: Option<Box<Registration>>,
        /// Some of the instances.
        instances: Vec<InstanceReport>,
    },
}

/// Writes a report, in several bodies if it is large.
pub fn write_report(report: &Report) -> Result<Vec<String>, RowError> {
    let what = match report {
        Report::Hello { registration, instances } => return write_hello(registration, instances),
        Report::Alive => WhatShape::Alive,
        Report::Runtimes(runtimes) => {
            WhatShape::Runtimes { runtimes: runtimes.values().map(RuntimeShape::of).collect() }
        }
        Report::Instance(report) => WhatShape::Instance { instance: Box::new(InstanceShape::of(report)) },
        Report::Removed { app, intent_seq } => WhatShape::Removed { app: app.to_string(), intent_seq: intent_seq.0 },
        Report::Stray { app, run, pid, adapter } => {
            WhatShape::Stray { app: app.to_string(), run: run.to_string(), pid: *pid, adapter: adapter.as_str().into() }
        }
        Report::Refused { app, intent_seq, why } => {
            let why = refusal_word(*why).into();
            WhatShape::Refused { app: app.to_string(), intent_seq: intent_seq.0, why }
        }
    };
    Ok(vec![write(&ReportShape { v: VERSION, what })?])
}

fn write_hello(registration: &Registration, instances: &[InstanceReport]) -> Result<Vec<String>, RowError> {
    let (mut groups, mut size) = (vec![Vec::new()], write(&RegistrationShape::of(registration))?.len());
    for instance in instances {
        let shape = InstanceShape::of(instance);
        let bytes = write(&shape)?.len();
        if size + bytes > PART_MAX && groups.last().is_some_and(|group| !group.is_empty()) {
            groups.push(Vec::new());
            size = 0;
        }
        size += bytes;
        groups.last_mut().into_iter().for_each(|group| group.push(instance));
    }
    let shapes = |group: &[&InstanceReport]| group.iter().map(|report| InstanceShape::of(report)).collect();
    let parts = groups.len() as u32;
    if parts == 1 {
        let instances = shapes(&groups[0]);
        let what = WhatShape::Hello { registration: RegistrationShape::of(registration), instances };
        return Ok(vec![write(&ReportShape { v: VERSION, what })?]);
    }
    let part = |(part, group): (u32, &Vec<&InstanceReport>)| {
        let registration = (part == 0).then(|| RegistrationShape::of(registration));
        let what = WhatShape::HelloPart { part, parts, registration, instances: shapes(group) };
        write(&ReportShape { v: VERSION, what })
    };
    (0..).zip(&groups).map(part).collect()
}

/// Reads a report.
///
/// # Errors
/// It is damaged or newer.
pub fn read_report(text: &str) -> Result<Told, RowError> {
    let shape: ReportShape = read(text, VERSION)?;
    let all = |shapes: Vec<InstanceShape>| shapes.into_iter().map(InstanceShape::into_report).collect::<Result<_, _>>();
    Ok(Told::Whole(match shape.what {
        WhatShape::HelloPart { part, parts, registration, instances } => {
            let registration = registration.map(RegistrationShape::into_registration).transpose()?.map(Box::new);
            return Ok(Told::Part { part, parts, registration, instances: all(instances)? });
        }
        WhatShape::Hello { registration, instances } => {
            Report::Hello { registration: registration.into_registration()?, instances: all(instances)? }
        }
        WhatShape::Alive => Report::Alive,
        WhatShape::Runtimes { runtimes } => Report::Runtimes(RuntimeShape::into_map(runtimes)?),
        WhatShape::Instance { instance } => Report::Instance(Box::new(instance.into_report()?)),
        WhatShape::Removed { app, intent_seq } => {
            Report::Removed { app: name(AppId::parse(&app))?, intent_seq: Seq(intent_seq) }
        }
        WhatShape::Stray { app, run, pid, adapter } => Report::Stray {
            app: name(AppId::parse(&app))?,
            run: word("run", &run, Run::parse(&run))?,
            pid,
            adapter: word("adapter", &adapter, Adapter::parse(&adapter))?,
        },
        WhatShape::Refused { app, intent_seq, why } => {
            let found = REFUSALS.into_iter().find(|refusal| refusal_word(*refusal) == why);
            Report::Refused {
                app: name(AppId::parse(&app))?,
                intent_seq: Seq(intent_seq),
                why: word("why", &why, found)?,
            }
        }
    }))
}

const REFUSALS: [Refusal; 4] = [Refusal::Stale, Refusal::Late, Refusal::Busy, Refusal::Foreign];

fn refusal_word(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Stale => "stale",
        Refusal::Late => "late",
        Refusal::Busy => "busy",
        Refusal::Foreign => "foreign",
    }
}
