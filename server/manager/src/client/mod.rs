//! The operator's end of the API.

mod apps;
mod audit;
mod keys;
mod operators;
mod overview;
mod requests;
mod root;
mod transport;

use std::io;
use std::path::PathBuf;

use axum::Router;
use axum::http::Extensions;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};

use crate::api::Refusal;
use crate::{RequestView, SessionToken};
use transport::Transport;

/// Keys that are asked for at once.
const PAGE: u32 = 1000;

/// Why a call to the manager did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The manager could not be reached.
    #[error("manager socket {path}: is the server running?")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The manager's URL is not one.
    #[error("manager {0}: {1}")]
    Url(String, String),
    /// The manager could not be reached over the network.
    #[error(
        "manager {url}: is the server running, with [manager.http], and is its certificate trusted?"
    )]
    Unreachable {
        /// The URL.
        url: String,
        /// What the operating system, or TLS, said.
        source: io::Error,
    },
    /// The manager refused.
    #[error("{message} [{name} {number}]")]
    Refused {
        /// The number in the protocol's registry.
        number: u16,
        /// The name in the protocol's registry.
        name: String,
        /// What was wrong, and what to do next.
        message: String,
    },
    /// It takes two persons: it is asked for, and another operator must approve it.
    #[error("asked for: {}. Another operator must approve it: `sealwire request approve {}`", .0.what, .0.id)]
    Asked(Box<RequestView>),
    /// The connection broke.
    #[error("the connection to the manager failed")]
    Http(#[from] hyper::Error),
    /// The answer was not one.
    #[error("the manager's answer was not understood: {0}")]
    Answer(String),
}

/// Calls the manager.
#[derive(Clone)]
pub struct ManagerClient {
    transport: Transport,
    token: Option<SessionToken>,
}

impl ManagerClient {
    /// Speaks to the manager behind this socket.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { transport: Transport::Socket(path), token: None }
    }

    /// Speaks to the manager of a URL: `https://HOST[:PORT]`, or `http://` on loopback. It is trusted when one of these
    /// authorities says who it is, PEM; the system's unless given.
    ///
    /// # Errors
    /// [`ClientError::Url`].
    pub fn over(url: &str, ca_pem: Option<&[u8]>) -> Result<Self, ClientError> {
        Ok(Self { transport: Transport::to(url, ca_pem)?, token: None })
    }

    /// Speaks to the manager of this process, by its routes; `origin` says where calls come from.
    pub(crate) fn within(routes: Router, origin: Extensions) -> Self {
        Self { transport: Transport::Within(routes, origin), token: None }
    }

    /// Calls as the operator for whom a token stands: a session's, or one for programs.
    #[must_use]
    pub fn with_token(self, token: SessionToken) -> Self {
        Self { token: Some(token), ..self }
    }

    async fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let answer = |error: &dyn std::fmt::Display| ClientError::Answer(error.to_string());
        let bytes = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| answer(&error))?,
            None => Vec::new(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.transport.host())
            .header("content-type", "application/json");
        let request = match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {}", token.as_str())),
            None => request,
        };
        let request =
            request.body(Full::new(Bytes::from(bytes))).map_err(|error| answer(&error))?;
        let (status, body) = self.transport.send(request).await?;
        if status == StatusCode::ACCEPTED {
            let asked = serde_json::from_slice(&body).map_err(|error| answer(&error))?;
            return Err(ClientError::Asked(Box::new(asked)));
        }
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| answer(&error));
        }
        let refusal: Refusal = serde_json::from_slice(&body).map_err(|error| answer(&error))?;
        let Refusal { error: number, name, message } = refusal;
        Err(ClientError::Refused { number, name, message })
    }
}

fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
