//! Where configuration comes from, and the standard directories of a host or of a user.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

/// Everything outside the files that decides about the configuration. Made once, at the edge; tests make their own.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config FILE`; absent = the standard file, which may be missing.
    pub config_file: Option<PathBuf>,
    /// Environment variables.
    pub variables: BTreeMap<String, String>,
    /// The `--set KEY=VALUE` flags, in order; the last one wins.
    pub set: Vec<String>,
    /// The user ID that the daemon runs as; 0 is root.
    pub uid: u32,
}

impl Sources {
    /// The sources of this process. A variable that is no UTF-8 is none of ours and left out.
    pub fn of_process(config_file: Option<PathBuf>, set: Vec<String>) -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { config_file, variables, set, uid: Uid::effective().as_raw() }
    }

    /// A variable's value; an empty one counts as unset.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// The standard directories: those of the system for root, the XDG ones for anyone else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standard {
    /// Holds `nbsupervisor.toml` and `runtimes.d`.
    pub config_dir: PathBuf,
    /// Holds the record and the apps' data.
    pub state_dir: PathBuf,
    /// Holds the daemon's sockets.
    pub runtime_dir: PathBuf,
}

impl Standard {
    /// The standard directories for these sources.
    pub fn of(sources: &Sources) -> Self {
        if sources.uid == 0 {
            return Self {
                config_dir: "/etc/nbsupervisor".into(),
                state_dir: "/var/lib/nbsupervisor".into(),
                runtime_dir: "/run/nbsupervisor".into(),
            };
        }
        let home = home(sources);
        // A relative path in an XDG variable is to be ignored, says the specification.
        let xdg = |name: &str| sources.variable(name).map(Path::new).filter(|path| path.is_absolute());
        let under = |name: &str, usual: &str| xdg(name).map_or(home.join(usual), Path::to_owned).join("nbsupervisor");
        let state_dir = under("XDG_STATE_HOME", ".local/state");
        Self {
            config_dir: under("XDG_CONFIG_HOME", ".config"),
            // Without a login session there is no runtime directory, and /tmp is open to others' tricks.
            runtime_dir: xdg("XDG_RUNTIME_DIR").map_or(state_dir.join("run"), |dir| dir.join("nbsupervisor")),
            state_dir,
        }
    }

    /// The main file.
    pub fn config_file(&self) -> PathBuf {
        self.config_dir.join("nbsupervisor.toml")
    }
}

fn home(sources: &Sources) -> PathBuf {
    let from_passwd = || User::from_uid(Uid::from_raw(sources.uid)).ok().flatten().map(|user| user.dir);
    let given = sources.variable("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    given.or_else(from_passwd).unwrap_or_else(|| "/".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(variables: &[(&str, &str)]) -> Standard {
        let variables = variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Standard::of(&Sources { variables, uid: 1000, ..Sources::default() })
    }

    #[test]
    fn root_uses_the_directories_of_the_system() {
        let standard = Standard::of(&Sources::default());
        assert_eq!(standard.config_file(), Path::new("/etc/nbsupervisor/nbsupervisor.toml"));
        assert_eq!(standard.runtime_dir, Path::new("/run/nbsupervisor"));
    }

    #[test]
    fn others_use_the_xdg_directories() {
        let standard = user(&[
            ("HOME", "/home/ada"),
            ("XDG_CONFIG_HOME", "/c"),
            ("XDG_STATE_HOME", "/s"),
            ("XDG_RUNTIME_DIR", "/run/user/1000"),
        ]);
        assert_eq!(standard.config_dir, Path::new("/c/nbsupervisor"));
        assert_eq!(standard.state_dir, Path::new("/s/nbsupervisor"));
        assert_eq!(standard.runtime_dir, Path::new("/run/user/1000/nbsupervisor"));
        let standard = user(&[("HOME", "/home/ada"), ("XDG_CONFIG_HOME", "relative"), ("XDG_STATE_HOME", "")]);
        assert_eq!(standard.config_dir, Path::new("/home/ada/.config/nbsupervisor"));
        assert_eq!(standard.state_dir, Path::new("/home/ada/.local/state/nbsupervisor"));
        assert_eq!(standard.runtime_dir, Path::new("/home/ada/.local/state/nbsupervisor/run"));
    }
}
