//! `[shared]` in recipe files: its meaning, and exact messages for mistakes.

use std::fs;
use std::time::Duration;

use nbs_core::quantity::ByteSize;
use nbs_core::recipe::{Adapter, Listen};

use crate::{errors, good};

/// A recipe whose process can host several apps, with these lines instead of the usual ones of the same key.
fn shared_lines(lines: &str) -> String {
    let usual = [
        ("listen", "listen = \"port\""),
        ("", "[shared]"),
        ("list", "list = { get = \"/apps\", running = [\"on\"] }"),
        ("start", "start = { post = \"/apps/{app}/start\" }"),
        ("stop", "stop = { post = \"/apps/{app}/stop\", timeout = \"7s\" }"),
        ("ready", "ready = { http = \"/apps/{app}/health\" }"),
    ];
    let key = lines.split([' ', '=']).next().unwrap_or_default();
    let kept: Vec<&str> = usual.iter().filter(|(k, _)| k.is_empty() || *k != key).map(|(_, line)| *line).collect();
    match key {
        "listen" => format!("{lines}\n{}", kept.join("\n")),
        _ => format!("{}\n{lines}", kept.join("\n")),
    }
}

#[test]
fn what_a_recipe_says_of_shared_hosting_means_what_it_says() {
    let text =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/shared-host/shared-host.toml")).unwrap();
    let recipe = good(&text);
    let shared = recipe.shared.as_ref().unwrap();
    assert_eq!(shared.host.as_str(), "nbs-host-shared-host");
    assert_eq!(shared.select.as_ref().map(|select| select.header.as_str()), Some("X-App"));
    assert_eq!((shared.stop_timeout, shared.list.interval), (Duration::from_secs(20), Duration::from_secs(1)));
    assert_eq!(shared.create.as_ref().map(|call| call.expect.status.clone()), Some(vec![201, 409]));
    let login = shared.login.as_ref().unwrap();
    assert_eq!((login.header.as_str(), login.value.as_str()), ("Authorization", "Bearer {token}"));
    assert_eq!(shared.setup[0].done.expect.json, Some(("enabled".into(), "true".into())));
    assert!(recipe.secrets_needed().is_empty(), "the host process's own secrets are nobody's to bring");
    let host = recipe.for_host().unwrap();
    assert_eq!(host.limits.memory_max, Some(ByteSize(256 << 20)));
    assert!(host.environment.contains_key("HOST_PASSWORD") && !recipe.environment.contains_key("HOST_PASSWORD"));
    let member = recipe.for_member().unwrap();
    assert_eq!((member.adapter, member.listen, member.prepare.len()), (Some(Adapter::Shared), Listen::None, 0));
    assert!(recipe.shared_turn_timeout().unwrap() > recipe.turn_timeout());
    assert_eq!(errors(&shared_lines("")), Vec::<String>::new());
}

/// Lines of `[shared]`, and what is told of them.
const SHARED_MISTAKES: &[(&str, &str)] = &[
    (
        "listen = \"none\"",
        "a.toml:4: shared: the process that apps share listens nowhere; set listen, so that the process can be asked",
    ),
    (
        "select = { header = \"Host\" }",
        "a.toml:9: shared.select.header: \"Host\" is no header to set; name one such as X-App",
    ),
    (
        "create = { post = \"apps\" }",
        "a.toml:9: shared.create.post: this is not a path; write a path on the host's own address, such as \"/apps\"",
    ),
    (
        "create = { post = \"/a\", get = \"/b\" }",
        "a.toml:9: shared.create: it has get and post at once; keep one of them",
    ),
    (
        "create = { post = \"/a?k={secret.jwt}\" }",
        "a.toml:9: shared.create.post: {secret.jwt} would be shown with the path; hand it over in headers or body",
    ),
    (
        "create = { post = \"/a\", body = { p = \"{port}\" } }",
        "a.toml:9: shared.create.body.p: {port} has no value here; an app that shares a process has no address of its own; leave it out",
    ),
    (
        "create = { post = \"/a\", body = { p = [\"{prot}\"] } }",
        "a.toml:9: shared.create.body.p[0]: unknown placeholder {prot}; did you mean {port}?",
    ),
    (
        "create = { post = \"/a\", body = { p = 1.5 } }",
        "a.toml:9: shared.create.body.p: 1.5 cannot be sent; write a text, a whole number, true or false",
    ),
    (
        "create = { post = \"/a\", expect = { status = 20 } }",
        "a.toml:9: shared.create.expect.status: 20 is no status; write numbers such as [200, 409]",
    ),
    (
        "create = { post = \"/a\", expect = { json = \"x\" } }",
        "a.toml:9: shared.create.expect.equals: it is missing; write the text that must stand there, such as equals = \"true\"",
    ),
    ("create = { psot = \"/a\" }", "a.toml:9: shared.create.psot: unknown key; did you mean shared.create.post?"),
    (
        "ready = { tcp = true }",
        "a.toml:4: shared.ready: one app of several can only be asked by http; write ready = { http = \"/apps/{app}/health\" }",
    ),
    (
        "login = { post = \"/l\", token = \"t\", value = \"x\" }",
        "a.toml:9: shared.login.value: \"x\" does not have {token} in it once; write value = \"Bearer {token}\"",
    ),
    (
        "setup = [{ post = \"/s\" }]",
        "a.toml:9: shared.setup[0].done: it is missing; write how to see that it is done: done = { get = \"/status\" }",
    ),
    (
        "database = \"mine\"",
        "a.toml:9: shared.database: \"mine\" is not a database mode; there is none, new-database, new-schema",
    ),
];

#[test]
fn mistakes_in_shared_hosting_name_line_value_and_remedy() {
    for (lines, expected) in SHARED_MISTAKES {
        let found = errors(&shared_lines(lines));
        assert!(found.contains(&expected.to_string()), "{lines}\n  wanted {expected}\n  found  {found:#?}");
    }
    for key in ["list", "start", "stop", "ready"] {
        let text: String =
            shared_lines("").lines().filter(|line| !line.starts_with(key)).map(|line| format!("{line}\n")).collect();
        let found = errors(&text);
        assert!(
            found.iter().any(|text| text.contains(&format!("shared.{key}: it is missing; write"))),
            "{key}: {found:?}"
        );
    }
}
