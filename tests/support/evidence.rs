//! What a test machine leaves behind when its test fails: journal, units, console and the daemon's record.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::Machine;

/// Prints the last of it, and copies all of it below the target directory.
pub fn bring_home(machine: &Machine) {
    let name = std::thread::current().name().unwrap_or("main").replace("::", "-");
    let folder = target().join("test-failures").join(name).join(&machine.name);
    let _ = fs::remove_dir_all(&folder);
    eprintln!("--- {:?}: journal\n{}", machine.suite, journal(machine, &["-n", "200"]));
    if machine.container.is_some() {
        let list = machine.run(&["systemctl", "list-units", "--all", "--no-pager", "nbs-*", "nbsupervisor*"]);
        eprintln!("--- {:?}: units\n{}", machine.suite, said(&list));
    }
    match collect(machine, &folder) {
        Ok(()) => eprintln!("--- journal, console and record are in {}", folder.display()),
        Err(error) => eprintln!("--- journal and record could not be copied to {}: {error}", folder.display()),
    }
}

/// Copies journal, console and record into a folder.
pub fn collect(machine: &Machine, folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("journal.txt"), journal(machine, &[]))?;
    if let Some(container) = &machine.container {
        fs::write(folder.join("console.txt"), container.console())?;
    }
    for (inside, name) in
        [("var/lib/nbsupervisor", "record"), ("var/log/journal", "journal"), ("etc/nbsupervisor", "etc")]
    {
        let source = machine.ground.root().join(inside);
        let mut copy = machine.ground.beside("sh");
        // What is not there was not made; that is evidence too.
        copy.args(["-euc", "[ ! -d \"$1\" ] || cp -a \"$1\" \"$2\"", "sh"]).arg(source).arg(folder.join(name));
        let output = copy.output()?;
        if !output.status.success() {
            return Err(std::io::Error::other(said(&output)));
        }
    }
    Ok(())
}

/// The journal: asked inside, or read from the disk of a machine that is off.
fn journal(machine: &Machine, arguments: &[&str]) -> String {
    let fixed = ["-o", "short-precise", "--no-pager"];
    if machine.container.is_some() {
        return said(&machine.run(&[&["journalctl"], &fixed[..], arguments].concat()));
    }
    let mut command: Command = machine.ground.beside("journalctl");
    command.arg("-D").arg(machine.ground.root().join("var/log/journal")).args(fixed).args(arguments);
    command.output().map_or_else(|error| error.to_string(), |output| said(&output))
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    format!("{text}{}", String::from_utf8_lossy(&output.stderr))
}

fn target() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::env::var_os("CARGO_TARGET_DIR").map_or(own, PathBuf::from)
}
