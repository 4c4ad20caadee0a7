//! A full disk: told as such, nothing half written, and all well again once there is space.

use std::fs;
use std::path::Path;
use std::process::Command;

use nbs_core::view::OperationStatus;
use nbsupervisor::ports::{Record, RecordError};
use nbsupervisor::store::{OpenError, Store};
use tempfile::{TempDir, tempdir};

use crate::samples::{event, event_change, operation, operation_change, recovered};

/// A small disk.
struct Disk(TempDir);

impl Disk {
    /// None only where `NBS_SKIP` names tmpfs: elsewhere a test that cannot run has failed.
    fn mount(size: &str) -> Option<Self> {
        if std::env::var("NBS_SKIP").is_ok_and(|skipped| skipped.split([',', ' ']).any(|word| word == "tmpfs")) {
            eprintln!("skipped, as NBS_SKIP names tmpfs");
            return None;
        }
        let dir = tempdir().unwrap();
        let options = format!("size={size},mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "nbs-test"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            other => panic!("this test mounts a tmpfs, as root; NBS_SKIP=tmpfs leaves it out: {other:?}"),
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all space that is left but `spare` bytes.
    fn fill(&self, spare: u64) {
        let ballast = self.path().join("ballast");
        let page = [1u8; 4096];
        let mut file = fs::File::options().create(true).append(true).open(&ballast).unwrap();
        while std::io::Write::write_all(&mut file, &page).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(spare)).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_survived() {
    let Some(disk) = Disk::mount("2m") else { return };
    let store = Store::open(disk.path()).unwrap();
    let mut committed = 0;
    for spare in [0, 4096, 32 << 10, 100 << 10] {
        disk.fill(spare);
        let refused = loop {
            let seq = committed + 1;
            let row = operation(seq, "crm", OperationStatus::Accepted);
            match store.commit(vec![operation_change(&row), event_change(&event(seq, None))]).await {
                Ok(()) => committed = seq,
                Err(error) => break error,
            }
        };
        assert_eq!(refused, RecordError::Full { file: disk.path().join("record.db") });
        assert!(refused.to_string().contains("free some space"), "{refused}");
        let found = store.load().await.expect("a full disk can be read");
        assert_eq!((found.seq.0, found.events.len() as u64), (committed, committed.min(512)));
        disk.free();
        let row = operation(committed + 1, "crm", OperationStatus::Accepted);
        let changes = vec![operation_change(&row), event_change(&event(committed + 1, None))];
        store.commit(changes).await.expect("well again");
        committed += 1;
    }
    disk.fill(0);
    drop(store);
    disk.free();
    let found = recovered(disk.path()).await;
    assert_eq!((found.seq.0, found.operations.len() as u64), (committed, committed));
}

#[tokio::test]
async fn one_that_is_too_large_does_not_fail_its_neighbours() {
    let Some(disk) = Disk::mount("2m") else { return };
    let store = Store::open(disk.path()).unwrap();
    disk.fill(200 << 10);
    let mut large = event(1000, None);
    large.message = "x".repeat(900 << 10);
    // All are sent before the first is answered, so that they meet in one transaction.
    let small = |seq| store.commit(vec![event_change(&event(seq, None))]);
    let large = store.commit(vec![event_change(&large)]);
    let (first, second, refused, third, fourth) = tokio::join!(small(1), small(2), large, small(3), small(4));
    assert_eq!(refused, Err(RecordError::Full { file: disk.path().join("record.db") }));
    assert_eq!([first, second, third, fourth], [const { Ok(()) }; 4]);
    let seqs: Vec<u64> = store.events(None, 0, 9).await.unwrap().iter().map(|event| event.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_first_start_on_a_full_disk_leaves_nothing_wrong_behind() {
    let Some(disk) = Disk::mount("256k") else { return };
    for spare in [0, 4096, 8192, 16 << 10, 32 << 10, 60 << 10] {
        disk.fill(spare);
        if let Err(error) = Store::open(disk.path()) {
            assert!(matches!(error, OpenError::Full { .. }), "{spare}: {error:?}");
            assert!(!disk.path().join("record.db-wal").exists() || disk.path().join("record.db").exists());
        }
        disk.free();
    }
    recovered(disk.path()).await;
}
