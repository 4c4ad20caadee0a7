//! Reads orders, and hands those of the entry to the worker's loop with their age.
//!
//! An order is acknowledged when it was handed over or refused. Whether it is late, stale or a repetition is the core's to
//! decide. Only the daemon that holds the environment's name reads.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nbs_core::order::{Goal, Order};
use nbs_core::time::Mono;
use tokio_util::sync::CancellationToken;

use crate::ports::{OrderSlip, Word};
use crate::redis_bus::keys;
use crate::redis_bus::speech;
use crate::redis_bus::stream::{Message, Reader};
use crate::redis_bus::worker::Tenure;
use crate::redis_bus::worker::shared::Shared;
use crate::security::envelope::SignedKind;

/// A roll call that is older was answered, or is somebody's replay.
const ROLL_CALL: Duration = Duration::from_secs(30);

pub(super) async fn run(shared: &Shared, shutdown: &CancellationToken) {
    let work = async {
        let mut tenure = shared.tenure.subscribe();
        let mut reader = Reader::new(&shared.names.orders, keys::WORKER_GROUP);
        loop {
            if tenure.wait_for(|tenure| matches!(tenure, Tenure::Held { .. })).await.is_err() {
                return;
            }
            match reader.next(&shared.links.reader).await {
                Ok(messages) if messages.is_empty() => {}
                Ok(messages) => take(shared, &mut reader, messages).await,
                Err(_) => tokio::time::sleep(shared.links.reader.pause().await).await,
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

async fn take(shared: &Shared, reader: &mut Reader, messages: Vec<Message>) {
    let mut ids = Vec::with_capacity(messages.len());
    for message in messages {
        hear(shared, &message).await;
        ids.push(message.id);
    }
    if shared.links.reader.ask(&reader.acknowledge(&ids)).await.is_err() {
        reader.rewind();
    }
}

async fn hear(shared: &Shared, message: &Message) {
    let key = &shared.names.orders;
    if message.fields.is_empty() {
        // The stream dropped it before it was read again; the entry orders again what was not answered.
        return;
    }
    let Some(text) = message.field("m") else {
        shared.alarm.refused(key, "it has no message");
        return;
    };
    let Some(message) = shared.open(&[SignedKind::Order, SignedKind::RollCall], key, text) else { return };
    if message.kind == SignedKind::RollCall {
        let is_new = shared.time.since(message.issued_ms) <= ROLL_CALL;
        if is_new && shared.follow(&message) {
            shared.called.store(true, Ordering::Relaxed);
            shared.look.notify_one();
        }
        return;
    }
    shared.follow(&message);
    match speech::order(&message, &shared.keys) {
        Ok(mut order) => {
            let age = shared.time.since(message.issued_ms);
            expire(&mut order, age);
            let sent = Mono(shared.time.mono().0.saturating_sub(age));
            shared.say(Word::Order(OrderSlip { order, sent })).await;
        }
        Err(error) => shared.alarm.body(key, &error),
    }
}

/// Takes from an order a turn that is over. A daemon that is younger than the order could not count its age, as its own
/// clock does not reach back so far.
fn expire(order: &mut Order, age: Duration) {
    if let Goal::Run(goal) = &mut order.goal
        && goal.turn.is_some_and(|turn| age > turn.accept_by)
    {
        goal.turn = None;
    }
}
