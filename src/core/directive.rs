//! `[unit]` of a recipe: which directives of systemd it may hold, and how each becomes a property on the bus.
//!
//! Every row is accepted by systemd 252 and 257 as it is written in its sample. Deliberately absent: directives that need
//! more than a value, and those that nbsupervisor sets itself, which are answered with the recipe's own key.

use std::time::Duration;

use crate::nearest::nearest;
use crate::quantity::{ByteSize, parse_duration};
use crate::signal::Signal;
use crate::unit::{UnitSetting, UnitValue};

/// A value as a recipe has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
    /// A list.
    List(Vec<Raw>),
    /// What no directive is: a table, a fraction.
    Other,
}

/// What a directive takes, and so its type on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `b`
    Flag,
    /// `i` within bounds.
    Integer(i32, i32),
    /// `t` within bounds.
    Weight(u64, u64),
    /// `t`: a number, or `infinity`.
    Count,
    /// `t`: bytes, or `infinity`.
    Size,
    /// `t`: microseconds, or `infinity`.
    Time,
    /// `u`: an octal mode as text.
    Mode,
    /// `s`: any text.
    Text,
    /// `s`: one of these words; true and false are `yes` and `no` where those are among them.
    Word(&'static [&'static str]),
    /// `i`: the place of one of these words.
    Number(&'static [(&'static str, i32)]),
    /// `as`: words, as a list or as one text with blanks between.
    Words,
    /// `as`: absolute paths, each possibly after `-` or `+`.
    Paths,
    /// `(bas)`: words that are allowed, or after a leading `~` refused.
    Filter,
    /// `t`: names of capabilities, as bits.
    Capabilities,
    /// `a(ss)`: pairs, with this between the two; the second may be absent.
    Pairs(char),
    /// `a(ssbt)`: `/source` or `/source:/target`.
    Binds,
    /// `a(st)`: a device or path, and a size or number for it.
    Amounts,
    /// `(aiai)`: exit statuses and signals.
    Exits,
}

/// A directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directive {
    /// Its name in unit files.
    pub name: &'static str,
    /// Its name on the bus.
    pub property: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// A value as in TOML.
    pub sample: &'static str,
}

const fn d(name: &'static str, kind: Kind, sample: &'static str) -> Directive {
    Directive { name, property: name, kind, sample }
}

const fn as_bus(name: &'static str, property: &'static str, kind: Kind, sample: &'static str) -> Directive {
    Directive { name, property, kind, sample }
}

use Kind::{
    Amounts, Binds, Capabilities, Count, Exits, Filter, Flag, Integer, Mode, Number, Pairs, Paths, Size, Text, Time,
    Weight, Word, Words,
};

