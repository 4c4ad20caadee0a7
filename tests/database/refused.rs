//! Bad input: each has its own reason, and changes nothing.

use std::io::Write;
use std::net::TcpListener;

use nbs_core::database::{Endpoint, Failure, Made, Plan, What};
use nbs_core::secret::SecretText;
use nbsupervisor::ports::DatabaseMaker;

use crate::rig::{Rig, USUAL, new, schema};

fn told(failure: &Failure) -> (&'static str, bool) {
    (failure.reason.code.code(), failure.transient)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_somebody_else_is_left_alone() {
    let rig = Rig::new("SUPERUSER");
    rig.server.sql("postgres", "CREATE ROLE ann; CREATE ROLE erp; COMMENT ON ROLE erp IS 'the ERP'");
    rig.server.sql("postgres", "CREATE DATABASE crm OWNER ann");
    rig.server.sql("postgres", "CREATE SCHEMA shop AUTHORIZATION ann");
    rig.server.sql("crm", "CREATE TABLE people (name text)");
    for (app, database, said) in
        [("crm", new(), "database \"crm\""), ("erp", new(), "role \"erp\""), ("shop", schema(), "schema \"shop\"")]
    {
        let failure = rig.prepare(app, &database).await.unwrap_err();
        assert_eq!(told(&failure), ("database_taken", false), "{failure:?}");
        assert!(failure.reason.text.contains(said) && failure.reason.text.contains("left alone"), "{failure:?}");
        rig.maker.drop_all(&rig.plan(app, &database, None)).await.unwrap();
    }
    assert_eq!((rig.databases().as_str(), rig.roles().as_str()), ("crm", "ann erp"));
    assert_eq!(rig.server.sql("crm", "SELECT count(*) FROM people"), "0");
    assert_eq!(rig.server.sql("postgres", "SELECT count(*) FROM pg_namespace WHERE nspname = 'shop'"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_of_another_supervisor_is_somebody_else() {
    let rig = Rig::new(USUAL);
    rig.prepare("crm", &new()).await.unwrap();
    let Plan { server, what: What::Make(make) } = rig.plan("crm", &new(), None) else { panic!("it is made") };
    let other = nbs_core::database::Make { mark: "nbsupervisor:crm:ffffffffffffffff".into(), ..make };
    let other = Plan { server, what: What::Make(other) };
    let failure = rig.maker.prepare(&other).await.unwrap_err();
    assert_eq!(told(&failure), ("database_taken", false));
    assert!(failure.reason.text.contains("another nbsupervisor"), "{failure:?}");
    rig.maker.drop_all(&other).await.unwrap();
    assert_eq!((rig.databases().as_str(), rig.roles().as_str()), ("crm", "crm"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_make_it_is_told_what_is_missing() {
    let mut rig = Rig::new("CREATEROLE");
    let failure = rig.prepare("crm", &new()).await.unwrap_err();
    assert_eq!(told(&failure), ("database_denied", false));
    assert!(failure.reason.text.contains("\"nbs\"") && failure.reason.text.contains("CREATEDB"), "{failure:?}");
    let failure = rig.prepare("crm", &schema()).await.unwrap_err();
    assert_eq!(told(&failure), ("database_denied", false));
    assert!(failure.reason.text.contains("schema in database \"postgres\""), "{failure:?}");
    assert_eq!(rig.roles(), "", "no role was left behind");
    rig.user.password = Some(SecretText::new("falsch"));
    let failure = rig.prepare("crm", &new()).await.unwrap_err();
    assert_eq!(told(&failure), ("database_denied", false));
    assert!(failure.reason.text.contains("password") && !failure.reason.text.contains("falsch"), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_and_nonsense_are_told_apart() {
    let mut rig = Rig::new(USUAL);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    rig.user.endpoint = Endpoint { host: "127.0.0.1".into(), port: closed.port() };
    let failure = rig.prepare("crm", &new()).await.unwrap_err();
    assert_eq!(told(&failure), ("database_unreachable", true));
    assert!(failure.reason.text.ends_with("does not answer: connection refused"), "{failure:?}");
    let nonsense = TcpListener::bind("127.0.0.1:0").unwrap();
    rig.user.endpoint.port = nonsense.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = nonsense.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        // Held open: what was sent has to do.
        let _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
    });
    let failure = rig.prepare("crm", &new()).await.unwrap_err();
    assert!(!failure.reason.text.is_empty() && failure.reason.text.contains("database server default"), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_becomes_a_statement() {
    let rig = Rig::new("SUPERUSER");
    rig.server.sql("postgres", "CREATE DATABASE victim");
    let name = "x\"; DROP DATABASE victim; --";
    let Plan { server, what: What::Make(make) } = rig.plan("crm", &new(), None) else { panic!("it is made") };
    for schema in [false, true] {
        let mark = "m'; DROP DATABASE victim; --\\".to_string();
        let make = nbs_core::database::Make { schema, name: name.into(), mark, ..make.clone() };
        let plan = Plan { server: server.clone(), what: What::Make(make) };
        assert_eq!(rig.maker.prepare(&plan).await, Ok(Made { own_role: true }));
        assert!(rig.databases().contains("victim") && rig.roles().contains(name), "{}", rig.databases());
        rig.maker.drop_all(&plan).await.unwrap();
        assert_eq!((rig.databases().as_str(), rig.roles().as_str()), ("victim", ""));
    }
}
