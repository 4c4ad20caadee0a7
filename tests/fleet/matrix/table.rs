//! The whole table, by subject: what `./test matrix` runs, and nothing else does.

use super::cells::{CELLS, Cell, Subject};

/// The cells of a subject that this run is about.
fn run(subject: Subject) {
    let chosen = std::env::var("NBS_MATRIX").unwrap_or_else(|_| "all".into());
    let names: Vec<&str> = chosen.split_whitespace().collect();
    let unknown = names.iter().find(|name| **name != "all" && !CELLS.iter().any(|cell| cell.name == **name));
    let known: Vec<&str> = CELLS.iter().map(|cell| cell.name).collect();
    assert!(unknown.is_none(), "{unknown:?} is no cell; there are: {}", known.join(" "));
    let wanted = |cell: &&Cell| names == ["all"] || names.contains(&cell.name);
    let cells: Vec<&Cell> = CELLS.iter().filter(|cell| cell.subject == subject).filter(wanted).collect();
    assert!(!cells.is_empty(), "NBS_MATRIX={chosen} has no cell of {subject:?}");
    super::run(&cells);
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
