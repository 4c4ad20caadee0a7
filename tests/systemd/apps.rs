//! Apps to try things with, run by the adapter that a test is about.

use crate::machine::{Machine, Suite};

/// What runs the apps of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adapter {
    /// Children of the daemon.
    Process,
    /// Units of their own, which systemd starts.
    Systemd,
}

impl Adapter {
    /// As recipes write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Systemd => "systemd",
        }
    }

    /// The unit of an app, where apps are units.
    pub fn unit(self, app: &str) -> Option<String> {
        match self {
            Self::Process => None,
            Self::Systemd => Some(format!("nbs-app-{app}.service")),
        }
    }

    /// The ID of the present life of an app's unit; empty where apps are not units.
    pub fn invocation(self, machine: &Machine, app: &str) -> String {
        self.unit(app).map(|unit| machine.invocation_of(&unit)).unwrap_or_default()
    }

    /// A recipe (file name and text) that says so.
    pub fn recipe(self, (file, text): (&'static str, &str)) -> (&'static str, String) {
        (file, format!("adapter = \"{}\"\n{text}", self.name()))
    }
}

/// A machine whose daemon runs, with these recipes for this adapter.
pub fn machine_with(suite: Suite, adapter: Adapter, recipes: &[(&'static str, &str)]) -> Machine {
    let machine = Machine::boot(suite);
    machine.install();
    for recipe in recipes {
        let (file, text) = adapter.recipe(*recipe);
        machine.recipe(file, &text);
    }
    machine.ok(&["systemctl", "enable", "--now", "nbsupervisor"]);
    machine
}
