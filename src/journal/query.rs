//! The questions to `journalctl`: which entries, from where, which of their fields.
//!
//! Whose a line is, is decided by fields that begin with `_`: journald sets them, no process can. The unit of the instance
//! is one exact value; the units of hooks are not, so they are found by `NBS_APP`, which anybody can send, and `entry.rs`
//! looks at their unit once more. That is why a match here may be wide, but never decides:
//! - `_SYSTEMD_UNIT=nbs-app-<app>.service`: what the instance wrote.
//! - `NBS_APP=<app>` from a standard output: on that way only a unit's own setting puts the field there. No slice is asked
//!   for, as journald does not get to know it of a process that ended at once; about 3 in 100 `echo`s are such.
//! - `NBS_APP=<app>` from the apps' slice: what hooks sent to the journal's or syslog's socket. The slice keeps away what
//!   others, and the daemon itself, say about an app.
//! - what journald says about the instance's unit.
//!
//! For a user's manager journald adds no fields, so hooks are found by the identifier of their output, the app's name; what
//! they send to a socket themselves is not found. It knows nothing at all of a user's process that ended at once: such
//! lines are nobody's.

use std::ffi::OsString;

use nbs_core::name::AppId;
use nbs_core::time::Wall;
use nbs_core::unit::{HOOK, SLICE, unit_name};

use super::{Options, Scope};
use crate::ports::UnitLife;

/// What journald calls its word about dropped messages.
pub const DROPPED_ID: &str = "a596d6fe7bfa4994828e72309e95d61e";
/// Fields that are read; the rest would be most of the volume.
const FIELDS: &str = "MESSAGE,MESSAGE_ID,N_DROPPED,OBJECT_SYSTEMD_UNIT,OBJECT_SYSTEMD_USER_UNIT,_SYSTEMD_INVOCATION_ID,\
                      _SYSTEMD_OWNER_UID,_SYSTEMD_UNIT,_SYSTEMD_USER_UNIT,_TRANSPORT,_UID,\
                      EXIT_CODE,EXIT_STATUS,UNIT_RESULT,INVOCATION_ID,USER_INVOCATION_ID";

