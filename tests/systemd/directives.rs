//! What a recipe says about its units, and what systemd makes of it: every directive, and texts that arrive as they are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use nbs_core::directive::DIRECTIVES;

use crate::apps::{Adapter, machine_with};
use crate::machine::{Machine, Suite};

on_each_suite_with!(Systemd as systemd:
    systemd_takes_every_directive_as_its_sample_shows_it,
    variables_arrive_byte_for_byte,
    arguments_arrive_byte_for_byte,
);

/// As their own user, so that directives only meet each other and not what a made user brings along.
const PLAIN: &str = r#"
command = ["/bin/sleep", "infinity"]
listen = "none"
user = "root"
sandbox = "none"
"#;
/// Directives that would get in the way of the others, each with the number of its app.
const APART: &[(&str, usize)] =
    &[("BindPaths", 1), ("InaccessiblePaths", 1), ("PrivateUsers", 1), ("ReadWritePaths", 2), ("PrivateNetwork", 2)];
const APPS: usize = 3;
/// systemd takes it and writes no line for it.
const UNWRITTEN: &str = "NUMAPolicy";

/// The directives of an app, as lines of TOML.
fn lines(app: usize) -> String {
    let mut lines = String::new();
    for row in DIRECTIVES {
        let place = APART.iter().find(|(name, _)| *name == row.name).map_or(0, |(_, app)| *app);
        // A sample is of the architecture that most have.
        let sample = if row.name == "Personality" && cfg!(target_arch = "aarch64") { "\"arm64\"" } else { row.sample };
        if place == app {
            writeln!(lines, "{} = {sample}", row.name).unwrap();
        }
    }
    lines
}

/// What systemd wrote down of a unit: it writes what it was given, under the names of unit files.
fn written(machine: &Machine, unit: &str) -> BTreeMap<String, Vec<String>> {
    let text = machine.ok(&["systemctl", "cat", "--", unit]);
    let mut written: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        written.entry(name.into()).or_default().push(value.into());
    }
    written
}

fn systemd_takes_every_directive_as_its_sample_shows_it(suite: Suite, adapter: Adapter) {
    let recipes: Vec<(String, String)> = (0..APPS)
        .map(|app| (format!("rows-{app}"), format!("name = \"rows-{app}\"\n{PLAIN}\n[unit]\n{}", lines(app))))
        .collect();
    let machine = machine_with(suite, adapter, &[]);
    let mut seen = BTreeMap::new();
    for (name, text) in &recipes {
        machine.recipe(&format!("{name}.toml"), &format!("adapter = \"{}\"\n{text}", adapter.name()));
        machine.app_create(name, name, "with-supervisor");
        seen.extend(written(&machine, &adapter.unit(name).unwrap()));
    }
    let names = DIRECTIVES.iter().map(|row| row.name).filter(|name| *name != UNWRITTEN);
    let missing: Vec<&str> = names.filter(|name| !seen.contains_key(*name)).collect();
    let numa = machine.unit_property(&adapter.unit("rows-0").unwrap(), UNWRITTEN);
    assert_eq!(numa, "local", "what is not written down is shown");
    assert_eq!(missing, Vec::<&str>::new(), "{seen:#?}");
    for (app, (name, _)) in recipes.iter().enumerate() {
        assert_eq!(machine.app_status(name), "running", "{}", lines(app));
    }
}

/// Numbers from a seed, so that a failure comes back.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}

/// What a reader of files, a shell or an expander might take for its own.
const PIECES: &[&str] = &[
    " ",
    "  ",
    "\t",
    "\n",
    "\n\n",
    "\\",
    "\\\\",
    "\\\n",
    "\\n",
    "\\x41",
    "\"",
    "'",
    "`",
    "$",
    "$$",
    "$HOME",
    "${HOME}",
    "$(id)",
    "%",
    "%n",
    "%%",
    "#",
    "\n#",
    ";",
    "\n;",
    "=",
    "A=B",
    "{",
    "}",
    "[Service]",
    "\nA=1",
    "é",
    "日本",
    "🦀",
    "\u{a0}",
    "\u{feff}",
    "\u{fffd}",
    "a",
    "b c",
    "0",
    "!",
    "*",
    "~",
    "-",
    "@",
    "|",
    "&",
    "<",
    ">",
    "?",
    "(",
    ")",
];

/// 200 values that must arrive as they are.
fn values() -> Vec<String> {
    let mut random = Seeded(0x6e62_7375);
    let plain =
        ["", " ", "\n", "\t", "\"", "'", "\\", "$", "#", " a ", "a\\", "a\n", "\na", "\"a\"", "'a'", "\"a", "a b"];
    let mut values: Vec<String> = plain.map(String::from).to_vec();
    while values.len() < 200 {
        let pieces = 1 + random.below(12);
        values.push((0..pieces).map(|_| PIECES[random.below(PIECES.len())]).collect());
    }
    values
}

