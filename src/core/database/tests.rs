use super::*;

fn servers() -> Servers {
    let server = Server {
        endpoint: Endpoint { host: "10.0.0.9".into(), port: 5432 },
        user: "nbs".into(),
        password: Some(SecretText::new("p/w")),
        database: "postgres".into(),
    };
    BTreeMap::from([(ServerName::parse("default").unwrap(), server)])
}

fn app(text: &str) -> AppId {
    AppId::parse(text).unwrap()
}

fn new() -> Database {
    Database::New { server: ServerName::parse("default").unwrap() }
}

fn with_owner<T>(run: impl FnOnce(Owner<'_>) -> T) -> T {
    let (app, secret) = (app("crm-2"), SecretText::new("0123456789abcdef".repeat(4)));
    let environment = EnvironmentName::parse("Env.a").unwrap();
    run(Owner { app: &app, environment: &environment, secret: &secret })
}

fn make(schema: bool) -> Make {
    let database = if schema { Database::Schema { server: ServerName::parse("default").unwrap() } } else { new() };
    match with_owner(|owner| database.plan(owner, &servers(), None)).unwrap().unwrap().what {
        What::Make(make) => make,
        What::Check { .. } => unreachable!("it is made"),
    }
}

#[test]
fn every_part_of_a_connection_follows_from_spec_secret_and_server() {
    let connection = with_owner(|owner| new().connection(owner, &servers(), PathBuf::new(), None)).unwrap();
    let password = "0123456789abcdef".repeat(3);
    assert_eq!(connection.url(), format!("postgres://crm-2:{password}@10.0.0.9:5432/crm-2"));
    assert_eq!((Part::Schema.of(&connection), Part::Dialect.of(&connection)), ("public".into(), "postgres".into()));
    let shared = Some(Made { own_role: false });
    let connection = with_owner(|owner| new().connection(owner, &servers(), PathBuf::new(), shared)).unwrap();
    assert_eq!(connection.url(), "postgres://nbs:p%2Fw@10.0.0.9:5432/crm-2");
    let schema = Database::Schema { server: ServerName::parse("default").unwrap() };
    let connection = with_owner(|owner| schema.connection(owner, &servers(), PathBuf::new(), None)).unwrap();
    assert_eq!((connection.database.as_str(), connection.schema.as_str()), ("postgres", "crm-2"));
}

#[test]
fn a_file_needs_no_server_and_no_secret() {
    let file = with_owner(|owner| Database::File.connection(owner, &Servers::new(), "/s/crm.sqlite".into(), None));
    let file = file.unwrap();
    assert_eq!(Part::Url.of(&file), "sqlite:///s/crm.sqlite");
    assert_eq!((Part::Host.of(&file), Part::Port.of(&file), Part::User.of(&file)), Default::default());
    assert_eq!(with_owner(|owner| Database::File.plan(owner, &Servers::new(), None)), Ok(None));
}

#[test]
fn a_server_that_is_not_there_and_a_secret_that_is_not_there_are_told() {
    let missing = with_owner(|owner| new().plan(owner, &Servers::new(), None)).unwrap_err();
    assert!(missing.text.contains("[database.servers.default]"), "{missing}");
    let (app, environment, secret) = (app("crm"), EnvironmentName::parse("a").unwrap(), SecretText::new(""));
    let owner = Owner { app: &app, environment: &environment, secret: &secret };
    assert!(new().plan(owner, &servers(), None).unwrap_err().text.contains("without a secret"));
}

#[test]
fn a_mark_tells_nothing_of_the_password() {
    let make = make(false);
    assert_eq!(make.mark, "nbsupervisor:crm-2:0123456789abcdef");
    assert_eq!(make.password.expose().len(), 48);
    assert!(!format!("{make:?}").contains("p/w"), "{make:?}");
}

#[test]
fn names_fit_and_differ() {
    let environment = |text: &str| EnvironmentName::parse(text).unwrap();
    assert_eq!(name_of(&app("crm-2"), &environment("Env.a")), "crm-2");
    assert_eq!(name_of(&app("nbs-host-nocobase"), &environment("Env.a")), "nbs_host_nocobase_Env.a");
    let long = |end: &str| name_of(&app("nbs-host-nocobase"), &environment(&format!("{}{end}", "e".repeat(60))));
    assert_eq!((long("a").len(), long("b").len()), (NAME_MAX, NAME_MAX));
    assert_ne!(long("a"), long("b"));
    assert_eq!(fitting(&"ä".repeat(40)).len(), 62 + 1, "cut between two characters");
}

#[test]
fn odd_names_become_parts_of_a_url() {
    let given = Given {
        host: "fd00::1".into(),
        port: 5433,
        database: "my \"db\"".into(),
        schema: None,
        user: "o'hara@x".into(),
        password: SecretText::new("a:b/c"),
    };
    let given = Database::Given(Box::new(given));
    let connection = with_owner(|owner| given.connection(owner, &Servers::new(), PathBuf::new(), None)).unwrap();
    assert_eq!(connection.url(), "postgres://o%27hara%40x:a%3Ab%2Fc@[fd00::1]:5433/my%20%22db%22");
}

const ALL: Rights = Rights { roles: true, create: true, superuser: true };
const SOME: Rights = Rights { superuser: false, ..ALL };
const NO_ROLES: Rights = Rights { roles: false, ..SOME };
const NONE: Rights = Rights { create: false, ..NO_ROLES };

fn thing(mark: Option<&str>, owner: &str, empty: bool) -> Option<Thing> {
    Some(Thing { mark: mark.map(Into::into), owner: owner.into(), empty })
}

#[test]
fn what_is_not_there_is_made_with_the_rights_there_are() {
    let make = make(false);
    let decided = |rights, role| decide(&make, &Found { rights, role, thing: None });
    let create = |for_role| [Step::Create { for_role }, Step::Mark, Step::Close];
    let with_role = |steps: Vec<Step>| Ok(Decision { own_role: true, steps: [steps, create(true).into()].concat() });
    assert_eq!(decided(ALL, None), with_role(vec![Step::CreateRole]));
    assert_eq!(decided(SOME, None), with_role(vec![Step::CreateRole, Step::JoinRole]));
    assert_eq!(
        decided(SOME, thing(Some(&make.mark), "crm-2", false)),
        with_role(vec![Step::JoinRole]),
        "after a crash"
    );
    assert_eq!(decided(NO_ROLES, None), Ok(Decision { own_role: false, steps: create(false).into() }));
    assert!(!decided(NO_ROLES, thing(None, "crm-2", false)).unwrap().own_role);
    let denied = decided(NONE, None).unwrap_err();
    assert_eq!(denied.reason.code, ReasonCode::DatabaseDenied);
    assert!(denied.reason.text.contains("\"nbs\"") && denied.reason.text.contains("CREATEDB"), "{denied:?}");
}

#[test]
fn what_is_ours_is_used_and_what_is_not_is_left_alone() {
    let make = make(false);
    let own = make.mark.clone();
    let ours = || thing(Some(&own), "crm-2", false);
    let decided = |role, thing| decide(&make, &Found { rights: SOME, role, thing });
    assert_eq!(decided(ours(), ours()), Ok(Decision { own_role: true, steps: vec![] }));
    let marked = vec![Step::Mark, Step::Close];
    assert_eq!(decided(ours(), thing(None, "crm-2", false)), Ok(Decision { own_role: true, steps: marked.clone() }));
    assert_eq!(decided(None, thing(None, "nbs", true)), Ok(Decision { own_role: false, steps: marked }));
    assert_eq!(decided(None, thing(Some(&own), "nbs", false)), Ok(Decision { own_role: false, steps: vec![] }));
    let foreign = "nbsupervisor:crm-2:ffffffffffffffff";
    for (role, other) in [
        (None, thing(None, "nbs", false)),
        (None, thing(None, "ann", true)),
        (None, thing(Some(foreign), "nbs", true)),
        (ours(), thing(Some("the CRM of the sales people"), "ann", true)),
        (thing(None, "crm-2", true), thing(None, "crm-2", true)),
        (thing(Some(foreign), "crm-2", true), None),
        (thing(None, "crm-2", true), None),
    ] {
        let found = Found { rights: SOME, role: role.clone(), thing: other.clone() };
        let denied = decide(&make, &found).unwrap_err();
        assert_eq!(denied.reason.code, ReasonCode::DatabaseTaken, "{found:?}");
        assert!(!denied.transient && denied.reason.text.contains("crm-2"), "{denied:?}");
        let removal = remove(&make, &found);
        assert!(!removal.thing, "{found:?}");
        assert_eq!(removal.role, role == ours(), "{found:?}");
    }
}
