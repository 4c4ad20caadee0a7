//! What an app's reports say of it in one environment.

use crate::fleet::App;
use crate::order::InstanceReport;
use crate::phase::Phase;
use crate::reason::ReasonCode;
use crate::record::PlacementRow;

impl App {
    pub(super) fn report(&self, placement: &PlacementRow) -> Option<&InstanceReport> {
        self.placed.get(&placement.environment).and_then(|placed| placed.report.as_deref())
    }

    /// It runs the start that was asked for.
    pub(super) fn runs(&self, placement: &PlacementRow) -> bool {
        let fits = |r: &InstanceReport| r.phase == Phase::Running && r.run.seq >= placement.start_seq;
        self.report(placement).is_some_and(fits)
    }

    /// The wanted start was tried and is not getting on by itself: gave up, ended, or waits for its next attempt.
    pub(super) fn is_stuck(&self, placement: &PlacementRow) -> bool {
        self.report(placement).is_some_and(|report| {
            let tried = report.run.seq >= placement.start_seq && report.intent_seq >= placement.start_seq;
            tried && matches!(report.phase, Phase::Failed | Phase::Stopped | Phase::Backoff)
        })
    }

    pub(super) fn ended_cleanly(&self, placement: &PlacementRow) -> bool {
        self.report(placement).is_some_and(|report| {
            let cleanly = report.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::ExitedCleanly);
            report.phase == Phase::Stopped && cleanly && report.run.seq >= placement.start_seq
        })
    }

    /// Nothing of it runs there or is about to.
    pub(super) fn at_rest(&self, placement: &PlacementRow) -> bool {
        self.report(placement).is_none_or(|report| report.phase == Phase::Stopped)
    }
}
