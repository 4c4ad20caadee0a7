//! Reads what workers report, believes what is theirs, and hands it on.
//!
//! A message is acknowledged when it was handed over or refused. Reports are state: one that is lost is told again within
//! a minute. Only the entry that reigns reads, or a second one would take reports away from it.

use nbs_core::name::EnvironmentName;
use tokio_util::sync::CancellationToken;

use crate::redis_bus::entry::shared::Shared;
use crate::redis_bus::keys;
use crate::redis_bus::speech::Halves;
use crate::redis_bus::stream::{Message, Reader};
use crate::security::envelope::MacKind;

pub(super) async fn run(shared: &Shared, shutdown: &CancellationToken) {
    let work = async {
        let mut standing = shared.standing.subscribe();
        let mut reader = Reader::new(keys::REPORTS, keys::ENTRY_GROUP);
        let mut halves = Halves::default();
        loop {
            if standing.wait_for(|standing| standing.reigns).await.is_err() {
                return;
            }
            match reader.next(&shared.links.reader).await {
                Ok(messages) if messages.is_empty() => {}
                Ok(messages) => take(shared, &mut reader, &mut halves, messages).await,
                Err(_) => tokio::time::sleep(shared.links.reader.pause().await).await,
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

async fn take(shared: &Shared, reader: &mut Reader, halves: &mut Halves, messages: Vec<Message>) {
    let mut ids = Vec::with_capacity(messages.len());
    for message in messages {
        hear(shared, halves, &message).await;
        ids.push(message.id);
    }
    if shared.links.reader.ask(&reader.acknowledge(&ids)).await.is_err() {
        reader.rewind();
    }
}

async fn hear(shared: &Shared, halves: &mut Halves, message: &Message) {
    if message.fields.is_empty() {
        // The stream dropped it before it was read again.
        return;
    }
    let environment = message.field("e").and_then(|name| EnvironmentName::parse(name).ok());
    let (Some(environment), Some(text)) = (environment, message.field("m")) else {
        shared.alarm.refused(keys::REPORTS, "it has no environment or no message");
        return;
    };
    let Some(body) = shared.believe(&environment, MacKind::Report, keys::REPORTS, text) else { return };
    match halves.read(&body, &environment) {
        Ok(Some(report)) => shared.report(environment, report).await,
        Ok(None) => {}
        Err(error) => {
            shared.alarm.refused(keys::REPORTS, format!("the report of {environment} cannot be used: {error}"))
        }
    }
}