/// Every directive that `[unit]` may hold.
#[rustfmt::skip]
pub const DIRECTIVES: &[Directive] = &[
    d("AmbientCapabilities", Capabilities, "[\"CAP_NET_BIND_SERVICE\"]"),
    d("BindPaths", Binds, "[\"/var/tmp:/mnt\"]"),
    d("BindReadOnlyPaths", Binds, "[\"/etc\"]"),
    d("CapabilityBoundingSet", Capabilities, "[\"CAP_NET_BIND_SERVICE\", \"CAP_CHOWN\"]"),
    d("CoredumpFilter", Weight(0, 0x1ff), "51"),
    as_bus("CPUQuotaPeriodSec", "CPUQuotaPeriodUSec", Time, "\"50ms\""),
    d("CPUSchedulingPolicy", Number(&[("other", 0), ("batch", 3), ("idle", 5)]), "\"batch\""),
    d("CPUSchedulingResetOnFork", Flag, "true"),
    d("CPUWeight", Weight(1, 10_000), "50"),
    d("DeviceAllow", Pairs(' '), "[\"/dev/null rw\"]"),
    d("DevicePolicy", Word(&["auto", "closed", "strict"]), "\"closed\""),
    d("Documentation", Words, "[\"https://example.org/\"]"),
    d("ExecPaths", Paths, "[\"/usr\"]"),
    d("FinalKillSignal", Kind::Number(SIGNALS), "\"SIGKILL\""),
    d("IgnoreSIGPIPE", Flag, "false"),
    d("InaccessiblePaths", Paths, "[\"-/srv\"]"),
    d("IODeviceWeight", Amounts, "[\"/var 200\"]"),
    d("IOReadBandwidthMax", Amounts, "[\"/var 10M\"]"),
    d("IOReadIOPSMax", Amounts, "[\"/var 1000\"]"),
    d("IOSchedulingClass", Number(&[("none", 0), ("best-effort", 2), ("idle", 3)]), "\"idle\""),
    d("IOSchedulingPriority", Integer(0, 7), "6"),
    d("IOWriteBandwidthMax", Amounts, "[\"/var 10M\"]"),
    d("IOWriteIOPSMax", Amounts, "[\"/var 1000\"]"),
    d("KeyringMode", Word(&["inherit", "private", "shared"]), "\"private\""),
    d("LimitAS", Size, "\"4G\""),
    d("LimitCORE", Size, "0"),
    d("LimitDATA", Size, "\"2G\""),
    d("LimitFSIZE", Size, "\"1G\""),
    d("LimitLOCKS", Count, "1000"),
    d("LimitMEMLOCK", Size, "\"64M\""),
    d("LimitMSGQUEUE", Size, "\"1M\""),
    d("LimitNICE", Weight(0, 40), "20"),
    d("LimitNOFILE", Count, "65536"),
    d("LimitNPROC", Count, "4096"),
    d("LimitRSS", Size, "\"2G\""),
    d("LimitRTPRIO", Weight(0, 99), "0"),
    d("LimitSIGPENDING", Count, "1000"),
    d("LimitSTACK", Size, "\"8M\""),
    d("LoadCredential", Pairs(':'), "[\"motd:/etc/passwd\"]"),
    d("LockPersonality", Flag, "true"),
    d("LogLevelMax", Number(LEVELS), "\"info\""),
    as_bus("LogRateLimitIntervalSec", "LogRateLimitIntervalUSec", Time, "\"30s\""),
    d("MemoryDenyWriteExecute", Flag, "true"),
    d("MemoryHigh", Size, "\"512M\""),
    d("MemoryLow", Size, "\"64M\""),
    d("MemoryMin", Size, "\"16M\""),
    d("MemorySwapMax", Size, "0"),
    d("MountAPIVFS", Flag, "true"),
    d("Nice", Integer(-20, 19), "5"),
    d("NoExecPaths", Paths, "[\"/srv\"]"),
    d("NoNewPrivileges", Flag, "true"),
    d("NotifyAccess", Word(&["none", "main", "exec", "all"]), "\"all\""),
    d("NUMAPolicy", Number(&[("default", 0), ("preferred", 1), ("interleave", 3), ("local", 4)]), "\"local\""),
    d("OOMPolicy", Word(&["continue", "stop", "kill"]), "\"kill\""),
    d("OOMScoreAdjust", Integer(-1000, 1000), "200"),
    d("Personality", Text, "\"x86-64\""),
    d("PrivateDevices", Flag, "true"),
    d("PrivateIPC", Flag, "true"),
    d("PrivateMounts", Flag, "true"),
    d("PrivateNetwork", Flag, "true"),
    d("PrivateTmp", Flag, "false"),
    d("PrivateUsers", Flag, "true"),
    d("ProcSubset", Word(&["all", "pid"]), "\"all\""),
    d("ProtectClock", Flag, "true"),
    d("ProtectControlGroups", Flag, "true"),
    d("ProtectHome", Word(&["yes", "no", "read-only", "tmpfs"]), "false"),
    d("ProtectHostname", Flag, "true"),
    d("ProtectKernelLogs", Flag, "true"),
    d("ProtectKernelModules", Flag, "true"),
    d("ProtectKernelTunables", Flag, "true"),
    d("ProtectProc", Word(&["default", "invisible", "ptraceable", "noaccess"]), "\"default\""),
    d("ProtectSystem", Word(&["yes", "no", "full", "strict"]), "\"strict\""),
    d("ReadOnlyPaths", Paths, "[\"/usr\"]"),
    d("ReadWritePaths", Paths, "[\"-/srv\"]"),
    d("RemoveIPC", Flag, "true"),
    d("RestrictAddressFamilies", Filter, "[\"AF_UNIX\", \"AF_INET\", \"AF_INET6\"]"),
    d("RestrictRealtime", Flag, "true"),
    d("RestrictSUIDSGID", Flag, "true"),
    d("RootDirectoryStartOnly", Flag, "false"),
    as_bus("RuntimeMaxSec", "RuntimeMaxUSec", Time, "\"24h\""),
    as_bus("RuntimeRandomizedExtraSec", "RuntimeRandomizedExtraUSec", Time, "\"1h\""),
    d("SendSIGHUP", Flag, "true"),
    d("SuccessExitStatus", Exits, "[143, \"SIGTERM\"]"),
    d("SupplementaryGroups", Words, "[\"adm\"]"),
    d("SystemCallArchitectures", Words, "[\"native\"]"),
    d("SystemCallErrorNumber", Number(&[("EPERM", 1), ("EACCES", 13), ("ENOSYS", 38)]), "\"EPERM\""),
    d("SystemCallFilter", Filter, "[\"@system-service\"]"),
    d("SystemCallLog", Filter, "[\"@raw-io\"]"),
    d("TemporaryFileSystem", Pairs(':'), "[\"/mnt:ro\"]"),
    as_bus("TimeoutAbortSec", "TimeoutAbortUSec", Time, "\"30s\""),
    d("TimerSlackNSec", Count, "50000"),
    d("UMask", Mode, "\"0027\""),
    d("UnsetEnvironment", Words, "[\"INVOCATION_ID\"]"),
    as_bus("WatchdogSec", "WatchdogUSec", Time, "\"10s\""),
    d("WatchdogSignal", Kind::Number(SIGNALS), "\"SIGABRT\""),
];

