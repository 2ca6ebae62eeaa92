//! The operator's end of the manager's socket.

mod apps;
mod audit;
mod keys;
mod operators;
mod requests;
mod root;

use std::io;
use std::path::PathBuf;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use crate::api::Refusal;
use crate::{RequestView, SessionToken};

/// Longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

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
    #[error("the manager's socket failed")]
    Http(#[from] hyper::Error),
    /// The answer was not one.
    #[error("the manager's answer was not understood: {0}")]
    Answer(String),
}

/// Calls the manager over its socket.
#[derive(Clone)]
pub struct ManagerClient {
    path: PathBuf,
    token: Option<SessionToken>,
}

impl ManagerClient {
    /// Speaks to the manager behind this socket.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, token: None }
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
        let connect = |source| ClientError::Connect { path: self.path.clone(), source };
        let stream = UnixStream::connect(&self.path).await.map_err(connect)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let answer = |error: &dyn std::fmt::Display| ClientError::Answer(error.to_string());
        let bytes = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| answer(&error))?,
            None => Vec::new(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "manager")
            .header("content-type", "application/json");
        let request = match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {}", token.as_str())),
            None => request,
        };
        let request =
            request.body(Full::new(Bytes::from(bytes))).map_err(|error| answer(&error))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = Zeroizing::new(body.map_err(|error| answer(&error))?.to_bytes().to_vec());
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
