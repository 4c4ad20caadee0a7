//! A WebDriver client: Debian's chromedriver, spoken to over HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::eventually::eventually;

/// How the protocol marks an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Chromium on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A browser with one tab, its profile thrown away with it.
pub struct Driver {
    driver: Child,
    port: u16,
    session: String,
    _profile: tempfile::TempDir,
}

impl Driver {
    /// Starts a browser.
    pub fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("chromedriver");
        command.args(["--port=0", "--log-level=SEVERE"]).env("HOME", profile.path());
        // A group of its own, so that the browser's many processes can be ended by its number.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut driver = command.spawn().expect("chromedriver, of Debian's package chromium-driver");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.ok()?;
            line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        // It must find somebody who reads until it ends.
        std::thread::spawn(move || lines.for_each(drop));
        let mut this = Self {
            driver,
            port: port.expect("chromedriver tells its port"),
            session: String::new(),
            _profile: profile,
        };
        let folder = format!("--user-data-dir={}", this._profile.path().display());
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--window-size=1280,900",
            &folder,
        ];
        let options = json!({ "args": arguments });
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } } } });
        let begun = this.ask("POST", "/session", Some(wanted)).expect("a session with Chromium");
        this.session = begun["sessionId"].as_str().unwrap().to_string();
        this
    }

    fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let body = body.map_or(String::new(), |body| body.to_string());
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}");
        write!(stream, "{head}\r\nContent-Type: application/json\r\n\r\n{body}").map_err(|error| error.to_string())?;
        // It says that it closes the connection and does not, so the length counts.
        let mut reader = BufReader::new(stream);
        let (mut ok, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).map_err(|error| error.to_string())?;
            ok = ok.or(Some(line.contains(" 200 ")));
            match line.to_ascii_lowercase().split_once("content-length:") {
                Some((_, number)) => length = number.trim().parse().map_err(|_| line)?,
                None if line.trim().is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).map_err(|error| error.to_string())?;
        let mut answer: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        match ok == Some(true) {
            true => Ok(answer["value"].take()),
            false => Err(answer["value"]["message"].to_string()),
        }
    }

    fn tab(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, String> {
        self.ask(method, &format!("/session/{}{path}", self.session), body)
    }

    /// Opens an address.
    pub fn open(&self, url: &str) {
        self.tab("POST", "/url", Some(json!({ "url": url }))).unwrap();
    }

    /// What a script returns.
    pub fn run(&self, script: &str) -> Result<Value, String> {
        self.tab("POST", "/execute/sync", Some(json!({ "script": script, "args": [] })))
    }

    fn find(&self, selector: &str) -> Result<String, String> {
        let wanted = json!({ "using": "css selector", "value": selector });
        let found = self.tab("POST", "/element", Some(wanted))?;
        found[ELEMENT].as_str().map(String::from).ok_or_else(|| format!("no {selector}"))
    }

    /// Clicks like a person: on something that can be seen. What was clicked is not clicked again, whatever came of it.
    pub fn click(&self, selector: &str) {
        self.until(selector, || {
            let element = self.find(selector)?;
            let clicked = self.tab("POST", &format!("/element/{element}/click"), Some(json!({}))).map(drop);
            match clicked {
                Err(error)
                    if ["not interactable", "intercepted", "stale"].iter().any(|early| error.contains(early)) =>
                {
                    Err(error)
                }
                Err(error) => panic!("a click on {selector}: {error}"),
                Ok(()) => Ok(()),
            }
        });
    }

    /// Types into a field, in place of what is in it.
    pub fn write(&self, selector: &str, text: &str) {
        self.until(selector, || {
            let element = self.find(selector)?;
            self.tab("POST", &format!("/element/{element}/clear"), Some(json!({})))?;
            self.tab("POST", &format!("/element/{element}/value"), Some(json!({ "text": text }))).map(drop)
        });
    }

    /// Waits until an element shows a text.
    pub fn shows(&self, selector: &str, text: &str) {
        let script = format!("return document.querySelector({})?.innerText ?? '(not there)'", json!(selector));
        self.until(&format!("{selector} shows {text}"), || {
            let seen = self.run(&script)?;
            let seen = seen.as_str().unwrap_or_default();
            let page = || self.run("return location.href + '\\n' + document.body.innerText");
            if seen.contains(text) { Ok(()) } else { Err(format!("{seen:?} on {:#}", page()?)) }
        });
    }

    /// Waits until a script's answer is yes.
    pub fn holds(&self, what: &str, script: &str) {
        self.until(what, || match self.run(script)? {
            Value::Bool(true) => Ok(()),
            other => Err(other.to_string()),
        });
    }

    fn until(&self, what: &str, ask: impl FnMut() -> Result<(), String>) {
        eventually(what, LIMIT, ask);
    }

    /// What the browser complained about: errors of scripts, and what the policy of a page refused.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.tab("POST", "/se/log", Some(json!({ "type": "browser" }))).unwrap();
        log.as_array().unwrap().iter().map(|entry| entry["message"].to_string()).collect()
    }

    /// Gives the window a size.
    pub fn size(&self, width: u32, height: u32) {
        self.tab("POST", "/window/rect", Some(json!({ "width": width, "height": height }))).unwrap();
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.tab("DELETE", "", None);
        let group = nix::unistd::Pid::from_raw(-(self.driver.id() as i32));
        let _ = nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.driver.wait();
    }
}
