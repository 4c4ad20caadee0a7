//! What `daemon` and `demo` take.

use std::path::PathBuf;

use crate::config::Sources;

/// `nbsupervisor daemon`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DaemonArgs {
    /// standalone, supervisor or worker [default: from the configuration]
    #[arg(long, value_name = "MODE")]
    pub mode: Option<String>,
    /// The global `--config`.
    #[arg(skip)]
    pub config: Option<PathBuf>,
    /// Set a configuration key (repeatable)
    #[arg(id = "daemon_set", long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl DaemonArgs {
    /// The sources of the configuration that these arguments name.
    pub fn sources(self) -> Sources {
        let mode = self.mode.map(|mode| format!("mode={mode}"));
        Sources::of_process(self.config, self.set.into_iter().chain(mode).collect())
    }
}

/// `nbsupervisor demo`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DemoArgs {}
