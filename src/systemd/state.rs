//! What a unit's states mean for its instance. Pure: what was told before and a snapshot give the news.
//!
//! systemd shows a crash under `Restart=` as `activating/auto-restart` (from version 254 on by way of
//! `failed-before-auto-restart`), a clean end as `active/exited` because of `RemainAfterExit=`, and what it will not start
//! again as `failed`, or not at all. On its way from one run to the next a unit passes through `failed` and `inactive`, and
//! signals may show that: so a failure counts only when it was read afterwards, and an end without a failure only when the
//! unit is unloaded. Deliberately absent: any call to systemd.

use nbs_core::reason::{ExitOutcome, Reason, ReasonCode};

use super::snapshot::Snapshot;

/// What the worker was told of a unit last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing yet: its start is under way.
    Starting,
    /// Its process lives.
    Alive { pid: u32, restarts: u32, ready: bool },
    /// systemd starts it again by itself.
    Waiting { restarts: u32 },
    /// It ended for good.
    Ended,
}

/// What is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// Its first process is there.
    Started,
    /// Its own words while it is not ready.
    Progress(String),
    /// It said that it is ready.
    Ready,
    /// It ended and will be started again.
    Restarting(Reason),
    /// It was started again; the reason if its end was not told.
    Restarted { pid: u32, restarts: u32, reason: Option<Reason> },
    /// It ended for good.
    Ended(ExitOutcome, Option<Reason>),
}

/// What is known of the unit beside its states.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// Whether it tells its readiness (`Type=notify`).
    pub(super) notify: bool,
    /// Whether we asked for its stop.
    pub(super) stopping: bool,
    /// Whether the snapshot was read as a whole, and not brought by a signal in the midst of something.
    pub(super) settled: bool,
}

/// What `SubState` says here of a unit that is not loaded any more; systemd has no such word.
pub(super) const UNLOADED: &str = "unloaded";

/// Whether a unit must be read to know what a signal meant.
pub(super) fn is_suspect(told: Told, unit: &Snapshot, kind: Kind) -> bool {
    told != Told::Ended && !kind.settled && unit.active == "failed" && unit.sub == "failed"
}

/// The news of a snapshot, and what has been told then.
pub(super) fn judge(told: Told, unit: &Snapshot, kind: Kind) -> (Vec<News>, Told) {
    let (mut told, mut news) = (told, Vec::new());
    // Whoever starts a `Type=exec` unit hears from its job what became of it, and says so himself.
    if told == Told::Ended || (told == Told::Starting && !kind.notify) {
        return (news, told);
    }
    if let Some(ended) = end_of(told, unit, kind) {
        return (vec![ended], Told::Ended);
    }
    if is_waiting(unit) {
        if let Told::Starting | Told::Alive { .. } = told
            && !kind.stopping
        {
            news.push(News::Restarting(reason_of(unit, was_executed(told, kind))));
            told = Told::Waiting { restarts: unit.restarts };
        }
        return (news, told);
    }
    if unit.main_pid != 0 && has_started(unit, kind) {
        let (pid, restarts) = (unit.main_pid, unit.restarts);
        match told {
            Told::Starting => news.push(News::Started),
            Told::Waiting { .. } => news.push(News::Restarted { pid, restarts, reason: None }),
            Told::Alive { restarts: before, .. } if restarts > before => {
                // systemd clears Result with the new start, so the reason is found in the journal only.
                news.push(News::Restarted { pid, restarts, reason: Some(unseen_crash()) });
            }
            Told::Alive { .. } | Told::Ended => {}
        }
        let ready = !news.iter().any(|news| matches!(news, News::Restarted { .. })) && is_ready(told);
        told = Told::Alive { pid, restarts, ready };
    }
    if let Told::Alive { ready, .. } = &mut told
        && kind.notify
        && !*ready
        && unit.active == "active"
        && unit.sub == "running"
    {
        *ready = true;
        news.push(News::Ready);
    }
    (news, told)
}

