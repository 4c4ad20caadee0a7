//! A daemon that dies in the midst of it leaves nothing that a person has to repair.

use std::time::Duration;

use nbs_core::database::Made;
use nbsupervisor::ports::DatabaseMaker;

use crate::rig::{Rig, USUAL, new, schema};

const OWN: Made = Made { own_role: true };

#[tokio::test(flavor = "multi_thread")]
async fn every_state_between_two_statements_is_gone_on_from() {
    let rig = Rig::new(USUAL);
    let role = |app: &str| {
        let mark = rig.make(app, &new()).mark;
        rig.server.sql("postgres", &format!("CREATE ROLE {app} LOGIN; COMMENT ON ROLE {app} IS '{mark}'"));
    };
    role("a");
    role("b");
    rig.server.sql("postgres", "CREATE DATABASE b OWNER b");
    role("c");
    rig.server.sql("postgres", "CREATE SCHEMA c AUTHORIZATION c");
    rig.server.sql("postgres", "GRANT CREATE ON DATABASE postgres TO nbs; GRANT a, b, c TO nbs");
    for (app, database) in [("a", new()), ("b", new()), ("c", schema())] {
        assert_eq!(rig.prepare(app, &database).await, Ok(OWN), "{app}");
        rig.as_app(app, &database, OWN, "CREATE TABLE t (n int)").unwrap();
    }
    rig.server.sql("postgres", "CREATE DATABASE d OWNER nbs");
    assert_eq!(rig.prepare("d", &new()).await, Ok(Made { own_role: false }), "empty, and of the server's own user");
    rig.server.sql("postgres", "CREATE DATABASE e OWNER nbs");
    rig.server.sql("e", "CREATE TABLE t (n int)");
    assert_eq!(rig.prepare("e", &new()).await.unwrap_err().reason.code.code(), "database_taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_at_any_moment_it_succeeds_the_next_time() {
    let rig = Rig::new(USUAL);
    for moment in 0..12 {
        let app = format!("app-{moment}");
        let cut = Duration::from_millis(10 * moment);
        let _ = tokio::time::timeout(cut, rig.prepare(&app, &new())).await;
        assert_eq!(rig.prepare(&app, &new()).await, Ok(OWN), "cut off after {cut:?}");
        let plan = rig.plan(&app, &new(), Some(OWN));
        let _ = tokio::time::timeout(cut, rig.maker.drop_all(&plan)).await;
        assert_eq!(rig.maker.drop_all(&plan).await, Ok(()), "cut off after {cut:?}");
    }
    assert_eq!((rig.databases().as_str(), rig.roles().as_str()), ("", ""));
}
