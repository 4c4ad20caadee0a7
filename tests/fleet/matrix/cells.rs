//! The cells: what happens to whom, and whose visitors may notice it.

use std::time::Duration;

use crate::eventually::let_time_pass;
use crate::fleet::Fleet;
use crate::link::Weather;
use crate::machine::{DAEMON, Machine};
use crate::redis_host::Memory;

/// The worker that is hit.
pub const HIT: &str = "env_a";
/// The app whose visitors come through that worker.
pub const NEAR: &str = "near";
/// The app whose visitors do not.
pub const FAR: &str = "far";

/// How long a long fault lasts.
const LONG: Duration = Duration::from_secs(20);
/// How long a short one lasts: longer than a renewal of a lease.
const SHORT: Duration = Duration::from_secs(6);

/// What is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Worker,
    Entry,
    Redis,
    Link,
    Disk,
}

/// How many requests may fail of an app's visitors, who each ask one thing at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// At most so many. One killed gateway takes one request of each visitor with it.
    AtMost(u64),
    /// Any number: what they ask for cannot be reached.
    Any,
}

/// A cell of the table.
pub struct Cell {
    pub name: &'static str,
    pub subject: Subject,
    /// Whether each run of the tests has it.
    pub quick: bool,
    /// What happens, in words.
    pub what: &'static str,
    /// What happens, with its end.
    pub strike: fn(&mut Fleet),
    /// Visitors of `NEAR`.
    pub near: Bound,
    /// Visitors of `FAR`.
    pub far: Bound,
    /// How often the entry is to say that an environment is lost: only of one that cannot be heard for longer than a
    /// lease, while the entry itself can hear.
    pub lost: usize,
}

const NONE: Bound = Bound::AtMost(0);
const IN_FLIGHT: Bound = Bound::AtMost(1);

const fn cell(name: &'static str, subject: Subject, what: &'static str, strike: fn(&mut Fleet)) -> Cell {
    Cell { name, subject, quick: true, what, strike, near: NONE, far: NONE, lost: 0 }
}

/// All of them, in the order of the table.
pub const CELLS: &[Cell] = &[
    Cell {
        near: IN_FLIGHT,
        ..cell("worker-kill", Subject::Worker, "SIGKILL to the worker's daemon; systemd brings it back", |fleet| {
            kill_and_return(worker(fleet));
        })
    },
    Cell {
        quick: false,
        near: Bound::Any,
        lost: 1,
        ..cell("worker-freeze", Subject::Worker, "SIGSTOP to the worker's daemon for 20 s", |fleet| {
            freeze(worker(fleet));
        })
    },
    cell("worker-restart", Subject::Worker, "the worker's daemon is restarted", |fleet| {
        worker(fleet).ok(&["systemctl", "restart", "nbsupervisor"]);
    }),
    Cell {
        near: IN_FLIGHT,
        far: IN_FLIGHT,
        ..cell("entry-kill", Subject::Entry, "SIGKILL to the entry's daemon; systemd brings it back", |fleet| {
            kill_and_return(&fleet.entry.machine);
        })
    },
    Cell {
        quick: false,
        ..cell("entry-freeze", Subject::Entry, "SIGSTOP to the entry's daemon for 20 s", |fleet| {
            freeze(&fleet.entry.machine);
        })
    },
    cell("entry-restart", Subject::Entry, "the entry's daemon is restarted", |fleet| {
        fleet.entry.machine.ok(&["systemctl", "restart", "nbsupervisor"]);
    }),
    cell("redis-kill", Subject::Redis, "SIGKILL to Redis, which returns with its data after 6 s", |fleet| {
        fleet.redis.kill9();
        let_time_pass(SHORT, "the fault lasts");
        fleet.redis.return_with(Memory::Kept);
    }),
    Cell {
        quick: false,
        ..cell("redis-freeze", Subject::Redis, "SIGSTOP to Redis for 20 s", |fleet| {
            fleet.redis.freeze();
            let_time_pass(LONG, "the fault lasts");
            fleet.redis.thaw();
        })
    },
    cell("redis-restart", Subject::Redis, "Redis is restarted", |fleet| fleet.redis.restart()),
    cell("redis-flushall", Subject::Redis, "FLUSHALL", |fleet| fleet.redis.flush()),
    cell("redis-memory", Subject::Redis, "Redis refuses writes for want of memory, for 6 s", |fleet| {
        fleet.redis.out_of_memory(true);
        let_time_pass(SHORT, "the fault lasts");
        fleet.redis.out_of_memory(false);
    }),
    cell("redis-readonly", Subject::Redis, "Redis is a read-only replica for 6 s", |fleet| {
        fleet.redis.read_only(true);
        let_time_pass(SHORT, "the fault lasts");
        fleet.redis.read_only(false);
    }),
    Cell {
        quick: false,
        near: Bound::Any,
        lost: 1,
        ..cell("link-cut", Subject::Link, "the worker's cable swallows every frame for 20 s", |fleet| {
            weather(fleet, Weather::Cut, LONG);
        })
    },
    cell("link-delay", Subject::Link, "each frame that the worker sends is 200 ms late, for 6 s", |fleet| {
        weather(fleet, Weather::Late(Duration::from_millis(200)), SHORT);
    }),
    cell("link-loss", Subject::Link, "2 % of the frames from and to the worker are lost, for 6 s", |fleet| {
        weather(fleet, Weather::Lossy(2), SHORT);
    }),
    cell("disk-full", Subject::Disk, "the worker's disk is full for 6 s", |fleet| {
        worker(fleet).fill_disk();
        let_time_pass(SHORT, "the fault lasts");
        worker(fleet).free_disk();
    }),
];

fn worker(fleet: &Fleet) -> &Machine {
    &fleet.worker(HIT).machine
}

fn kill_and_return(machine: &Machine) {
    let former = machine.kill9_daemon();
    machine.wait_daemon(former);
}

fn freeze(machine: &Machine) {
    let pid = machine.pid_of_unit(DAEMON).to_string();
    machine.ok(&["kill", "-STOP", &pid]);
    let_time_pass(LONG, "the fault lasts");
    machine.ok(&["kill", "-CONT", &pid]);
}

fn weather(fleet: &Fleet, weather: Weather, length: Duration) {
    let cable = &fleet.worker(HIT).cable;
    cable.set(weather);
    let_time_pass(length, "the fault lasts");
    cable.set(Weather::Fair);
}
