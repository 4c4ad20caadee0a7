//! `token create|list|revoke`.

use clap::Subcommand;
use hyper::Method;
use serde_json::json;

use super::Session;
use super::client::encode;
use super::exit::Outcome;
use crate::wire::api::token::{Token, TokenList};

#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Make a token and print it, this once
    Create {
        /// A name to know it by
        name: String,
    },
    /// List tokens by name
    List,
    /// Revoke a token; it counts no more at once
    Revoke {
        /// Which
        name: String,
    },
}

pub async fn run(session: &mut Session, verb: TokenVerb) -> Outcome {
    match verb {
        TokenVerb::Create { name } => {
            let answer = session.client.change(Method::POST, "/api/v1/tokens", Some(&json!({ "name": name }))).await?;
            if session.out.is_json() {
                return session.out.data(&answer.text);
            }
            let token: Token = answer.parse()?;
            session.out.say("keep it safe, it is not shown again; use it with --url and --token-file");
            session.out.data(token.token.unwrap_or_default())
        }
        TokenVerb::List => {
            let answer = session.client.get("/api/v1/tokens").await?;
            if session.out.is_json() {
                return session.out.data(&answer.text);
            }
            let list: TokenList = answer.parse()?;
            let rows = list.tokens.into_iter().map(|token| vec![token.name, token.role, token.created_at]);
            let empty = "there is no token: `nbsupervisor token create NAME` makes one";
            session.out.table(&["NAME", "ROLE", "CREATED"], rows.collect(), empty)
        }
        TokenVerb::Revoke { name } => {
            session.client.change(Method::DELETE, &format!("/api/v1/tokens/{}", encode(&name)), None).await?;
            session.out.say(format!("token {name} is revoked"));
            Ok(())
        }
    }
}
