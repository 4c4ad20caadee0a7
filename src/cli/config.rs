//! `config check|show`; needs no daemon.

use clap::Subcommand;

use super::exit::{Exit, Failure, Outcome};
use super::out::Out;
use super::runtime::verdict;
use crate::config::Sources;

#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check the configuration and every recipe
    Check,
    /// Show every effective value and where it came from
    Show,
}

pub fn run(verb: ConfigVerb, sources: Sources, out: &Out) -> Outcome {
    match verb {
        ConfigVerb::Check => check(&sources, out),
        ConfigVerb::Show => show(&sources, out),
    }
}

fn check(sources: &Sources, out: &Out) -> Outcome {
    let (loaded, problems) = crate::config::check(sources);
    let role = loaded.map(|loaded| loaded.role()).unwrap_or_default();
    verdict(&problems, out, &format!("the configuration is good; role: {role}"))
}

fn show(sources: &Sources, out: &Out) -> Outcome {
    let loaded = crate::config::load(sources)
        .map_err(|error| Failure::new(Exit::Failed, format!("the configuration is not good\n{error}")))?;
    loaded.warnings.iter().for_each(|warning| out.warn(warning.to_string()));
    if !out.is_json() {
        return out.data(loaded.show());
    }
    let settings = loaded.settings.iter().map(|setting| {
        serde_json::json!({ "key": setting.key, "value": setting.value, "origin": setting.origin.to_string() })
    });
    let role = loaded.config.role.as_str();
    out.data(serde_json::json!({ "role": role, "settings": settings.collect::<Vec<_>>() }).to_string())
}
