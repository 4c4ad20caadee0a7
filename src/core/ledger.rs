//! The life of an operation: accepted → queued → sent → started → done, failed or expired.
//!
//! Laws: an accepted operation ends, in bounded time; once ended it never changes; `seq` is the order of commit.
//! Deliberately absent: what the operation does (`fleet` judges it by reports).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::command::ActionKind;
use crate::id::{OperationId, Seq};
use crate::limits;
use crate::name::AppId;
use crate::record::{Change, OperationRow};
use crate::time::{Mono, Now};
use crate::view::OperationStatus;

/// Every operation that has not ended, and the newest that have.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    rows: BTreeMap<OperationId, OperationRow>,
    active: BTreeMap<AppId, BTreeSet<(Seq, OperationId)>>,
    active_count: usize,
    ended: VecDeque<OperationId>,
    deadlines: BTreeSet<(Mono, OperationId)>,
    deadline_of: BTreeMap<OperationId, Mono>,
    newest: BTreeMap<AppId, OperationId>,
    touched: BTreeSet<OperationId>,
}

impl Ledger {
    /// Adds an operation (a new one, or one from the record).
    pub fn add(&mut self, row: OperationRow, now: Mono) {
        let (id, app) = (row.view.id, row.view.app.clone());
        self.touched.insert(id);
        self.newest.insert(app.clone(), id);
        if row.view.status.has_ended() {
            self.rows.insert(id, row);
            self.keep_ended(id);
            return;
        }
        self.active.entry(app).or_default().insert((row.view.seq, id));
        self.active_count += 1;
        let deadline = now.after(limits::OPERATION_WAIT);
        self.deadlines.insert((deadline, id));
        self.deadline_of.insert(id, deadline);
        self.rows.insert(id, row);
    }

    /// Takes back what `add` did: the record could not be written. `newest`: the app's newest operation before it.
    pub fn take_back(&mut self, id: OperationId, newest: Option<OperationId>) {
        let Some(row) = self.rows.remove(&id) else { return };
        self.touched.remove(&id);
        self.ended.retain(|other| *other != id);
        self.deactivate(&row);
        match newest {
            Some(newest) => _ = self.newest.insert(row.view.app, newest),
            None => _ = self.newest.remove(&row.view.app),
        }
    }

    /// Puts an ended operation back to what it was: the record could not be written.
    pub fn put_back(&mut self, row: OperationRow, now: Mono) {
        let newest = self.newest.get(&row.view.app).copied();
        self.ended.retain(|other| *other != row.view.id);
        self.add(row.clone(), now);
        self.newest.extend(newest.map(|id| (row.view.app, id)));
    }

    /// One operation.
    pub fn get(&self, id: OperationId) -> Option<&OperationRow> {
        self.rows.get(&id)
    }

    /// The operations of an app that have not ended, oldest first.
    pub fn active_of(&self, app: &AppId) -> Vec<OperationRow> {
        let ids = self.active.get(app).into_iter().flatten();
        ids.filter_map(|(_, id)| self.rows.get(id).cloned()).collect()
    }

    /// How many have not ended.
    pub fn active_count(&self) -> usize {
        self.active_count
    }

    /// The newest operation of an app.
    pub fn newest_of(&self, app: &AppId) -> Option<OperationId> {
        self.newest.get(app).copied()
    }

    /// Notes how far an operation is. Never backwards, never out of an end.
    pub fn advance(&mut self, id: OperationId, status: OperationStatus) {
        if let Some(row) = self.rows.get_mut(&id)
            && !row.view.status.has_ended()
            && status > row.view.status
            && !status.has_ended()
        {
            row.view.status = status;
            self.touched.insert(id);
        }
    }

    /// Ends an operation. Ending twice changes nothing.
    pub fn end(
        &mut self,
        id: OperationId,
        status: OperationStatus,
        reason: Option<String>,
        now: Now,
    ) -> Option<Change> {
        let row = self.rows.get_mut(&id).filter(|row| !row.view.status.has_ended())?;
        row.view.status = status;
        row.view.reason = reason;
        row.view.finished_at = Some(now.wall);
        let row = row.clone();
        self.touched.insert(id);
        self.deactivate(&row);
        self.keep_ended(id);
        Some(Change::Operation(Box::new(row)))
    }

    /// Ends every operation whose time is over: nobody waits for it any more, the intent stands.
    pub fn expire(&mut self, now: Now) -> Vec<Change> {
        let over: Vec<(Mono, OperationId)> =
            self.deadlines.iter().take_while(|(at, _)| *at <= now.mono).copied().collect();
        let mut changes = Vec::new();
        for (at, id) in over {
            self.deadlines.remove(&(at, id));
            let action = self.rows.get(&id).map(|row| row.view.action);
            let what = if action == Some(ActionKind::Stop) { "stop" } else { "run" };
            let reason = format!("no outcome in time; the intent stands, the app should still {what}");
            changes.extend(self.end(id, OperationStatus::Expired, Some(reason), now));
        }
        changes
    }

    /// When `expire` has something to do.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// What changed since the last call.
    pub fn take_touched(&mut self) -> BTreeSet<OperationId> {
        std::mem::take(&mut self.touched)
    }

    fn deactivate(&mut self, row: &OperationRow) {
        let (id, app) = (row.view.id, &row.view.app);
        if let Some(active) = self.active.get_mut(app)
            && active.remove(&(row.view.seq, id))
        {
            self.active_count -= 1;
            if active.is_empty() {
                self.active.remove(app);
            }
        }
        if let Some(at) = self.deadline_of.remove(&id) {
            self.deadlines.remove(&(at, id));
        }
    }

    fn keep_ended(&mut self, id: OperationId) {
        self.ended.push_back(id);
        while self.ended.len() > limits::OPERATIONS_ENDED_IN_MEMORY {
            if let Some(old) = self.ended.pop_front() {
                self.rows.remove(&old);
                self.touched.insert(old);
            }
        }
    }
}
