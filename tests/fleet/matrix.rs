//! Faults, one after another, while apps run, visitors come and ten operations are in flight.
//!
//! Each cell is checked in the same way (`proof`): no running app is restarted, every accepted operation ends, what is
//! observed is again what is intended 30 s after the fault's end, and visitors whom the fault cannot reach see nothing of
//! it. Cells share a fleet, since each leaves it as it should be: the twelve quickest, which every run of the tests has,
//! one; those of a subject in `table`, which `./test matrix` runs, another. NBS_MATRIX names cells of the table (without it
//! all are run) and NBS_SEED the seed. Deliberately absent: what a cell is checked for.

#[path = "matrix/cells.rs"]
mod cells;
#[path = "matrix/proof.rs"]
mod proof;
#[path = "matrix/table.rs"]
mod table;

use cells::{CELLS, Cell};
use proof::Proof;

/// One after another, on one fleet.
fn run(cells: &[&Cell]) {
    let seed = std::env::var("NBS_SEED").ok().map_or(1, |seed| seed.parse().expect("NBS_SEED is a number"));
    let mut proof = Proof::new(seed);
    for cell in cells {
        proof.run(cell);
    }
}

#[test]
fn the_twelve_quickest_faults_harm_no_app_and_no_operation() {
    run(&CELLS.iter().filter(|cell| cell.quick).collect::<Vec<_>>());
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
