use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::config::{ConfigError, Loaded, Sources, load};

fn loaded(main: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nbsupervisor.toml");
    let password = dir.path().join("password");
    fs::write(&file, main.replace("DIR", &dir.path().display().to_string())).unwrap();
    fs::write(&password, "from file\n").unwrap();
    for file in [&file, &password] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let variables: BTreeMap<String, String> = variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    load(&Sources { config_file: Some(file), variables, uid: nix::unistd::geteuid().as_raw(), ..Sources::default() })
}

fn server(loaded: &Loaded, name: &str) -> Server {
    loaded.config.databases[&ServerName::parse(name).unwrap()].clone()
}

fn password(server: &Server) -> Option<&str> {
    server.password.as_ref().map(SecretText::expose)
}

#[test]
fn the_origins_variables_fill_the_default() {
    let variables = [
        ("DB_DIALECT", "postgres"),
        ("DB_HOST", "db.example"),
        ("DB_PORT", "5433"),
        ("DB_USER", "o'hara x"),
        ("DB_PASSWORD", "123"),
        ("DB_DATABASE", "main"),
    ];
    let loaded = loaded("", &variables).unwrap();
    let server = server(&loaded, "default");
    assert_eq!(server.endpoint, Endpoint { host: "db.example".into(), port: 5433 });
    assert_eq!((server.user.as_str(), server.database.as_str(), password(&server)), ("o'hara x", "main", Some("123")));
    let shown = loaded.show();
    assert!(shown.contains("database.servers.default.password") && !shown.contains("123"), "{shown}");
}

#[test]
fn servers_have_defaults_and_passwords_of_files() {
    let text = "[database.servers.default]\n[database.servers.big]\nhost = \"/run/postgresql\"\npassword_file = \"DIR/password\"\n";
    let loaded = loaded(text, &[]).unwrap();
    let plain = server(&loaded, "default");
    assert_eq!(plain.endpoint, Endpoint { host: "127.0.0.1".into(), port: 5432 });
    assert_eq!((plain.user.as_str(), plain.database.as_str(), password(&plain)), ("postgres", "postgres", None));
    assert_eq!(password(&server(&loaded, "big")), Some("from file"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn a_file_as_a_dialect_is_no_server() {
    let loaded = loaded("", &[("DB_DIALECT", "sqlite")]).unwrap();
    assert!(loaded.config.databases.is_empty());
    assert!(loaded.warnings[0].to_string().contains("--db-dialect sqlite"), "{:?}", loaded.warnings);
}

#[test]
fn mistakes_name_key_value_and_remedy_and_no_password() {
    for (text, wanted) in [
        ("[database.servers.x]\ndialect = \"mysql\"", "\"mysql\" is not available yet; set up a PostgreSQL"),
        ("[database.servers.x]\ndialect = \"postgre\"", "\"postgre\" is not a dialect; did you mean postgres?"),
        ("[database.servers.x]\nhost = \"a@b\"", "is not a host; write a name or an address"),
        ("[database.servers.x]\nport = 0", "0 is out of range; write a whole number from 1 to 65535"),
        ("[database.servers.x]\nuser = \"\"", "is no name for PostgreSQL"),
        ("[database.servers.X]\n", "\"X\" is not the name of a database server"),
        ("[database.servers.x]\nhots = \"a\"", "unknown key; did you mean database.servers.x.host?"),
        ("[database]\nserver = 1", "unknown key"),
        ("[database.servers.x]\npassword = \"s3cret\\nx\"", "the password has more than one line"),
        ("[database.servers.x]\npassword = \"s3cret\"\npassword_file = \"DIR/password\"", "a file that holds one too"),
        ("[database.servers.x]\npassword_file = \"DIR/none\"", "cannot be read"),
    ] {
        let told = loaded(text, &[]).unwrap_err().to_string();
        assert!(told.contains(wanted), "{text}: {told}");
        assert!(!told.contains("s3cret"), "{told}");
    }
}
