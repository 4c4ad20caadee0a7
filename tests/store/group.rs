//! Many callers at once.

use std::sync::Arc;

use nbs_core::view::OperationStatus;
use nbsupervisor::ports::Record;
use nbsupervisor::store::Store;
use tempfile::tempdir;
use tokio::task::JoinSet;

use crate::samples::{event, event_change, operation, operation_change, recovered};

const CALLERS: u64 = 32;
const EACH: u64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_caller_is_answered_after_its_own_commit() {
    let dir = tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path()).unwrap());
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let store = store.clone();
        callers.spawn(async move {
            for turn in 0..EACH {
                let seq = caller * EACH + turn + 1;
                let row = operation(seq, "crm", OperationStatus::Accepted);
                store.commit(vec![operation_change(&row), event_change(&event(seq, None))]).await.unwrap();
                let found = store.operation(row.view.id).await.unwrap();
                assert_eq!(found, Some(row.view), "what was answered can be read at once");
            }
        });
    }
    callers.join_all().await;
    drop(store);
    let found = recovered(dir.path()).await;
    assert_eq!(found.seq.0, CALLERS * EACH);
    assert_eq!(found.operations.len() as u64, CALLERS * EACH);
}

#[tokio::test]
async fn what_was_sent_is_written_although_nobody_waits() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    {
        let mut commit = store.commit(vec![event_change(&event(1, None))]);
        // Polled once: sent, and then its caller goes away.
        std::future::poll_fn(|context| {
            let _ = commit.as_mut().poll(context);
            std::task::Poll::Ready(())
        })
        .await;
    }
    store.commit(vec![event_change(&event(2, None))]).await.unwrap();
    assert_eq!(store.events(None, 0, 9).await.unwrap().len(), 2);
}
