//! What is made is there, is the app's own, and lets nobody else in.

use futures_util::future::join_all;
use nbs_core::database::{Database, Given, Made};
use nbs_core::secret::SecretText;
use nbsupervisor::ports::DatabaseMaker;

use crate::rig::{Rig, USUAL, new, schema};

const OWN: Made = Made { own_role: true };

#[tokio::test(flavor = "multi_thread")]
async fn a_database_has_a_role_of_its_own_and_is_found_again() {
    let rig = Rig::new(USUAL);
    for app in ["crm-2", "erp"] {
        assert_eq!(rig.prepare(app, &new()).await, Ok(OWN));
    }
    rig.as_app("crm-2", &new(), OWN, "CREATE TABLE people (name text); INSERT INTO people VALUES ('ann')").unwrap();
    let url = rig.connection("erp", &new(), OWN).url();
    let strange = format!("{}/crm-2", url.strip_suffix("/erp").unwrap());
    let refused = rig.server.sql_as(&strange, "SELECT 1").unwrap_err();
    assert!(refused.contains("permission denied for database"), "{refused}");
    for made in [None, Some(OWN)] {
        assert_eq!(rig.maker.prepare(&rig.plan("crm-2", &new(), made)).await, Ok(OWN));
    }
    assert_eq!(rig.as_app("crm-2", &new(), OWN, "SELECT name FROM people").unwrap(), "ann");
    assert!(!rig.server.log().contains("CREATE ROLE"), "{}", rig.server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_whose_password_somebody_changed_is_given_its_own_again() {
    let rig = Rig::new(USUAL);
    assert_eq!(rig.prepare("crm", &new()).await, Ok(OWN));
    rig.server.sql("postgres", "ALTER ROLE crm PASSWORD 'other'");
    assert!(rig.as_app("crm", &new(), OWN, "SELECT 1").is_err());
    assert_eq!(rig.maker.prepare(&rig.plan("crm", &new(), Some(OWN))).await, Ok(OWN));
    assert_eq!(rig.as_app("crm", &new(), OWN, "SELECT 1").unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_where_its_app_looks_first() {
    let mut rig = Rig::new(USUAL);
    rig.server.sql("postgres", "CREATE DATABASE \"the shop's\" OWNER nbs");
    rig.user.database = "the shop's".into();
    for app in ["crm", "erp"] {
        assert_eq!(rig.prepare(app, &schema()).await, Ok(OWN));
        assert_eq!(rig.maker.prepare(&rig.plan(app, &schema(), Some(OWN))).await, Ok(OWN));
        rig.as_app(app, &schema(), OWN, "CREATE TABLE t (n int)").unwrap();
    }
    let tables =
        "SELECT string_agg(schemaname || '.' || tablename, ' ' ORDER BY 1) FROM pg_tables WHERE tablename = 't'";
    assert_eq!(rig.server.sql("the shop's", tables), "crm.t erp.t");
    assert!(rig.as_app("erp", &schema(), OWN, "SELECT * FROM crm.t").unwrap_err().contains("permission denied"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_make_roles_the_servers_own_user_is_used() {
    let rig = Rig::new("CREATEDB");
    let shared = Made { own_role: false };
    assert_eq!(rig.prepare("crm", &new()).await, Ok(shared));
    assert_eq!(
        rig.as_app("crm", &new(), shared, "SELECT current_user || ' in ' || current_database()").unwrap(),
        "nbs in crm"
    );
    rig.server.sql("postgres", "ALTER ROLE nbs CREATEROLE");
    assert_eq!(rig.prepare("crm", &new()).await, Ok(shared), "what it made belongs to that user");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_given_is_used_as_it_stands_whatever_its_names() {
    let rig = Rig::new("");
    let (database, user, schema) = ("my \"db\" of ';--", "o'hara \"x\" y", "the \"best\" one");
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    rig.server.sql("postgres", &format!("CREATE ROLE {} LOGIN PASSWORD 'p:w/ %'", quote(user)));
    rig.server.sql("postgres", &format!("CREATE DATABASE {} OWNER {}", quote(database), quote(user)));
    rig.server.sql(database, &format!("CREATE SCHEMA {}", quote(schema)));
    let given = Given {
        host: "127.0.0.1".into(),
        port: rig.server.port(),
        database: database.into(),
        schema: Some(schema.into()),
        user: user.into(),
        password: SecretText::new("p:w/ %"),
    };
    let asked = Database::Given(Box::new(given.clone()));
    let made = rig.prepare("crm", &asked).await.unwrap();
    assert_eq!(rig.as_app("crm", &asked, made, "SELECT current_user").unwrap(), user);
    for (wrong, code, said) in [
        (
            Given { password: SecretText::new("x"), ..given.clone() },
            "database_denied",
            "password authentication failed",
        ),
        (Given { password: SecretText::new(""), ..given.clone() }, "database_denied", "wants a password"),
        (Given { database: "none".into(), ..given.clone() }, "database_failed", "\"none\" does not exist"),
        (Given { schema: Some("none".into()), ..given.clone() }, "database_failed", "no schema \"none\""),
        (Given { user: "nobody".into(), ..given }, "database_denied", "authentication failed"),
    ] {
        let failure = rig.prepare("crm", &Database::Given(Box::new(wrong))).await.unwrap_err();
        assert_eq!((failure.reason.code.code(), failure.transient), (code, false), "{failure:?}");
        assert!(failure.reason.text.contains(said), "{failure:?}");
    }
    assert_eq!(rig.roles(), user, "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_apps_at_once_and_one_app_twice_at_once() {
    let rig = Rig::new(USUAL);
    let apps: Vec<String> = (0..20)
        .map(|number| format!("app-{:02}", number / 2 * 2))
        .chain((0..10).map(|n| format!("app-{:02}", n * 2 + 1)))
        .collect();
    let made = join_all(apps.iter().map(|app| async { rig.prepare(app, &new()).await })).await;
    assert!(made.iter().all(|made| *made == Ok(OWN)), "{made:?}");
    assert_eq!(rig.databases().split(' ').count(), 20);
    for app in &apps {
        assert_eq!(rig.as_app(app, &new(), OWN, "SELECT current_database()").unwrap(), *app);
    }
}
