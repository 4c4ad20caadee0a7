//! Jobs that systemd works on for us: whose turn each holds, and how each came out.
//!
//! A job's end is told by a signal on one connection, its beginning by an answer on another, so either may come first.
//! Deliberately absent: what a result means for an instance.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// How a job came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobResult {
    /// It did what it was for.
    Done,
    /// It did not.
    Failed,
    /// Another job took its place.
    Canceled,
    /// It took longer than the unit allows.
    Timeout,
    /// A unit that it needs failed.
    Dependency,
    /// A condition said that there is nothing to do.
    Skipped,
    /// The connection was lost before it was told: read the unit.
    Lost,
}

impl JobResult {
    /// From systemd's word.
    pub(super) fn from_word(word: &str) -> Self {
        match word {
            "done" => Self::Done,
            "canceled" | "collected" => Self::Canceled,
            "timeout" => Self::Timeout,
            "dependency" => Self::Dependency,
            "skipped" => Self::Skipped,
            // failed, invalid, assert, unsupported, once, frozen
            _ => Self::Failed,
        }
    }
}

/// A job that was queued. What it holds is given back when it ends, whether or not anyone waits for it.
#[derive(Debug)]
pub(crate) struct Job(oneshot::Receiver<JobResult>);

impl Job {
    /// Waits for its end.
    pub(crate) async fn done(self) -> JobResult {
        self.0.await.unwrap_or(JobResult::Lost)
    }
}

/// More jobs of one unit do not end during one call.
const EARLY_MAX: usize = 16;

#[derive(Debug, Default)]
struct Book {
    /// Grows with each loss of the connection.
    era: u64,
    /// By object path.
    pending: HashMap<String, (oneshot::Sender<JobResult>, OwnedSemaphorePermit)>,
    /// Units for which a job is being asked right now.
    asked: HashMap<String, Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    calls: usize,
    /// Jobs of the unit that ended meanwhile; ours may be among them.
    early: Vec<(String, JobResult)>,
}

/// All jobs of one bus.
#[derive(Debug, Default)]
pub(super) struct Jobs(Mutex<Book>);

impl Jobs {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a job for a unit is about to be asked for; from now on no end of it is missed.
    pub(super) fn ask(self: &Arc<Self>, unit: &str) -> Asking {
        let mut book = self.book();
        book.asked.entry(unit.into()).or_default().calls += 1;
        Asking { jobs: Arc::clone(self), unit: unit.into(), era: book.era }
    }

    /// A job ended.
    pub(super) fn ended(&self, job: &str, unit: &str, result: JobResult) {
        let mut book = self.book();
        if let Some((waiting, _permit)) = book.pending.remove(job) {
            // Nobody waits if the caller was not interested.
            let _ = waiting.send(result);
        } else if let Some(asked) = book.asked.get_mut(unit)
            && asked.early.len() < EARLY_MAX
        {
            asked.early.push((job.into(), result));
        }
    }

    /// The connection is gone, and with it the ends of all jobs.
    pub(super) fn lose(&self) {
        let mut book = self.book();
        book.era += 1;
        for (_, (waiting, _permit)) in book.pending.drain() {
            let _ = waiting.send(JobResult::Lost);
        }
        for asked in book.asked.values_mut() {
            asked.early.clear();
        }
    }
}

/// A job that is being asked for.
#[derive(Debug)]
pub(super) struct Asking {
    jobs: Arc<Jobs>,
    unit: String,
    era: u64,
}

impl Asking {
    /// systemd named the job.
    pub(super) fn named(self, job: &str, permit: OwnedSemaphorePermit) -> Job {
        let (tell, told) = oneshot::channel();
        let mut book = self.jobs.book();
        let early = book.asked.get(&self.unit).and_then(|asked| asked.early.iter().find(|(path, _)| path == job));
        let result = if book.era == self.era { early.map(|(_, result)| *result) } else { Some(JobResult::Lost) };
        match result {
            Some(result) => {
                let _ = tell.send(result);
            }
            None => {
                book.pending.insert(job.into(), (tell, permit));
            }
        }
        drop(book);
        Job(told)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut book = self.jobs.book();
        if let Some(asked) = book.asked.get_mut(&self.unit) {
            asked.calls -= 1;
            if asked.calls == 0 {
                book.asked.remove(&self.unit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    fn permit(of: &Arc<Semaphore>) -> OwnedSemaphorePermit {
        Arc::clone(of).try_acquire_owned().unwrap()
    }

    #[tokio::test]
    async fn an_end_is_told_whether_it_comes_before_or_after_the_name() {
        let (jobs, turns) = (Arc::new(Jobs::default()), Arc::new(Semaphore::new(2)));
        let late = jobs.ask("nbs-a.service").named("/job/1", permit(&turns));
        jobs.ended("/job/9", "nbs-a.service", JobResult::Failed);
        assert_eq!(turns.available_permits(), 1);
        jobs.ended("/job/1", "nbs-a.service", JobResult::Done);
        assert_eq!(turns.available_permits(), 2);
        assert_eq!(late.done().await, JobResult::Done);

        let asking = jobs.ask("nbs-a.service");
        jobs.ended("/job/2", "nbs-a.service", JobResult::Canceled);
        jobs.ended("/job/3", "nbs-a.service", JobResult::Failed);
        assert_eq!(asking.named("/job/3", permit(&turns)).done().await, JobResult::Failed);
        assert_eq!(turns.available_permits(), 2);
        assert!(jobs.book().asked.is_empty() && jobs.book().pending.is_empty());
    }

    #[tokio::test]
    async fn with_the_connection_every_job_is_lost_also_one_that_is_being_asked_for() {
        let (jobs, turns) = (Arc::new(Jobs::default()), Arc::new(Semaphore::new(2)));
        let pending = jobs.ask("nbs-a.service").named("/job/1", permit(&turns));
        let asking = jobs.ask("nbs-b.service");
        jobs.lose();
        assert_eq!(pending.done().await, JobResult::Lost);
        assert_eq!(asking.named("/job/2", permit(&turns)).done().await, JobResult::Lost);
        assert_eq!(turns.available_permits(), 2);
    }

    #[test]
    fn what_nobody_waits_for_gives_its_turn_back_all_the_same() {
        let (jobs, turns) = (Arc::new(Jobs::default()), Arc::new(Semaphore::new(1)));
        drop(jobs.ask("nbs-a.service").named("/job/1", permit(&turns)));
        assert_eq!(turns.available_permits(), 0);
        jobs.ended("/job/1", "nbs-a.service", JobResult::Done);
        assert_eq!(turns.available_permits(), 1);
    }
}
