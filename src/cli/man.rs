//! `man`: manual pages, one for each verb and one for the configuration file.
//!
//! Verbs and options come from the command line's own definition, keys from the shipped configuration file, and exit
//! codes from docs/exit-codes.md, so a page cannot tell of something that is not there. Only what those do not say is
//! written here. Deliberately absent: a date (the same program writes the same bytes), and showing a page, which is man's.

use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::exit::{Exit, Failure, Outcome};
use super::out::{Out, count};

/// The page of the configuration file.
const FILE_PAGE: &str = "nbsupervisor.toml";
/// Every key with its default.
const SHIPPED: &str = include_str!("../../etc/nbsupervisor.toml");
/// A table with every exit code.
const EXIT_CODES: &str = include_str!("../../docs/exit-codes.md");

const ABOUT: &[&str] = &[
    "nbsupervisor starts apps from recipes (with the host, by hand, or when the first visitor comes), watches over them, \
     repairs crashes, and brings visitors to them under one address. An app goes on when the supervisor is stopped, \
     killed or upgraded.",
    "`nbsupervisor daemon` is what the service runs. Every other verb talks to that daemon, over its unix socket or, with \
     `--url`, over TCP. Root and the members of the group `nbsupervisor` may use the socket.",
    "Results are written to standard output, everything else to standard error.",
];

const VARIABLES: &[(&str, &str)] = &[
    ("NBSUPERVISOR_TABLE__KEY", "Sets the key of that table, such as `NBSUPERVISOR_GATEWAY__LISTEN`."),
    ("NBSUPERVISOR_LOG", "Sets `log.level`."),
    ("APP_MODE", "Sets `mode`."),
    ("ENVIRONMENT_NAME, ENVIRONMENT_URL, ENVIRONMENT_PROXY_URL", "Set the keys of `[environment]`."),
    ("TZ", "Sets `time_zone`, the apps' default."),
    ("VISUAL, EDITOR", "The editor of `app edit`."),
    ("NO_COLOR", "No colours, as with `--no-color`."),
    ("XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_RUNTIME_DIR", "Where files are for a daemon that does not run as root."),
];

const FILES: &[(&str, &str)] = &[
    ("/etc/nbsupervisor/nbsupervisor.toml", "The configuration, see `nbsupervisor.toml`(5)."),
    ("/etc/nbsupervisor/nbsupervisor.d/*.toml", "Drop-ins, laid over it in order of their names."),
    ("/etc/default/nbsupervisor", "Environment variables of the service."),
    (
        "/etc/nbsupervisor/fleet.key",
        "The key of the fleet, on the entry of several hosts; see `nbsupervisor-key-generate`(1).",
    ),
    ("/etc/nbsupervisor/runtimes.d/*.toml", "Recipes: how each kind of app is run."),
    ("/var/lib/nbsupervisor", "The record, and the apps' own data below `apps`."),
    ("/run/nbsupervisor/admin.sock", "The daemon's socket."),
    ("/run/nbsupervisor-apps", "What running apps need; outlives the daemon."),
    ("/usr/share/doc/nbsupervisor", "The documentation, with examples."),
];

#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Of which verb, such as `app create`; or nbsupervisor.toml, the configuration file [default: the overview]
    page: Vec<String>,
    /// Write all pages into this directory instead
    #[arg(long, value_name = "DIR", conflicts_with = "page")]
    dir: Option<PathBuf>,
}

/// A page that can be written.
struct Page {
    /// As the user calls it: the verb's words, or the file.
    words: String,
    /// As man calls it.
    file: String,
    text: String,
}

pub fn run(args: ManArgs, command: Command, out: &Out) -> Outcome {
    let pages = pages(command);
    if let Some(dir) = args.dir {
        for page in &pages {
            write(&dir.join(&page.file), &page.text)?;
        }
        out.say(format!("{} written to {}", count(pages.len() as u64, "page"), dir.display()));
        return Ok(());
    }
    let words = args.page.join(" ");
    match pages.iter().find(|page| page.words == words) {
        Some(page) => out.data(&page.text),
        None => Err(Failure::new(Exit::NotFound, format!("there is no manual page of {words:?}"))
            .hint("write the words of a verb as in `nbsupervisor man app create`, or nbsupervisor.toml")),
    }
}

