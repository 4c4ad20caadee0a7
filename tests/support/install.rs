//! How the product gets onto a test machine: from the package, as its users install it, or file by file from this build.
//!
//! `NBS_DEB` names the package, as ./test does. Without it the files of the tree are copied to where the package puts
//! them, which saves building one while a test is being written. Deliberately absent: building.

use std::fs;
use std::path::{Path, PathBuf};

use super::Machine;

impl Machine {
    /// The package if there is one, else the tree. Starts and enables nothing.
    pub fn install(&self) {
        match std::env::var_os("NBS_DEB") {
            Some(path) => self.install_deb(Path::new(&path)),
            None => self.install_tree(),
        }
    }

    /// Installs the package with apt.
    pub fn install_deb(&self, package: &Path) {
        let inside = self.bring_deb(package);
        self.ok(&["apt-get", "install", "-q", "-y", "--no-install-recommends", &inside]);
    }

    /// Installs the same product over itself.
    pub fn reinstall(&self) {
        match std::env::var_os("NBS_DEB") {
            Some(path) => {
                let inside = self.bring_deb(Path::new(&path));
                self.ok(&["apt-get", "install", "-q", "-y", "--reinstall", &inside]);
            }
            None => {
                self.install_tree();
                self.ok(&["systemctl", "try-restart", super::DAEMON]);
            }
        }
    }

    /// Brings the package inside; its path there, in a form that apt takes for a file.
    fn bring_deb(&self, package: &Path) -> String {
        let content = fs::read(package).unwrap_or_else(|error| panic!("NBS_DEB {}: {error}", package.display()));
        let inside = "/root/nbsupervisor.deb";
        self.write_file(inside, content);
        inside.into()
    }

    /// Copies the files of this build to where the package puts them.
    pub fn install_tree(&self) {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
        // Over a running program: the new file takes its name, the old one stays until it ends.
        self.put("/usr/bin/nbsupervisor.new", "0755", &fs::read(binary()).unwrap());
        self.ok(&["mv", "/usr/bin/nbsupervisor.new", "/usr/bin/nbsupervisor"]);
        for path in files(&tree.join("units")) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap();
            let target = match path.extension().and_then(|end| end.to_str()) {
                Some("sysusers") => "/usr/lib/sysusers.d/nbsupervisor.conf".into(),
                Some("tmpfiles") => "/usr/lib/tmpfiles.d/nbsupervisor.conf".into(),
                _ => format!("/usr/lib/systemd/system/{name}"),
            };
            self.write_file(&target, fs::read(&path).unwrap());
        }
        for path in files(&tree.join("units/user")) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap();
            self.write_file(&format!("/usr/lib/systemd/user/{name}"), fs::read(&path).unwrap());
        }
        self.ok(&["systemd-sysusers", "/usr/lib/sysusers.d/nbsupervisor.conf"]);
        self.ok(&["systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/nbsupervisor.conf"]);
        for path in files(&tree.join("etc")).chain(files(&tree.join("etc/runtimes.d"))) {
            let inside = path.strip_prefix(tree.join("etc")).unwrap().display().to_string();
            if inside.ends_with(".toml") {
                self.write_file(&format!("/etc/nbsupervisor/{inside}"), fs::read(&path).unwrap());
            }
        }
        self.ok(&["systemctl", "daemon-reload"]);
    }
}

/// The binary under test: the one of this build, or the one that the caller named.
fn binary() -> PathBuf {
    std::env::var_os("NBS_BIN").map_or_else(|| env!("CARGO_BIN_EXE_nbsupervisor").into(), PathBuf::from)
}

fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_file())
}
