//! `app …`: which verb goes where.

pub mod create;
pub mod database;
pub mod edit;
pub mod local;
pub mod logs;
pub mod run;
pub mod show;
pub mod upkeep;

use clap::Subcommand;

use super::Session;
use super::exit::Outcome;

#[derive(Debug, Subcommand)]
pub enum AppVerb {
    /// List apps
    List(show::ListArgs),
    /// Show one app
    Show(NameArgs),
    /// Make an app
    Create(Box<create::CreateArgs>),
    /// Change an app: --set and --unset, --environment, --json, or in $EDITOR
    Edit(edit::EditArgs),
    /// Run apps
    Start(run::RunArgs),
    /// Stop apps until they are started again
    Stop(run::LocalArgs),
    /// Stop and start apps
    Restart(run::LocalArgs),
    /// Stop apps everywhere, run the upgrade steps of their recipe once, and start them
    Upgrade(run::WholeArgs),
    /// Have an app run elsewhere; it returns if it does not become ready there
    Move(upkeep::MoveArgs),
    /// Give an app another secret of its own; never shown
    RotateSecret(upkeep::RotateArgs),
    /// Stop and remove apps; their data is kept unless --purge-data is said
    Remove(run::RemoveArgs),
    /// Print what an app wrote
    Logs(logs::LogsArgs),
    /// Explain why an app is as it is
    Why(NameArgs),
    /// Print an app's address, and open it where there is a desktop
    Open(NameArgs),
}

/// Which app.
#[derive(Debug, clap::Args)]
pub struct NameArgs {
    /// Which app
    name: String,
}

pub async fn run(session: &mut Session, verb: AppVerb) -> Outcome {
    match verb {
        AppVerb::List(args) => show::list(session, args).await,
        AppVerb::Show(args) => show::show(session, &args.name).await,
        AppVerb::Create(args) => create::run(session, *args).await,
        AppVerb::Edit(args) => edit::run(session, args).await,
        AppVerb::Start(args) => run::run(session, "start", args).await,
        AppVerb::Stop(args) => run::run_or_local(session, "stop", args).await,
        AppVerb::Restart(args) => run::run_or_local(session, "restart", args).await,
        AppVerb::Upgrade(args) => run::whole(session, "upgrade", args).await,
        AppVerb::Move(args) => upkeep::relocate(session, args).await,
        AppVerb::RotateSecret(args) => upkeep::rotate(session, args).await,
        AppVerb::Remove(args) => run::remove(session, args).await,
        AppVerb::Logs(args) => logs::run(session, args).await,
        AppVerb::Why(args) => show::why(session, &args.name).await,
        AppVerb::Open(args) => show::open(session, &args.name).await,
    }
}