/// Whether the present process counts as started: a program that was executed, or one that we wait to hear from.
fn has_started(unit: &Snapshot, kind: Kind) -> bool {
    match unit.active.as_str() {
        "active" | "reloading" | "refreshing" => unit.sub != "exited",
        "activating" => kind.notify && unit.sub == "start",
        _ => false,
    }
}

fn is_ready(told: Told) -> bool {
    matches!(told, Told::Alive { ready: true, .. })
}

/// Whether its program is taken to have run. `Type=exec` counts as started only then, and what ran once is taken to run
/// again; of a unit that tells its readiness only that tells it.
fn was_executed(told: Told, kind: Kind) -> bool {
    match told {
        Told::Alive { ready, .. } => ready || !kind.notify,
        Told::Waiting { .. } => !kind.notify,
        Told::Starting | Told::Ended => false,
    }
}

/// Whether systemd is going to start it again.
fn is_waiting(unit: &Snapshot) -> bool {
    unit.sub.contains("auto-restart")
}

fn end_of(told: Told, unit: &Snapshot, kind: Kind) -> Option<News> {
    match (unit.active.as_str(), unit.sub.as_str()) {
        ("failed", "failed") if kind.settled => {}
        // What is not there before it was started is no end: the removal of a former life may be heard late.
        ("inactive", UNLOADED) if told != Told::Starting => {}
        ("active", "exited") => {}
        _ => return None,
    }
    let outcome = outcome_of(unit);
    let cause = match unit.result.as_str() {
        // A clean end stays `active/exited`, so what is `inactive` was stopped.
        "success" if unit.active == "inactive" && !kind.stopping => {
            Some(Reason::new(ReasonCode::StoppedOutside, "its unit was stopped by someone else"))
        }
        "success" => None,
        // What systemd would restart and does not has used up its starts; it does not always say so in the result.
        _ if unit.repairs && unit.active == "failed" => Some(given_up(unit, was_executed(told, kind))),
        "exit-code" | "signal" if was_executed(told, kind) => None,
        _ => Some(reason_of(unit, was_executed(told, kind))),
    };
    Some(News::Ended(outcome, cause.filter(|_| !kind.stopping)))
}

/// How the main process ended last.
pub(super) fn outcome_of(unit: &Snapshot) -> ExitOutcome {
    match unit.exec_code {
        1 => ExitOutcome::Code(unit.exec_status),
        2 | 3 => ExitOutcome::Signal(unit.exec_status),
        _ => ExitOutcome::Unknown,
    }
}

fn unseen_crash() -> Reason {
    Reason::new(ReasonCode::ExitUnknown, "ended and was restarted by systemd (exit status not seen)")
}

/// Why a unit is not running, in our words. `executed`: whether its program is known to have run.
pub(super) fn reason_of(unit: &Snapshot, executed: bool) -> Reason {
    let outcome = outcome_of(unit).reason();
    match unit.result.as_str() {
        "oom-kill" => Reason::new(ReasonCode::OomKilled, "killed by the kernel: out of memory"),
        "watchdog" => Reason::new(ReasonCode::Watchdog, "did not feed its watchdog in time"),
        "timeout" if !executed => Reason::new(ReasonCode::StartTimeout, "not ready within systemd's start timeout"),
        "timeout" => Reason::new(ReasonCode::Signal, "did not stop in time and was killed"),
        "start-limit-hit" => given_up(unit, executed),
        "protocol" => Reason::new(outcome.code, format!("{outcome} without having said that it is ready")),
        "resources" => Reason::new(ReasonCode::SpawnFailed, "systemd could not start it for lack of resources"),
        "core-dump" => Reason::new(ReasonCode::Signal, format!("{outcome} (core dumped)")),
        "exit-code" if !executed => exec_failure(unit.exec_status).unwrap_or(outcome),
        _ => outcome,
    }
}

fn given_up(unit: &Snapshot, executed: bool) -> Reason {
    let last = match unit.result.as_str() {
        "start-limit-hit" => outcome_of(unit).reason(),
        _ => reason_of(unit, executed),
    };
    Reason::new(ReasonCode::StartLimit, format!("systemd gave up restarting it; the last: {last}"))
}

