//! What a worker tells.

use nbs_core::id::{Run, Seq};
use nbs_core::name::AppId;
use nbs_core::order::{InstanceReport, Refusal, Registration, Report};
use nbs_core::recipe::Adapter;
use serde::{Deserialize, Serialize};

use super::hello::{HelloPart, PartShape};
use super::instance::InstanceShape;
use super::{VERSION, bounds, read};
use crate::wire::record::{RegistrationShape, RowError, RuntimeShape, name, word, write};

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportMessage {
    /// A report.
    Whole(Report),
    /// A piece of a hello that is too large for one message; an `Assembly` takes it.
    Part(Box<HelloPart>),
}

#[derive(Serialize, Deserialize)]
pub(super) struct MessageShape {
    v: u32,
    report: ReportShape,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ReportShape {
    Hello { registration: Box<RegistrationShape>, instances: Vec<InstanceShape> },
    HelloPart(Box<PartShape>),
    Alive,
    Runtimes(Vec<RuntimeShape>),
    Instance(Box<InstanceShape>),
    Removed { app: String, intent_seq: u64 },
    Stray { app: String, run: String, pid: Option<u32>, adapter: String },
    Refused { app: String, intent_seq: u64, why: String },
}

/// The word of a refusal.
fn refusal(why: Refusal) -> &'static str {
    match why {
        Refusal::Stale => "stale",
        Refusal::Late => "late",
        Refusal::Busy => "busy",
        Refusal::Foreign => "foreign",
    }
}

const REFUSALS: [Refusal; 4] = [Refusal::Stale, Refusal::Late, Refusal::Busy, Refusal::Foreign];

/// A registration with the texts for people cut to their bounds.
pub(super) fn registration_shape(registration: &Registration) -> Result<RegistrationShape, RowError> {
    let mut registration = registration.clone();
    bounds::clip_registration(&mut registration);
    bounds::registration(&registration)?;
    Ok(RegistrationShape::of(&registration))
}

pub(super) fn into_registration(shape: RegistrationShape) -> Result<Registration, RowError> {
    let registration = shape.into_registration()?;
    bounds::registration(&registration)?;
    Ok(registration)
}

pub(super) fn into_reports(shapes: Vec<InstanceShape>) -> Result<Vec<InstanceReport>, RowError> {
    shapes.into_iter().map(InstanceShape::into_report).collect()
}

pub(super) fn encode(report: ReportShape) -> Result<String, RowError> {
    let text = write(&MessageShape { v: VERSION, report })?;
    bounds::size(&text)?;
    Ok(text)
}

/// Writes a report.
///
/// # Errors
/// It is larger than a message may be; a hello is split then.
pub fn write_report(report: &Report) -> Result<String, RowError> {
    encode(match report {
        Report::Hello { registration, instances } => ReportShape::Hello {
            registration: Box::new(registration_shape(registration)?),
            instances: instances.iter().map(InstanceShape::of).collect::<Result<_, _>>()?,
        },
        Report::Alive => ReportShape::Alive,
        Report::Runtimes(runtimes) => {
            let mut runtimes = runtimes.clone();
            runtimes.values_mut().for_each(bounds::clip_runtime);
            bounds::runtimes(runtimes.values())?;
            ReportShape::Runtimes(runtimes.values().map(RuntimeShape::of).collect())
        }
        Report::Instance(report) => ReportShape::Instance(Box::new(InstanceShape::of(report)?)),
        Report::Removed { app, intent_seq } => ReportShape::Removed { app: app.to_string(), intent_seq: intent_seq.0 },
        Report::Stray { app, run, pid, adapter } => ReportShape::Stray {
            app: app.to_string(),
            run: run.to_string(),
            pid: *pid,
            adapter: adapter.as_str().into(),
        },
        Report::Refused { app, intent_seq, why } => {
            ReportShape::Refused { app: app.to_string(), intent_seq: intent_seq.0, why: refusal(*why).into() }
        }
    })
}

/// Reads a report.
///
/// # Errors
/// It is damaged, too large or newer.
pub fn read_report(text: &str) -> Result<ReportMessage, RowError> {
    let shape: MessageShape = read(text)?;
    let app = |text: &str| name(AppId::parse(text));
    Ok(ReportMessage::Whole(match shape.report {
        ReportShape::HelloPart(part) => return Ok(ReportMessage::Part(part.into_part()?.into())),
        ReportShape::Hello { registration, instances } => Report::Hello {
            registration: into_registration(*registration)?.into(),
            instances: into_reports(instances)?,
        },
        ReportShape::Alive => Report::Alive,
        ReportShape::Runtimes(shapes) => {
            let runtimes = RuntimeShape::into_map(shapes)?;
            bounds::runtimes(runtimes.values())?;
            Report::Runtimes(runtimes)
        }
        ReportShape::Instance(shape) => Report::Instance(Box::new(shape.into_report()?)),
        ReportShape::Removed { app: of, intent_seq } => Report::Removed { app: app(&of)?, intent_seq: Seq(intent_seq) },
        ReportShape::Stray { app: of, run, pid, adapter } => Report::Stray {
            app: app(&of)?,
            run: word("run", &run, Run::parse(&run))?,
            pid,
            adapter: word("adapter", &adapter, Adapter::parse(&adapter))?,
        },
        ReportShape::Refused { app: of, intent_seq, why } => {
            let known = REFUSALS.into_iter().find(|known| refusal(*known) == why);
            Report::Refused { app: app(&of)?, intent_seq: Seq(intent_seq), why: word("why", &why, known)? }
        }
    }))
}
