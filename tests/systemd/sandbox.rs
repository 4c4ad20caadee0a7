//! What an app as a unit can reach: as a user of systemd's making or as one of the host's, in the standard sandbox.

use std::time::Duration;

use serde_json::{Value, json};

use crate::apps::{Adapter, machine_with};
use crate::machine::{Machine, Suite};
use crate::recipes::WEB;

on_each_suite_with!(Systemd as systemd:
    a_made_user_serves_by_a_unix_socket,
    a_made_user_reaches_its_own_places_and_no_others,
    a_user_of_the_host_keeps_what_its_rights_are_outside_of_the_system,
    a_purge_leaves_nothing_of_a_made_user,
    a_purge_leaves_nothing_of_a_user_of_the_host,
    a_server_of_files_lives_in_the_sandbox,
);

/// Tells each visitor who it is and where it can write, and counts its starts in its data directory.
const SCRIPT: &str = r#"
import http.server, json, os, pwd, socketserver

def can_write(directory):
    name = os.path.join(directory, 'by-the-teller')
    try:
        open(name, 'w').close()
    except OSError:
        return False
    os.remove(name)
    return True

def status(key):
    lines = [line.split() for line in open('/proc/self/status')]
    return [line[1] for line in lines if line[0] == key + ':'][0]

with open('starts', 'a') as starts:
    starts.write('x')
open('/tmp/of-the-teller', 'w').close()
places = {'home': '.', 'tmp': '/tmp', 'run': os.environ['RUN_DIR'], 'srv': '/srv/open', 'usr': '/usr/open',
          'etc': '/etc/open', 'stranger': '/home/stranger'}

class Teller(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = {'user': pwd.getpwuid(os.getuid()).pw_name, 'starts': len(open('starts').read()),
                'writes': sorted(name for name, place in places.items() if can_write(place)),
                'no_new_privileges': status('NoNewPrivs'), 'seccomp': status('Seccomp'),
                'init': os.path.exists('/proc/1/status'), 'loop': os.path.exists('/dev/made-for-the-test')}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())
    def address_string(self):
        return 'a visitor'

socketserver.UnixStreamServer(os.environ['SOCKET'], Teller).serve_forever()
"#;
const TELLER: &str = r#"
command = ["/usr/bin/python3", "-u", "/opt/teller.py"]
listen = "unix"
strip_prefix = true
environment = { SOCKET = "{socket}", RUN_DIR = "{run_dir}" }
ready = { http = "/", interval = "50ms", timeout = "20s" }
restart = { policy = "on-failure", delay = "0s", burst = 1000 }
"#;

/// A machine with a teller, as a user of systemd's making or another.
fn with_teller(suite: Suite, adapter: Adapter, user: Option<&str>) -> Machine {
    let user = user.map(|user| format!("user = \"{user}\"\n")).unwrap_or_default();
    let recipe = format!("name = \"teller\"\n{user}{TELLER}");
    let machine = machine_with(suite, adapter, &[("teller.toml", &recipe)]);
    machine.write_file("/opt/teller.py", SCRIPT);
    // Places that any user of the host may write to, were it not for the sandbox.
    machine.shell("mkdir -m 1777 /srv/open /usr/open /etc/open; mknod -m 666 /dev/made-for-the-test c 1 3");
    machine.app_create("site", "teller", "with-supervisor");
    machine
}

