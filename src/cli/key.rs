//! `key generate|export-worker`; needs no daemon.
//!
//! Decides where a key's text goes: to a file of its own, or to standard output and nowhere else. `--output json` changes
//! nothing here: a key file has one form. Deliberately absent: what a key is and how its file is made (`security`).

use std::path::{Path, PathBuf};

use clap::Subcommand;
use nbs_core::name::EnvironmentName;

use super::exit::{Exit, Failure, Outcome};
use super::out::Out;
use crate::config::Sources;
use crate::security::{FLEET_KEY_FILE, FleetKey, KeyError, KeyErrorKind, write_new};

#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// Make a new fleet key, from which the keys of all hosts follow
    Generate {
        /// Write it to this new file, for its owner alone, instead of standard output
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Write the key file for the worker of an environment
    ExportWorker {
        /// Which environment; the worker's `environment.name`
        environment: String,
        /// The fleet key of this entry [default: security.fleet_key_file of the configuration]
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Write it to this new file, for its owner alone, instead of standard output
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
}

pub fn run(verb: KeyVerb, sources: &Sources, out: &Out) -> Outcome {
    match verb {
        KeyVerb::Generate { to } => {
            let key = FleetKey::generate()
                .map_err(|error| Failure::new(Exit::Failed, format!("no random numbers for a key: {error}")))?;
            let next = format!(
                "put it on the entry as {FLEET_KEY_FILE}, and a copy where backups are safe; \
                 `nbsupervisor key export-worker` makes the workers' keys from it"
            );
            give(&key.to_text(), "the fleet key", to.as_deref(), &next, out)
        }
        KeyVerb::ExportWorker { environment, key, to } => {
            let environment = EnvironmentName::parse(&environment)
                .map_err(|error| Failure::usage(format!("{:?} is not {}", error.value, error.kind), error.rule))?;
            let key = key.map_or_else(|| configured(sources), Ok)?;
            let fleet = FleetKey::read(&key).map_err(failure)?;
            let what = format!("the key of environment {environment}");
            let next = "take it to that worker over a way that nobody listens to, and leave no copy here";
            give(&fleet.export(&environment), &what, to.as_deref(), next, out)
        }
    }
}

fn give(text: &str, what: &str, to: Option<&Path>, next: &str, out: &Out) -> Outcome {
    if let Some(file) = to {
        write_new(file, text).map_err(failure)?;
        out.say(format!("{what} is in {}", file.display()));
    } else {
        out.data(text)?;
    }
    out.say(next);
    Ok(())
}

/// The fleet key's file as configured.
fn configured(sources: &Sources) -> Outcome<PathBuf> {
    let places = crate::config::places(sources).map_err(|error| {
        Failure::new(Exit::Failed, format!("the configuration does not tell where the fleet key is\n{error}"))
            .hint("mend it, or name the file with --key FILE")
    })?;
    Ok(places.fleet_key_file)
}

/// Why a key file cannot be used, with its exit code.
pub fn failure(error: KeyError) -> Failure {
    let exit = match error.kind {
        KeyErrorKind::Missing => Exit::NotFound,
        KeyErrorKind::Exists | KeyErrorKind::Refused => Exit::Refused,
        KeyErrorKind::System => Exit::Failed,
    };
    Failure::new(exit, format!("the key file {}: {}", error.file.display(), error.cause)).hint(error.remedy)
}