/// Where a question begins.
#[derive(Debug, Clone, Copy)]
pub enum From<'a> {
    /// At the end, going back, not beyond a moment.
    End(Option<Wall>),
    /// With the entry of this cursor.
    Entry(&'a str),
    /// With the entry of this cursor, or the first one, and on for ever.
    Follow(Option<&'a str>),
}

/// Whether a unit is that of the app's instance, or one of its hooks (`nbs-hook-<app>:<n>.service`).
pub fn is_of(app: &AppId, unit: &str) -> bool {
    let number = || unit.strip_suffix(".service")?.strip_prefix(HOOK)?.strip_prefix(app.as_str());
    // No app ID has a colon, so `crm` never takes the hooks of `crm-2`.
    unit == unit_name(app) || number().is_some_and(|number| number.starts_with(':'))
}

/// The arguments for an app's log.
pub fn of_app(options: &Options, app: &AppId, from: From<'_>) -> Vec<OsString> {
    let mut args = common(options, from);
    let unit = unit_name(app);
    let groups = match options.scope {
        Scope::System => vec![
            vec![format!("_SYSTEMD_UNIT={unit}")],
            vec![format!("NBS_APP={app}"), "_TRANSPORT=stdout".into()],
            vec![format!("NBS_APP={app}"), format!("_SYSTEMD_SLICE={SLICE}")],
            vec![format!("OBJECT_SYSTEMD_UNIT={unit}"), "_TRANSPORT=driver".into()],
        ],
        Scope::User { uid } => vec![
            vec![format!("_SYSTEMD_USER_UNIT={unit}"), format!("_SYSTEMD_OWNER_UID={uid}")],
            vec![format!("SYSLOG_IDENTIFIER={app}"), format!("_SYSTEMD_USER_SLICE={SLICE}")],
            vec![format!("OBJECT_SYSTEMD_USER_UNIT={unit}"), "_TRANSPORT=driver".into()],
        ],
    };
    push_groups(&mut args, &groups);
    args
}

/// The arguments for the end of one life's output.
pub fn of_life(options: &Options, life: &UnitLife) -> Vec<OsString> {
    let mut args = common(options, From::End(None));
    let (invocation, unit) = (&life.invocation, &life.unit);
    let groups = match options.scope {
        Scope::System => [
            vec![format!("_SYSTEMD_INVOCATION_ID={invocation}"), format!("_SYSTEMD_UNIT={unit}")],
            vec![format!("_SYSTEMD_UNIT={unit}"), "_TRANSPORT=stdout".into()],
        ],
        Scope::User { uid } => [
            vec![format!("_SYSTEMD_INVOCATION_ID={invocation}"), format!("_SYSTEMD_USER_UNIT={unit}")],
            vec![format!("_SYSTEMD_USER_UNIT={unit}"), format!("_SYSTEMD_OWNER_UID={uid}")],
        ],
    };
    push_groups(&mut args, &groups);
    args
}

/// What systemd calls its word about the end of a main process, and about a life that failed (sd-messages.h).
const EXIT_IDS: [&str; 2] = ["98e322203f7a4ed290d09fe03c09fe15", "d9b373ed55a64feb8242e02dbe79a49c"];

/// The arguments for what systemd said of the ends of a unit's lives. Only systemd itself is believed.
pub fn of_exits(options: &Options, unit: &str) -> Vec<OsString> {
    let mut args = common(options, From::End(None));
    let mut group: Vec<String> = EXIT_IDS.iter().map(|id| format!("MESSAGE_ID={id}")).collect();
    match options.scope {
        Scope::System => group.extend([format!("UNIT={unit}"), "_PID=1".into()]),
        Scope::User { uid } => {
            group.extend([format!("USER_UNIT={unit}"), "_COMM=systemd".into(), format!("_UID={uid}")]);
        }
    }
    push_groups(&mut args, &[group]);
    args
}

/// Fields of one group must all fit, and one group suffices.
fn push_groups(args: &mut Vec<OsString>, groups: &[Vec<String>]) {
    for (number, group) in groups.iter().enumerate() {
        if number > 0 {
            args.push("+".into());
        }
        args.extend(group.iter().map(OsString::from));
    }
}

fn common(options: &Options, from: From<'_>) -> Vec<OsString> {
    // Without --all, fields of more than 4 KiB come as null.
    let mut args: Vec<OsString> = ["--output=json", "--all", "--no-pager"].map(OsString::from).into();
    args.push(format!("--output-fields={FIELDS}").into());
    if let Some(directory) = &options.directory {
        let mut arg = OsString::from("--directory=");
        arg.push(directory);
        args.push(arg);
    }
    match from {
        From::End(since) => {
            args.push("--reverse".into());
            args.extend(since.map(moment));
        }
        From::Entry(cursor) => args.push(format!("--cursor={cursor}").into()),
        From::Follow(cursor) => {
            args.extend(["--follow", "--no-tail"].map(OsString::from));
            args.extend(cursor.map(|cursor| format!("--cursor={cursor}").into()));
        }
    }
    args
}

fn moment(at: Wall) -> OsString {
    format!("--since=@{}.{:03}", at.0 / 1000, at.0 % 1000).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_belongs_to_one_app_only() {
        let crm = AppId::parse("crm").unwrap();
        for unit in ["nbs-app-crm.service", "nbs-hook-crm:1.service", "nbs-hook-crm:7-2.service"] {
            assert!(is_of(&crm, unit), "{unit}");
        }
        for unit in [
            "nbs-app-crm2.service",
            "nbs-app-crm-2.service",
            "nbs-hook-crm-2:1.service",
            "nbs-hook-crm.service",
            "nbs-app-crm.scope",
            "nbs-app-crm",
            "user@1000.service",
            "x-nbs-app-crm.service",
            "",
        ] {
            assert!(!is_of(&crm, unit), "{unit}");
        }
    }

    #[test]
    fn a_moment_keeps_its_milliseconds() {
        assert_eq!(moment(Wall(1_795_408_423_005)), "--since=@1795408423.005");
    }
}
