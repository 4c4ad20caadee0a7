//! The promises of a fleet under faults, by seed. A failing seed is printed;
//! `NBS_SEED=… cargo test -p nbs-core --test fleet_simulation` runs that one alone, `NBS_SEEDS=…` that many.

use nbs_core::testing::fleet_sim::{FleetSim, Seen};

const STEPS: usize = 500;

fn run(seed: u64) -> Seen {
    match FleetSim::new(seed).run(STEPS) {
        Ok(seen) => seen,
        Err(what) => panic!("{what}\nreplay: NBS_SEED={seed} cargo test -p nbs-core --test fleet_simulation"),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn promises_hold_when_hosts_daemons_and_the_bus_between_them_fail_at_any_step() {
    if let Some(seed) = number("NBS_SEED") {
        println!("{:?}", run(seed));
        return;
    }
    if let Some(count) = number("NBS_SURVEY") {
        // Every failing seed in one line each, to see what is common to them.
        for seed in number("NBS_FIRST_SEED").unwrap_or(1)..=count {
            if let Err(what) = FleetSim::new(seed).run(STEPS) {
                println!("{}", what.lines().next().unwrap_or_default());
            }
        }
        return;
    }
    let first = number("NBS_FIRST_SEED").unwrap_or(1);
    let count = number("NBS_SEEDS").unwrap_or(120);
    let mut slowest = 0;
    let total = (first..first + count).map(run).fold(Seen::default(), |sum, one| {
        slowest = slowest.max(one.calm_seconds);
        Seen {
            accepted: sum.accepted + one.accepted,
            done: sum.done + one.done,
            running: sum.running + one.running,
            faults: sum.faults + one.faults,
            calm_seconds: sum.calm_seconds + one.calm_seconds,
        }
    });
    // A simulation in which nothing happens proves nothing.
    assert!(total.accepted > 10 * count as usize, "{total:?}");
    assert!(total.done * 4 > total.accepted, "{total:?}");
    assert!(total.running > count as usize / 2, "{total:?}");
    assert!(total.faults > 20 * count as usize, "{total:?}");
    println!("{count} seeds: {total:?}, the slowest was calm after {slowest} s");
}
