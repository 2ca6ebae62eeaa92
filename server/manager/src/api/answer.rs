//! Bodies and refusals.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use sealwire_engine::chain;
use sealwire_protocol::ErrorCode;
use sealwire_protocol::error::Fault;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ManagerError, Outcome};

/// The body of a refusal.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// The number in the protocol's registry.
    pub error: u16,
    /// The name in the protocol's registry.
    pub name: String,
    /// What was wrong, and what to do next.
    pub message: String,
}

/// Which page of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    #[serde(default)]
    pub(super) after: String,
    #[serde(default = "default_limit")]
    pub(super) limit: u32,
}

fn default_limit() -> u32 {
    1000
}

pub(super) async fn no_such_call() -> Response {
    refuse(StatusCode::NOT_FOUND, ErrorCode::UNKNOWN_OPCODE, "no such call".into())
}

pub(super) async fn no_such_method() -> Response {
    let what = "this path is not called so".to_owned();
    refuse(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::UNKNOWN_OPCODE, what)
}

/// What stands in the query, whose defects are refused in the API's own form.
pub(super) struct Asked<T>(pub(super) T);

impl<T, S> FromRequestParts<S> for Asked<T>
where
    Query<T>: FromRequestParts<S, Rejection = QueryRejection>,
    S: Send + Sync,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(rejection) => {
                let message = rejection.body_text();
                Err(refuse(rejection.status(), ErrorCode::MALFORMED_BODY, message))
            }
        }
    }
}

/// A JSON body, whose defects are refused in the API's own form.
pub(super) struct Body<T>(pub(super) T);

impl<T, S> FromRequest<S> for Body<T>
where
    Json<T>: FromRequest<S, Rejection = JsonRejection>,
    S: Send + Sync,
{
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => {
                let message = rejection.body_text();
                Err(refuse(rejection.status(), ErrorCode::MALFORMED_BODY, message))
            }
        }
    }
}

impl<T: Serialize> IntoResponse for Outcome<T> {
    fn into_response(self) -> Response {
        match self {
            Self::Done(done) => Json(done).into_response(),
            Self::Asked(request) => (StatusCode::ACCEPTED, Json(request)).into_response(),
        }
    }
}

impl IntoResponse for ManagerError {
    fn into_response(self) -> Response {
        let code = self.code();
        let status = status_of(code);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = chain(&self), "management failed");
        } else if status == StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!(error = chain(&self), "management");
        }
        let mut response = refuse(status, code, self.to_string());
        let headers = response.headers_mut();
        match self {
            Self::SignInNeeded | Self::SignInRefused => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::SlowDown(wait) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
            }
            _ => {}
        }
        response
    }
}

/// The status of a refusal.
pub(crate) fn status_of(code: ErrorCode) -> StatusCode {
    match (code, code.info().map(|info| info.fault)) {
        (ErrorCode::SIGN_IN_NEEDED | ErrorCode::SIGN_IN_REFUSED, _) => StatusCode::UNAUTHORIZED,
        (ErrorCode::ROLE_NEEDED | ErrorCode::SECOND_PERSON | ErrorCode::NO_WARRANT, _) => {
            StatusCode::FORBIDDEN
        }
        (ErrorCode::SLOW_DOWN, _) => StatusCode::TOO_MANY_REQUESTS,
        (ErrorCode::KEY_NOT_FOUND, _) => StatusCode::NOT_FOUND,
        (ErrorCode::KEY_CONFLICT | ErrorCode::KEY_STATE, _) => StatusCode::CONFLICT,
        (ErrorCode::INTERNAL, _) => StatusCode::INTERNAL_SERVER_ERROR,
        (_, Some(Fault::Server)) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

fn refuse(status: StatusCode, code: ErrorCode, message: String) -> Response {
    let body = Refusal { error: code.0, name: code.name().to_owned(), message };
    (status, Json(body)).into_response()
}
