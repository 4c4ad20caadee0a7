//! Taking away what an app had on disk, once it is gone.
//!
//! Decides that what is not there needs no removal. Deliberately absent: when that is allowed (the core's to decide).

use std::fs;
use std::io;
use std::path::Path;

use super::failure;

/// Removes a file, if there is one.
///
/// # Errors
/// It is there still; one sentence.
pub fn remove_file(path: &Path) -> Result<(), String> {
    gone(path, fs::remove_file(path))
}

/// Removes a directory with everything in it, if there is one; also where systemd made it a link into a private place, as
/// it does for dynamic users.
///
/// # Errors
/// It is there still, at least in part; one sentence.
pub fn remove_directory(path: &Path) -> Result<(), String> {
    let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    if is_link {
        gone(path, fs::canonicalize(path).and_then(fs::remove_dir_all))?;
        return remove_file(path);
    }
    gone(path, fs::remove_dir_all(path))
}

fn gone(path: &Path, result: io::Result<()>) -> Result<(), String> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("removing {} failed: {}", path.display(), failure::cause(&error)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_removed_with_what_a_link_in_its_place_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let (private, link) = (dir.path().join("private"), dir.path().join("app"));
        fs::create_dir_all(private.join("deep")).unwrap();
        std::os::unix::fs::symlink(&private, &link).unwrap();
        remove_directory(&link).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        std::os::unix::fs::symlink(&private, &link).unwrap();
        remove_directory(&link).unwrap();
        fs::create_dir_all(link.join("deep")).unwrap();
        remove_directory(&link).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        remove_directory(&link).unwrap();
        remove_file(&link).unwrap();
    }

    #[test]
    fn what_cannot_be_removed_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = remove_file(dir.path()).unwrap_err();
        assert!(error.starts_with(&format!("removing {} failed: ", dir.path().display())), "{error}");
    }
}
