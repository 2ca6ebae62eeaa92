//! The operator's end of the manager's socket.

use std::io;
use std::path::PathBuf;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use crate::api::Refusal;
use crate::{
    AppList, AppView, CallerView, ChangeKey, ChangePassword, CreateApp, CreateKey, CreateOperator,
    CreateToken, CreatedApp, CreatedToken, DestroyKey, Done, KeyPage, KeyView, OperatorList,
    OperatorView, Password, ResetPassword, RotateSecret, RotationView, SessionToken, SetRoles,
    SignIn, SignedIn, Versions,
};

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

    /// Makes a key.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_key(&self, key: &CreateKey) -> Result<KeyView, ClientError> {
        self.call(Method::POST, "/v1/keys", Some(key)).await
    }

    /// Adds a version to a key.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rotate_key(&self, key: &str) -> Result<KeyView, ClientError> {
        self.call(Method::POST, &format!("/v1/keys/{}/rotate", segment(key)), None::<&()>).await
    }

    /// A key with its wrapped versions.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn show_key(&self, key: &str) -> Result<KeyView, ClientError> {
        self.call(Method::GET, &format!("/v1/keys/{}", segment(key)), None::<&()>).await
    }

    /// Changes the state of a key's versions: `close`, `disable`, `enable`, `cancel-destroy`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_key(
        &self,
        key: &str,
        change: &str,
        versions: Versions,
    ) -> Result<KeyView, ClientError> {
        let path = format!("/v1/keys/{}/{change}", segment(key));
        self.call(Method::POST, &path, Some(&versions)).await
    }

    /// Schedules the destruction of a key's versions.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn destroy_key(&self, key: &str, wish: DestroyKey) -> Result<KeyView, ClientError> {
        self.call(Method::POST, &format!("/v1/keys/{}/destroy", segment(key)), Some(&wish)).await
    }

    /// Sets what a key is set to.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_key(&self, key: &str, wish: &ChangeKey) -> Result<KeyView, ClientError> {
        self.call(Method::PATCH, &format!("/v1/keys/{}", segment(key)), Some(wish)).await
    }

    /// A page of keys by name, behind the name `after`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_page(&self, after: &str, limit: u32) -> Result<KeyPage, ClientError> {
        let path = format!("/v1/keys?after={}&limit={limit}", segment(after));
        self.call(Method::GET, &path, None::<&()>).await
    }

    /// Every key, page by page.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_keys(&self) -> Result<KeyPage, ClientError> {
        let mut all = KeyPage { keys: Vec::new(), unverified: Vec::new(), next: None };
        let mut after = String::new();
        loop {
            let page = self.list_page(&after, PAGE).await?;
            all.keys.extend(page.keys);
            all.unverified.extend(page.unverified);
            match page.next {
                Some(next) => after = next,
                None => return Ok(all),
            }
        }
    }

    /// An app, by AppKey or name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn show_app(&self, app: &str) -> Result<AppView, ClientError> {
        self.call(Method::GET, &format!("/v1/apps/{}", segment(app)), None::<&()>).await
    }

    /// Keeps an app from logging in, and ends its sessions; or lets it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn enable_app(&self, app: &str, enable: bool) -> Result<AppView, ClientError> {
        let change = if enable { "enable" } else { "disable" };
        self.call(Method::POST, &format!("/v1/apps/{}/{change}", segment(app)), None::<&()>).await
    }

    /// Gives an app a new secret. The answer has it, this once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rotate_app_secret(
        &self,
        app: &str,
        wish: RotateSecret,
    ) -> Result<CreatedApp, ClientError> {
        let path = format!("/v1/apps/{}/rotate-secret", segment(app));
        self.call(Method::POST, &path, Some(&wish)).await
    }

    /// Makes an app. The answer has its secret, this once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_app(&self, app: &CreateApp) -> Result<CreatedApp, ClientError> {
        self.call(Method::POST, "/v1/apps", Some(app)).await
    }

    /// Every app.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_apps(&self) -> Result<AppList, ClientError> {
        self.call(Method::GET, "/v1/apps", None::<&()>).await
    }

    /// How far a root rotation has come.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rotation(&self) -> Result<RotationView, ClientError> {
        self.call(Method::GET, "/v1/root/rotation", None::<&()>).await
    }

    /// Begins to move what is wrapped under the root key of before.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn begin_rotation(&self) -> Result<RotationView, ClientError> {
        self.call(Method::POST, "/v1/root/rotation", None::<&()>).await
    }

    /// Ends a root rotation although some rows could not be moved.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn leave_behind(&self) -> Result<RotationView, ClientError> {
        self.call(Method::POST, "/v1/root/rotation/leave-behind", None::<&()>).await
    }

    /// Signs an operator in.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sign_in(&self, name: &str, password: Password) -> Result<SignedIn, ClientError> {
        let request = SignIn { name: name.to_owned(), password };
        self.call(Method::POST, "/v1/session", Some(&request)).await
    }

    /// Who the manager takes this for.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn who_am_i(&self) -> Result<CallerView, ClientError> {
        self.call(Method::GET, "/v1/session", None::<&()>).await
    }

    /// Ends the session.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sign_out(&self) -> Result<Done, ClientError> {
        self.call(Method::DELETE, "/v1/session", None::<&()>).await
    }

    /// Changes one's own password.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_password(&self, change: &ChangePassword) -> Result<Done, ClientError> {
        self.call(Method::POST, "/v1/session/password", Some(change)).await
    }

    /// Makes a token for a program. The answer has it, this once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_token(&self, token: &CreateToken) -> Result<CreatedToken, ClientError> {
        self.call(Method::POST, "/v1/session/tokens", Some(token)).await
    }

    /// Revokes a token: one's own, or an operator's.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke_token(
        &self,
        operator: Option<&str>,
        token: &str,
    ) -> Result<Done, ClientError> {
        let path = match operator {
            Some(operator) => {
                format!("/v1/operators/{}/tokens/{}", segment(operator), segment(token))
            }
            None => format!("/v1/session/tokens/{}", segment(token)),
        };
        self.call(Method::DELETE, &path, None::<&()>).await
    }

    /// Makes an operator.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_operator(
        &self,
        operator: &CreateOperator,
    ) -> Result<OperatorView, ClientError> {
        self.call(Method::POST, "/v1/operators", Some(operator)).await
    }

    /// Every operator.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_operators(&self) -> Result<OperatorList, ClientError> {
        self.call(Method::GET, "/v1/operators", None::<&()>).await
    }

    /// An operator, by name or id.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn show_operator(&self, operator: &str) -> Result<OperatorView, ClientError> {
        self.call(Method::GET, &format!("/v1/operators/{}", segment(operator)), None::<&()>).await
    }

    /// Lets an operator sign in, or not.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn enable_operator(
        &self,
        operator: &str,
        enable: bool,
    ) -> Result<OperatorView, ClientError> {
        let change = if enable { "enable" } else { "disable" };
        let path = format!("/v1/operators/{}/{change}", segment(operator));
        self.call(Method::POST, &path, None::<&()>).await
    }

    /// Gives an operator other roles.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_operator_roles(
        &self,
        operator: &str,
        roles: &SetRoles,
    ) -> Result<OperatorView, ClientError> {
        let path = format!("/v1/operators/{}/roles", segment(operator));
        self.call(Method::POST, &path, Some(roles)).await
    }

    /// Gives an operator another password.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn reset_operator_password(
        &self,
        operator: &str,
        password: Password,
    ) -> Result<OperatorView, ClientError> {
        let path = format!("/v1/operators/{}/password", segment(operator));
        self.call(Method::POST, &path, Some(&ResetPassword { password })).await
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
