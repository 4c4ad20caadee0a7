//! A real Chromium at a real daemon: what a person does from the sign-in to the removal of an app.

use std::fs;

use nix::sys::signal::Signal;

use crate::daemon::Daemon;
use crate::driver::Driver;
use crate::recipes::WEB;

/// The line of an app in the list.
const ROW: &str = "#app-site";

#[test]
fn a_person_makes_runs_stops_and_removes_an_app() {
    let daemon = Daemon::start_with(&[WEB], &["usage.interval=1s"]);
    let token = daemon.cli_ok(&["token", "create", "ann"]);
    let admin = fs::read_to_string(daemon.dir().join("run/admin.addr")).unwrap();
    let home = format!("http://{}/", admin.trim());
    let chromium = Driver::start();

    chromium.open(&home);
    chromium.shows("h1", "Sign in");
    chromium.write("#token", "nbs_wrong");
    chromium.click("button.main");
    chromium.shows("#token-wrong", "not known here");
    chromium.write("#token", token.trim());
    chromium.click("button.main");
    chromium.shows("#live", "There is no application yet");

    chromium.click("a.button.main");
    chromium.write("#name", "Site");
    chromium.click("button.main");
    chromium.shows("#name-wrong", "not");
    chromium.write("#name", "site");
    chromium.write("#title", "Our <b>site</b>");
    chromium.click("button.main");
    chromium.shows("h1", "site");
    chromium.click("a[href='/']");

    // From here on the page is not loaded again: what changes was sent.
    chromium.shows(ROW, "Our <b>site</b>");
    chromium.run("window.same = true; document.querySelector('#app-site a').focus()").unwrap();
    daemon.cli_ok(&["app", "start", "site"]);
    chromium.shows(ROW, "running");
    chromium.holds(
        "the page is the same one, and the focus where it was",
        "return window.same === true && document.activeElement.getAttribute('href') === '/console/apps/site'",
    );
    chromium.holds("usage is seen", "return document.querySelector('#app-site').innerText.includes('MiB')");
    chromium.click("#app-site form[action$='/stop'] button");
    chromium.shows(ROW, "stopped");

    // A daemon that says nothing is not shown as well, and neither is what it said before.
    let pid = daemon.request("GET", "/api/v1/status", None).body["pid"].as_i64().unwrap() as i32;
    let tell = |signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    chromium.run("window.same = true").unwrap();
    tell(Signal::SIGSTOP);
    chromium.holds("an old page is grey", "return document.body.classList.contains('old')");
    chromium.shows("#link", "may not be so any more");
    tell(Signal::SIGCONT);
    chromium.holds("it is heard again", "return !document.body.classList.contains('old')");
    chromium
        .holds("and its page is the same one", "return window.same === true && document.querySelector('#link').hidden");

    // On a phone it is the same page, and nothing is wider than the screen.
    chromium.size(420, 900);
    chromium.holds("the page fits", "return document.documentElement.scrollWidth <= window.innerWidth");
    chromium.click("#app-site a[href$='/remove']");
    chromium.shows("h1", "Remove site?");
    chromium.click("button.danger");
    chromium.shows("#live", "There is no application yet");
    chromium.click("header form button");
    chromium.shows("h1", "Sign in");
    let complaints = chromium.complaints();
    let bad: Vec<_> =
        complaints.iter().filter(|text| text.contains("Content Security") || text.contains("Uncaught")).collect();
    assert!(bad.is_empty(), "{bad:?}");
}
