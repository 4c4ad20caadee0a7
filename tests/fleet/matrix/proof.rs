//! How a cell is checked, and the row that it becomes.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cells::{Bound, CELLS, Cell, FAR, HIT, NEAR};
use crate::fleet::{Fleet, Life, Plan};
use crate::link::Dice;
use crate::machine::{Suite, Tally};
use crate::recipes::WEB;

/// Operations that are in flight when the fault comes.
const OPERATIONS: usize = 10;
/// From the end of the fault until what is observed is what is intended.
const AGAIN: Duration = Duration::from_secs(30);
/// From the end of the fault until each operation has ended, one way or the other: turns have deadlines.
const ENDED: Duration = Duration::from_secs(60);

/// Takes so long to start that operations on it are in flight when the fault comes.
const BUSY: (&str, &str) = (
    "busy.toml",
    r#"
name = "busy"
command = ["/bin/sh", "-c", "rm -f ready; sleep 1; : > ready; exec sleep infinity"]
listen = "none"
ready = { exec = ["/usr/bin/test", "-e", "ready"], interval = "50ms", timeout = "10s" }
stop = { signal = "SIGTERM", timeout = "5s" }
restart = { policy = "on-failure", delay = "100ms", burst = 5 }
"#,
);

/// A fleet with apps that run, and others that are commanded.
pub struct Proof {
    fleet: Fleet,
    dice: Dice,
}

impl Proof {
    /// Boots the fleet and has everything run.
    pub fn new(seed: u64) -> Self {
        let plan = Plan {
            suite: Suite::Bookworm,
            workers: &["env_a", "env_b"],
            recipes: &[WEB, BUSY],
            shown: &[],
            password: Some("matrix"),
            seed,
        };
        let fleet = Fleet::start(&plan);
        fleet.app_create(NEAR, "web", &["env_a"]);
        fleet.app_create(FAR, "web", &["env_b"]);
        fleet.app_create("wide", "web", &["env_a", "env_b"]);
        for number in 0..OPERATIONS {
            let places: &[&str] = match number % 5 {
                0 | 1 => &["env_a"],
                2 | 3 => &["env_b"],
                _ => &["env_a", "env_b"],
            };
            fleet.app_made(&busy(number), "busy", places, "manual");
        }
        Self { fleet, dice: Dice::new(seed) }
    }

    /// Runs a cell, and keeps its row.
    pub fn run(&mut self, cell: &Cell) {
        self.fleet.entry.machine.wait("all is well before the fault", ENDED, |_| self.fleet.observed_is_intended());
        let (before, newest) = (self.lives(), self.newest_event());
        let visitors = [NEAR, FAR].map(|app| self.fleet.visitor(&format!("/apps/{app}/")));
        self.fleet.entry.machine.wait("visitors are served", AGAIN, |_| {
            if visitors.iter().all(|visitor| visitor.good() >= 5) { Ok(()) } else { Err("not yet".into()) }
        });
        let accepted = self.command();
        (cell.strike)(&mut self.fleet);
        let end = Instant::now();
        // Both from the same moment: a fault's end is not moved by waiting for operations.
        let settled = self.settle(cell, &accepted, end);
        assert_eq!(self.lives(), before, "{}: no running app is restarted", cell.name);
        assert_eq!(self.lost_since(newest), cell.lost, "{}: environments are lost only if they are", cell.name);
        let [near, far] = visitors.map(|visitor| visitor.finish());
        for (app, tally, bound) in [(NEAR, &near, cell.near), (FAR, &far, cell.far)] {
            let allowed = match bound {
                Bound::AtMost(most) => tally.bad <= most,
                Bound::Any => true,
            };
            assert!(allowed, "{}: visitors of {app}, of whom {bound:?} may fail: {tally:#?}", cell.name);
            assert!(tally.good > 0, "{}: visitors of {app} came: {tally:#?}", cell.name);
        }
        keep(cell, &row(cell, settled, [&near, &far], accepted.len()));
    }

    /// The lives of the apps that no command touches.
    fn lives(&self) -> Vec<Life> {
        let places = [(NEAR, "env_a"), (FAR, "env_b"), ("wide", "env_a"), ("wide", "env_b")];
        places.map(|(app, place)| self.fleet.life(app, place)).into()
    }

