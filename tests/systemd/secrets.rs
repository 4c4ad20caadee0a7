//! What another user of the host can find out about an app's secrets: nothing, wherever they look.

use crate::apps::{Adapter, machine_with};
use crate::machine::{Machine, Suite};

on_each_suite_with!(Process as process:
    another_user_sees_no_secret,
    an_app_that_is_started_again_has_its_secrets,
);
on_each_suite_with!(Systemd as systemd:
    another_user_sees_no_secret,
    an_app_that_is_started_again_has_its_secrets,
);

const SECRET: &str = "gather-pickle-7391-umbrella";
/// Runs as a user of its own, so that only the secret's way into it is on trial.
const KEEPER: (&str, &str) = (
    "keeper.toml",
    r#"
name = "keeper"
command = ["/bin/sleep", "infinity"]
listen = "none"
user = "nobody"
environment = { JWT = "{secret.jwt}" }
restart = { policy = "on-failure", delay = "0s", burst = 1000 }
"#,
);

/// Looks for texts in all that a user can read and that might tell; prints what it found, and where. Bytes over D-Bus
/// are printed as numbers, so each text is given in that form as well.
const SEARCH: &str = r#"
look() { grep -aoFf /dev/shm/texts | sort -u | sed "s|$| found by: $*|"; }
for unit in $(systemctl list-units --all --plain --no-legend 'nbs*' 'leaky*' | cut -d ' ' -f 1); do
  systemctl show -- "$unit" | look systemctl show "$unit"
  systemctl cat -- "$unit" 2>/dev/null | look systemctl cat "$unit"
  systemctl status --lines=1000 -- "$unit" 2>/dev/null | look systemctl status "$unit"
  manager="org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager"
  object=$(busctl call $manager GetUnit s "$unit" | cut -d '"' -f 2)
  busctl introspect --full org.freedesktop.systemd1 "$object" | look busctl introspect "$unit"
  for interface in Unit Service; do
    all="org.freedesktop.DBus.Properties GetAll s org.freedesktop.systemd1.$interface"
    busctl call org.freedesktop.systemd1 "$object" $all 2>/dev/null | look busctl get-property "$unit" $interface
  done
done
journalctl --no-pager 2>/dev/null | look journalctl
for file in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do
  { tr '\0' ' ' <"$file" | look "$file"; } 2>/dev/null
done
grep -aorsFf /dev/shm/texts /run /etc /var /tmp | sed 's|^\(.*\):\(.*\)$|\2 found in: \1|'
true
"#;

/// Where another user finds one of these texts.
fn seen(machine: &Machine, texts: &[&str]) -> Vec<String> {
    let as_bytes = |text: &&str| text.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(" ");
    let bytes = texts.iter().map(as_bytes).collect::<Vec<_>>();
    // In a place that is not searched: an argument of the search would be found by it.
    machine.write_file("/dev/shm/texts", format!("{}\n{}\n", texts.join("\n"), bytes.join("\n")));
    let output = machine.run_as("stranger", &["bash", "-c", SEARCH]);
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for (plain, bytes) in texts.iter().zip(&bytes) {
        text = text.replace(bytes.as_str(), plain);
    }
    text.lines().map(str::to_string).collect()
}

fn environ(machine: &Machine, pid: u32) -> String {
    machine.read_file(&format!("/proc/{pid}/environ")).replace('\0', "\n")
}

/// A machine with an app that was given a secret, and was told one that the supervisor made.
fn with_secret(suite: Suite, adapter: Adapter) -> (Machine, String) {
    let machine = machine_with(suite, adapter, &[KEEPER]);
    machine.shell(&format!("umask 077; printf %s {SECRET} >/root/secret"));
    let create = ["app", "create", "vault", "--runtime", "keeper", "--start-mode", "with-supervisor"];
    machine.cli(&[&create[..], &["--secret", "MAIL_PASSWORD=@/root/secret"]].concat());
    machine.wait_app("vault", "running");
    let environ = environ(&machine, machine.app_pid("vault"));
    assert!(environ.contains(&format!("MAIL_PASSWORD={SECRET}")), "the app has its secret: {environ}");
    let made = environ.lines().find_map(|line| line.strip_prefix("JWT=")).unwrap_or_default().to_string();
    assert!(made.len() >= 16, "the app has a secret made for it: {environ}");
    (machine, made)
}

fn another_user_sees_no_secret(suite: Suite, adapter: Adapter) {
    let (machine, made) = with_secret(suite, adapter);
    // What is there to be found: in the environment of a unit, as bytes, in a process of one's own, in a file.
    let leaks = ["leak-by-environment", "leak-by-credential", "leak-by-process", "leak-by-file", "leak-by-line"];
    let run = ["systemd-run", "--property=SetCredential=leak:leak-by-credential", "--setenv=LEAK=leak-by-environment"];
    machine.ok(&[&run[..], &["--unit=leaky-1", "sleep", "infinity"]].concat());
    let run = ["systemd-run", "--unit=leaky-2", "--uid=stranger", "env", "LEAK=leak-by-process", "sleep", "infinity"];
    machine.ok(&run);
    machine.ok(&["systemd-run", "--unit=quiet", "sh", "-c", "sleep infinity; : leak-by-line"]);
    machine.write_file("/run/leak", "leak-by-file");
    let secrets = [SECRET, made.as_str()];
    let seen_by_stranger = seen(&machine, &[&leaks[..], &secrets].concat());
    for leak in leaks {
        assert!(seen_by_stranger.iter().any(|line| line.starts_with(leak)), "blind for {leak}: {seen_by_stranger:#?}");
    }
    let of_secrets = |lines: Vec<String>| {
        lines.into_iter().filter(|line| secrets.iter().any(|secret| line.contains(secret))).collect::<Vec<_>>()
    };
    assert_eq!(of_secrets(seen_by_stranger), Vec::<String>::new(), "while it runs");
    machine.cli(&["app", "restart", "vault"]);
    machine.ok(&["systemctl", "restart", "nbsupervisor"]);
    machine.wait_app("vault", "running");
    assert_eq!(of_secrets(seen(&machine, &secrets)), Vec::<String>::new(), "after restarts of app and daemon");
    // What anybody may read must not hold it, whoever looks.
    for place in ["/run/systemd", "/etc", "/run/log"] {
        let found = machine.run(&["grep", "-arlF", "-e", SECRET, "-e", &made, place]);
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{place}");
    }
}

fn an_app_that_is_started_again_has_its_secrets(suite: Suite, adapter: Adapter) {
    let (machine, made) = with_secret(suite, adapter);
    let former = machine.app_pid("vault");
    machine.ok(&["systemctl", "stop", "nbsupervisor"]);
    machine.ok(&["kill", "-KILL", &former.to_string()]);
    if let Some(unit) = adapter.unit("vault") {
        machine.wait("systemd has repaired the app", std::time::Duration::from_secs(20), |machine| {
            let pid = machine.pid_of_unit(&unit);
            if pid != former && pid != 0 { Ok(()) } else { Err(pid.to_string()) }
        });
        // Between fork and exec the process still has systemd's own variables.
        machine.wait("the app has its secrets again", std::time::Duration::from_secs(20), |machine| {
            let environ = environ(machine, machine.pid_of_unit(&unit));
            if environ.contains(SECRET) && environ.contains(&made) { Ok(()) } else { Err(environ) }
        });
    }
    machine.ok(&["systemctl", "start", "nbsupervisor"]);
    machine.wait_app("vault", "running");
    let environ = environ(&machine, machine.app_pid("vault"));
    assert!(environ.contains(SECRET) && environ.contains(&made), "{environ}");
}
