//! The mark: an environment variable by which a process is known as ours, whoever its parent is by now.
//!
//! Decides how a mark is written and read. Deliberately absent: looking for marked processes (`tree.rs`).

use nbs_core::id::Run;
use nbs_core::name::AppId;

/// The variable that carries the mark. Children inherit it, so it survives `setsid` and a double fork.
pub const VARIABLE: &str = "NBSUPERVISOR_MARK";

/// The variable that carries the port of an app that listens on one, for a daemon that has lost its ledger.
pub const PORT: &str = "NBS_PORT";

/// What a mark of this daemon says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// A process of an app's life.
    Life(AppId, Run),
    /// A process of a hook or an exec probe; its number tells commands of one daemon apart.
    Command(AppId, u64),
}

impl Mark {
    /// The text: `<instance>/<app>/<seq>.<attempt>`, or `<instance>/<app>/hook.<number>`.
    pub fn text(&self, instance: &str) -> String {
        match self {
            Self::Life(app, run) => format!("{instance}/{app}/{run}"),
            Self::Command(app, number) => format!("{instance}/{app}/hook.{number}"),
        }
    }

    /// Reads a mark; `None` if another daemon wrote it, or nobody did.
    pub fn parse(text: &str, instance: &str) -> Option<Self> {
        let rest = text.strip_prefix(instance)?.strip_prefix('/')?;
        let (app, life) = rest.split_once('/')?;
        let app = AppId::parse(app).ok()?;
        match life.strip_prefix("hook.") {
            Some(number) => Some(Self::Command(app, number.parse().ok()?)),
            None => Some(Self::Life(app, Run::parse(life)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nbs_core::id::Seq;

    #[test]
    fn a_mark_reads_back_as_written_and_only_by_its_own_daemon() {
        let app = AppId::parse("crm").unwrap();
        for mark in [Mark::Life(app.clone(), Run { seq: Seq(7), attempt: 2 }), Mark::Command(app, 9)] {
            let text = mark.text("i1");
            assert_eq!(Mark::parse(&text, "i1"), Some(mark));
            assert_eq!(Mark::parse(&text, "i"), None);
            assert_eq!(Mark::parse(&text, "i2"), None);
        }
        assert_eq!(Mark::parse("i1/crm/hook", "i1"), None);
        assert_eq!(Mark::parse("i1/Crm/1.0", "i1"), None);
    }
}