    fn events(&self, query: &str) -> Vec<Value> {
        let list = self.fleet.entry.machine.admin("GET", &format!("/api/v1/events?{query}"), None).json();
        list["events"].as_array().expect("a list of events").clone()
    }

    fn newest_event(&self) -> u64 {
        self.events("limit=1")[0]["seq"].as_u64().expect("environments have joined")
    }

    /// How often the entry has said since then that an environment is lost.
    fn lost_since(&self, event: u64) -> usize {
        let events = self.events(&format!("since={event}&limit=1000"));
        events.iter().filter(|event| event["kind"] == "environment_lost").count()
    }

    /// Ten commands, chosen by the seed; the IDs of what was accepted.
    fn command(&mut self) -> Vec<String> {
        let actions: Vec<(usize, &str)> = (0..OPERATIONS)
            .map(|number| {
                let runs = self.fleet.entry.machine.app(&busy(number))["intent"] == "run";
                let action = match (runs, self.dice.roll(2)) {
                    (false, _) => "start",
                    (true, 0) => "restart",
                    (true, _) => "stop",
                };
                (number, action)
            })
            .collect();
        let ids: Vec<String> =
            actions.iter().filter_map(|(number, action)| self.fleet.send(action, &busy(*number))).collect();
        assert_eq!(ids.len(), OPERATIONS, "nothing is wrong yet, so all are accepted");
        ids
    }

    /// Waits until all operations have ended and all is as it should be; how long each took.
    fn settle(&self, cell: &Cell, accepted: &[String], end: Instant) -> Settled {
        let (mut again, mut ended) = (None, None);
        self.fleet.entry.machine.wait(&format!("{}: all operations end and all is well", cell.name), ENDED, |_| {
            let now = end.elapsed();
            let open: Vec<&String> = accepted.iter().filter(|id| !self.has_ended(id)).collect();
            if open.is_empty() {
                ended.get_or_insert(now);
            }
            let seen = self.fleet.observed_is_intended();
            if seen.is_ok() {
                again = again.or(Some(now));
            } else {
                // An earlier yes was one of the moment.
                again = None;
            }
            match (ended, &seen) {
                (Some(_), Ok(())) => Ok(()),
                _ => Err(format!("open operations: {open:?}; {seen:?}")),
            }
        });
        let (again, ended) = (again.expect("waited for"), ended.expect("waited for"));
        assert!(again <= AGAIN, "{}: observed is intended only after {again:?}", cell.name);
        Settled { again, ended }
    }

    fn has_ended(&self, id: &str) -> bool {
        let status = self.fleet.operation(id).map(|operation| operation["status"].clone());
        status.is_some_and(|status| status == "done" || status == "failed" || status == "expired")
    }
}

/// How long after the fault.
struct Settled {
    again: Duration,
    ended: Duration,
}

fn busy(number: usize) -> String {
    format!("busy{number}")
}

/// A line of the table.
fn row(cell: &Cell, settled: Settled, [near, far]: [&Tally; 2], operations: usize) -> String {
    let mut row = format!("| `{}` | {} | ", cell.name, cell.what);
    let seconds = |length: Duration| format!("{:.1} s", length.as_secs_f64());
    write!(row, "{} | {operations} of {operations} in {} | ", seconds(settled.again), seconds(settled.ended)).unwrap();
    for (tally, bound) in [(near, cell.near), (far, cell.far)] {
        let allowed = match bound {
            Bound::AtMost(most) => most.to_string(),
            Bound::Any => "any".into(),
        };
        write!(row, "{} of {} | {allowed} | ", tally.bad, tally.good + tally.bad).unwrap();
    }
    row.trim_end().into()
}

/// Keeps a row where `./test matrix` finds it, and shows it.
fn keep(cell: &Cell, row: &str) {
    println!("{row}");
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or(own, PathBuf::from).join("matrix");
    fs::create_dir_all(&folder).unwrap();
    let number = CELLS.iter().position(|other| other.name == cell.name).expect("one of the cells");
    fs::write(folder.join(format!("{number:02}-{}.row", cell.name)), format!("{row}\n")).unwrap();
    let head = format!(
        "| cell | what happens | observed is intended after | operations ended | failed requests: app on {HIT} | allowed \
         | app elsewhere | allowed |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    fs::write(folder.join("head"), head).unwrap();
}
