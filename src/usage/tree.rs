//! Adds up processes over process trees, in one pass over `/proc`.
//!
//! A process belongs to the app whose main process it is or descends from; else to the one of its process group or
//! session (what an app put into the background was adopted by init, but kept its group).

use std::collections::HashMap;

use super::stat::{Proc, Row, Sum};

/// The sum of each main process's tree, in the order given; none for one that is gone.
pub(super) fn sums(proc: &Proc, mains: &[u32]) -> Vec<Option<Sum>> {
    match read_all(proc, mains.len() * 2 + 256) {
        Ok(rows) => add_up(mains, &rows),
        Err(_) => vec![None; mains.len()],
    }
}

fn read_all(proc: &Proc, expected: usize) -> rustix::io::Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(expected);
    for entry in proc.entries()? {
        rows.extend(proc.row(entry?.file_name().to_bytes()));
    }
    Ok(rows)
}

fn add_up(mains: &[u32], rows: &[Row]) -> Vec<Option<Sum>> {
    let owners = owners(mains, rows);
    let mut sums = vec![Sum::default(); mains.len()];
    let mut there = vec![false; mains.len()];
    for (row, owner) in rows.iter().zip(owners) {
        let Some(owner) = owner else { continue };
        let sum = &mut sums[owner];
        sum.add(row, mains[owner]);
        there[owner] |= row.pid == mains[owner];
    }
    // Apps that share a process are shown the same figures, each that of the whole.
    let first = first_of_each(mains);
    let of = |pid: &u32| first.get(pid).filter(|i| there[**i]).map(|i| sums[*i]);
    mains.iter().map(of).collect()
}

fn first_of_each(mains: &[u32]) -> HashMap<u32, usize> {
    let mut first = HashMap::with_capacity(mains.len());
    for (i, pid) in mains.iter().enumerate() {
        first.entry(*pid).or_insert(i);
    }
    first
}

/// The index of each row's main process. Every row is settled once, whatever the depth of the tree.
fn owners(mains: &[u32], rows: &[Row]) -> Vec<Option<usize>> {
    let main_of = first_of_each(mains);
    let row_of: HashMap<u32, usize> = rows.iter().enumerate().map(|(i, row)| (row.pid, i)).collect();
    let mut settled: Vec<Option<Option<usize>>> = vec![None; rows.len()];
    let mut path = Vec::new();
    for i in 0..rows.len() {
        // Up, until a main process, a settled row or the top. A pid that was reused during the pass could close a ring.
        let mut at = Some(i);
        let mut owner = None;
        while let Some(here) = at {
            if let Some(known) = settled[here] {
                owner = known;
                break;
            }
            if let Some(main) = main_of.get(&rows[here].pid) {
                owner = Some(*main);
                settled[here] = Some(owner);
                break;
            }
            if path.len() > rows.len() {
                break;
            }
            path.push(here);
            at = row_of.get(&rows[here].parent).copied();
        }
        // Down again: each belongs to whom its parent belongs, else to its group or session.
        while let Some(here) = path.pop() {
            let by_name = || main_of.get(&rows[here].group).or_else(|| main_of.get(&rows[here].session)).copied();
            owner = owner.or_else(by_name);
            settled[here] = Some(owner);
        }
    }
    settled.into_iter().map(Option::flatten).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pid: u32, parent: u32, group: u32, session: u32) -> Row {
        Row { pid, parent, group, session, ticks: 10, tasks: 2, start: u64::from(pid), rss_pages: 3 }
    }

    #[test]
    fn children_groups_and_sessions_belong_to_the_app() {
        let rows = [
            row(1, 0, 1, 1),
            row(10, 1, 10, 10),  // main of the first
            row(11, 10, 11, 10), // its child in a group of its own
            row(12, 11, 12, 12), // its grandchild in a session of its own
            row(13, 1, 10, 10),  // put into the background
            row(14, 13, 14, 14), // a child of that
            row(20, 10, 20, 20), // main of the second, started by the first
            row(21, 20, 20, 20),
            row(30, 1, 30, 30), // a stranger
        ];
        let sums = add_up(&[10, 20, 99], &rows);
        assert_eq!(sums[0], Some(Sum { start: 10, ticks: 50, rss_pages: 15, tasks: 10 }));
        assert_eq!(sums[1], Some(Sum { start: 20, ticks: 20, rss_pages: 6, tasks: 4 }));
        assert_eq!(sums[2], None);
        assert_eq!(add_up(&[20, 20], &rows), [sums[1], sums[1]], "apps that share a process");
    }

    #[test]
    fn a_ring_of_parents_comes_to_an_end() {
        let rows = [row(5, 6, 5, 5), row(6, 5, 6, 6)];
        assert_eq!(add_up(&[7], &rows), [None]);
    }
}
