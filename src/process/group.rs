//! The control group that an app may have to itself: who is in it ends with one write, however fast they fork.
//!
//! Decides which group is an app's own. Deliberately absent: making one, and its limits (systemd's, which is asked for a
//! scope); hosts without systemd go without.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nbs_core::name::AppId;
use nbs_core::unit::is_scope_of;
use nix::libc;

/// Where systemd mounts the second kind of hierarchy: alone, and beside the first kind.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// An app's own control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group(Box<Path>);

impl Group {
    /// The group that a process of this app is in; `None` if it is not the app's own, or cannot be killed as a whole.
    pub fn of(app: &AppId, pid: u32) -> Option<Self> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let path = own(&groups, app)?;
        let places = MOUNTS.iter().map(|mount| Path::new(mount).join(&path));
        // Before Linux 5.14 there is no such file.
        places.into_iter().find(|dir| dir.join("cgroup.kill").exists()).map(|dir| Self(dir.into()))
    }

    /// Kills everybody in it, and in the groups below. Who is gone already is no error.
    pub fn kill(&self) {
        // What is wrong otherwise shows in that somebody is left.
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
    }

    /// Whether anybody is in it, or that cannot be told.
    pub fn has_members(&self) -> bool {
        match fs::read_to_string(self.0.join("cgroup.events")) {
            Ok(events) => !events.lines().any(|line| line == "populated 0"),
            // Removed by now.
            Err(error) => error.kind() != io::ErrorKind::NotFound && error.raw_os_error() != Some(libc::ENODEV),
        }
    }
}

/// The path of the app's own group below the mount; the app may have made groups below it.
fn own(groups: &str, app: &AppId) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let parts: Vec<&str> = path.split('/').collect();
    let last = parts.iter().position(|part| is_scope_of(part, app))?;
    // A group outside of this namespace is named by its way up.
    (!parts.contains(&"..")).then(|| parts[..=last].iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_group_with_the_apps_name_is_its_own() {
        let app = AppId::parse("crm").unwrap();
        let scope = "nbsupervisor.slice/nbsupervisor-apps.slice/nbs-proc-crm:12.scope";
        assert_eq!(own(&format!("4:memory:/x\n0::/{scope}\n"), &app), Some(scope.into()));
        assert_eq!(own(&format!("0::/{scope}/inner/most"), &app), Some(scope.into()));
        for other in ["crm2:12", "crm", "crm:", "crm:x"] {
            assert_eq!(own(&format!("0::/a.slice/nbs-proc-{other}.scope"), &app), None, "{other}");
        }
        assert_eq!(own(&format!("0::/../{scope}"), &app), None);
        assert_eq!(own("0::/system.slice/nbsupervisor.service", &app), None);
    }

    #[test]
    fn a_group_that_is_gone_has_no_members() {
        let dir = tempfile::tempdir().unwrap();
        let group = Group(dir.path().into());
        assert!(!group.has_members());
        group.kill();
        for (events, has) in [("populated 1\nfrozen 0\n", true), ("populated 0\nfrozen 0\n", false)] {
            fs::write(dir.path().join("cgroup.events"), events).unwrap();
            assert_eq!(group.has_members(), has);
        }
    }
}
