//! What is dropped is the app's and all of it, sessions included; and whether a server answers is told.

use std::process::{Command, Stdio};
use std::time::Duration;

use nbs_core::database::{Made, Watch};
use nbsupervisor::ports::DatabaseMaker;

use crate::eventually::eventually;
use crate::rig::{Rig, USUAL, new, schema};

const OWN: Made = Made { own_role: true };

#[tokio::test(flavor = "multi_thread")]
async fn dropping_ends_sessions_and_leaves_the_neighbours() {
    let rig = Rig::new(USUAL);
    rig.server.sql("postgres", "GRANT CREATE ON DATABASE postgres TO nbs");
    for (app, database) in [("a", new()), ("b", new()), ("c", schema()), ("d", schema())] {
        rig.prepare(app, &database).await.unwrap();
        rig.as_app(app, &database, OWN, "CREATE TABLE t (n int)").unwrap();
    }
    let mut sessions: Vec<_> = [("a", new()), ("c", schema())]
        .iter()
        .map(|(app, database)| {
            let url = rig.connection(app, database, OWN).url();
            let mut command = Command::new("psql");
            command.args([url.as_str(), "-X", "-c", "SELECT pg_sleep(1000)"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    eventually("both are connected", Duration::from_secs(20), || {
        let count =
            rig.server.sql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep'");
        if count == "2" { Ok(()) } else { Err(count) }
    });
    for (app, database) in [("a", new()), ("c", schema())] {
        for _ in 0..2 {
            assert_eq!(rig.maker.drop_all(&rig.plan(app, &database, Some(OWN))).await, Ok(()), "{app}");
        }
    }
    for session in &mut sessions {
        assert!(!session.wait().unwrap().success());
    }
    assert_eq!((rig.databases().as_str(), rig.roles().as_str()), ("b", "b d"));
    assert_eq!(
        rig.server.sql("postgres", "SELECT string_agg(schemaname, ' ') FROM pg_tables WHERE tablename = 't'"),
        "d"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_watch_tells_when_a_server_goes_and_comes() {
    let mut rig = Rig::new(USUAL);
    let login = rig.user.login();
    let endpoint = login.endpoint.clone();
    rig.maker.watch(Watch { server: "database server default".into(), login: login.clone() });
    assert_eq!(rig.news.recv().await, Some((endpoint.clone(), Ok(()))));
    // A connection that is ended alone is no silence.
    rig.server.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'nbs'");
    rig.server.stop();
    let (at, state) = rig.news.recv().await.unwrap();
    assert_eq!(at, endpoint);
    assert!(state.is_err(), "{state:?}");
    rig.server.launch();
    loop {
        match rig.news.recv().await.unwrap() {
            (_, Ok(())) => break,
            // While it starts it may say something else than nothing.
            (_, Err(_)) => {}
        }
    }
    rig.maker.unwatch(&endpoint);
    let mut refused = login;
    refused.user = "nobody".into();
    rig.maker.watch(Watch { server: "database server default".into(), login: refused });
    assert_eq!(rig.news.recv().await, Some((endpoint, Ok(()))), "who is refused is answered");
}
