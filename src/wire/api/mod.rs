//! The shapes of the admin API, one file per noun. Field names are part of the public contract: add, never rename.
//!
//! The daemon makes them from the core's views and the command line reads them back, so both sides share one definition.
//! Deliberately absent: the spec's own shape (see `wire::spec`) and HTTP statuses of errors (see `admin::problem`).

pub mod app;
pub mod cause;
pub mod daemon;
pub mod environment;
pub mod event;
pub mod log;
pub mod operation;
pub mod problem;
pub mod queue;
pub mod runtime;
pub mod token;
pub mod usage;

use std::borrow::Cow;

use nbs_core::time::Wall;

/// A word of a closed list: borrowed when written, owned when read.
pub type Word = Cow<'static, str>;

/// Writes a moment as RFC 3339 in UTC, always to the millisecond: columns of moments line up.
pub fn time(wall: Wall) -> String {
    let millis = i64::try_from(wall.0).unwrap_or(i64::MAX);
    format!("{:.3}", jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX))
}

/// Reads a moment in RFC 3339; `None` if it is none, or lies before 1970.
pub fn parse_time(text: &str) -> Option<Wall> {
    let stamp: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(stamp.as_millisecond()).ok().map(Wall)
}

/// Writes a duration in whole milliseconds.
pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_and_read_back() {
        let wall = Wall(1_795_230_000_250);
        assert_eq!(time(wall), "2026-11-21T03:00:00.250Z");
        assert_eq!(parse_time(&time(wall)), Some(wall));
        assert_eq!(parse_time("2026-11-21T04:00:00+01:00"), parse_time("2026-11-21T03:00:00Z"));
        assert_eq!(parse_time("yesterday"), None);
        assert_eq!(parse_time("1969-01-01T00:00:00Z"), None);
    }
}
