//! Asks by a connection: one that is accepted is a yes.

use nbs_core::launch::Address;
use nbs_core::observation::Answer;

use crate::ask::tcp::connect;

/// Ready when a connection is accepted.
pub(super) async fn ask(address: Option<&Address>) -> Answer {
    match connect(address).await {
        Ok(_) => Answer::Ready,
        Err(saw) => Answer::NotYet { saw, progress: None, failed: false },
    }
}
