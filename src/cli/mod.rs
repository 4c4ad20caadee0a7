//! The command line: one file per verb, over the admin API like any other client.
//!
//! Decides words, exit codes (`exit`) and what people see (`out`). Deliberately absent: anything the API does not offer,
//! and the daemon itself, which `main.rs` hands in as hooks.

mod app;
mod apply;
mod client;
mod config;
mod daemon_args;
mod environment;
mod exit;
mod key;
mod man;
mod operation;
mod out;
mod runtime;
mod status;
mod stream;
mod token;
mod wait;
mod worker_files;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config::Sources;
use client::{Client, Target};
pub use daemon_args::{DaemonArgs, DemoArgs};
pub use exit::{Exit, Failure, Outcome};
use out::{Format, Out};

/// What runs the daemon; the composition root gives it.
#[derive(Debug, Clone, Copy)]
pub struct Commands {
    /// `nbsupervisor daemon`.
    pub daemon: fn(DaemonArgs) -> ExitCode,
    /// `nbsupervisor demo`.
    pub demo: fn(DemoArgs) -> ExitCode,
}

/// Runs many applications on your own Linux hosts, native to systemd and bare metal.
#[derive(Debug, Parser)]
#[command(
    name = "nbsupervisor",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused, 5 daemon unreachable, 6 timed out waiting, 130 Ctrl-C while waiting."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Configuration file [default: /etc/nbsupervisor/nbsupervisor.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a configuration key, such as admin.socket=/x (repeatable; before the verb)
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The daemon's unix socket [default: from the configuration]
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "url")]
    socket: Option<PathBuf>,
    /// The daemon's TCP address, such as http://10.0.0.2:13001; needs --token-file
    #[arg(long, global = true, value_name = "URL", requires = "token_file")]
    url: Option<String>,
    /// File with the token for --url ("-": standard input)
    #[arg(long, global = true, value_name = "FILE", requires = "url")]
    token_file: Option<PathBuf>,
    /// How data is written
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
    /// No colours (NO_COLOR does the same)
    #[arg(long, global = true)]
    no_color: bool,
    /// Data and errors only
    #[arg(short, long, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the supervisor in the foreground
    Daemon(DaemonArgs),
    /// Run a throw-away supervisor with sample apps, and print where they are
    Demo(DemoArgs),
    /// Show daemon, environments, apps and queue at a glance
    Status,
    /// Manage apps
    #[command(subcommand)]
    App(app::AppVerb),
    /// Stop every app
    StopAll(app::run::StopAllArgs),
    /// Bring the apps of a file about
    Apply(apply::ApplyArgs),
    /// Show and manage environments, and make what a new worker needs
    #[command(subcommand)]
    Env(environment::EnvVerb),
    /// Show and check runtimes
    #[command(subcommand)]
    Runtime(runtime::RuntimeVerb),
    /// Show the start queue
    Queue,
    /// Show operations, or one
    Ops(operation::OpsArgs),
    /// Show events
    Events(operation::EventsArgs),
    /// Manage tokens for the API over TCP
    #[command(subcommand)]
    Token(token::TokenVerb),
    /// Make the keys that hosts know each other by
    #[command(subcommand)]
    Key(key::KeyVerb),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(config::ConfigVerb),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page (`nbsupervisor man app create | man -l -` shows one), or write them all
    Man(man::ManArgs),
}

/// The user and the daemon.
struct Session {
    out: Out,
    client: Client,
}

/// Runs the command line.
pub fn main(arguments: impl IntoIterator<Item = OsString>, commands: Commands) -> ExitCode {
    let Cli { global, verb } = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    match verb {
        Verb::Daemon(mut args) => {
            args.config = global.config;
            args.set.splice(0..0, global.set);
            (commands.daemon)(args)
        }
        Verb::Demo(args) => (commands.demo)(args),
        verb => {
            let out = Out::new(global.output, global.no_color, global.quiet);
            match run(&global, verb, &out) {
                Ok(()) => Exit::Done.into(),
                Err(failure) => {
                    out.fail(&failure);
                    failure.exit.into()
                }
            }
        }
    }
}

