//! What this daemon is: the mode, the three adapter variables, the role that follows, and what each role needs.
//!
//! Every combination is in the table of docs/configuration.md; a test reads that table and compares. Deliberately absent:
//! what a role does.

use super::problem::{Origin, Problem};
use super::reader::{Complaint, Notes, Reader};
use super::{parse, web};

/// What the operator wrote: the origin's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Entry, worker and gateway in one, one environment, no Redis.
    Standalone,
    /// The entry of many hosts.
    Supervisor,
    /// One environment of many.
    Worker,
}

impl Mode {
    /// The word in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Supervisor => "supervisor",
            Self::Worker => "worker",
        }
    }
}

/// What this daemon does, which follows from mode and adapters together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Entry and worker in one, without Redis.
    Standalone,
    /// The entry; its apps run elsewhere.
    Entry,
    /// The entry, with an environment of its own in the same daemon.
    EntryWithApps,
    /// A worker that follows an entry.
    Worker,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Standalone, Self::Entry, Self::EntryWithApps, Self::Worker];

    /// The role in words, as `config show` and the documents have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Entry => "entry",
            Self::EntryWithApps => "entry that also runs apps",
            Self::Worker => "worker",
        }
    }

    /// Whether this daemon keeps the record and the queue.
    pub fn has_entry(self) -> bool {
        self != Self::Worker
    }

    /// Whether apps run here.
    pub fn runs_apps(self) -> bool {
        self != Self::Entry
    }

    /// Whether it works through Redis.
    pub fn uses_redis(self) -> bool {
        self != Self::Standalone
    }

    fn with_article(self) -> String {
        match self {
            Self::Standalone => "a standalone daemon".into(),
            Self::Entry => "an entry without apps of its own".into(),
            Self::EntryWithApps => "an entry".into(),
            Self::Worker => "a worker".into(),
        }
    }
}

/// Where something is, seen from this daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Local,
    Remote,
}

impl Place {
    fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
        }
    }
}

/// The keys that a role follows from.
const KEYS: [&str; 4] = ["mode", "discovery_adapter", "process_adapter", "command_adapter"];

/// Mode and adapters as given; an adapter that is not given is the one the mode goes with.
#[derive(Debug, Clone, Copy)]
struct Choice {
    mode: Mode,
    discovery: Option<Place>,
    process: Option<Place>,
    through_redis: bool,
}

/// A key of a combination that cannot be, why, and the remedy.
type Refusal = (&'static str, &'static str, &'static str);

/// Reads mode and adapters and tells what they make of this daemon.
pub fn read(top: &mut Reader<'_>) -> (Mode, Role) {
    let mode = top.setting("mode", "standalone", mode);
    let (discovery, process) = match mode {
        Mode::Standalone => (Place::Local, Place::Local),
        Mode::Supervisor => (Place::Remote, Place::Remote),
        Mode::Worker => (Place::Remote, Place::Local),
    };
    let command = if mode == Mode::Standalone { "" } else { "redis" };
    let mut adapter = |key: &str, of_mode: Place| top.setting_shown(key, "", place, |text| or(text, of_mode.as_str()));
    let choice = Choice {
        mode,
        discovery: adapter("discovery_adapter", discovery),
        process: adapter("process_adapter", process),
        through_redis: top.setting_shown("command_adapter", "", through_redis, |text| or(text, command)),
    };
    let role = match choice.role() {
        Ok(role) => role,
        Err(refusals) => {
            // A word that was not understood is told already, and what would follow from it is anyone's guess.
            if !KEYS.iter().any(|key| top.notes().has_error(key)) {
                for (key, text, hint) in refusals {
                    top.notes().problem(Problem::error(Origin::Default, key, text, hint));
                }
            }
            choice.intended()
        }
    };
    (mode, role)
}

impl Choice {
    /// The role, or everything that cannot be.
    fn role(self) -> Result<Role, Vec<Refusal>> {
        let mut refusals = Vec::new();
        match self.mode {
            Mode::Standalone => {
                const ALONE: &str = "a standalone daemon uses no Redis";
                let local = "write local or unset it, or set APP_MODE to supervisor or worker";
                if self.discovery == Some(Place::Remote) {
                    refusals.push(("discovery_adapter", ALONE, local));
                }
                if self.process == Some(Place::Remote) {
                    refusals.push(("process_adapter", ALONE, local));
                }
                if self.through_redis {
                    refusals.push(("command_adapter", ALONE, "unset it, or set APP_MODE to supervisor or worker"));
                }
            }
            Mode::Supervisor => {
                if self.discovery == Some(Place::Local) {
                    let hint = "write remote or unset it, or set APP_MODE=standalone for a host by itself";
                    refusals.push(("discovery_adapter", "an entry finds its environments through Redis", hint));
                }
            }
            Mode::Worker => {
                if self.discovery == Some(Place::Local) {
                    let hint = "write remote or unset it, or set APP_MODE=standalone for a host by itself";
                    refusals.push(("discovery_adapter", "a worker is found by its entry through Redis", hint));
                }
                if self.process == Some(Place::Remote) {
                    let hint = "write local or unset it, or set APP_MODE=supervisor for an entry";
                    refusals.push(("process_adapter", "a worker runs its apps itself", hint));
                }
            }
        }
        if refusals.is_empty() { Ok(self.intended()) } else { Err(refusals) }
    }

    /// The role that mode and process adapter ask for, whether it can be or not.
    fn intended(self) -> Role {
        match (self.mode, self.process) {
            (Mode::Standalone, _) => Role::Standalone,
            (Mode::Supervisor, Some(Place::Local)) => Role::EntryWithApps,
            (Mode::Supervisor, _) => Role::Entry,
            (Mode::Worker, _) => Role::Worker,
        }
    }
}

fn mode(text: &str) -> Result<Mode, Complaint> {
    let known = [Mode::Standalone, Mode::Supervisor, Mode::Worker].map(|mode| (mode.as_str(), mode));
    parse::word(text, "a mode", &known)
}

/// An adapter that may be left to the mode.
fn place(text: &str) -> Result<Option<Place>, Complaint> {
    let known = [Place::Local, Place::Remote].map(|place| (place.as_str(), Some(place)));
    if text.is_empty() { Ok(None) } else { parse::word(text, "an adapter", &known) }
}

fn through_redis(text: &str) -> Result<bool, Complaint> {
    if text.is_empty() { Ok(false) } else { parse::word(text, "an adapter", &[("redis", true)]) }
}

fn or(text: &str, default: &str) -> String {
    if text.is_empty() { default.into() } else { text.into() }
}

/// Whether a role has use for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Needed,
    MayBeSet,
    NotUsed,
}

