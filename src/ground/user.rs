//! Which user, group and supplementary groups a process gets.
//!
//! Decides whether anything has to change at all. Deliberately absent: changing it (the shim does, after the spawn).

use std::ffi::CString;

use nbs_core::observation::SpawnFailure;
use nbs_core::reason::ReasonCode;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgrouplist};

use super::failure;

/// What a process is to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Every supplementary group.
    pub groups: Vec<u32>,
}

/// The credentials for a user and group by name (or number); `None` if the daemon's own are those already.
///
/// # Errors
/// `bad_user`: there is no such user or group, or the daemon may not take it.
pub fn resolve(user: Option<&str>, group: Option<&str>) -> Result<Option<Credentials>, SpawnFailure> {
    let user = user.map(find_user).transpose()?;
    let group = group.map(find_group).transpose()?;
    let uid = user.as_ref().map_or(geteuid(), |user| user.uid);
    let gid = group.or(user.as_ref().map(|user| user.gid)).unwrap_or(getegid());
    if uid == geteuid() && gid == getegid() {
        return Ok(None);
    }
    if !geteuid().is_root() {
        let wanted = user.map_or_else(|| format!("group {gid}"), |user| format!("user {:?}", user.name));
        return Err(bad_user(format!("only root may run apps as another user, and {wanted} is not the daemon's own")));
    }
    let groups = match user.and_then(|user| CString::new(user.name).ok()) {
        Some(name) => getgrouplist(&name, gid).unwrap_or_else(|_| vec![gid]),
        None => vec![gid],
    };
    let groups = groups.into_iter().map(Gid::as_raw).collect();
    Ok(Some(Credentials { uid: uid.as_raw(), gid: gid.as_raw(), groups }))
}

fn find_user(name: &str) -> Result<User, SpawnFailure> {
    let found = match name.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(name),
    };
    match found {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err(bad_user(format!("there is no user {name:?}"))),
        Err(errno) => Err(bad_user(format!("looking up user {name:?} failed: {}", errno.desc()))),
    }
}

fn find_group(name: &str) -> Result<Gid, SpawnFailure> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) => Err(bad_user(format!("there is no group {name:?}"))),
        Err(errno) => Err(bad_user(format!("looking up group {name:?} failed: {}", errno.desc()))),
    }
}

fn bad_user(text: String) -> SpawnFailure {
    failure::permanent(ReasonCode::BadUser, text)
}