fn run(global: &Global, verb: Verb, out: &Out) -> Outcome {
    match verb {
        Verb::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "nbsupervisor", &mut text);
            out.data(text)
        }
        Verb::Man(args) => man::run(args, Cli::command(), out),
        Verb::Config(verb) => config::run(verb, sources(global), out),
        Verb::Key(verb) => key::run(verb, &sources(global), out),
        Verb::Env(environment::EnvVerb::Add(args)) => worker_files::run(&args, &sources(global), out),
        Verb::Runtime(runtime::RuntimeVerb::Check { file: Some(file) }) => runtime::check_file(&file, out),
        verb => talk(global, verb),
    }
}

/// Everything that talks to the daemon.
fn talk(global: &Global, verb: Verb) -> Outcome {
    let (target, token) = target(global)?;
    let out = Out::new(global.output, global.no_color, global.quiet);
    let mut session = Session { out, client: Client::new(target, token) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Failed, format!("cannot run: {error}")))?;
    let offline = runtime::Offline { sources: sources(global) };
    let outcome = runtime.block_on(async {
        let session = &mut session;
        match verb {
            Verb::Status => status::run(session).await,
            Verb::App(verb) => app::run(session, verb).await,
            Verb::StopAll(args) => app::run::stop_all(session, args).await,
            Verb::Apply(args) => apply::run(session, args).await,
            Verb::Env(verb) => environment::run(session, verb).await,
            Verb::Runtime(verb) => runtime::run(session, verb, offline).await,
            Verb::Queue => operation::queue(session).await,
            Verb::Ops(args) => operation::ops(session, args).await,
            Verb::Events(args) => operation::events(session, args).await,
            Verb::Token(verb) => token::run(session, verb).await,
            Verb::Daemon(_)
            | Verb::Demo(_)
            | Verb::Config(_)
            | Verb::Key(_)
            | Verb::Completions { .. }
            | Verb::Man(_) => Ok(()),
        }
    });
    // A read of standard input that nobody waits for any more must not hold the exit.
    runtime.shutdown_background();
    outcome
}

fn sources(global: &Global) -> Sources {
    Sources::of_process(global.config.clone(), global.set.clone())
}

/// The daemon that is meant: as told, else as configured here.
fn target(global: &Global) -> Outcome<(Target, Option<String>)> {
    if let Some(url) = &global.url {
        let target = Target::parse(url)?;
        let file = global.token_file.as_ref().ok_or_else(|| Failure::usage("--url needs --token-file", ""))?;
        return Ok((target, Some(read_token(file)?)));
    }
    if let Some(socket) = &global.socket {
        return Ok((Target::Unix(socket.clone()), None));
    }
    match crate::config::places(&sources(global)) {
        Ok(places) => Ok((Target::Unix(places.socket), None)),
        Err(error) => {
            Err(Failure::new(Exit::Failed, format!("the configuration does not tell where the daemon is\n{error}"))
                .hint("mend it, or name the daemon with --socket PATH"))
        }
    }
}

fn read_token(file: &std::path::Path) -> Outcome<String> {
    let text =
        if file.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    let text = text.map_err(|error| {
        Failure::usage(
            format!("the token in {} cannot be read: {error}", file.display()),
            "`nbsupervisor token create NAME` makes one",
        )
    })?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::usage(
            format!("{} holds no token", file.display()),
            "it must hold the one line that `nbsupervisor token create` printed",
        ));
    }
    Ok(token.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn set_means_the_spec_after_edit_and_the_configuration_before() {
        let line = ["nbsupervisor", "--set", "admin.socket=/x", "app", "edit", "crm", "--set", "env.A=1"];
        let cli = Cli::try_parse_from(line).unwrap();
        assert_eq!(cli.global.set, ["admin.socket=/x"]);
        let Verb::App(app::AppVerb::Edit(edit)) = cli.verb else { panic!("no edit") };
        assert_eq!(edit.set, ["env.A=1"]);
    }

    #[test]
    fn a_token_without_a_url_is_a_mistake() {
        assert!(Cli::try_parse_from(["nbsupervisor", "--token-file", "x", "status"]).is_err());
        assert!(Cli::try_parse_from(["nbsupervisor", "--url", "http://x", "status"]).is_err());
    }
}
