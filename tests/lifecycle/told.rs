//! What systemd is told while the daemon runs.

use crate::eventually::eventually;
use crate::host::{Host, PATIENCE};

const ANY: &[&str] = &["gateway.listen=127.0.0.1:0", "admin.listen="];

#[test]
fn the_watchdog_is_fed_again_and_again() {
    let mut host = Host::new();
    host.start(ANY, &[("WATCHDOG_USEC", "600000")]);
    eventually("it is fed three times", PATIENCE, || {
        let fed = host.look(|state| state.said.iter().filter(|message| message.trim() == "WATCHDOG=1").count());
        if fed >= 3 { Ok(()) } else { Err(format!("{fed} times\n{}", host.log())) }
    });
}

#[test]
fn the_status_line_says_how_many_apps_run_and_where() {
    let mut host = Host::new();
    host.start(ANY, &[]);
    let line = format!(
        "STATUS=0 apps, 0 running; gateway http://{}; admin {}",
        host.address("gateway.addr"),
        host.path("run/admin.sock").display()
    );
    host.until_said(&line);
}