fn write(file: &Path, text: &str) -> Outcome {
    std::fs::write(file, text).map_err(|error| {
        Failure::new(Exit::Failed, format!("the manual page {} cannot be written: {error}", file.display()))
            .hint("name a directory that exists and that you may write to")
    })
}

/// Every page: the overview first, the configuration file last.
fn pages(command: Command) -> Vec<Page> {
    // The help of a verb is `--help` and its page here, a verb `help` of its own would double each of them.
    let mut root = command.disable_help_subcommand(true);
    root.build();
    let mut below = Vec::new();
    collect(&root, &[], &mut below);
    let mut pages = vec![overview(&root, &below)];
    pages.extend(below.iter().map(|(words, command)| of_verb(&root, words, command)));
    pages.push(of_file());
    pages
}

/// The verbs below a command with their words, each before those below it.
fn collect<'a>(command: &'a Command, words: &[&'a str], into: &mut Vec<(String, &'a Command)>) {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let words: Vec<_> = words.iter().copied().chain([verb.get_name()]).collect();
        into.push((words.join(" "), verb));
        collect(verb, &words, into);
    }
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn overview(root: &Command, verbs: &[(String, &Command)]) -> Page {
    let mut page = head(root, "nbsupervisor", "1", &about(root));
    synopsis(&mut page, root);
    section(&mut page, "DESCRIPTION");
    ABOUT.iter().for_each(|text| paragraph(&mut page, text));
    section(&mut page, "COMMANDS");
    paragraph(
        &mut page,
        "Each has a page of its own: `man nbsupervisor-app-create` is that of `nbsupervisor app create`.",
    );
    for (words, verb) in verbs.iter().filter(|(_, verb)| !verb.has_subcommands()) {
        let arguments = verb.get_positionals().map(|argument| format!(" {argument}")).collect::<String>();
        entry(&mut page, &format!("{words}{arguments}"), &format!("{}.", about(verb)));
    }
    options(&mut page, root);
    section(&mut page, "ENVIRONMENT");
    VARIABLES.iter().for_each(|(name, text)| entry(&mut page, name, text));
    section(&mut page, "FILES");
    FILES.iter().for_each(|(name, text)| entry(&mut page, name, text));
    section(&mut page, "EXIT STATUS");
    exit_codes().iter().for_each(|(code, text)| entry(&mut page, code, text));
    see_also(&mut page, "`nbsupervisor.toml`(5), `systemctl`(1), `journalctl`(1)");
    Page { words: String::new(), file: "nbsupervisor.1".into(), text: page }
}

fn of_verb(root: &Command, words: &str, command: &Command) -> Page {
    let name = format!("nbsupervisor-{}", words.replace(' ', "-"));
    // Options that go with every verb are told once, in the overview.
    let global = |id: &clap::Id| root.get_arguments().any(|known| known.is_global_set() && known.get_id() == id);
    let own = command.clone().mut_args(|argument| {
        let hide = argument.is_hide_set() || global(argument.get_id());
        argument.hide(hide)
    });
    let mut page = head(&own, &name, "1", &about(&own));
    synopsis(&mut page, &own);
    section(&mut page, "DESCRIPTION");
    paragraph(&mut page, &format!("{}.", about(&own)));
    if own.has_subcommands() {
        section(&mut page, "COMMANDS");
        for verb in own.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            entry(&mut page, &format!("{name}-{}(1)", verb.get_name()), &format!("{}.", about(verb)));
        }
    }
    options(&mut page, &own);
    paragraph(&mut page, "The global options of `nbsupervisor`(1) may be given as well.");
    section(&mut page, "EXIT STATUS");
    paragraph(&mut page, "0 if all went well; the other codes are in `nbsupervisor`(1).");
    let parent = name.rsplit_once('-').map(|(parent, _)| parent).filter(|_| words.contains(' '));
    let parent = parent.map(|parent| format!(", `{parent}`(1)")).unwrap_or_default();
    see_also(&mut page, &format!("`nbsupervisor`(1){parent}"));
    Page { words: words.into(), file: format!("{name}.1"), text: page }
}