const SIGNALS: &[(&str, i32)] =
    &[("SIGABRT", 6), ("SIGKILL", 9), ("SIGTERM", 15), ("SIGINT", 2), ("SIGQUIT", 3), ("SIGHUP", 1)];
const LEVELS: &[(&str, i32)] =
    &[("emerg", 0), ("alert", 1), ("crit", 2), ("err", 3), ("warning", 4), ("notice", 5), ("info", 6), ("debug", 7)];

/// Directives that nbsupervisor sets itself, and what to use instead.
#[rustfmt::skip]
pub const OWN: &[(&str, &str)] = &[
    ("CPUAccounting", "leave it out: it is always on"),
    ("CPUQuota", "use limits.cpu_quota"),
    ("CollectMode", "leave it out"),
    ("Delegate", "leave it out: an app gets no control group of its own to manage"),
    ("Description", "leave it out: it names the app"),
    ("DynamicUser", "leave user out of the recipe, and systemd makes a user for each app"),
    ("Environment", "use [environment]"),
    ("EnvironmentFile", "use [environment], and {secret.NAME} for secrets"),
    ("ExecReload", "leave it out"),
    ("ExecStart", "use command"),
    ("ExecStartPost", "leave it out"),
    ("ExecStartPre", "use [[prepare]]"),
    ("ExecStop", "use [stop]"),
    ("ExecStopPost", "leave it out"),
    ("Group", "use group"),
    ("IOAccounting", "leave it out: it is always on"),
    ("IOWeight", "use limits.io_weight"),
    ("KillMode", "leave it out: the first signal goes to the main process, the last to all"),
    ("KillSignal", "use stop.signal"),
    ("LogExtraFields", "leave it out: the journal has NBS_APP and more"),
    ("MemoryAccounting", "leave it out: it is always on"),
    ("MemoryMax", "use limits.memory_max"),
    ("PIDFile", "leave it out: an app stays in the foreground"),
    ("RemainAfterExit", "use restart.policy"),
    ("Restart", "use restart.policy"),
    ("RestartForceExitStatus", "use restart.policy"),
    ("RestartMaxDelaySec", "use restart.max_delay"),
    ("RestartPreventExitStatus", "use restart.policy"),
    ("RestartSec", "use restart.delay"),
    ("RestartSteps", "use restart.delay and restart.max_delay"),
    ("RuntimeDirectory", "use {run_dir}, which every app has"),
    ("RuntimeDirectoryMode", "use {run_dir}, which every app has"),
    ("RuntimeDirectoryPreserve", "use {run_dir}, which every app has"),
    ("SendSIGKILL", "leave it out: what outlives its stop steps is killed"),
    ("SetCredential", "use LoadCredential, or {secret.NAME} in [environment]: any user of the host could read this one"),
    ("Slice", "leave it out: every app is in nbsupervisor-apps.slice"),
    ("StandardError", "leave it out: `nbsupervisor app logs` reads the journal"),
    ("StandardOutput", "leave it out: `nbsupervisor app logs` reads the journal"),
    ("StartLimitBurst", "use restart.burst"),
    ("StartLimitIntervalSec", "use restart.window"),
    ("StateDirectory", "use {state_dir}, which every app has"),
    ("StateDirectoryMode", "use {state_dir}, which every app has"),
    ("SyslogIdentifier", "leave it out: it is the app's name"),
    ("TasksAccounting", "leave it out: it is always on"),
    ("TasksMax", "use limits.tasks_max"),
    ("TimeoutSec", "use ready.timeout and stop.timeout"),
    ("TimeoutStartSec", "use ready.timeout and ready.max_timeout"),
    ("TimeoutStopSec", "use stop.timeout"),
    ("Type", "use ready.notify = true for notify"),
    ("User", "use user"),
    ("WorkingDirectory", "use working_dir"),
];

