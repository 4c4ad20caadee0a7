//! Waiting on facts: with a deadline, and with the last word of what was seen instead.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Lets time pass where a moment is what the test is about; `why` tells the reader which.
pub fn let_time_pass(length: Duration, why: &str) {
    assert!(!why.is_empty());
    std::thread::sleep(length);
}

/// Asks until the answer is `Ok`, or fails with the last answer when the time is over.
pub fn eventually<E: Display>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<(), E>) {
    let deadline = Instant::now() + limit;
    loop {
        match ask() {
            Ok(()) => return,
            Err(last) if Instant::now() >= deadline => panic!("not within {limit:?}: {what}; last seen: {last}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
