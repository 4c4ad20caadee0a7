//! The promises under faults, by seed. A failing seed is printed; `NBS_SEED=… cargo test -p nbs-core --test simulation`
//! runs that one alone.

use nbs_core::testing::sim::{Seen, Sim};

const STEPS: usize = 400;

fn run(seed: u64) -> Seen {
    match Sim::new(seed).run(STEPS) {
        Ok(seen) => seen,
        Err(what) => panic!("{what}\nreplay: NBS_SEED={seed} cargo test -p nbs-core --test simulation"),
    }
}

#[test]
fn promises_hold_when_daemon_host_and_apps_crash_at_any_step() {
    if let Some(seed) = std::env::var("NBS_SEED").ok().and_then(|seed| seed.parse().ok()) {
        println!("{:?}", run(seed));
        return;
    }
    let count = std::env::var("NBS_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(600);
    let total = (1..=count).map(run).fold(Seen::default(), |sum, one| Seen {
        accepted: sum.accepted + one.accepted,
        done: sum.done + one.done,
        running: sum.running + one.running,
        hosted: sum.hosted + one.hosted,
    });
    // A simulation in which nothing happens proves nothing.
    assert!(total.accepted > 20 * count as usize, "{total:?}");
    assert!(total.done * 4 > total.accepted, "{total:?}");
    assert!(total.running > count as usize / 2, "{total:?}");
    assert!(total.hosted * 4 > total.running, "{total:?}");
    println!("{count} seeds: {total:?}");
}
