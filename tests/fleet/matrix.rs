//! Faults, one after another, while apps run, visitors come and ten operations are in flight.
//!
//! Each cell is checked in the same way (`proof`): no running app is restarted, every accepted operation ends, what is
//! observed is again what is intended 30 s after the fault's end, and visitors whom the fault cannot reach see nothing of
//! it. Cells of one subject share a fleet, since each leaves it as it should be. By default the twelve quickest are run;
//! NBS_MATRIX names others, or `all`, and NBS_SEED the seed: `./test matrix` does so, and makes docs/failure-matrix.md of
//! the rows. Deliberately absent: what a cell is checked for.

#[path = "matrix/cells.rs"]
mod cells;
#[path = "matrix/proof.rs"]
mod proof;

use cells::{CELLS, Cell, Subject};
use proof::Proof;

/// The cells of a subject that this run is about, on one fleet.
fn run(subject: Subject) {
    let chosen = std::env::var("NBS_MATRIX").unwrap_or_default();
    let seed = std::env::var("NBS_SEED").ok().map_or(1, |seed| seed.parse().expect("NBS_SEED is a number"));
    let names: Vec<&str> = chosen.split_whitespace().collect();
    let unknown = names.iter().find(|name| **name != "all" && !CELLS.iter().any(|cell| cell.name == **name));
    let known: Vec<&str> = CELLS.iter().map(|cell| cell.name).collect();
    assert!(unknown.is_none(), "{unknown:?} is no cell; there are: {}", known.join(" "));
    let wanted = |cell: &&Cell| match names.as_slice() {
        [] => cell.quick,
        ["all"] => true,
        names => names.contains(&cell.name),
    };
    let cells: Vec<&Cell> = CELLS.iter().filter(|cell| cell.subject == subject).filter(wanted).collect();
    assert!(!cells.is_empty(), "NBS_MATRIX={chosen} has no cell of {subject:?}");
    let mut proof = Proof::new(seed);
    for cell in cells {
        proof.run(cell);
    }
}

#[test]
fn worker_daemons_that_die_freeze_or_restart_harm_no_app_and_no_operation() {
    run(Subject::Worker);
}

#[test]
fn entry_daemons_that_die_freeze_or_restart_harm_no_app_and_no_operation() {
    run(Subject::Entry);
}

#[test]
fn redis_servers_that_die_freeze_forget_or_refuse_harm_no_app_and_no_operation() {
    run(Subject::Redis);
}

#[test]
fn link_faults_of_one_worker_harm_no_app_and_no_operation() {
    run(Subject::Link);
}

#[test]
fn disk_space_that_ends_on_a_worker_harms_no_app_and_no_operation() {
    run(Subject::Disk);
}

#[test]
fn cells_have_distinct_names_that_begin_with_their_subject() {
    for (number, cell) in CELLS.iter().enumerate() {
        assert!(CELLS[..number].iter().all(|other| other.name != cell.name), "{}", cell.name);
        let subject = format!("{:?}-", cell.subject).to_lowercase();
        assert!(cell.name.starts_with(&subject), "{} is of {subject}", cell.name);
    }
    assert_eq!(CELLS.iter().filter(|cell| cell.quick).count(), 12);
    assert_eq!(CELLS.len(), 16);
}
