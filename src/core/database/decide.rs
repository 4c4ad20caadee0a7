//! What is there and whose it is → what to do about it. Pure, so that every case can be told and tried without a server.
//!
//! Invariant: nothing is changed or dropped that is not the app's. A role is the app's by its mark, which is made together
//! with it; a database also by belonging to the app's role, or, if it is empty, to the server's own user: so a crash
//! between making and marking it is nothing that a person has to repair.

use super::{Failure, Make};
use crate::reason::ReasonCode;

/// A thing on the server that has the app's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thing {
    /// Its comment.
    pub mark: Option<String>,
    /// The role it belongs to; for a role, itself.
    pub owner: String,
    /// Whether nothing is in it, as far as that was looked at.
    pub empty: bool,
}

/// What the server's own user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// Make roles.
    pub roles: bool,
    /// Make the database, or the schema in the server's database.
    pub create: bool,
    /// Everything.
    pub superuser: bool,
}

/// What was found on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What its user may do.
    pub rights: Rights,
    /// The role of the app's name.
    pub role: Option<Thing>,
    /// The database or schema of the app's name.
    pub thing: Option<Thing>,
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make the role with its mark.
    CreateRole,
    /// Make the server's user a member of the role, so that it may give things to it.
    JoinRole,
    /// Make the database or schema.
    Create {
        /// For the app's role; else for the server's user.
        for_role: bool,
    },
    /// Mark it.
    Mark,
    /// Keep others out of it.
    Close,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether the app connects as its own role.
    pub own_role: bool,
    /// In this order.
    pub steps: Vec<Step>,
}

/// Decides how a database or schema is made.
///
/// # Errors
/// It belongs to somebody else, or may not be made.
pub fn decide(make: &Make, found: &Found) -> Result<Decision, Failure> {
    let Found { rights, role, thing } = found;
    let ours = |thing: &Thing| thing.mark.as_deref() == Some(make.mark.as_str());
    let role_is_ours = role.as_ref().is_some_and(ours);
    let mut steps = Vec::new();
    if let Some(thing) = thing {
        let by_role = role_is_ours && thing.owner == make.name;
        let by_user = thing.mark.is_none() && thing.empty && thing.owner == make.server.user;
        if !ours(thing) && !by_role && !by_user {
            return Err(taken(&make.title(), make, thing));
        }
        if !ours(thing) {
            steps.extend([Step::Mark, Step::Close]);
        }
        let own_role = thing.owner == make.name;
        if own_role && !role_is_ours {
            return Err(role_taken(make, role.as_ref()));
        }
        return Ok(Decision { own_role, steps });
    }
    if !rights.create {
        return Err(no_right(make));
    }
    let own_role = match role {
        Some(_) if role_is_ours => true,
        Some(_) if rights.roles => return Err(role_taken(make, role.as_ref())),
        Some(_) => false,
        None => rights.roles,
    };
    if own_role && !role_is_ours {
        steps.push(Step::CreateRole);
    }
    if own_role && !rights.superuser {
        steps.push(Step::JoinRole);
    }
    steps.extend([Step::Create { for_role: own_role }, Step::Mark, Step::Close]);
    Ok(Decision { own_role, steps })
}

/// What of it is to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// The database or schema.
    pub thing: bool,
    /// The role.
    pub role: bool,
}

/// Decides what is dropped: what is the app's, and nothing else.
pub fn remove(make: &Make, found: &Found) -> Removal {
    let ours = |thing: &Thing| thing.mark.as_deref() == Some(make.mark.as_str());
    let role = found.role.as_ref().is_some_and(ours);
    let thing = found.thing.as_ref().is_some_and(|thing| ours(thing) || (role && thing.owner == make.name));
    Removal { thing, role }
}

fn taken(what: &str, make: &Make, thing: &Thing) -> Failure {
    let whose = match &thing.mark {
        Some(mark) if mark.starts_with("nbsupervisor:") => "another nbsupervisor, or a former app of that name".into(),
        _ => format!("role {:?}", thing.owner),
    };
    let text = format!("{what} at {} belongs to {whose}; it is left alone", make.server.endpoint);
    Failure::lasting(ReasonCode::DatabaseTaken, text)
}

fn role_taken(make: &Make, role: Option<&Thing>) -> Failure {
    let whose = match role.and_then(|role| role.mark.as_deref()) {
        Some(mark) if mark.starts_with("nbsupervisor:") => "another nbsupervisor, or a former app of that name",
        _ => "somebody else",
    };
    let text = format!("role {:?} at {} belongs to {whose}; it is left alone", make.name, make.server.endpoint);
    Failure::lasting(ReasonCode::DatabaseTaken, text)
}

fn no_right(make: &Make) -> Failure {
    let (user, endpoint) = (&make.server.user, &make.server.endpoint);
    let text = match make.schema {
        true => {
            format!("user {user:?} may not make a schema in database {:?} at {endpoint}", make.server.database)
        }
        false => format!("user {user:?} may not make a database at {endpoint} (it has no CREATEDB)"),
    };
    Failure::lasting(ReasonCode::DatabaseDenied, text)
}
