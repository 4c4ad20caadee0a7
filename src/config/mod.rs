//! Configuration: where it is read from, in which order, what each key means, and the recipes.
//!
//! Order, the later wins: defaults, `nbsupervisor.toml`, `nbsupervisor.d/*.toml` beside it, environment variables,
//! `--set` flags. Tables are merged, everything else is replaced. Every mistake is found in one run, each with its
//! place, the value and the remedy. Deliberately absent: watching files (the daemon is told to reload), and writing.

mod catalogue;
mod file;
mod flag;
mod parse;
mod problem;
mod reader;
mod recipe;
mod recipe_host;
mod recipe_part;
mod recipe_probe;
mod settings;
mod sources;
mod trust;
mod value;
mod variable;

pub use catalogue::Catalogue;
pub use problem::{ConfigError, Origin, Problem, Severity};
pub use reader::Setting;
pub use recipe::{load_recipe_file, load_recipes};
pub use settings::{
    AdminSettings, Config, EnvironmentSettings, GatewaySettings, LogFormat, LogSettings, LogsSettings, Mode,
    UsageSettings,
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
    /// What `config show` prints: TOML, with the place each value came from as a comment.
    pub fn show(&self) -> String {
        let pair = |setting: &Setting| format!("{} = {}", setting.key, setting.value);
        // Long lists would push all the comments off the screen.
        let width = self.settings.iter().map(|s| pair(s).len()).filter(|len| *len <= 60).max().unwrap_or(0);
        let lines = self.settings.iter().map(|s| format!("{:width$}  # {}\n", pair(s), s.origin));
        lines.collect()
    }
}

/// Loads the configuration.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let standard = Standard::of(sources);
    let notes = reader::Notes::default();
    let mut table = file::read(sources, &standard, &notes);
    value::merge(&mut table, variable::read(sources, &notes));
    value::merge(&mut table, flag::read(&sources.set, &notes));
    let config = settings::read(table, &standard, sources.uid == 0, &notes);
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

/// What `config check` tells: everything that is wrong with the configuration and its recipes, warnings included.
pub fn check(sources: &Sources) -> Vec<Problem> {
    match load(sources) {
        Ok(loaded) => {
            let mut problems = loaded.warnings;
            problems.extend(load_recipes(&loaded.config.recipes_dir).1);
            problems
        }
        Err(ConfigError(problems)) => problems,
    }
}
