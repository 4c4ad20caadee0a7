//! The daemon's directories, with the modes they must have.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Apps of other users must reach their own directory under it; nobody may list it, and the record is closed by itself.
const TRAVERSABLE: u32 = 0o711;
/// Everyone may pass: sockets decide for themselves who may connect.
const PASSABLE: u32 = 0o755;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be made.
    #[error("cannot make the directory {dir}")]
    Make {
        /// Which.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Someone else's.
    #[error("the directory {dir} belongs to uid {owner}, not to uid {own}: chown it, or configure another")]
    Foreign {
        /// Which.
        dir: PathBuf,
        /// Whose.
        owner: u32,
        /// The daemon's.
        own: u32,
    },
    /// It is something else.
    #[error("{dir} is not a directory")]
    NoDirectory {
        /// Which.
        dir: PathBuf,
    },
}

/// Where the apps' own directories are, below the daemon's.
#[must_use]
pub fn of_apps(state_dir: &Path) -> PathBuf {
    state_dir.join("apps")
}

/// Makes what is missing of the daemon's directories, and sets their modes.
///
/// # Errors
/// The first one that cannot be used.
pub fn make(state_dir: &Path, runtime_dir: &Path, apps_run_dir: &Path) -> Result<(), DirectoryError> {
    make_one(state_dir, TRAVERSABLE)?;
    make_one(&of_apps(state_dir), TRAVERSABLE)?;
    make_one(runtime_dir, PASSABLE)?;
    make_one(apps_run_dir, PASSABLE)
}

/// Makes a directory (and those above it) and sets its mode.
///
/// # Errors
/// It cannot be made, or is not the daemon's own.
pub fn make_one(dir: &Path, mode: u32) -> Result<(), DirectoryError> {
    let failed = |source| DirectoryError::Make { dir: dir.into(), source };
    match fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => return Err(DirectoryError::NoDirectory { dir: dir.into() }),
        Ok(_) => {}
        Err(_) => {
            if let Some(parent) = dir.parent() {
                DirBuilder::new().recursive(true).mode(PASSABLE).create(parent).map_err(failed)?;
            }
            match DirBuilder::new().mode(mode).create(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
                _ => {}
            }
        }
    }
    let meta = fs::metadata(dir).map_err(failed)?;
    let own = rustix::process::geteuid().as_raw();
    if meta.uid() != own {
        return Err(DirectoryError::Foreign { dir: dir.into(), owner: meta.uid(), own });
    }
    // The umask may have narrowed it, a careless hand widened it.
    if meta.mode() & 0o7777 != mode {
        fs::set_permissions(dir, Permissions::from_mode(mode)).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(dir: &Path) -> u32 {
        fs::metadata(dir).unwrap().mode() & 0o7777
    }

    #[test]
    fn directories_are_made_with_their_modes() {
        let root = tempfile::tempdir().unwrap();
        let dirs = ["a/state", "b/run", "b/run-apps"].map(|name| root.path().join(name));
        make(&dirs[0], &dirs[1], &dirs[2]).unwrap();
        assert_eq!(dirs.each_ref().map(|dir| mode(dir)), [0o711, 0o755, 0o755]);
        fs::set_permissions(&dirs[0], Permissions::from_mode(0o777)).unwrap();
        make(&dirs[0], &dirs[1], &dirs[2]).unwrap();
        assert_eq!(mode(&dirs[0]), 0o711);
    }

    /// A daemon with a umask of 077 made it 0700, and no app with a user of its own could enter its directory.
    #[test]
    fn apps_of_other_users_reach_their_directories_whatever_the_umask() {
        let root = tempfile::tempdir().unwrap();
        let apps = of_apps(&root.path().join("state"));
        let made = || {
            make(&root.path().join("state"), &root.path().join("run"), &root.path().join("run-apps")).unwrap();
            mode(&apps)
        };
        assert_eq!(made(), 0o711);
        fs::set_permissions(&apps, Permissions::from_mode(0o700)).unwrap();
        assert_eq!(made(), 0o711);
    }

    #[test]
    fn a_file_in_the_place_of_a_directory_is_told() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let error = make_one(&file, 0o700).unwrap_err();
        assert_eq!(error.to_string(), format!("{} is not a directory", file.display()));
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("foreign");
        fs::create_dir(&dir).unwrap();
        if std::os::unix::fs::chown(&dir, Some(65_534), None).is_ok() {
            let error = make_one(&dir, 0o700).unwrap_err();
            assert!(error.to_string().contains("belongs to uid 65534, not to uid 0"), "{error}");
        }
    }
}
