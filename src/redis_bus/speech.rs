//! The small records that stand in keys beside the envelopes, and the way to the wire's shapes for the large ones.
//!
//! A field that is not known is passed over; one that is missing or of another type makes the record useless.

use std::collections::{BTreeMap, HashMap};

use nbs_core::id::{EntryId, Reign};
use nbs_core::intent::Intent;
use nbs_core::name::EnvironmentName;
use nbs_core::order::{InstanceReport, Order, Registration, Report};
use nbs_core::view::AppView;
use serde_json::{Value, json};

use crate::security::envelope::{Session, signed};
use crate::wire::bus::{self, Told};
use crate::wire::record::{Cipher, RowError};

pub(super) use crate::wire::bus::{
    Beat, EntryRecord, UsageRecord, read_beat, read_entry_record, read_usage, write_beat as beat,
    write_entry_record as entry_record, write_heartbeat as heartbeat, write_registration as registration,
    write_usage as usage,
};

/// The value of the entry's key: the signed record, and beside it what the scripts compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) owner: String,
    pub(super) epoch: u64,
    pub(super) signed: String,
}

impl Claim {
    pub(super) fn to_text(&self) -> String {
        json!({ "owner": self.owner, "epoch": self.epoch, "signed": self.signed }).to_string()
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let value = object(text)?;
        Some(Self {
            owner: string(&value, "owner")?,
            epoch: number(&value, "epoch")?,
            signed: string(&value, "signed")?,
        })
    }
}

/// The value of an environment's lease, as the script writes it: the proof is the beat's envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) owner: String,
    pub(super) m: String,
}

impl Lease {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let value = object(text)?;
        Some(Self { owner: string(&value, "owner")?, m: string(&value, "m")? })
    }
}

/// The value of a start lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StartLock {
    pub(super) owner: String,
    pub(super) epoch: u64,
    pub(super) turn: u64,
    pub(super) environment: String,
}

impl StartLock {
    pub(super) fn to_text(&self) -> String {
        let Self { owner, epoch, turn, environment } = self;
        json!({ "owner": owner, "epoch": epoch, "turn": turn, "environment": environment }).to_string()
    }
}

/// The body of a roll call.
pub(super) fn roll_call(session: Session) -> String {
    bus::write_roll_call(session)
}

/// The body of an order or an intent.
pub(super) fn order(order: &Order, cipher: &dyn Cipher) -> Result<String, RowError> {
    bus::write_order(order, cipher)
}

/// Reads an order or an intent out of its opened envelope.
pub(super) fn read_order(message: &signed::Message, cipher: &dyn Cipher) -> Result<Order, RowError> {
    let entry = EntryId::parse(&message.entry);
    let entry = entry.ok_or_else(|| RowError::Damaged("its entry has no name that can be".into()))?;
    bus::read_order(&message.body, Reign { epoch: message.epoch, entry }, cipher)
}

/// The bodies of a report; a full telling may have several.
pub(super) fn reports(report: &Report) -> Vec<String> {
    bus::write_report(report).unwrap_or_else(|error| {
        tracing::error!("a report cannot be written: {error}");
        Vec::new()
    })
}

/// Full tellings of which not all parts are there yet, by environment.
#[derive(Default)]
pub(super) struct Parts(HashMap<EnvironmentName, Half>);

#[derive(Default)]
struct Half {
    registration: Option<Box<Registration>>,
    instances: Vec<InstanceReport>,
    next: u32,
}

/// Reads a report; none while parts of it are missing.
pub(super) fn read_report(
    body: &str,
    environment: &EnvironmentName,
    halves: &mut Parts,
) -> Result<Option<Report>, RowError> {
    let report = match bus::read_report(body)? {
        Told::Whole(report) => report,
        Told::Part { part, parts, registration, mut instances } => {
            // Parts come in their order; when one is lost, the next full telling is waited for.
            let half = halves.0.entry(environment.clone()).or_default();
            if part == 0 {
                *half = Half { registration, ..Half::default() };
            }
            if half.registration.is_none() || half.next != part {
                halves.0.remove(environment);
                return Ok(None);
            }
            half.next += 1;
            half.instances.append(&mut instances);
            if half.next < parts {
                return Ok(None);
            }
            match halves.0.remove(environment) {
                Some(Half { registration: Some(registration), instances, .. }) => {
                    Report::Hello { registration: *registration, instances }
                }
                _ => return Ok(None),
            }
        }
    };
    match &report {
        Report::Hello { registration, .. } if registration.environment != *environment => {
            Err(RowError::Damaged(format!("it registers {} for another environment", registration.environment)))
        }
        _ => Ok(Some(report)),
    }
}

/// What people and dashboards see of an app.
pub(super) fn app_cache(view: &AppView) -> String {
    let environments: BTreeMap<&str, &str> =
        view.instances.iter().map(|instance| (instance.environment.as_str(), instance.status.as_str())).collect();
    let intent = match view.intent {
        Intent::Run => "run",
        Intent::Stop => "stop",
        Intent::OnDemand { .. } => "on-demand",
    };
    let generation = view.generation.0;
    json!({
        "v": 1, "status": view.status.as_str(), "intent": intent, "generation": generation, "environments": environments,
    })
    .to_string()
}

fn object(text: &str) -> Option<Value> {
    // What is larger is none of ours, and is not to be parsed.
    let fits = text.len() <= crate::wire::envelope::LIMIT + 4096;
    fits.then(|| serde_json::from_str::<Value>(text).ok()).flatten().filter(Value::is_object)
}

fn string(value: &Value, field: &str) -> Option<String> {
    value[field].as_str().map(String::from)
}

fn number(value: &Value, field: &str) -> Option<u64> {
    value[field].as_u64()
}