fn of_file() -> Page {
    let mut page = head(&Command::new(FILE_PAGE), FILE_PAGE, "5", "configuration of nbsupervisor");
    section(&mut page, "SYNOPSIS");
    for file in ["/etc/nbsupervisor/nbsupervisor.toml", "/etc/nbsupervisor/nbsupervisor.d/*.toml"] {
        paragraph(&mut page, &format!("`{file}`"));
    }
    section(&mut page, "DESCRIPTION");
    for text in [
        "A TOML file. Every key has a default, and an unknown key is an error. Later sources win: this file, the \
         drop-ins in order of their names, environment variables, `--set`. Tables are merged key by key, everything \
         else is replaced.",
        "Sizes are written as `512M` or `1G` (1024-based), lengths of time as `500ms`, `30s` or `1h 30m`.",
        "`nbsupervisor config check` tells every mistake with file and line, `nbsupervisor config show` tells each value \
         and where it came from. Changes take effect at the daemon's next start, which leaves apps alone.",
    ] {
        paragraph(&mut page, text);
    }
    let mut shown = None;
    for key in keys(SHIPPED) {
        if shown != Some(key.table) {
            let heading =
                if key.table.is_empty() { "KEYS OUTSIDE OF TABLES".into() } else { format!("[{}]", key.table) };
            section(&mut page, &heading);
            shown = Some(key.table);
        }
        entry(&mut page, &format!("{} = {}", key.name, key.default), &key.text);
    }
    see_also(&mut page, "`nbsupervisor`(1), `nbsupervisor-config-check`(1), `nbsupervisor-config-show`(1)");
    Page { words: FILE_PAGE.into(), file: format!("{FILE_PAGE}.5"), text: page }
}

/// A key of the configuration file.
struct Key<'a> {
    table: &'a str,
    name: &'a str,
    default: &'a str,
    text: String,
}

/// The keys of the shipped file: prose has a space after its `#`, a key that is set to its default has none. A key right
/// below another one shares its prose.
fn keys(shipped: &str) -> Vec<Key<'_>> {
    let (mut keys, mut table, mut prose, mut told) = (Vec::new(), "", Vec::new(), false);
    for line in shipped.lines() {
        if let Some(text) = line.strip_prefix("# ") {
            if std::mem::take(&mut told) {
                prose.clear();
            }
            prose.push(text);
        } else if let Some((name, default)) = line.strip_prefix('#').and_then(|pair| pair.split_once(" = ")) {
            keys.push(Key { table, name, default, text: prose.join(" ") });
            told = true;
        } else {
            table = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(table);
            prose.clear();
        }
    }
    keys
}

/// The rows of the table of exit codes: code and meaning.
fn exit_codes() -> Vec<(String, String)> {
    let rows = EXIT_CODES.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let (code, meaning) = (cells.next()?, cells.next()?);
        code.bytes().all(|byte| byte.is_ascii_digit()).then(|| (code.to_owned(), format!("{meaning}.")))
    });
    rows.collect()
}

/// The head of a page, with its name and, as the name of its section, `NAME`.
fn head(command: &Command, name: &str, number: &str, about: &str) -> String {
    let source = concat!("nbsupervisor ", env!("CARGO_PKG_VERSION"));
    // The library leaves an empty argument out, and the next one would take its place.
    let man = Man::new(command.clone()).title(name).section(number).date("\"\"").source(source).manual("nbsupervisor");
    let mut page = String::new();
    rendered(&mut page, |to| man.render_title(to));
    section(&mut page, "NAME");
    line(&mut page, &format!("{name} - {about}"));
    page
}