/// What a process was given, as its own file in /proc has it.
fn given(machine: &Machine, pid: u32, file: &str) -> Vec<String> {
    let output = machine.run(&["cat", &format!("/proc/{pid}/{file}")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = output.stdout.strip_suffix(b"\0").unwrap_or(&output.stdout);
    bytes.split(|byte| *byte == 0).map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
}

/// A text in TOML, and in a recipe, where braces are doubled.
fn in_recipe(text: &str) -> String {
    toml::Value::String(text.replace('{', "{{").replace('}', "}}")).to_string()
}

fn variables_arrive_byte_for_byte(suite: Suite, adapter: Adapter) {
    let machine = machine_with(suite, adapter, &[]);
    let mut text = format!("adapter = \"{}\"\nname = \"nasty\"\n", adapter.name());
    text.push_str("command = [\"/bin/sleep\", \"infinity\"]\nlisten = \"none\"\nuser = \"nobody\"\n[environment]\n");
    let values = values();
    for (number, value) in values.iter().enumerate() {
        writeln!(text, "NASTY_{number} = {}", in_recipe(value)).unwrap();
    }
    machine.recipe("nasty.toml", &text);
    machine.app_create("nasty", "nasty", "with-supervisor");
    let arrived = given(&machine, machine.app_pid("nasty"), "environ");
    for (number, value) in values.iter().enumerate() {
        let name = format!("NASTY_{number}=");
        let found: Vec<&str> = arrived.iter().filter_map(|line| line.strip_prefix(&name)).collect();
        assert_eq!(found, [value.as_str()], "{name}");
    }
    let strange: Vec<&String> = arrived.iter().filter(|line| line.starts_with("A=")).collect();
    assert_eq!(strange, Vec::<&String>::new(), "no value became a variable of its own");
}

/// From this version on systemd can read back every argument that it wrote down.
const EXEC_FLAGS_SINCE: u32 = 254;

/// Arguments that a unit file, a shell or an expander would take for something else.
const ARGUMENTS: &[&str] = &[
    "$HOME", "${HOME}", "${x}", "$", "$$", "a$b", "%n", "%", "%%", ";", "a;b", "\\", "\\;", "\\n", "\\x41", "'", "\"",
    "", " ", " a ", "a\tb", "a\nb", "#", "é🦀", "{}", "-", "@", "!", "|", "`id`", "&&",
];

fn arguments_arrive_byte_for_byte(suite: Suite, adapter: Adapter) {
    let machine = machine_with(suite, adapter, &[]);
    let head = ["/usr/bin/python3", "-c", "import signal\nsignal.pause()"];
    let argv: Vec<&str> = head.iter().chain(ARGUMENTS).copied().collect();
    let listed = argv.iter().map(|argument| in_recipe(argument)).collect::<Vec<_>>().join(", ");
    let text = format!(
        "adapter = \"{}\"\nname = \"argued\"\ncommand = [{listed}]\nlisten = \"none\"\nuser = \"stranger\"\n\
         restart = {{ policy = \"on-failure\", delay = \"0s\", burst = 1000 }}\n",
        adapter.name(),
    );
    machine.recipe("argued.toml", &text);
    machine.app_create("argued", "argued", "with-supervisor");
    let pid = machine.app_pid("argued");
    assert_eq!(given(&machine, pid, "cmdline"), argv);
    let unit = adapter.unit("argued").unwrap();
    let invocation = machine.invocation_of(&unit);
    machine.ok(&["systemctl", "daemon-reload"]);
    assert_eq!(machine.pid_of_unit(&unit), pid);
    machine.ok(&["kill", "-KILL", &pid.to_string()]);
    machine.wait("systemd has repaired the app", Duration::from_secs(20), |machine| {
        let (state, restarts) =
            (machine.unit_property(&unit, "ActiveState"), machine.unit_property(&unit, "NRestarts"));
        if state == "active" && restarts == "1" { Ok(()) } else { Err(format!("{state} {restarts}")) }
    });
    let repaired = given(&machine, machine.pid_of_unit(&unit), "cmdline");
    if suite.systemd() >= EXEC_FLAGS_SINCE {
        assert_eq!(repaired, argv);
    } else {
        // What it wrote down of these it cannot read back; docs/sandbox.md says so. All others are as they were.
        let spoilt: Vec<&str> =
            argv.iter().zip(&repaired).filter(|(sent, seen)| sent != seen).map(|(sent, _)| *sent).collect();
        let special: Vec<&str> = ARGUMENTS.iter().copied().filter(|text| text.contains(['$', ';'])).collect();
        assert_eq!((spoilt, repaired.len()), (special, argv.len()), "{repaired:?}");
    }
    assert_ne!(machine.invocation_of(&unit), invocation);
    // A start of ours is right again.
    machine.cli(&["app", "restart", "argued"]);
    assert_eq!(given(&machine, machine.app_pid("argued"), "cmdline"), argv);
}
