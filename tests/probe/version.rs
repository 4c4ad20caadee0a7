//! The version, from a JSON answer or the first line of a command.

use std::time::Duration;

use nbs_core::observation::Fact;
use nbsupervisor::ports::{Prober, VersionQuestion};
use tokio::time::Instant;

use crate::rig::{Rig, reply, server};

fn command() -> VersionQuestion {
    VersionQuestion::Exec(vec!["/bin/check".into()])
}

#[tokio::test]
async fn a_version_is_found_in_json() {
    let mut rig = Rig::new();
    let (address, _) = server(vec![reply(200, r#"{"data":{"version":" 2.2.15\u001b[1m "}}"#)]).await;
    let question = VersionQuestion::Http { path: "/info".into(), json: "data.version".into() };
    rig.probes.ask_version(rig.launch(address), question);
    assert_eq!(rig.fact().await, Fact::Version("2.2.15[1m".into()));
    rig.idle().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_asked_again_with_growing_pauses() {
    let mut rig = Rig::new();
    rig.runner.will(1, "9.9.9");
    rig.runner.will(0, "   ");
    rig.runner.will(0, &"v".repeat(100));
    let began = Instant::now();
    rig.probes.ask_version(rig.launch(None), command());
    assert_eq!(rig.fact().await, Fact::Version("v".repeat(64)));
    assert!(began.elapsed() >= Duration::from_secs(3) && began.elapsed() < Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn after_five_tries_it_is_left_alone() {
    let mut rig = Rig::new();
    rig.probes.ask_version(rig.launch(None), command());
    tokio::time::sleep(Duration::from_secs(60)).await;
    rig.idle().await;
    assert_eq!(rig.runner.calls(), 5);
    assert!(rig.facts.try_recv().is_err());
}
