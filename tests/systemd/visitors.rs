//! Visitors who keep coming while the daemon is restarted.

use std::time::Duration;

use crate::apps::{Adapter, machine_with};
use crate::machine::{Machine, Suite, Tally, Visitor};
use crate::recipes::WEB;

on_each_suite_with!(Process as process:
    visitors_notice_no_restart_of_the_daemon,
    a_kill_of_the_daemon_refuses_no_connection,
);
on_each_suite_with!(Systemd as systemd:
    visitors_notice_no_restart_of_the_daemon,
    a_kill_of_the_daemon_refuses_no_connection,
);

/// A machine with a site, and visitors who have seen it.
fn with_visitors(suite: Suite, adapter: Adapter) -> (Machine, Vec<Visitor>) {
    let machine = machine_with(suite, adapter, &[WEB]);
    machine.app_create("site", "web", "with-supervisor");
    let visitors: Vec<Visitor> = (0..4).map(|_| machine.visitor("/apps/site/")).collect();
    come_again(&machine, &visitors);
    (machine, visitors)
}

/// Waits until each visitor has been served some more.
fn come_again(machine: &Machine, visitors: &[Visitor]) {
    let before: Vec<u64> = visitors.iter().map(Visitor::good).collect();
    machine.wait("every visitor is served", Duration::from_secs(30), |_| {
        let more: Vec<u64> = visitors.iter().zip(&before).map(|(visitor, before)| visitor.good() - before).collect();
        if more.iter().all(|more| *more >= 5) { Ok(()) } else { Err(format!("{more:?}")) }
    });
}

fn visitors_notice_no_restart_of_the_daemon(suite: Suite, adapter: Adapter) {
    let (machine, visitors) = with_visitors(suite, adapter);
    for _ in 0..5 {
        machine.ok(&["systemctl", "restart", "nbsupervisor"]);
        come_again(&machine, &visitors);
    }
    let tallies: Vec<_> = visitors.into_iter().map(Visitor::finish).collect();
    assert!(tallies.iter().all(|tally| tally.bad == 0), "{tallies:#?}");
}

/// What was half-way through a killed daemon is lost; whoever comes while there is none waits for the next.
fn a_kill_of_the_daemon_refuses_no_connection(suite: Suite, adapter: Adapter) {
    let (machine, visitors) = with_visitors(suite, adapter);
    for _ in 0..3 {
        let former = machine.kill9_daemon();
        machine.wait_daemon(former);
        come_again(&machine, &visitors);
    }
    let tallies: Vec<_> = visitors.into_iter().map(Visitor::finish).collect();
    let refused = |tally: &Tally| tally.failures.iter().any(|failure| failure.starts_with("connect:"));
    assert!(!tallies.iter().any(refused), "{tallies:#?}");
    assert!(
        tallies.iter().all(|tally| tally.bad <= 3),
        "at most one request of each visitor for each kill: {tallies:#?}"
    );
}
