//! What is on a server under an app's name, and what the server's own user may do there.

use nbs_core::database::{Found, Made, Make, Rights, Thing};

use super::fault::Fault;
use super::session::Session;

const RIGHTS: &str = "SELECT rolsuper, rolcreaterole, rolcreatedb, \
                      has_database_privilege(current_database(), 'CREATE') \
                      FROM pg_roles WHERE rolname = current_user";
const ROLE: &str = "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname::text = $1";
const DATABASE: &str = "SELECT shobj_description(oid, 'pg_database'), pg_get_userbyid(datdba)::text \
                        FROM pg_database WHERE datname::text = $1";
const SCHEMA: &str = "SELECT obj_description(n.oid, 'pg_namespace'), pg_get_userbyid(nspowner)::text, \
                      NOT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid) \
                      FROM pg_namespace n WHERE nspname::text = $1";
/// Nothing but what every new database has.
const EMPTY: &str = "SELECT NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                     WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast')";

/// Looks, as the server's own user.
pub(super) async fn found(session: &Session, make: &Make) -> Result<Found, Fault> {
    let rights = match session.ask(RIGHTS, &[]).await? {
        Some(row) => {
            let superuser: bool = row.try_get(0)?;
            let create: bool = if make.schema { row.try_get(3)? } else { row.try_get(2)? };
            Rights { roles: superuser || row.try_get(1)?, create: superuser || create, superuser }
        }
        None => Rights { roles: false, create: false, superuser: false },
    };
    let role = match session.ask(ROLE, &[&make.name]).await? {
        Some(row) => Some(Thing { mark: row.try_get(0)?, owner: make.name.clone(), empty: false }),
        None => None,
    };
    let thing = if make.schema { schema(session, make).await? } else { database(session, make).await? };
    Ok(Found { rights, role, thing })
}

async fn database(session: &Session, make: &Make) -> Result<Option<Thing>, Fault> {
    let Some(row) = session.ask(DATABASE, &[&make.name]).await? else { return Ok(None) };
    let (mark, owner): (Option<String>, String) = (row.try_get(0)?, row.try_get(1)?);
    // Only what may have been left by a crash is looked into.
    let empty = match mark.is_none() && owner == make.server.user {
        true => is_empty(make).await?,
        false => false,
    };
    Ok(Some(Thing { mark, owner, empty }))
}

async fn is_empty(make: &Make) -> Result<bool, Fault> {
    let inside = Session::open(&make.login(false)).await?;
    match inside.ask(EMPTY, &[]).await? {
        Some(row) => Ok(row.try_get(0)?),
        None => Ok(false),
    }
}

async fn schema(session: &Session, make: &Make) -> Result<Option<Thing>, Fault> {
    let Some(row) = session.ask(SCHEMA, &[&make.name]).await? else { return Ok(None) };
    Ok(Some(Thing { mark: row.try_get(0)?, owner: row.try_get(1)?, empty: row.try_get(2)? }))
}

/// Connects as the app does, and whether it then has what is its own.
pub(super) async fn is_ours(make: &Make, made: Made) -> Result<bool, Fault> {
    let session = Session::open(&make.login(made.own_role)).await?;
    let question = if make.schema { SCHEMA } else { DATABASE };
    let row = session.ask(question, &[&make.name]).await?;
    let mark: Option<String> = match row {
        Some(row) => row.try_get(0)?,
        None => None,
    };
    Ok(mark.as_deref() == Some(make.mark.as_str()))
}

/// Whether a schema is there that somebody says is.
pub(super) async fn has_schema(session: &Session, schema: Option<&str>) -> Result<(), Fault> {
    let Some(schema) = schema else { return Ok(()) };
    match session.ask("SELECT 1 FROM pg_namespace WHERE nspname::text = $1", &[&schema]).await? {
        Some(_) => Ok(()),
        None => Err(Fault::no_schema(schema)),
    }
}