/// Why a line of `[unit]` is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub text: String,
    /// What to write.
    pub hint: String,
}

fn fault(text: impl Into<String>, hint: impl Into<String>) -> Fault {
    Fault { text: text.into(), hint: hint.into() }
}

/// A line of `[unit]` as a property.
///
/// # Errors
/// Its name or its value is not right.
pub fn read(name: &str, raw: &Raw) -> Result<UnitSetting, Fault> {
    if let Some((_, instead)) = OWN.iter().find(|(own, _)| *own == name) {
        let text = match name {
            "SetCredential" => "it would be no secret",
            _ => "nbsupervisor sets this itself",
        };
        return Err(fault(text, *instead));
    }
    let Some(directive) = DIRECTIVES.iter().find(|directive| directive.name == name) else {
        let names = DIRECTIVES.iter().map(|directive| directive.name).chain(OWN.iter().map(|(name, _)| *name));
        let hint = match nearest(name, names) {
            Some(right) => format!("did you mean {right}?"),
            None => "docs/sandbox.md lists what [unit] may hold".into(),
        };
        return Err(fault("unknown directive", hint));
    };
    let wrong = || {
        fault(format!("{} is not {}", shown(raw), what(directive.kind)), format!("write {name} = {}", directive.sample))
    };
    let value = value(directive.kind, raw).ok_or_else(wrong)?;
    Ok(UnitSetting { property: directive.property.into(), value })
}

fn shown(raw: &Raw) -> String {
    match raw {
        Raw::Text(text) => format!("{text:?}"),
        Raw::Integer(number) => number.to_string(),
        Raw::Boolean(flag) => flag.to_string(),
        Raw::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Raw::Other => "this".into(),
    }
}

/// What a directive takes, in words with their article.
pub fn what(kind: Kind) -> String {
    let list = |words: &mut dyn Iterator<Item = &str>| words.collect::<Vec<_>>().join(", ");
    match kind {
        Flag => "true or false".into(),
        Integer(least, most) => format!("a number from {least} to {most}"),
        Weight(least, most) => format!("a number from {least} to {most}"),
        Count => "a number or infinity".into(),
        Size => "a size or infinity".into(),
        Time => "a duration or infinity".into(),
        Mode => "an octal mode".into(),
        Text => "a text".into(),
        Word(words) => format!("one of {}", list(&mut words.iter().copied())),
        Number(words) => format!("one of {}", list(&mut words.iter().map(|(word, _)| *word))),
        Words => "a list of texts".into(),
        Paths => "a list of absolute paths".into(),
        Filter => "a list of names, after ~ to refuse them".into(),
        Capabilities => "a list of capabilities".into(),
        Pairs(between) => format!("a list of pairs with {between:?} between"),
        Binds => "a list of paths, as source or source:target".into(),
        Amounts => "a list of a path and an amount each".into(),
        Exits => "a list of exit statuses and signals".into(),
    }
}

