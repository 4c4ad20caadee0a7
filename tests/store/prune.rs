//! Old rows go by themselves; what is active and the highest number stay.

use std::time::Duration;

use nbs_core::limits::{EVENTS_KEPT, IDEMPOTENCY_KEPT, OPERATIONS_KEPT};
use nbs_core::record::Change;
use nbs_core::view::OperationStatus;
use nbsupervisor::ports::Record;
use nbsupervisor::store::Store;
use tempfile::tempdir;
use tokio::time::Instant;

use crate::samples::{event, event_change, key, operation, operation_change};

#[tokio::test]
async fn only_so_much_is_kept() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (operations, events) = (OPERATIONS_KEPT as u64 + 700, EVENTS_KEPT as u64 + 700);
    let day = IDEMPOTENCY_KEPT.as_millis() as u64;
    let mut changes = vec![operation_change(&operation(1, "old", OperationStatus::Queued))];
    changes.extend((2..=operations).map(|seq| operation_change(&operation(seq, "crm", OperationStatus::Done))));
    changes.extend((1..=events).map(|seq| event_change(&event(seq, None))));
    changes.push(Change::Key(Box::new(key("old", 1000))));
    changes.push(Change::Key(Box::new(key("kept", 2000))));
    changes.push(Change::Key(Box::new(key("new", 1500 + day))));
    for part in changes.chunks(2000) {
        store.commit(part.to_vec()).await.unwrap();
    }
    // A few thousand rows may be over before the next look; a start begins with one.
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let oldest_event = store.events(None, 0, 1).await.unwrap()[0].seq;
        let oldest = store.operations(None, Some(nbs_core::id::Seq(702)), 2).await.unwrap();
        let seqs: Vec<u64> = oldest.iter().map(|view| view.seq.0).collect();
        if (oldest_event, seqs.as_slice()) == (701, &[701, 1]) || (oldest_event, seqs.as_slice()) == (701, &[1]) {
            break;
        }
        assert!(Instant::now() < deadline, "oldest event {oldest_event}, operations {seqs:?}");
        tokio::task::yield_now().await;
    }
    let found = store.load().await.unwrap();
    let keys: Vec<&str> = found.keys.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, ["kept", "new"]);
    assert_eq!(found.seq.0, operations);
    assert_eq!(found.operations[0].view.seq.0, 1, "what has not ended stays");
    let all = store.operations(None, None, usize::MAX).await.unwrap();
    assert_eq!(all.len(), OPERATIONS_KEPT + 1);
}
