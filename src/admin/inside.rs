//! The API from inside the daemon, for the console: it shows what the API shows and changes what the API changes.
//!
//! Decides that a room which acts for somebody says for whom and is then a client like any other: the same checks, the
//! same audit, the same errors. Deliberately absent: how somebody who came over TCP proves who they are; that is their
//! room's part, with `token` for the proof.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Bytes;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde::de::DeserializeOwned;

use super::auth::{Actor, Peer};
use super::problem::Problem;
use super::{Admin, guard, routes};
use crate::wire::api::problem;

/// The other end of a connection, as far as the connection itself tells.
pub(crate) enum Caller {
    /// A user of this host, over the unix socket.
    Known(Actor),
    /// Somebody over TCP, who has to prove who they are.
    Unknown(SocketAddr),
}

/// What the API answers when it refuses. Boxed, as it is the rare case.
pub(crate) type Refused = Box<problem::Problem>;

/// A token that was shown and is known, without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Badge {
    /// Its name.
    pub name: String,
    /// What is stored of it.
    pub hash: [u8; 32],
}

impl Badge {
    /// Who acts with it, from there.
    pub(crate) fn actor(&self, address: SocketAddr) -> Actor {
        Actor { name: format!("token:{}", self.name), peer: format!("{address} (console)") }
    }
}

/// The way in. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Inside {
    admin: Admin,
    api: Router,
}

impl Inside {
    pub(crate) fn new(admin: Admin) -> Self {
        Self { api: routes::open(&admin), admin }
    }

    /// The room that answers.
    pub(crate) fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Who is at the other end. A browser may be at either listener, so where the request comes from is asked at both.
    ///
    /// # Errors
    /// They may not in, or a foreign site sent them.
    pub(crate) fn caller(&self, peer: Option<&Peer>, headers: &HeaderMap) -> Result<Caller, Refused> {
        let (caller, names) = match peer {
            Some(Peer::Unix { actor: Some(actor), uid }) => {
                (Caller::Known(Actor { name: actor.clone(), peer: format!("unix uid {uid} (console)") }), &[][..])
            }
            Some(Peer::Unix { uid, actor: None }) => return Err(guard::stranger(*uid).into()),
            Some(Peer::Tcp { address, names }) => (Caller::Unknown(*address), &names[..]),
            None => return Err(guard::nobody().into()),
        };
        guard::check_origin(headers, names)?;
        Ok(caller)
    }

    /// Whose token that is, if anybody's.
    ///
    /// # Errors
    /// The record cannot be read.
    pub(crate) async fn token(&self, token: &str) -> Result<Option<Badge>, Refused> {
        let found = self.admin.tokens().find(self.admin.entry.record(), token).await;
        Ok(found.map_err(Problem::from)?.map(|row| Badge { name: row.name, hash: row.hash }))
    }

    /// Whether a token that was found earlier still counts.
    ///
    /// # Errors
    /// The record cannot be read.
    pub(crate) async fn holds(&self, badge: &Badge) -> Result<bool, Refused> {
        let holds = self.admin.tokens().holds(self.admin.entry.record(), &badge.name, &badge.hash).await;
        Ok(holds.map_err(Problem::from)?)
    }

    /// Asks the API for somebody, and reads the answer as a whole.
    ///
    /// # Errors
    /// What the API answered.
    pub(crate) async fn ask(&self, actor: &Actor, mut request: Request<Body>) -> Result<Bytes, Refused> {
        request.extensions_mut().insert(actor.clone());
        let Ok(response) = TowerToHyperService::new(self.api.clone()).call(request).await;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| broken(&error.to_string()))?.to_bytes();
        match status.is_success() {
            true => Ok(body),
            false => Err(serde_json::from_slice(&body).unwrap_or_else(|error| broken(&error.to_string()))),
        }
    }

    /// The same for what is only looked at.
    ///
    /// # Errors
    /// What the API answered.
    pub(crate) async fn get<T: DeserializeOwned>(&self, actor: &Actor, path: &str) -> Result<T, Refused> {
        let request = Request::get(path).header(header::ACCEPT, "application/json").body(Body::empty());
        let body = self.ask(actor, request.map_err(|error| broken(&error.to_string()))?).await?;
        serde_json::from_slice(&body).map_err(|error| broken(&error.to_string()))
    }
}

fn broken(cause: &str) -> Refused {
    let detail = format!("the answer of the API cannot be read: {cause}");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).hint("please report this").into()
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::new(problem.into())
    }
}
