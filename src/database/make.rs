//! The steps that the core decided on, as statements.

use nbs_core::database::{Made, Make, Step, decide, remove};
use postgres_protocol::escape::{escape_identifier, escape_literal};
use postgres_protocol::password::scram_sha_256;

use super::fault::Fault;
use super::session::Session;
use super::{Outcome, look};

/// One app's database is made by one daemon at a time.
const LOCK_ONE: &str = "SELECT pg_advisory_lock(hashtextextended('nbsupervisor ' || $1, 0))";
/// Roles and memberships lie in catalogs that all databases share, and two changes of one row at once are an error.
const LOCK_ROLES: &str = "SELECT pg_advisory_xact_lock(hashtextextended('nbsupervisor roles', 0))";

/// Makes what is not there.
pub(super) async fn make(make: &Make) -> Result<Made, Outcome> {
    let session = locked(make).await?;
    let found = look::found(&session, make).await?;
    let decision = decide(make, &found)?;
    for step in &decision.steps {
        let (sql, doing) = statement(make, *step, decision.own_role);
        session.run(&sql).await.map_err(|fault| fault.doing(doing))?;
    }
    let made = Made { own_role: decision.own_role };
    match look::is_ours(make, made).await {
        Err(fault) if fault.is_wrong_password() && made.own_role => {
            // The role is ours and its password was changed by somebody: the app would not get in.
            let (sql, doing) = (set_password(make), format!("setting the password of role {:?}", make.name));
            session.run(&sql).await.map_err(|fault| fault.doing(doing))?;
            look::is_ours(make, made).await.map_err(|fault| fault.doing(connecting(make)))?;
        }
        checked => _ = checked.map_err(|fault| fault.doing(connecting(make)))?,
    }
    Ok(made)
}

/// Drops what is the app's, and ends the sessions on it.
pub(super) async fn drop_all(make: &Make) -> Result<(), Fault> {
    let session = locked(make).await?;
    let found = look::found(&session, make).await?;
    let removal = remove(make, &found);
    let (name, title) = (escape_identifier(&make.name), make.title());
    if removal.thing {
        let sql = match make.schema {
            true => format!("DROP SCHEMA {name} CASCADE"),
            false => format!("DROP DATABASE {name} WITH (FORCE)"),
        };
        if make.schema && removal.role {
            end_sessions(&session, make).await?;
        }
        session.run(&sql).await.map_err(|fault| fault.doing(format!("dropping {title}")))?;
    }
    if removal.role {
        end_sessions(&session, make).await?;
        let sql = format!("BEGIN; {LOCK_ROLES}; DROP OWNED BY {name}; DROP ROLE {name}; COMMIT");
        session.run(&sql).await.map_err(|fault| fault.doing(format!("dropping role {:?}", make.name)))?;
    }
    Ok(())
}

/// A session of the server's own user that nobody else of ours disturbs in what it does to this app's database.
async fn locked(make: &Make) -> Result<Session, Fault> {
    let session = Session::open(&make.server).await?;
    session.ask(LOCK_ONE, &[&make.name]).await.map_err(|fault| fault.doing(format!("waiting for {}", make.title())))?;
    Ok(session)
}

async fn end_sessions(session: &Session, make: &Make) -> Result<(), Fault> {
    let question = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename::text = $1";
    let ended = session.ask(question, &[&make.name]).await;
    ended.map_err(|fault| fault.doing(format!("ending the sessions of role {:?}", make.name)))?;
    Ok(())
}

/// A step as a statement, and what that does.
fn statement(make: &Make, step: Step, own_role: bool) -> (String, String) {
    let (name, mark) = (escape_identifier(&make.name), escape_literal(&make.mark));
    let (role, title) = (format!("role {:?}", make.name), make.title());
    let kind = if make.schema { "SCHEMA" } else { "DATABASE" };
    match step {
        Step::CreateRole => {
            let password = verifier(make);
            let create = format!("CREATE ROLE {name} LOGIN PASSWORD {password}");
            let sql = format!("BEGIN; {LOCK_ROLES}; {create}; COMMENT ON ROLE {name} IS {mark}; COMMIT");
            (sql, format!("making {role}"))
        }
        Step::JoinRole => {
            let sql = format!("BEGIN; {LOCK_ROLES}; GRANT {name} TO CURRENT_USER; COMMIT");
            (sql, format!("joining {role}"))
        }
        Step::Create { for_role } => {
            let owner = match (for_role, make.schema) {
                (true, true) => format!(" AUTHORIZATION {name}"),
                (true, false) => format!(" OWNER {name}"),
                (false, _) => String::new(),
            };
            (format!("CREATE {kind} {name}{owner}"), format!("making {title}"))
        }
        Step::Mark => (format!("COMMENT ON {kind} {name} IS {mark}"), format!("marking {title}")),
        Step::Close => {
            let doing = format!("closing {title} to others");
            match (make.schema, own_role) {
                (false, _) => (format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"), doing),
                // A schema is closed from the first. An app that knows nothing of schemas is to find its own.
                (true, true) => {
                    let database = escape_identifier(&make.server.database);
                    let sql = format!("ALTER ROLE {name} IN DATABASE {database} SET search_path = {name}");
                    (sql, format!("leading {role} to {title}"))
                }
                (true, false) => (String::new(), doing),
            }
        }
    }
}

fn set_password(make: &Make) -> String {
    let (name, password) = (escape_identifier(&make.name), verifier(make));
    format!("BEGIN; {LOCK_ROLES}; ALTER ROLE {name} LOGIN PASSWORD {password}; COMMIT")
}

/// What a server keeps of a password: made here, so that the password itself stands in no statement and in no log of it.
fn verifier(make: &Make) -> String {
    escape_literal(&scram_sha_256(make.password.expose().as_bytes()))
}

fn connecting(make: &Make) -> String {
    format!("connecting to {} as the app", make.title())
}

#[cfg(test)]
mod tests {
    use nbs_core::database::{Endpoint, Login};
    use nbs_core::secret::SecretText;

    use super::*;

    fn odd(schema: bool) -> Make {
        let endpoint = Endpoint { host: "h".into(), port: 1 };
        let server = Login { endpoint, user: "nbs".into(), password: None, database: "d\"; DROP".into() };
        let (name, mark) = ("x\"; DROP DATABASE a; --".into(), "m'; DROP\\'".into());
        Make { schema, server, name, mark, password: SecretText::new("hunter2"), made: None }
    }

    #[test]
    fn no_name_ends_its_quotes_and_no_password_is_sent() {
        let steps = [Step::CreateRole, Step::JoinRole, Step::Create { for_role: true }, Step::Mark, Step::Close];
        for (schema, step) in [true, false].into_iter().flat_map(|schema| steps.map(|step| (schema, step))) {
            let (sql, _) = statement(&odd(schema), step, true);
            let rest = sql.replace("\"x\"\"; DROP DATABASE a; --\"", "").replace("\"d\"\"; DROP\"", "");
            let rest = rest.replace(" E'm''; DROP\\\\'''", "");
            assert!(!rest.contains("DROP") && !sql.contains("hunter2"), "{sql}");
        }
    }
}
