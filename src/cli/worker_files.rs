//! `env add`: the files that make a worker of a host, and what to run there.
//!
//! Decides what stands in them, from this entry's own configuration and fleet key, and which secrets are shown. They are
//! checked as that worker's daemon will check them. Needs no daemon. Deliberately absent: reaching the other host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nbs_core::name::EnvironmentName;
use serde_json::json;

use super::client::encode;
use super::exit::{Exit, Failure, Outcome};
use super::key::failure;
use super::out::Out;
use crate::config::{Config, Loaded, RedisAddress, RedisTarget, Sources, load};
use crate::security::{FLEET_KEY_FILE, FleetKey, write_new};

/// Where variables of the service stand.
const VARIABLES_FILE: &str = "/etc/default/nbsupervisor";
/// Certificates that Redis is checked with, on a worker.
const CA_FILE: &str = "/etc/nbsupervisor/redis-ca.pem";
/// What stands for a password that is not shown.
const MASK: &str = "***";

#[derive(Debug, clap::Args)]
pub struct AddArgs {
    /// The new environment; no other worker may have this name
    name: String,
    /// Where this entry reaches the new host's gateway, such as http://10.0.0.3:13000
    #[arg(long, value_name = "URL")]
    url: String,
    /// Where this entry's gateway reaches it, if elsewhere
    #[arg(long, value_name = "URL")]
    proxy_url: Option<String>,
    /// Write the files into this directory, for their owner alone, instead of printing them
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Show the passwords of Redis and, where files are printed, the key
    #[arg(long)]
    show_secrets: bool,
}

/// A file of a worker.
struct WorkerFile {
    /// Where it belongs on the new host.
    path: &'static str,
    /// Its name in a directory of such files.
    name: &'static str,
    text: String,
}