fn value(kind: Kind, raw: &Raw) -> Option<UnitValue> {
    Some(match (kind, raw) {
        (Flag, Raw::Boolean(flag)) => UnitValue::Bool(*flag),
        (Integer(least, most), Raw::Integer(number)) => {
            UnitValue::I32(i32::try_from(*number).ok().filter(|number| (least..=most).contains(number))?)
        }
        (Weight(least, most), Raw::Integer(number)) => {
            UnitValue::U64(u64::try_from(*number).ok().filter(|number| (least..=most).contains(number))?)
        }
        (Count | Size | Time, Raw::Text(text)) if text == "infinity" => UnitValue::U64(u64::MAX),
        (Count | Size, Raw::Integer(number)) => UnitValue::U64(u64::try_from(*number).ok()?),
        (Size, Raw::Text(text)) => UnitValue::U64(ByteSize::parse(text).ok()?.0),
        (Time, Raw::Text(text)) => UnitValue::U64(micros(parse_duration(text).ok()?)?),
        (Mode, Raw::Text(text)) => {
            UnitValue::U32(u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777 && !text.starts_with('+'))?)
        }
        (Text, Raw::Text(text)) => UnitValue::Text(plain(text)?),
        (Word(words), raw) => {
            let word = match raw {
                Raw::Boolean(true) => "yes",
                Raw::Boolean(false) => "no",
                Raw::Text(text) => text,
                _ => return None,
            };
            UnitValue::Text(words.iter().find(|known| **known == word)?.to_string())
        }
        (Number(words), Raw::Text(text)) => UnitValue::I32(words.iter().find(|(word, _)| word == text)?.1),
        (Exits, Raw::List(items)) => exits(items)?,
        (Words | Paths | Filter | Capabilities | Pairs(_) | Binds | Amounts, raw) => list(kind, texts(kind, raw)?)?,
        _ => return None,
    })
}

fn micros(duration: Duration) -> Option<u64> {
    u64::try_from(duration.as_micros()).ok()
}

/// A text on one line: systemd keeps units as files.
fn plain(text: &str) -> Option<String> {
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_string())
}

fn texts(kind: Kind, raw: &Raw) -> Option<Vec<String>> {
    match raw {
        Raw::List(items) => items
            .iter()
            .map(|item| match item {
                Raw::Text(text) => plain(text),
                _ => None,
            })
            .collect(),
        Raw::Text(text) if matches!(kind, Words | Filter | Capabilities) => {
            plain(text).map(|text| text.split_whitespace().map(str::to_string).collect())
        }
        _ => None,
    }
}

fn absolute(path: &str) -> Option<String> {
    path.starts_with('/').then(|| path.to_string())
}