/// A key that not every role has use for, and what to write if it is missing.
struct Want {
    key: &'static str,
    remedy: &'static str,
    need: fn(Role) -> Need,
}

const WANTS: &[Want] = &[
    Want {
        key: "redis.url",
        remedy: "set APP_SUPERVISOR_REDIS_URL, such as redis://10.0.0.1:6379",
        need: |role| if role.uses_redis() { Need::Needed } else { Need::NotUsed },
    },
    Want {
        key: "redis.command_url",
        remedy: "",
        need: |role| if role.uses_redis() { Need::MayBeSet } else { Need::NotUsed },
    },
    Want {
        key: "environment.name",
        remedy: "set ENVIRONMENT_NAME to a name that no other worker has, such as env_a",
        need: of_environment,
    },
    Want {
        key: "environment.url",
        remedy: "set ENVIRONMENT_URL to where the entry reaches this host's gateway, such as http://10.0.0.2:13000",
        need: of_environment,
    },
    Want {
        key: "environment.proxy_url",
        remedy: "",
        need: |role| if role.runs_apps() { Need::MayBeSet } else { Need::NotUsed },
    },
];

fn of_environment(role: Role) -> Need {
    match role {
        Role::Worker => Need::Needed,
        Role::Standalone | Role::EntryWithApps => Need::MayBeSet,
        Role::Entry => Need::NotUsed,
    }
}

/// Notes what the role needs and has not, and what it has and does not use.
pub fn check_needs(role: Role, notes: &Notes) {
    if KEYS.iter().any(|key| notes.has_error(key)) {
        return;
    }
    let who = role.with_article();
    for want in WANTS {
        // A value that was not understood is there, and it may be the whole table that was not.
        let table = want.key.split('.').next().unwrap_or_default();
        let is_bad = notes.has_error(want.key) || notes.has_error(table);
        match ((want.need)(role), notes.is_given(want.key)) {
            (Need::Needed, false) if !is_bad => {
                // A key that stands nowhere has no place of its own: what asks for it is the mode.
                let text = format!("{who} needs it");
                notes.problem(Problem::error(notes.origin_of("mode"), want.key, text, want.remedy));
            }
            (Need::NotUsed, true) => {
                let hint = match role {
                    Role::Entry => "remove it, or set APP_PROCESS_ADAPTER=local if apps are to run here too",
                    _ => "remove it, or set APP_MODE to supervisor or worker",
                };
                notes.problem(Problem::warning(Origin::Default, want.key, format!("{who} does not use it"), hint));
            }
            _ => {}
        }
    }
}

/// Notes what is wrong with the address at which the entry's gateway is to reach a worker.
pub fn check_addresses(url: Option<&str>, proxy_url: Option<&str>, notes: &Notes) {
    let reached = proxy_url.map(|url| ("environment.proxy_url", url));
    let Some((key, url)) = reached.or(url.map(|url| ("environment.url", url))) else { return };
    if web::is_https(url) {
        let text = "an entry that speaks https to a worker is not available yet";
        let hint = match key {
            "environment.url" => "write http://, or set ENVIRONMENT_PROXY_URL to an address with http://",
            _ => "write http://",
        };
        notes.problem(Problem::error(Origin::Default, key, text, hint));
    }
    if web::is_loopback(url) {
        let text = format!("{url:?} is reached from this host only");
        let hint = "write an address that the entry reaches, unless the entry runs on this host";
        notes.problem(Problem::warning(Origin::Default, key, text, hint));
    }
}

/// Which of the role's keys were set and where, for one line to people.
pub fn told(role: Role, origin_of: impl Fn(&str) -> Origin) -> String {
    let set = KEYS.iter().map(|key| (key, origin_of(key))).filter(|(_, origin)| *origin != Origin::Default);
    let set: Vec<String> = set.map(|(key, origin)| format!("{key} from {origin}")).collect();
    let from = if set.is_empty() { "by default".into() } else { set.join(", ") };
    format!("{} ({from})", role.as_str())
}