pub fn run(args: &AddArgs, sources: &Sources, out: &Out) -> Outcome {
    let name = EnvironmentName::parse(&args.name)
        .map_err(|error| Failure::usage(format!("{:?} is not {}", error.value, error.kind), error.rule))?;
    let entry = entry(sources)?;
    check(args, &variables(args, &entry.config, true))?;
    let fleet = FleetKey::read(&entry.config.security.fleet_key_file).map_err(failure)?;
    let shows_key = args.show_secrets || args.to.is_some();
    let key = match shows_key {
        true => fleet.export(&name).to_string(),
        false => format!("# not shown: say --show-secrets, or `nbsupervisor key export-worker {name}`\n"),
    };
    let masked = !args.show_secrets && has_password(&entry.config);
    let files = [
        WorkerFile { path: VARIABLES_FILE, name: "nbsupervisor.default", text: environment_file(args, &entry.config) },
        WorkerFile { path: FLEET_KEY_FILE, name: "fleet.key", text: key },
    ];
    let ca = entry.config.redis.as_ref().and_then(|redis| redis.ca_file.as_deref());
    warn(&entry.config, out);
    match &args.to {
        Some(directory) => write(directory, &files, out)?,
        None => print(&files, &commands(args, ca), out)?,
    }
    if masked {
        let text = format!("the password of Redis is not shown: put it in place of {MASK}, or say --show-secrets");
        out.warn(text);
    }
    if args.to.is_some() || !out.is_json() {
        out.say(format!("on the new host, as root:\n{}", indented(&commands(args, ca))));
    }
    Ok(())
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// The configuration of this host, which must be an entry's.
fn entry(sources: &Sources) -> Outcome<Loaded> {
    let loaded = load(sources).map_err(|error| {
        Failure::new(Exit::Failed, format!("the configuration of this host is not good\n{error}"))
            .hint("`env add` is run on the entry, with its configuration; `nbsupervisor config check` tells more")
    })?;
    let role = loaded.config.role;
    if role.has_entry() && role.uses_redis() {
        return Ok(loaded);
    }
    let hint = "run it on the entry; to make this host one, set APP_MODE=supervisor and APP_SUPERVISOR_REDIS_URL";
    Err(Failure::new(Exit::Refused, format!("this host has no workers: its role is {}", loaded.role())).hint(hint))
}

/// Has the new worker's variables checked by the rules of a daemon.
fn check(args: &AddArgs, variables: &[(&'static str, String)]) -> Outcome {
    let mut variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
    // That file is on the new host, and not there yet.
    variables.remove("NBSUPERVISOR_REDIS__CA_FILE");
    let nothing = PathBuf::from("/dev/null");
    let sources = Sources { config_file: Some(nothing), variables, set: Vec::new(), uid: 0 };
    load(&sources).map(|_| ()).map_err(|error| {
        let about = |problem: &&crate::config::Problem| problem.is_error();
        let told = error.0.iter().filter(about).map(|problem| format!("{}; {}", problem.text, problem.hint));
        let told: Vec<_> = told.collect();
        let text = format!("no worker {} can be made: {}", args.name, told.join("\n       "));
        Failure::usage(text, "write --url http://HOST:PORT as this entry reaches the new host's gateway")
    })
}

/// The variables of the service on the new host, in the origin's words.
fn variables(args: &AddArgs, entry: &Config, secrets: bool) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("APP_MODE", "worker".to_string()),
        ("APP_DISCOVERY_ADAPTER", "remote".into()),
        ("APP_PROCESS_ADAPTER", "local".into()),
        ("APP_COMMAND_ADAPTER", "redis".into()),
    ];
    if let Some(redis) = &entry.redis {
        variables.push(("APP_SUPERVISOR_REDIS_URL", url(&redis.cache, secrets)));
        variables.push(("APP_COMMAND_REDIS_URL", url(&redis.command, secrets)));
        variables.extend(redis.ca_file.as_ref().map(|_| ("NBSUPERVISOR_REDIS__CA_FILE", CA_FILE.into())));
    }
    variables.push(("ENVIRONMENT_NAME", args.name.clone()));
    variables.push(("ENVIRONMENT_URL", args.url.clone()));
    variables.extend(args.proxy_url.clone().map(|url| ("ENVIRONMENT_PROXY_URL", url)));
    variables
}

fn environment_file(args: &AddArgs, entry: &Config) -> String {
    let pairs = variables(args, entry, args.show_secrets);
    let lines: String = pairs.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    format!(
        "# Worker {}: environment variables of nbsupervisor.service. Only root may read this file.\n{lines}",
        args.name
    )
}

/// A URL of Redis with its password, or with a mask in its place.
fn url(target: &RedisTarget, secrets: bool) -> String {
    let Some(password) = target.password.as_ref().filter(|_| secrets) else { return target.to_string() };
    let password = encode(password.expose());
    match &target.address {
        RedisAddress::Tcp { host, port, tls } => {
            let scheme = if *tls { "rediss" } else { "redis" };
            let user = target.username.as_deref().map(encode).unwrap_or_default();
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            let database = if target.database == 0 { String::new() } else { format!("/{}", target.database) };
            format!("{scheme}://{user}:{password}@{host}:{port}{database}")
        }
        RedisAddress::Unix(path) => {
            let user = target.username.as_deref().map(|user| format!("user={}&", encode(user))).unwrap_or_default();
            format!("redis+unix://{}?db={}&{user}pass={password}", path.display(), target.database)
        }
    }
}

fn has_password(config: &Config) -> bool {
    config.redis.as_ref().is_some_and(|redis| redis.cache.password.is_some() || redis.command.password.is_some())
}

/// What this host reaches by itself, and another host by the same words does not.
fn warn(config: &Config, out: &Out) {
    let Some(redis) = &config.redis else { return };
    let own = |target: &RedisTarget| match &target.address {
        RedisAddress::Unix(_) => true,
        RedisAddress::Tcp { host, .. } => {
            let loopback = host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
            loopback || host == "localhost"
        }
    };
    if own(&redis.cache) || own(&redis.command) {
        out.warn("this entry reaches Redis on its own host: put an address in that the new host reaches");
    }
}

fn print(files: &[WorkerFile], commands: &[String], out: &Out) -> Outcome {
    if out.is_json() {
        let files: Vec<_> =
            files.iter().map(|file| json!({ "path": file.path, "mode": "0600", "text": file.text })).collect();
        return out.data(json!({ "files": files, "commands": commands }).to_string());
    }
    let shown: Vec<_> =
        files.iter().map(|file| format!("# --- {} (mode 0600)\n{}", file.path, file.text.trim_end())).collect();
    out.data(shown.join("\n\n"))
}

fn write(directory: &Path, files: &[WorkerFile], out: &Out) -> Outcome {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| {
        Failure::new(Exit::Failed, format!("the directory {} cannot be made: {error}", directory.display()))
            .hint("name one that you may write to")
    })?;
    let paths: Vec<PathBuf> = files.iter().map(|file| directory.join(file.name)).collect();
    if let Some(there) = paths.iter().find(|path| path.exists()) {
        return Err(Failure::new(
            Exit::Refused,
            format!("{} is there already, and is not overwritten", there.display()),
        )
        .hint("name a new directory, or take the files away first"));
    }
    for (file, path) in files.iter().zip(&paths) {
        write_new(path, &file.text).map_err(failure)?;
        out.data(path.display().to_string())?;
    }
    Ok(())
}

/// What makes a worker of the host that has the files.
fn commands(args: &AddArgs, ca: Option<&Path>) -> Vec<String> {
    let mut commands = vec!["apt install ./nbsupervisor_*.deb".to_string()];
    commands.push(format!("install -m 0600 nbsupervisor.default {VARIABLES_FILE}"));
    commands.push(format!("install -m 0600 fleet.key {FLEET_KEY_FILE}"));
    if let Some(ca) = ca {
        commands.push(format!("install -m 0644 redis-ca.pem {CA_FILE}   # {} of this entry", ca.display()));
    }
    commands.push("nbsupervisor config check".into());
    commands.push("systemctl enable --now nbsupervisor".into());
    commands.push(format!("nbsupervisor env show {}   # on this entry, once it is there", args.name));
    commands
}
