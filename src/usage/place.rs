//! Finds the control group that is an app's own, if it has one.
//!
//! An app's own group is the one whose name says so: `nbs-app-<app>.service` of a systemd unit, the system's or a user's,
//! or `nbs-proc-<app>:<pid>.scope` of a scope around a child process. Any other group holds strangers as well (the daemon's own,
//! a login session's), and its figures would be theirs too.
//!
//! On a host with both kinds of hierarchy the second kind is mounted somewhere below the first, mostly at
//! `/sys/fs/cgroup/unified`; so the mount table is asked. The first kind's controllers are not read: what they count is
//! taken from `/proc` there.

use std::path::{Path, PathBuf};

use nbs_core::name::AppId;
use nbs_core::unit::{app_of_unit, is_scope_of};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};

use super::group::Group;
use super::stat::Proc;

/// Longer than every path of a group that systemd makes: 4 KiB, the longest path of the system.
const CGROUP_MAX: usize = 4096;

/// The hierarchy of control groups, version 2.
pub(super) struct Hierarchy {
    dir: OwnedFd,
    /// The group that is mounted, as `/proc/<pid>/cgroup` names it; empty for the topmost.
    top: String,
}

impl Hierarchy {
    /// None where the kernel has none, or it is not mounted.
    pub fn of_this_host() -> Option<Self> {
        let (top, point) = mounted(&std::fs::read_to_string("/proc/self/mountinfo").ok()?)?;
        Self::at(&point, top)
    }

    /// The hierarchy in this directory.
    pub fn at(point: &Path, top: String) -> Option<Self> {
        let dir = rustix::fs::openat(CWD, point, directory(), Mode::empty()).ok()?;
        Some(Self { dir, top })
    }

    /// The app's own group, if its main process is in one.
    pub fn find(&self, proc: &Proc, app: &AppId, pid: u32) -> Option<Group> {
        let mut text = [0u8; CGROUP_MAX];
        let path = own(proc.groups(pid, &mut text)?, app)?;
        let path = path.strip_prefix(self.top.as_str())?.strip_prefix('/')?;
        // Outside of this namespace, where nothing is known of it.
        if path.starts_with("../") {
            return None;
        }
        Some(Group::new(rustix::fs::openat(&self.dir, path, directory(), Mode::empty()).ok()?))
    }
}

fn directory() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

/// The path of the process's group, if its last part is the app's name for it.
fn own<'a>(groups: &'a str, app: &AppId) -> Option<&'a str> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (_, last) = path.rsplit_once('/')?;
    (app_of_unit(last).as_ref() == Some(app) || is_scope_of(last, app)).then_some(path)
}

/// The mount of the second hierarchy that shows most of it: the group that it shows, and where.
fn mounted(mountinfo: &str) -> Option<(String, PathBuf)> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (top, point) = (fields.next()?, fields.next()?);
        let top = plain(top);
        (filesystem.split(' ').next()? == "cgroup2").then(|| (top.trim_end_matches('/').to_string(), point))
    });
    let (top, point) = mounts.min_by_key(|(top, _)| top.len())?;
    Some((top, PathBuf::from(plain(point))))
}

/// A path of the mount table, in which space, tab, line end and backslash are written as `\` and three octal digits.
fn plain(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_string();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if byte.is_ascii() => {
                text.push(char::from(byte));
                text.push_str(&part[3..]);
            }
            _ => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppId {
        AppId::parse(name).unwrap()
    }

    #[test]
    fn only_a_group_with_the_apps_name_is_its_own() {
        let unit = "0::/nbsupervisor.slice/nbsupervisor-apps.slice/nbs-app-crm.service\n";
        assert_eq!(own(unit, &app("crm")), Some("/nbsupervisor.slice/nbsupervisor-apps.slice/nbs-app-crm.service"));
        for other in ["cr", "crm2", "m"] {
            assert_eq!(own(unit, &app(other)), None);
        }
        let of_user = "0::/user.slice/user-1000.slice/user@1000.service/x.slice/nbs-app-a-b.service";
        assert!(own(of_user, &app("a-b")).is_some());
        assert!(own("0::/x.slice/nbs-proc-crm:9.scope", &app("crm")).is_some());
        for no in [
            "0::/nbs-app-crm.service/inner",
            "0::/nbs-app-crm.service (deleted)",
            "0::/nbs-app-crm.scope",
            "0::/nbs-proc-crm:9.service",
            "0::/nbs-proc-crm.scope",
            "0::/",
            "",
            "1:name=systemd:/nbs-app-crm.service",
        ] {
            assert_eq!(own(no, &app("crm")), None, "{no}");
        }
    }

    #[test]
    fn both_hierarchies_at_once_are_told_apart() {
        let hybrid = "9:name=systemd:/a/nbs-app-crm.service\n4:memory:/elsewhere\n0::/a/nbs-app-crm.service\n";
        assert_eq!(own(hybrid, &app("crm")), Some("/a/nbs-app-crm.service"));
        let table = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                     35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                     41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(mounted(table), Some((String::new(), PathBuf::from("/sys/fs/cgroup/unified"))));
        assert_eq!(mounted(table.lines().next().unwrap()), None);
    }

    #[test]
    fn the_mount_that_shows_most_is_taken_and_its_path_is_read() {
        let table = "50 31 0:38 /box/a /mnt/part rw - cgroup2 cgroup2 rw\n\
                     51 31 0:38 /box /mnt/a\\040b rw,nosuid master:1 - cgroup2 none rw\n";
        assert_eq!(mounted(table), Some(("/box".to_string(), PathBuf::from("/mnt/a b"))));
        assert_eq!(plain("a\\134b\\9"), "a\\b\\9");
    }
}