fn list(kind: Kind, mut texts: Vec<String>) -> Option<UnitValue> {
    Some(match kind {
        Words => UnitValue::Texts(texts),
        Paths => {
            let good = |text: &String| text.trim_start_matches(['-', '+']).starts_with('/');
            texts.iter().all(good).then_some(UnitValue::Texts(texts))?
        }
        Filter => {
            let refused = texts.first().is_some_and(|text| text.starts_with('~'));
            if refused && let Some(first) = texts.first_mut() {
                first.remove(0);
            }
            texts.retain(|text| !text.is_empty());
            UnitValue::Filter { allow: !refused, names: texts }
        }
        Capabilities => {
            let bit = |name: &String| CAPABILITIES.iter().position(|known| known == name).map(|bit| 1u64 << bit);
            UnitValue::U64(texts.iter().map(bit).try_fold(0, |all, bit| Some(all | bit?))?)
        }
        Pairs(between) => {
            let pair = |text: String| match text.split_once(between) {
                Some((first, second)) => (first.to_string(), second.to_string()),
                None => (text, String::new()),
            };
            UnitValue::Pairs(texts.into_iter().map(pair).collect())
        }
        Binds => {
            let bind = |text: &String| match text.split_once(':') {
                Some((source, target)) => Some((absolute(source)?, absolute(target)?)),
                None => Some((absolute(text)?, absolute(text)?)),
            };
            UnitValue::Binds(texts.iter().map(bind).collect::<Option<_>>()?)
        }
        Amounts => {
            let amount = |text: &String| {
                let (path, amount) = text.rsplit_once(' ')?;
                Some((absolute(path)?, ByteSize::parse(amount).ok()?.0))
            };
            UnitValue::Amounts(texts.iter().map(amount).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn exits(items: &[Raw]) -> Option<UnitValue> {
    let (mut statuses, mut signals) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Raw::Integer(status) => statuses.push(i32::try_from(*status).ok().filter(|s| (0..=255).contains(s))?),
            Raw::Text(text) => signals.push(Signal::parse(text)?.0),
            _ => return None,
        }
    }
    Some(UnitValue::Exits { statuses, signals })
}

/// The kernel's capabilities in the order of their bits.
#[rustfmt::skip]
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.into())
    }

    fn setting(name: &str, raw: Raw) -> UnitValue {
        read(name, &raw).unwrap().value
    }

    fn refused(name: &str, raw: Raw) -> String {
        let fault = read(name, &raw).unwrap_err();
        format!("{}; {}", fault.text, fault.hint)
    }

    #[test]
    fn values_become_what_the_bus_wants() {
        assert_eq!(setting("WatchdogSec", text("10s")), UnitValue::U64(10_000_000));
        assert_eq!(setting("MemoryHigh", text("512M")), UnitValue::U64(512 << 20));
        assert_eq!(setting("LimitNOFILE", text("infinity")), UnitValue::U64(u64::MAX));
        assert_eq!(setting("ProtectHome", Raw::Boolean(false)), UnitValue::Text("no".into()));
        assert_eq!(setting("UMask", text("0027")), UnitValue::U32(0o27));
        let names = vec!["@mount".to_string(), "@swap".to_string()];
        assert_eq!(setting("SystemCallFilter", text("~@mount @swap")), UnitValue::Filter { allow: false, names });
        assert_eq!(setting("AmbientCapabilities", text("CAP_NET_BIND_SERVICE")), UnitValue::U64(1 << 10));
        let exits = Raw::List(vec![Raw::Integer(143), text("SIGTERM")]);
        assert_eq!(setting("SuccessExitStatus", exits), UnitValue::Exits { statuses: vec![143], signals: vec![15] });
    }

    #[test]
    fn a_wrong_line_is_told_with_the_remedy() {
        assert_eq!(refused("Nice", Raw::Integer(40)), "40 is not a number from -20 to 19; write Nice = 5");
        assert_eq!(refused("Nise", Raw::Integer(4)), "unknown directive; did you mean Nice?");
        let own = "nbsupervisor sets this itself; use limits.memory_max";
        assert_eq!(refused("MemoryMax", text("1G")), own);
        assert!(refused("SetCredential", text("a:b")).starts_with("it would be no secret; use LoadCredential"));
        assert!(refused("Documentation", text("a\nExecStart=/bin/evil")).contains("is not a list of texts"));
        assert!(refused("ReadWritePaths", Raw::List(vec![text("srv")])).contains("absolute paths"));
    }

    #[test]
    fn directives_are_in_order_and_none_is_also_the_products_own() {
        let names: Vec<String> = DIRECTIVES.iter().map(|directive| directive.name.to_lowercase()).collect();
        assert!(names.is_sorted(), "{names:?}");
        assert!(OWN.iter().all(|(own, _)| DIRECTIVES.iter().all(|directive| directive.name != *own)));
    }
}
