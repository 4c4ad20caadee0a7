//! The one binary: daemon and command line.

use std::process::ExitCode;

use nbsupervisor::{assemble, cli, process};

fn main() -> ExitCode {
    // Before anything else: the shim's cost is paid at every start of an app under another user.
    if std::env::args_os().nth(1).is_some_and(|word| word == process::SHIM_WORD) {
        process::shim_main();
    }
    let commands = cli::Commands { daemon: |args| assemble::daemon(&args.sources()), demo: |_| assemble::demo() };
    cli::main(std::env::args_os(), commands)
}
