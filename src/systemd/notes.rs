//! What a host cannot do as a launch asks, said at each start.

use std::fs;

use nbs_core::launch::Launch;
use nbs_core::quantity::format_duration;
use nbs_core::restart::RestartWhen;

use super::properties::RESTART_STEPS_SINCE;

/// The controllers of the host's control groups; it is what can be enforced and counted.
const CONTROLLERS: &str = "/sys/fs/cgroup/cgroup.controllers";

/// The notes for a launch on this host.
pub(super) fn of(launch: &Launch, systemd_version: u32) -> Vec<String> {
    let mut notes = of_limits(launch);
    notes.extend(back_off(launch, systemd_version));
    notes
}

/// Those about limits.
pub(super) fn of_limits(launch: &Launch) -> Vec<String> {
    limits(launch, &fs::read_to_string(CONTROLLERS).unwrap_or_default())
}

fn limits(launch: &Launch, controllers: &str) -> Vec<String> {
    let limits = &launch.limits;
    let asked = [
        ("memory_max", "memory", limits.memory_max.is_some()),
        ("cpu_quota", "cpu", limits.cpu_quota.is_some()),
        ("tasks_max", "pids", limits.tasks_max.is_some()),
        ("io_weight", "io", limits.io_weight.is_some()),
    ];
    let missing = asked
        .into_iter()
        .filter(|(_, controller, asked)| *asked && !controllers.split_whitespace().any(|has| has == *controller));
    missing
        .map(|(limit, controller, _)| {
            format!("limits.{limit} is not enforced: this host's control groups have no {controller} controller")
        })
        .collect()
}

fn back_off(launch: &Launch, version: u32) -> Option<String> {
    let restart = &launch.unit.as_ref()?.restart;
    let grows = restart.policy != RestartWhen::Never && !restart.delay.is_zero() && restart.max_delay > restart.delay;
    (grows && version < RESTART_STEPS_SINCE).then(|| {
        let delay = format_duration(restart.delay);
        format!("after a crash it is started again after {delay} each time: systemd {version} knows no growing delay")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::properties::tests::launch;

    #[test]
    fn a_limit_without_its_controller_is_told() {
        let mut launch = launch();
        launch.limits.tasks_max = Some(7);
        assert_eq!(limits(&launch, "cpu io memory pids\n"), Vec::<String>::new());
        let told = limits(&launch, "cpu io memory\n");
        assert!(told.iter().any(|note| note.contains("tasks_max") && note.contains("pids")), "{told:?}");
    }

    #[test]
    fn a_constant_delay_is_told_where_a_growing_one_was_asked() {
        assert!(back_off(&launch(), 252).is_some());
        assert!(back_off(&launch(), 254).is_none());
    }
}
