//! The one place where a test may let time pass: where time itself is what the test is about, or as the pause between
//! two looks at a fact.

use std::time::Duration;

/// Lets time pass; `why` tells the reader what for.
pub async fn pause(length: Duration, why: &str) {
    assert!(!why.is_empty());
    tokio::time::sleep(length).await;
}
