//! Whose files may say what the daemon runs: root's and the daemon's own, unless others may write to them.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use nix::unistd::{Uid, User};

use super::reader::Complaint;

/// Why a file or directory cannot be trusted; `None` if it can.
pub fn mistrust(meta: &Metadata, daemon_uid: u32) -> Option<Complaint> {
    let owner = meta.uid();
    if owner != 0 && owner != daemon_uid {
        let wanted = if daemon_uid == 0 { "root".to_string() } else { format!("root or {}", user_name(daemon_uid)) };
        let hint = format!("chown it to {}", if daemon_uid == 0 { "root".to_string() } else { user_name(daemon_uid) });
        return Some(Complaint::new(format!("it is owned by {}, not by {wanted}", user_name(owner)), hint));
    }
    let mode = meta.mode() & 0o7777;
    // A sticky directory lets others add files, which its readers see as files of a wrong owner.
    let sticky = meta.is_dir() && mode & 0o1000 != 0;
    if mode & 0o022 != 0 && !sticky {
        return Some(Complaint::new(format!("others may write to it (mode {mode:04o})"), "chmod go-w it"));
    }
    None
}

/// A user's name, or `uid 1000` if it has none.
pub fn user_name(uid: u32) -> String {
    let found = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    found.map_or_else(|| format!("uid {uid}"), |user| user.name)
}
