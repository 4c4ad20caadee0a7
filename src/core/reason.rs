//! Why an instance is not what it should be: a closed list of codes, each with a text and a remedy.

use std::fmt;

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $remedy:literal;)*) => {
        /// The closed list. `code()` is part of the public contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ReasonCode { $($(#[$doc])* $name,)* }

        impl ReasonCode {
            /// Every code, for tables and documents.
            pub const ALL: &'static [ReasonCode] = &[$(ReasonCode::$name,)*];

            /// The word on the wire.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What the operator can do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }

            /// Reads the word on the wire.
            pub fn parse(code: &str) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

reason_codes! {
    /// The main process ended with a status other than 0.
    ExitStatus = "exit_status", "read the last log lines; correct the app or its settings, then `app start`";
    /// The main process ended with status 0 although it should run.
    ExitedCleanly = "exited_cleanly", "an app must stay in the foreground; check its command, or set restart.policy = \"always\"";
    /// The main process was ended by a signal.
    Signal = "signal", "find who sent the signal; SIGKILL often means the kernel was out of memory (see `journalctl -k`)";
    /// It ended while nobody who may ask the kernel for its status was there.
    ExitUnknown = "exit_unknown", "read the app's log; the process ended while the daemon was away";
    /// The kernel killed it for memory.
    OomKilled = "oom_killed", "raise limits.memory_max or give the app less to do";
    /// systemd gave up restarting its unit.
    StartLimit = "start_limit", "mend the cause shown before it, then `app start`";
    /// It did not feed systemd's watchdog.
    Watchdog = "watchdog", "the app hung: read its log, or raise WatchdogSec in the recipe's [unit]";
    /// Its unit was stopped by someone else.
    StoppedOutside = "stopped_outside", "stop apps with `nbsupervisor app stop`; a unit stopped with systemctl comes back";
    /// It did not become ready in time.
    StartTimeout = "start_timeout", "read the app's log; raise ready.timeout in the recipe if it is only slow";
    /// Its readiness probe said that it failed.
    ProbeFailed = "probe_failed", "read the answer above and the app's log";
    /// Its liveness probe failed too often.
    NotAlive = "not_alive", "read the app's log; check the recipe's alive probe";
    /// The program is not there.
    MissingBinary = "missing_binary", "install the program or correct the recipe's command";
    /// The program cannot be executed.
    NotExecutable = "not_executable", "make the program executable (chmod +x) and its interpreter present";
    /// The working directory is not there.
    BadWorkingDirectory = "bad_working_directory", "create the directory or correct working_dir in the recipe";
    /// The user or group does not exist, or may not be taken.
    BadUser = "bad_user", "create the user or correct the recipe; only root may run apps as another user";
    /// Another process listens on the wanted port.
    PortInUse = "port_in_use", "stop the other process or change environment.port_range";
    /// The recipe is not (any more) what the start needs.
    BadRecipe = "bad_recipe", "run `nbsupervisor runtime check` and correct the recipe";
    /// A resource limit could not be set.
    BadLimit = "bad_limit", "lower the limit, or run the daemon with the right to set it";
    /// systemd refused a property of the unit.
    BadProperty = "bad_property", "correct [unit], limits or sandbox in the recipe; `nbsupervisor runtime check` helps";
    /// A unit of that name belongs to someone else.
    UnitConflict = "unit_conflict", "remove the other unit (`systemctl cat` shows it) or give the app another name";
    /// systemd does not answer, or is not there.
    SystemdUnavailable = "systemd_unavailable", "check `systemctl` and `busctl` on the host, or set adapter = \"process\" in the recipe";
    /// The daemon may not manage units.
    AccessDenied = "access_denied", "run the daemon as root, or as a user with a systemd user manager";
    /// The system refused to start the process.
    SpawnFailed = "spawn_failed", "see the text; often a limit of processes, memory or disk";
    /// A prepare or upgrade hook failed.
    HookFailed = "hook_failed", "read the hook's log lines, mend the cause, then `app start` (or `app upgrade`, if it was a step of one)";
    /// A hook was cut off by a crash of the daemon or host; it is never run again by itself.
    HookInterrupted = "hook_interrupted", "check what the hook had done; `app start` runs a prepare hook again, `app upgrade` the steps of an upgrade";
    /// Its database server does not answer.
    DatabaseUnreachable = "database_unreachable", "start the database server or mend the way to it; the app goes on by itself";
    /// The database server refused the user, the password, or what is to be made.
    DatabaseDenied = "database_denied", "correct user and password, or give the user that right (CREATEDB, CREATEROLE, CREATE), then `app start`";
    /// What has the name of its database or role is somebody else's.
    DatabaseTaken = "database_taken", "rename or drop what is there, or connect the app to it with `--database new-connection`";
    /// Its database could not be made or used.
    DatabaseFailed = "database_failed", "see the text; correct the app's database or [database.servers], then `app start`";
    /// It crashed so often that automatic restarts were given up.
    GaveUp = "gave_up", "mend the cause shown before it, then `app start`";
    /// The host was restarted.
    Rebooted = "rebooted", "nothing: the start mode decides whether it comes back";
    /// The process that it shares with other apps ended, or cannot be started.
    HostEnded = "host_ended", "read why the host process ended, shown after its name; its apps come back with it";
    /// The process that it shares with other apps did not do as asked.
    HostRefused = "host_refused", "read the host process's answer above and its log; check [shared] of the recipe";
    /// The process that it shares with other apps says that it does not run.
    NotInHost = "not_in_host", "read the app's log, which is its host process's; stop apps with `nbsupervisor app stop`";
    /// The environment says nothing.
    EnvironmentSilent = "environment_silent", "check the host, its daemon and the network between";
    /// A start turn ended by its deadline.
    TurnExpired = "turn_expired", "the intent stands; look at `app why` and the environment";
}

impl ReasonCode {
    /// Whether an end for this reason is never followed by an automatic attempt: the attempts are used up.
    pub fn is_final(self) -> bool {
        matches!(self, Self::StartLimit)
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

/// A code with the particulars of this case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Which case.
    pub code: ReasonCode,
    /// What happened, in one sentence without a full stop.
    pub text: String,
}

impl Reason {
    /// Joins code and text.
    pub fn new(code: ReasonCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitOutcome {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody could tell: it was adopted, and this kernel keeps no status for strangers.
    Unknown,
}

impl ExitOutcome {
    /// The reason that follows from an end that nobody asked for.
    pub fn reason(self) -> Reason {
        match self {
            Self::Code(0) => Reason::new(ReasonCode::ExitedCleanly, "exited with status 0"),
            Self::Code(code) => Reason::new(ReasonCode::ExitStatus, format!("exited with status {code}")),
            Self::Signal(signal) => {
                Reason::new(ReasonCode::Signal, format!("killed by {}", crate::signal::Signal(signal)))
            }
            Self::Unknown => Reason::new(ReasonCode::ExitUnknown, "exit status unknown (adopted)"),
        }
    }
}
