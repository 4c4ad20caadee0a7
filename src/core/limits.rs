//! Every bound of the product in one place, each with the reason for its number.

use std::time::Duration;

/// Apps one entry keeps. 100 × the largest fleet seen in the peers' issue trackers for a single host.
pub const APPS_MAX: usize = 100_000;
/// Paths of one kind in one recipe. NocoBase needs four.
pub const RECIPE_PATHS_MAX: usize = 64;
/// Bytes of one such path.
pub const RECIPE_PATH_LEN_MAX: usize = 256;
/// Operations that may wait or run at once; a further command is answered `queue_full`. 20 clients × 2,000 commands fit.
pub const OPERATIONS_ACTIVE_MAX: usize = 50_000;
/// Ended operations kept for readers in memory; older ones are read from the record.
pub const OPERATIONS_ENDED_IN_MEMORY: usize = 512;
/// Ended operations kept in the record.
pub const OPERATIONS_KEPT: usize = 20_000;
/// Events kept in memory for readers.
pub const EVENTS_IN_MEMORY: usize = 512;
/// Events kept in the record.
pub const EVENTS_KEPT: usize = 50_000;
/// Bytes of one admin request's body. A spec of 200 long variables is under 64 KiB.
pub const BODY_MAX: usize = 1 << 20;
/// Variables, secrets or labels of one spec, each.
pub const SPEC_ENTRIES_MAX: usize = 256;
/// Bytes of one value in a spec. Linux refuses a single string over 128 KiB at exec.
pub const SPEC_VALUE_MAX: usize = 64 << 10;
/// Last log lines kept with a failure.
pub const LAST_LOG_LINES: usize = 20;
/// Bytes of one such line.
pub const LAST_LOG_LINE_MAX: usize = 512;
/// How long an operation may wait for its outcome before it ends `expired`; the intent stands.
pub const OPERATION_WAIT: Duration = Duration::from_secs(60 * 60);
/// How long a worker may take from the grant until it begins; checked right before the start.
pub const ACCEPT_BY: Duration = Duration::from_secs(10);
/// How often a worker says that it is still there.
pub const LEASE_RENEW: Duration = Duration::from_secs(4);
/// An environment that was not heard for so long is lost: three renewals and one second.
pub const LEASE_LOST: Duration = Duration::from_secs(13);
/// How often a worker tells everything again, and looks at what should be.
pub const ANTI_ENTROPY: Duration = Duration::from_secs(60);
/// Environments one entry keeps.
pub const ENVIRONMENTS_MAX: usize = 10_000;
/// Environments of one app.
pub const PLACEMENTS_MAX: usize = 256;
/// An order without acknowledgement is sent again after this long.
pub const ORDER_RESEND: Duration = Duration::from_secs(5);
/// How long an `Idempotency-Key` is remembered.
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Automatic attempts to find a free port before a start fails with `port_in_use`.
pub const PORT_ATTEMPTS_MAX: u32 = 64;
/// How long an app that nobody can ask must stay up after an automatic restart before it is said to run again.
pub const STEADY: Duration = Duration::from_secs(1);
/// Pause between attempts to start a unit while systemd does not answer.
pub const SYSTEMD_RETRY: Duration = Duration::from_secs(2);
/// Pause between attempts to reach an app's database before its server is known to be silent.
pub const DATABASE_RETRY: Duration = Duration::from_secs(2);
/// Pause between attempts to drop an app's database.
pub const DATABASE_DROP_RETRY: Duration = Duration::from_secs(10);
/// The longest that making a database and connecting to it may take; a copy of a template on a slow disk takes seconds.
pub const DATABASE_TIMEOUT: Duration = Duration::from_secs(60);
/// Start timeout where the recipe names none.
pub const START_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// Requests held per app while it starts; a further one is answered `HOLD_FULL`.
pub const HELD_PER_APP_MAX: usize = 1_000;

const _: () = assert!(OPERATIONS_KEPT >= OPERATIONS_ENDED_IN_MEMORY);
const _: () = assert!(EVENTS_KEPT >= EVENTS_IN_MEMORY);
const _: () = assert!(SPEC_VALUE_MAX < BODY_MAX);
