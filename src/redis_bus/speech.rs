//! From what the loops say to the bodies of messages, and back: what needs more than the wire's own translation.

use std::collections::HashMap;

use nbs_core::id::{EntryId, Reign};
use nbs_core::name::EnvironmentName;
use nbs_core::order::{Order, Report};

use crate::security::envelope::signed;
use crate::wire::record::{Cipher, RowError};
use crate::wire::redis::{Assembly, HELLO_MAX, ReportMessage, read_intent, read_order, split, write_report};

/// The reign that an opened envelope is of.
pub(super) fn reign(message: &signed::Message) -> Result<Reign, RowError> {
    let entry = EntryId::parse(&message.entry);
    let entry = entry.ok_or_else(|| RowError::Damaged("its entry has no name that can be".into()))?;
    Ok(Reign { epoch: message.epoch, entry })
}

/// Reads an order out of its opened envelope.
pub(super) fn order(message: &signed::Message, cipher: &dyn Cipher) -> Result<Order, RowError> {
    read_order(&message.body, reign(message)?, cipher)
}

/// Reads an intent out of its opened envelope.
pub(super) fn intent(message: &signed::Message, cipher: &dyn Cipher) -> Result<Order, RowError> {
    read_intent(&message.body, reign(message)?, cipher)
}

/// The bodies of a report; a full telling may have several. `set`: a number that no other telling has.
pub(super) fn reports(report: &Report, set: u64) -> Result<Vec<String>, RowError> {
    match report {
        Report::Hello { registration, instances } => split(registration, instances, set, HELLO_MAX),
        other => write_report(other).map(|body| vec![body]),
    }
}

/// Full tellings of which not all parts are there yet, by environment.
#[derive(Default)]
pub(super) struct Halves(HashMap<EnvironmentName, Assembly>);

impl Halves {
    /// Reads a report; none while parts of it are missing.
    pub(super) fn read(&mut self, body: &str, environment: &EnvironmentName) -> Result<Option<Report>, RowError> {
        let report = match crate::wire::redis::read_report(body)? {
            ReportMessage::Whole(report) => report,
            ReportMessage::Part(part) => {
                let taken = self.0.entry(environment.clone()).or_default().take(*part);
                // One that is lost or comes late costs this telling; the next one is whole again.
                match taken.ok().flatten() {
                    Some(report) => report,
                    None => return Ok(None),
                }
            }
        };
        self.0.remove(environment);
        match &report {
            Report::Hello { registration, .. } if registration.environment != *environment => {
                Err(RowError::Damaged(format!("it registers {} for another environment", registration.environment)))
            }
            _ => Ok(Some(report)),
        }
    }
}
