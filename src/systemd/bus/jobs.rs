//! Jobs that systemd works on for us: whose turn each holds, how each came out, and what its unit was then.
//!
//! A job's end is told by a signal on one connection, its beginning by an answer on another, so either may come first.
//! systemd tells what changed of a unit before it tells that its job ended, so what was heard by then need not be read.
//! Deliberately absent: what a result means for an instance.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::super::snapshot::Changed;

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
pub(crate) struct Job(oneshot::Receiver<(JobResult, Changed)>);

impl Job {
    /// Waits for its end.
    pub(crate) async fn done(self) -> JobResult {
        self.end().await.0
    }

    /// Waits for its end; with what was heard of its unit since it was asked for.
    pub(crate) async fn end(self) -> (JobResult, Changed) {
        self.0.await.unwrap_or((JobResult::Lost, Changed::default()))
    }
}

/// More jobs of one unit do not end during one call.
const EARLY_MAX: usize = 16;

#[derive(Debug)]
struct Pending {
    unit: String,
    tell: oneshot::Sender<(JobResult, Changed)>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug, Default)]
struct Book {
    /// Grows with each loss of the connection.
    era: u64,
    /// By object path.
    pending: HashMap<String, Pending>,
    /// Units for which a job is being asked right now, or pending.
    asked: HashMap<String, Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    /// Calls and pending jobs.
    users: usize,
    /// Jobs of the unit that ended meanwhile; ours may be among them.
    early: Vec<(String, JobResult)>,
    /// What was heard of the unit meanwhile.
    heard: Changed,
}

impl Book {
    fn leave(&mut self, unit: &str) {
        if let Some(asked) = self.asked.get_mut(unit) {
            asked.users -= 1;
            if asked.users == 0 {
                self.asked.remove(unit);
            }
        }
    }

    fn heard(&self, unit: &str) -> Changed {
        self.asked.get(unit).map(|asked| asked.heard.clone()).unwrap_or_default()
    }
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
        book.asked.entry(unit.into()).or_default().users += 1;
        Asking { jobs: Arc::clone(self), unit: unit.into(), era: book.era }
    }

    /// A job ended.
    pub(super) fn ended(&self, job: &str, unit: &str, result: JobResult) {
        let mut book = self.book();
        if let Some(pending) = book.pending.remove(job) {
            let heard = book.heard(&pending.unit);
            book.leave(&pending.unit);
            // Nobody waits if the caller was not interested.
            let _ = pending.tell.send((result, heard));
        } else if let Some(asked) = book.asked.get_mut(unit)
            && asked.early.len() < EARLY_MAX
        {
            asked.early.push((job.into(), result));
        }
    }

    /// A unit changed.
    pub(super) fn changed(&self, unit: &str, changed: &Changed) {
        if let Some(asked) = self.book().asked.get_mut(unit) {
            asked.heard.merge(changed.clone());
        }
    }

    /// The connection is gone, and with it the ends of all jobs.
    pub(super) fn lose(&self) {
        let mut book = self.book();
        book.era += 1;
        for (_, pending) in std::mem::take(&mut book.pending) {
            book.leave(&pending.unit);
            let _ = pending.tell.send((JobResult::Lost, Changed::default()));
        }
        for asked in book.asked.values_mut() {
            asked.early.clear();
            asked.heard = Changed::default();
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
                let _ = tell.send((result, book.heard(&self.unit)));
            }
            None => {
                if let Some(asked) = book.asked.get_mut(&self.unit) {
                    asked.users += 1;
                }
                book.pending.insert(job.into(), Pending { unit: self.unit.clone(), tell, _permit: permit });
            }
        }
        drop(book);
        Job(told)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.jobs.book().leave(&self.unit);
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

    #[tokio::test]
    async fn an_end_brings_what_was_heard_of_its_unit_since_it_was_asked_for() {
        let (jobs, turns) = (Arc::new(Jobs::default()), Arc::new(Semaphore::new(2)));
        let pid = |pid| Changed { main_pid: Some(pid), ..Changed::default() };
        jobs.changed("nbs-a.service", &pid(1));
        let late = jobs.ask("nbs-a.service").named("/job/1", permit(&turns));
        jobs.changed("nbs-a.service", &Changed { restarts: Some(0), ..Changed::default() });
        jobs.changed("nbs-a.service", &pid(2));
        jobs.changed("nbs-b.service", &pid(3));
        jobs.ended("/job/1", "nbs-a.service", JobResult::Done);
        assert_eq!(late.end().await, (JobResult::Done, Changed { restarts: Some(0), ..pid(2) }));

        let asking = jobs.ask("nbs-a.service");
        jobs.changed("nbs-a.service", &pid(4));
        jobs.ended("/job/2", "nbs-a.service", JobResult::Done);
        assert_eq!(asking.named("/job/2", permit(&turns)).end().await, (JobResult::Done, pid(4)));
        assert!(jobs.book().asked.is_empty());
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
