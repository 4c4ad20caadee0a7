//! A hello that is too large for one message: cut into parts, and put together again.
//!
//! The parts travel in one stream, in their order. Part 0 begins a set; whatever was there before and is not complete is
//! forgotten. A lost part costs the set, and the next hello tells it all again.

use nbs_core::limits::APPS_MAX;
use nbs_core::order::{InstanceReport, Registration, Report};
use serde::{Deserialize, Serialize};

use super::instance::InstanceShape;
use super::report::{self, ReportShape};
use super::write_report;
use crate::wire::record::{RegistrationShape, RowError, write};

/// Bytes of the body of one part. The envelope writes some bytes of it twice, and must hold it still.
pub const HELLO_MAX: usize = 480 << 10;
/// Parts of one hello.
pub const PARTS_MAX: u32 = 1_000;
/// Bytes of a part besides its instances and its registration, at most.
const FRAME: usize = 160;

/// A part of a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloPart {
    /// Which hello: all of its parts have the same number, and no other hello of that worker life has it.
    pub set: u64,
    /// Which part, from 0.
    pub part: u32,
    /// How many there are.
    pub of: u32,
    /// What the environment can do; in part 0 only.
    pub registration: Option<Registration>,
    /// Some of the instances.
    pub instances: Vec<InstanceReport>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct PartShape {
    set: u64,
    part: u32,
    of: u32,
    registration: Option<RegistrationShape>,
    instances: Vec<InstanceShape>,
}

impl PartShape {
    pub(super) fn into_part(self) -> Result<HelloPart, RowError> {
        let damaged = |what: &str| Err(RowError::Damaged(format!("part {} of {} {what}", self.part, self.of)));
        if self.of > PARTS_MAX || self.part >= self.of {
            return damaged("of a hello cannot be");
        }
        if self.registration.is_some() != (self.part == 0) {
            return damaged("of a hello has no place for the registration: it belongs in part 0, and only there");
        }
        Ok(HelloPart {
            set: self.set,
            part: self.part,
            of: self.of,
            registration: self.registration.map(report::into_registration).transpose()?,
            instances: report::into_reports(self.instances)?,
        })
    }
}

/// Writes a hello as one body, or as the parts of the set with this number if it is longer than `max` bytes.
///
/// # Errors
/// The registration or an instance alone is longer than a part, or there would be too many parts.
pub fn split(
    registration: &Registration,
    instances: &[InstanceReport],
    set: u64,
    max: usize,
) -> Result<Vec<String>, RowError> {
    let too_large = |what: &str| RowError::Damaged(format!("{what} is larger than the {max} bytes of a message"));
    let own = report::registration_shape(registration)?;
    let first = write(&own)?.len();
    let mut groups: Vec<Vec<InstanceShape>> = vec![Vec::new()];
    let mut left = max.checked_sub(FRAME + first).ok_or_else(|| too_large("the registration"))?;
    for instance in instances {
        let shape = InstanceShape::of(instance)?;
        let size = write(&shape)?.len() + 1;
        if size > left {
            groups.push(Vec::new());
            left = max - FRAME;
        }
        left = left.checked_sub(size).ok_or_else(|| too_large(&format!("the report of {}", instance.app)))?;
        if let Some(group) = groups.last_mut() {
            group.push(shape);
        }
    }
    if groups.len() == 1 {
        let whole = Report::Hello { registration: registration.clone().into(), instances: instances.to_vec() };
        return Ok(vec![write_report(&whole)?]);
    }
    let of = u32::try_from(groups.len()).ok().filter(|of| *of <= PARTS_MAX);
    let of = of.ok_or_else(|| RowError::Damaged(format!("a hello of {} parts is too large", groups.len())))?;
    let mut own = Some(own);
    (0..of)
        .zip(groups)
        .map(|(part, instances)| {
            let shape = PartShape { set, part, of, registration: own.take(), instances };
            report::encode(ReportShape::HelloPart(Box::new(shape)))
        })
        .collect()
}

/// Why a part was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// It does not follow the part before it.
    #[error("part {part} of hello {set} came out of its order; the next hello will tell everything again")]
    OutOfOrder {
        /// Which hello.
        set: u64,
        /// Which part.
        part: u32,
    },
    /// There are more instances than any environment has.
    #[error("hello {set} tells of more than {APPS_MAX} instances")]
    TooMany {
        /// Which hello.
        set: u64,
    },
}

/// Puts the parts of one environment's hello together.
#[derive(Debug, Default)]
pub struct Assembly {
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    set: u64,
    of: u32,
    next: u32,
    registration: Registration,
    instances: Vec<InstanceReport>,
}

impl Assembly {
    /// Takes a part; gives the hello when it is complete.
    ///
    /// # Errors
    /// The part does not follow the last one. What was begun stays, so a straggler of an older hello does no harm.
    pub fn take(&mut self, part: HelloPart) -> Result<Option<Report>, PartError> {
        let HelloPart { set, part, of, registration, instances } = part;
        if let Some(registration) = registration.filter(|_| part == 0) {
            self.begun = Some(Begun { set, of, next: 0, registration, instances: Vec::new() });
        }
        let fits = |begun: &&mut Begun| (begun.set, begun.of, begun.next) == (set, of, part);
        let Some(begun) = self.begun.as_mut().filter(fits) else {
            return Err(PartError::OutOfOrder { set, part });
        };
        if begun.instances.len() + instances.len() > APPS_MAX {
            self.begun = None;
            return Err(PartError::TooMany { set });
        }
        begun.instances.extend(instances);
        begun.next += 1;
        if begun.next < of {
            return Ok(None);
        }
        let whole = self.begun.take();
        Ok(whole.map(|begun| Report::Hello { registration: begun.registration.into(), instances: begun.instances }))
    }
}