fn told(machine: &Machine) -> Value {
    let answer = machine.gateway("/apps/site/");
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// Crashes it, and waits for the next life.
fn crash(machine: &Machine) {
    let pid = machine.app_pid("site");
    machine.ok(&["kill", "-KILL", &pid.to_string()]);
    machine.wait("it is repaired", Duration::from_secs(20), |machine| {
        let app = machine.app("site");
        let (now, status) = (&app["instances"][0]["pid"], &app["status"]);
        if *now != pid && *status == "running" { Ok(()) } else { Err(format!("{app:#}")) }
    });
}

fn a_made_user_serves_by_a_unix_socket(suite: Suite, adapter: Adapter) {
    let machine = with_teller(suite, adapter, None);
    let unit = adapter.unit("site").unwrap();
    assert_eq!(machine.unit_property(&unit, "DynamicUser"), "yes");
    assert_eq!((&told(&machine)["user"], &told(&machine)["starts"]), (&json!("nbs-app-site"), &json!(1)));
    crash(&machine);
    assert_eq!(told(&machine)["starts"], 2, "its data stayed, and its socket is another");
    let life = adapter.invocation(&machine, "site");
    machine.ok(&["systemctl", "restart", "nbsupervisor"]);
    assert_eq!(told(&machine)["starts"], 2);
    assert_eq!(adapter.invocation(&machine, "site"), life);
    machine.app_stop("site");
    machine.app_start("site");
    machine.wait_app("site", "running");
    assert_eq!(told(&machine)["starts"], 3);
    let socket = "/run/nbsupervisor-apps/site";
    let others = machine.run_as("stranger", &["ls", &format!("{socket}/")]);
    assert!(!others.status.success(), "nobody else looks into the socket's directory");
}

fn a_made_user_reaches_its_own_places_and_no_others(suite: Suite, adapter: Adapter) {
    let machine = with_teller(suite, adapter, None);
    let told = told(&machine);
    assert_eq!(told["writes"], json!(["home", "run", "tmp"]), "{told:#}");
    assert_eq!((&told["no_new_privileges"], &told["seccomp"]), (&json!("1"), &json!("2")), "{told:#}");
    assert_eq!((&told["init"], &told["loop"]), (&json!(false), &json!(false)), "{told:#}");
    assert!(!machine.run(&["test", "-e", "/tmp/of-the-teller"]).status.success(), "its /tmp is its own");
    let others = machine.run_as("stranger", &["ls", "/var/lib/nbsupervisor/apps/site/"]);
    assert!(!others.status.success(), "nobody else looks into its data");
}

fn a_user_of_the_host_keeps_what_its_rights_are_outside_of_the_system(suite: Suite, adapter: Adapter) {
    let machine = with_teller(suite, adapter, Some("stranger"));
    let told = told(&machine);
    assert_eq!(told["user"], "stranger");
    // Neither the system nor the home directories.
    assert_eq!(told["writes"], json!(["home", "run", "srv", "tmp"]), "{told:#}");
    assert_eq!((&told["init"], &told["loop"]), (&json!(false), &json!(false)), "{told:#}");
    let owner = machine.ok(&["stat", "-c", "%U %F", "/var/lib/nbsupervisor/apps/site"]);
    assert_eq!(owner, "stranger directory");
}

/// What is there of an app's data and sockets, wherever systemd puts them.
fn left(machine: &Machine) -> String {
    let places = "/var/lib/nbsupervisor/apps /var/lib/private/nbsupervisor/apps /run/nbsupervisor-apps /run/private";
    machine.shell(&format!("find {places} -name 'site*' 2>/dev/null || :"))
}

/// Another app of the same name.
fn again(machine: &Machine) {
    let create = ["app", "create", "site", "--runtime", "teller", "--start-mode", "with-supervisor", "--reuse"];
    machine.cli(&create);
    machine.wait_app("site", "running");
}

fn purge(machine: &Machine, starts: u64) {
    // Without the wish for it, data stay, and the next app of the name has them.
    machine.cli(&["app", "remove", "site", "--yes"]);
    machine.wait("only its data are left", Duration::from_secs(20), |machine| match left(machine) {
        left if !left.is_empty() && left.lines().all(|line| line.starts_with("/var/lib")) => Ok(()),
        left => Err(left),
    });
    again(machine);
    assert_eq!(told(machine)["starts"], starts + 1);
    machine.cli(&["app", "remove", "site", "--yes", "--purge-data"]);
    machine.wait("nothing is left", Duration::from_secs(20), |machine| match left(machine) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
    again(machine);
    assert_eq!(told(machine)["starts"], 1, "the next app of the name begins anew");
}

fn a_purge_leaves_nothing_of_a_made_user(suite: Suite, adapter: Adapter) {
    let machine = with_teller(suite, adapter, None);
    let kind = machine.ok(&["stat", "-c", "%F", "/var/lib/nbsupervisor/apps/site"]);
    assert_eq!(kind, "symbolic link", "systemd keeps its data in a private place");
    machine.ok(&["test", "-e", "/var/lib/private/nbsupervisor/apps/site/starts"]);
    purge(&machine, 1);
}

fn a_purge_leaves_nothing_of_a_user_of_the_host(suite: Suite, adapter: Adapter) {
    let machine = with_teller(suite, adapter, Some("stranger"));
    purge(&machine, 1);
}

fn a_server_of_files_lives_in_the_sandbox(suite: Suite, adapter: Adapter) {
    let machine = machine_with(suite, adapter, &[WEB]);
    machine.app_create("files", "web", "with-supervisor");
    let unit = adapter.unit("files").unwrap();
    assert_eq!(machine.unit_property(&unit, "ProtectSystem"), "strict");
    let answer = machine.gateway("/apps/files/");
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.text.contains("Directory listing"), "{}", answer.text);
}