/// What systemd's own exit statuses say, of the step between fork and exec that failed (systemd.exec(5), "Process Exit
/// Codes"). An app may end with the same numbers, so they count only until it has been ready.
fn exec_failure(status: i32) -> Option<Reason> {
    let (code, text) = match status {
        200 => (ReasonCode::BadWorkingDirectory, "its working directory cannot be entered"),
        203 => (ReasonCode::NotExecutable, "its program cannot be executed by its user, or within its sandbox"),
        204 | 205 => (ReasonCode::BadLimit, "a limit could not be set"),
        213 | 214 | 215 | 218 | 219 | 225 | 226 | 228 | 232 | 236 | 244 => {
            (ReasonCode::BadProperty, "a property of its unit could not be applied")
        }
        216 => (ReasonCode::BadUser, "its group cannot be taken"),
        217 => (ReasonCode::BadUser, "its user cannot be taken"),
        233 | 238 | 239 | 240 | 241 => (ReasonCode::SpawnFailed, "one of its directories could not be made"),
        243 => (ReasonCode::SpawnFailed, "its credentials could not be set up"),
        _ => return None,
    };
    Some(Reason::new(code, format!("{text} (systemd says status {status})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTIFY: Kind = Kind { notify: true, stopping: false, settled: true };
    const EXEC: Kind = Kind { notify: false, stopping: false, settled: true };

    fn unit(active: &str, sub: &str, pid: u32) -> Snapshot {
        Snapshot {
            active: active.into(),
            sub: sub.into(),
            result: "success".into(),
            main_pid: pid,
            ..Snapshot::default()
        }
    }

    fn crashed(sub: &str, result: &str, code: i32, status: i32) -> Snapshot {
        let active = if sub == "failed" { "failed" } else { "activating" };
        Snapshot { result: result.into(), exec_code: code, exec_status: status, ..unit(active, sub, 0) }
    }

    fn alive(pid: u32, restarts: u32) -> Told {
        Told::Alive { pid, restarts, ready: true }
    }

    #[test]
    fn a_notify_unit_is_started_then_ready() {
        let (news, told) = judge(Told::Starting, &unit("activating", "start", 7), NOTIFY);
        assert_eq!(news, [News::Started]);
        let (news, told) = judge(told, &unit("active", "running", 7), NOTIFY);
        assert_eq!(news, [News::Ready]);
        assert!(judge(told, &unit("active", "running", 7), NOTIFY).0.is_empty());
    }

    #[test]
    fn a_crash_that_systemd_repairs_is_told_twice() {
        let (news, told) = judge(alive(7, 0), &crashed("auto-restart", "exit-code", 1, 3), EXEC);
        let reason = Reason::new(ReasonCode::ExitStatus, "exited with status 3");
        assert_eq!(news, [News::Restarting(reason)]);
        let queued = crashed("auto-restart-queued", "exit-code", 1, 3);
        assert!(judge(told, &queued, EXEC).0.is_empty());
        let again = Snapshot { restarts: 1, ..unit("active", "running", 8) };
        let (news, _) = judge(told, &again, EXEC);
        assert_eq!(news, [News::Restarted { pid: 8, restarts: 1, reason: None }]);
    }

    #[test]
    fn a_crash_that_nobody_saw_is_told_when_it_is_repaired() {
        let again = Snapshot { restarts: 2, ..unit("active", "running", 9) };
        let (news, told) = judge(alive(7, 0), &again, EXEC);
        assert!(matches!(&news[..], [News::Restarted { pid: 9, restarts: 2, reason: Some(_) }]), "{news:?}");
        assert!(matches!(told, Told::Alive { ready: false, .. }));
    }

    #[test]
    fn the_states_of_newer_systemd_between_two_runs_are_no_end() {
        for (active, sub) in [("failed", "failed-before-auto-restart"), ("inactive", "dead-before-auto-restart")] {
            let (news, told) = judge(alive(7, 0), &unit(active, sub, 0), EXEC);
            assert!(matches!(news[..], [News::Restarting(_)]), "{news:?}");
            assert_eq!(told, Told::Waiting { restarts: 0 });
        }
    }

    #[test]
    fn ends_are_told_once_with_their_cause() {
        let cases = [
            (crashed("failed", "start-limit-hit", 1, 1), Some(ReasonCode::StartLimit)),
            (Snapshot { repairs: true, ..crashed("failed", "exit-code", 1, 1) }, Some(ReasonCode::StartLimit)),
            (crashed("failed", "oom-kill", 2, 9), Some(ReasonCode::OomKilled)),
            (crashed("failed", "watchdog", 2, 6), Some(ReasonCode::Watchdog)),
            (crashed("failed", "exit-code", 1, 1), None),
            (Snapshot { exec_code: 1, ..unit("active", "exited", 0) }, None),
            (unit("inactive", UNLOADED, 0), Some(ReasonCode::StoppedOutside)),
        ];
        for (shown, code) in cases {
            let (news, told) = judge(alive(7, 0), &shown, EXEC);
            let [News::Ended(_, cause)] = &news[..] else { panic!("{shown:?}: {news:?}") };
            assert_eq!(cause.as_ref().map(|cause| cause.code), code, "{shown:?}");
            assert!(judge(told, &shown, EXEC).0.is_empty());
        }
    }

    #[test]
    fn what_a_unit_passes_through_between_two_runs_is_no_end() {
        let waiting = Told::Waiting { restarts: 1 };
        assert_eq!(judge(waiting, &unit("inactive", "dead", 0), EXEC), (vec![], waiting));
        let by_signal = Kind { settled: false, ..EXEC };
        let failed = crashed("failed", "exit-code", 1, 203);
        assert_eq!(judge(waiting, &failed, by_signal), (vec![], waiting));
        assert!(is_suspect(waiting, &failed, by_signal));
        assert!(matches!(judge(waiting, &failed, EXEC).0[..], [News::Ended(..)]));
    }

    #[test]
    fn a_late_word_about_a_former_life_ends_no_start() {
        let removed = unit("inactive", UNLOADED, 0);
        assert_eq!(judge(Told::Starting, &removed, NOTIFY), (vec![], Told::Starting));
    }

    #[test]
    fn a_stop_that_we_asked_for_has_no_cause() {
        let stopping = Kind { stopping: true, ..EXEC };
        let (news, _) = judge(alive(7, 0), &unit("inactive", UNLOADED, 0), stopping);
        assert_eq!(news, [News::Ended(ExitOutcome::Unknown, None)]);
        let (news, _) = judge(Told::Waiting { restarts: 1 }, &unit("inactive", UNLOADED, 0), stopping);
        assert_eq!(news, [News::Ended(ExitOutcome::Unknown, None)]);
        assert!(judge(alive(7, 0), &unit("deactivating", "stop-sigterm", 7), stopping).0.is_empty());
    }

    #[test]
    fn what_failed_between_fork_and_exec_is_named_until_it_was_ready() {
        let missing = crashed("failed", "exit-code", 1, 203);
        assert_eq!(reason_of(&missing, false).code, ReasonCode::NotExecutable);
        assert_eq!(reason_of(&missing, true).code, ReasonCode::ExitStatus);
    }

    #[test]
    fn the_same_status_of_a_program_that_ran_is_its_own() {
        let told = Told::Alive { pid: 7, restarts: 0, ready: false };
        let waiting = crashed("auto-restart", "exit-code", 1, 217);
        for (kind, code) in [(EXEC, ReasonCode::ExitStatus), (NOTIFY, ReasonCode::BadUser)] {
            let (news, _) = judge(told, &waiting, kind);
            assert!(matches!(&news[..], [News::Restarting(reason)] if reason.code == code), "{news:?}");
        }
        let failed = crashed("failed", "exit-code", 1, 217);
        assert!(matches!(&judge(told, &failed, EXEC).0[..], [News::Ended(_, None)]));
        let (news, _) = judge(told, &failed, NOTIFY);
        assert!(matches!(&news[..], [News::Ended(_, Some(cause))] if cause.code == ReasonCode::BadUser), "{news:?}");
    }
}
