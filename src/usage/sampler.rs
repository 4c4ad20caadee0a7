//! The sampler: when apps are measured, on which thread, and where the figures go.
//!
//! `/proc` and control groups answer when they have done their work, not later, so a survey runs on a thread of its own:
//! among the tasks it would have to give way every few processes, which costs more than the thread.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;

use super::place::Hierarchy;
use super::survey::Survey;
use super::{Shared, Subject, UsageHandle};

/// The sampler.
pub struct UsageSampler {
    shared: Arc<Shared>,
    /// Away while it measures, and for good once it was cut off.
    survey: Option<Survey>,
}

impl Default for UsageSampler {
    fn default() -> Self {
        Self::new()
    }
}

impl UsageSampler {
    /// A sampler that has measured nothing yet.
    pub fn new() -> Self {
        Self::with(Hierarchy::of_this_host())
    }

    /// One that takes control groups from this directory instead of where the mount table says.
    pub fn with_groups_at(root: &Path) -> Self {
        Self::with(Hierarchy::at(root, String::new()))
    }

    fn with(hierarchy: Option<Hierarchy>) -> Self {
        Self { shared: Arc::default(), survey: Some(Survey::new(hierarchy)) }
    }

    /// The way to its figures.
    pub fn handle(&self) -> UsageHandle {
        UsageHandle(self.shared.clone())
    }

    /// Samples at once and then at every interval, until `shutdown`. An interval of zero turns it off: no timer, no
    /// figures of apps, the host's on demand.
    pub async fn run(
        mut self,
        interval: Duration,
        list: impl Fn() -> Vec<Subject> + Send,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        if interval.is_zero() {
            return shutdown.await;
        }
        let rounds = async {
            let mut timer = tokio::time::interval(interval);
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                timer.tick().await;
                self.sample(list()).await;
            }
        };
        tokio::select! {
            () = shutdown => {}
            () = rounds => {}
        }
        // Old figures shall not be taken for present ones.
        self.shared.host.store(None);
        self.shared.apps.store(Arc::default());
    }

    /// One sample of the host and of these apps. A process that several of them share is measured once.
    pub async fn sample(&mut self, list: Vec<Subject>) {
        let host = self.shared.meter().measure();
        self.shared.host.store(Some(Arc::new(host)));
        let Some(mut survey) = self.survey.take() else { return };
        let measuring = spawn_blocking(move || {
            let figures = survey.measure(list);
            (survey, figures)
        });
        let (survey, figures) = match measuring.await {
            Ok(measured) => measured,
            // A fault is the sampler's own, whatever thread it happened on.
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // Cut off: the daemon ends, and nobody looks at figures any more.
            Err(_) => return,
        };
        self.survey = Some(survey);
        self.shared.apps.store(Arc::new(figures));
        self.shared.samples.send_modify(|count| *count += 1);
    }
}