/// Adds what the library renders; memory takes it all.
fn rendered(page: &mut String, render: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) {
    let mut bytes = Vec::new();
    let _ = render(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    // Every piece begins with the definition of the apostrophe, which a page needs once.
    let definition = |line: &&str| line.starts_with(".ie ") || line.starts_with(".el ");
    let skip = if page.is_empty() { 0 } else { text.lines().take_while(definition).count() };
    text.lines().skip(skip).for_each(|line| page.extend([line, "\n"]));
}

fn synopsis(page: &mut String, command: &Command) {
    rendered(page, |to| Man::new(command.clone()).render_synopsis_section(to));
}

fn options(page: &mut String, command: &Command) {
    rendered(page, |to| Man::new(command.clone()).render_options_section(to));
}

fn section(page: &mut String, heading: &str) {
    page.push_str(&Roff::new().control("SH", [heading]).to_roff());
}

fn line(page: &mut String, text: &str) {
    page.push_str(&Roff::new().text(inlines(text)).to_roff());
}

fn paragraph(page: &mut String, text: &str) {
    // A section begins with a paragraph of its own accord.
    if !page.lines().next_back().is_some_and(|line| line.starts_with(".SH")) {
        page.push_str(".PP\n");
    }
    line(page, text);
}

fn entry(page: &mut String, term: &str, text: &str) {
    page.push_str(&Roff::new().control("TP", []).text([bold(term)]).to_roff());
    line(page, text);
}

fn see_also(page: &mut String, text: &str) {
    section(page, "SEE ALSO");
    line(page, text);
}

/// What stands between two backticks is bold.
fn inlines(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate();
    parts.map(|(at, part)| if at % 2 == 1 { bold(part) } else { roman(part) }).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn all() -> Vec<Page> {
        pages(crate::cli::Cli::command())
    }

    fn text(words: &str) -> String {
        // As a reader sees it: without the signs for fonts and with plain dashes.
        let page = all().into_iter().find(|page| page.words == words).map(|page| page.text).unwrap_or_default();
        page.replace("\\fB", "").replace("\\fI", "").replace("\\fR", "").replace("\\-", "-")
    }

    #[test]
    fn every_verb_has_a_page_and_stands_in_the_overview() {
        let overview = text("");
        for words in ["daemon", "status", "app create", "runtime check", "key export-worker", "man", "completions"] {
            assert!(text(words).contains(&format!("nbsupervisor {words}")), "{words}");
            assert!(overview.contains(&format!("\n{words}")), "{words} is not in the overview");
        }
        assert!(all().iter().all(|page| !page.file.contains("help")));
    }

    #[test]
    fn a_page_of_a_verb_has_its_own_options_and_not_the_global_ones() {
        let page = text("app create");
        assert!(page.contains("--runtime") && !page.contains("--token-file"), "{page}");
        assert!(text("").contains("--token-file"));
        // `--set` of this verb is its own, though there is a global option of that name.
        assert!(text("app edit").contains("--set"));
    }

    #[test]
    fn the_overview_has_every_exit_code_of_the_command_line() {
        let codes = exit_codes();
        let exits = [Exit::Done, Exit::Failed, Exit::Usage, Exit::NotFound, Exit::Refused, Exit::Unreachable];
        let exits = exits.into_iter().chain([Exit::TimedOut, Exit::Interrupted]).map(|exit| (exit as u8).to_string());
        assert_eq!(codes.iter().map(|(code, _)| code.clone()).collect::<Vec<_>>(), exits.collect::<Vec<_>>());
        assert!(text("").contains(&codes[0].1));
    }

    #[test]
    fn the_page_of_the_file_has_every_key_with_its_table_default_and_meaning() {
        let written =
            SHIPPED.lines().filter(|line| line.starts_with('#') && line[1..].starts_with(char::is_alphabetic));
        let written = written.count();
        let keys = keys(SHIPPED);
        assert_eq!(keys.len(), written);
        let hold = keys.iter().find(|key| key.name == "hold_timeout").unwrap();
        assert_eq!((hold.table, hold.default), ("gateway", "\"30s\""));
        assert!(keys.iter().all(|key| !key.text.is_empty()), "a key without a word about it");
        assert!(text(FILE_PAGE).contains("\n.SH [gateway]\n"));
    }

    #[test]
    fn no_page_has_two_definitions_or_a_line_that_begins_by_chance_with_a_request() {
        for page in all() {
            assert_eq!(page.text.matches(".ie \\n(.g").count(), 1, "{}", page.file);
            let requests = ["TH", "SH", "PP", "TP", "IP", "RS", "RE", "br", "ie", "el"];
            let odd = page.text.lines().filter_map(|line| line.strip_prefix('.'));
            let odd: Vec<_> = odd.filter(|line| !requests.iter().any(|request| line.starts_with(request))).collect();
            assert!(odd.is_empty(), "{}: {odd:?}", page.file);
        }
    }
}
