//! Configuration: where it is read from, in which order, what each key means, and the recipes.
//!
//! Order, the later wins: defaults, `nbsupervisor.toml`, `nbsupervisor.d/*.toml` beside it, environment variables,
//! `--set` flags. Tables are merged, everything else is replaced. Every mistake is found in one run, each with its
//! place, the value and the remedy. Deliberately absent: watching files (the daemon is told to reload), and writing.

use std::path::PathBuf;

use reader::Notes;

mod catalogue;
mod database_settings;
mod file;
mod flag;
mod mode;
mod parse;
mod problem;
mod reader;
mod recipe;
mod recipe_host;
mod recipe_part;
mod recipe_paths;
mod recipe_probe;
mod recipe_shared;
mod redis_settings;
mod settings;
mod sources;
mod trust;
mod value;
mod variable;
mod web;

pub use catalogue::Catalogue;
pub use mode::{Mode, Role};
pub use problem::{ConfigError, Origin, Problem, Severity};
pub use reader::Setting;
pub use recipe::{load_recipe_file, load_recipes};
pub use redis_settings::{RedisAddress, RedisSettings, RedisTarget};
pub use settings::{
    AdminSettings, Config, EnvironmentSettings, GatewaySettings, LogFormat, LogSettings, LogsSettings,
    SecuritySettings, UsageSettings,
};
pub use sources::{Sources, Standard};
pub use variable::NOT_CONFIGURATION;

/// A configuration that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The typed configuration.
    pub config: Config,
    /// Every effective key with its value (secrets masked) and where it came from, for `config show`.
    pub settings: Vec<Setting>,
    /// What works but most likely not as meant.
    pub warnings: Vec<Problem>,
}

impl Loaded {
    /// The role, and which keys it follows from: `worker (mode from variable APP_MODE)`.
    pub fn role(&self) -> String {
        let origin_of = |key: &str| self.settings.iter().find(|s| s.key == key).map(|s| s.origin.clone());
        mode::told(self.config.role, |key| origin_of(key).unwrap_or(Origin::Default))
    }

    /// What `config show` prints: the role, then TOML, with the place each value came from as a comment.
    pub fn show(&self) -> String {
        let pair = |setting: &Setting| format!("{} = {}", setting.key, setting.value);
        // Long lists would push all the comments off the screen.
        let width = self.settings.iter().map(|s| pair(s).len()).filter(|len| *len <= 60).max().unwrap_or(0);
        let lines = self.settings.iter().map(|s| format!("{:width$}  # {}\n", pair(s), s.origin));
        std::iter::once(format!("# role: {}\n", self.role())).chain(lines).collect()
    }
}

/// Loads the configuration, with the files that it names.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let notes = Notes::default();
    let (mut config, later) = read(sources, &notes);
    settings::complete(&mut config, later, &notes);
    finish(config, notes)
}

/// Where to find a daemon and its recipes: for a command line, which needs neither the daemon's secrets nor all of the
/// variables that it is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The socket of its admin API.
    pub socket: PathBuf,
    /// Its recipes.
    pub recipes_dir: PathBuf,
    /// Its fleet key, or its worker's key.
    pub fleet_key_file: PathBuf,
}

/// Reads where a daemon and its recipes are, whatever its role would need besides.
///
/// # Errors
/// Everything that is wrong with the single keys.
pub fn places(sources: &Sources) -> Result<Places, ConfigError> {
    let notes = Notes::default();
    let (config, _) = read(sources, &notes);
    let config = finish(config, notes)?.config;
    let (socket, fleet_key_file) = (config.admin.socket, config.security.fleet_key_file);
    Ok(Places { socket, recipes_dir: config.recipes_dir, fleet_key_file })
}

fn read(sources: &Sources, notes: &Notes) -> (Config, settings::Later) {
    let standard = Standard::of(sources);
    let mut table = file::read(sources, &standard, notes);
    value::merge(&mut table, variable::read(sources, notes));
    value::merge(&mut table, flag::read(&sources.set, notes));
    settings::read(table, &standard, sources.uid == 0, notes)
}

fn finish(config: Config, notes: Notes) -> Result<Loaded, ConfigError> {
    let (settings, mut problems) = notes.finish();
    // A check of several keys knows no place: it is told where the key it is about was set.
    for problem in problems.iter_mut().filter(|problem| problem.origin == Origin::Default) {
        if let Some(setting) = settings.iter().find(|setting| setting.key == problem.key) {
            problem.origin = setting.origin.clone();
        }
    }
    if problems.iter().any(Problem::is_error) {
        return Err(ConfigError(problems));
    }
    Ok(Loaded { config, settings, warnings: problems })
}

/// What `config check` tells: everything that is wrong with the configuration and its recipes, warnings included; and
/// the configuration, if it is good.
pub fn check(sources: &Sources) -> (Option<Loaded>, Vec<Problem>) {
    match load(sources) {
        Ok(loaded) => {
            let mut problems = loaded.warnings.clone();
            problems.extend(load_recipes(&loaded.config.recipes_dir).1);
            (Some(loaded), problems)
        }
        Err(ConfigError(problems)) => (None, problems),
    }
}
