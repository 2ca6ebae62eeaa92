//! The JSON API over a unix socket of mode 0600: whoever may open the socket may manage the site.

use std::io;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Path as Segment, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use sealwire_engine::chain;
use sealwire_engine::document::AppState;
use sealwire_protocol::ErrorCode;
use sealwire_protocol::error::Fault;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::{
    AppList, AppView, ChangeKey, CreateApp, CreateKey, CreatedApp, DestroyKey, KeyPage, KeyView,
    Manager, ManagerError, RotateSecret, RotationView, StateChange, Versions,
};

/// The body of a refusal.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
struct Page {
    #[serde(default)]
    after: String,
    #[serde(default = "default_limit")]
    limit: u32,
}

fn default_limit() -> u32 {
    1000
}

type Shared = State<Arc<Manager>>;

/// Every call of the API.
pub fn routes(manager: Arc<Manager>) -> Router {
    Router::new()
        .route("/v1/keys", get(list_keys).post(create_key))
        .route("/v1/keys/{key}", get(show_key).patch(set_key))
        .route("/v1/keys/{key}/rotate", post(rotate_key))
        .route("/v1/keys/{key}/destroy", post(destroy_key))
        .route("/v1/keys/{key}/{change}", post(change_key))
        .route("/v1/apps", get(list_apps).post(create_app))
        .route("/v1/apps/{app}", get(show_app))
        .route("/v1/apps/{app}/disable", post(disable_app))
        .route("/v1/apps/{app}/enable", post(enable_app))
        .route("/v1/apps/{app}/rotate-secret", post(rotate_app_secret))
        .route("/v1/root/rotation", get(rotation).post(begin_rotation))
        .route("/v1/root/rotation/leave-behind", post(leave_behind))
        .fallback(no_such_call)
        .with_state(manager)
}

/// Serves the API until `stop`. The socket must be one that nobody else may open.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: UnixListener,
    manager: Arc<Manager>,
    stop: CancellationToken,
) -> io::Result<()> {
    axum::serve(listener, routes(manager)).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn create_key(
    State(manager): Shared,
    Body(request): Body<CreateKey>,
) -> Result<Json<KeyView>, ManagerError> {
    manager.create_key(&request).await.map(Json)
}

async fn list_keys(
    State(manager): Shared,
    Query(page): Query<Page>,
) -> Result<Json<KeyPage>, ManagerError> {
    manager.list_keys(&page.after, page.limit).await.map(Json)
}

async fn show_key(
    State(manager): Shared,
    Segment(key): Segment<String>,
) -> Result<Json<KeyView>, ManagerError> {
    manager.show_key(&key).await.map(Json)
}

async fn rotate_key(
    State(manager): Shared,
    Segment(key): Segment<String>,
) -> Result<Json<KeyView>, ManagerError> {
    manager.rotate_key(&key).await.map(Json)
}

async fn set_key(
    State(manager): Shared,
    Segment(key): Segment<String>,
    Body(wish): Body<ChangeKey>,
) -> Result<Json<KeyView>, ManagerError> {
    manager.set_key(&key, &wish).await.map(Json)
}

async fn destroy_key(
    State(manager): Shared,
    Segment(key): Segment<String>,
    Body(wish): Body<DestroyKey>,
) -> Result<Json<KeyView>, ManagerError> {
    manager.destroy_key(&key, wish.version, wish.after_seconds).await.map(Json)
}

async fn change_key(
    State(manager): Shared,
    Segment((key, change)): Segment<(String, String)>,
    Body(Versions { version }): Body<Versions>,
) -> Response {
    let change = match change.as_str() {
        "close" => StateChange::Close,
        "disable" => StateChange::Disable,
        "enable" => StateChange::Enable,
        "cancel-destroy" => StateChange::CancelDestroy,
        _ => return no_such_call().await,
    };
    manager.change_state(&key, version, change).await.map(Json).into_response()
}

async fn show_app(
    State(manager): Shared,
    Segment(app): Segment<String>,
) -> Result<Json<AppView>, ManagerError> {
    manager.show_app(&app).await.map(Json)
}

async fn disable_app(
    State(manager): Shared,
    Segment(app): Segment<String>,
) -> Result<Json<AppView>, ManagerError> {
    manager.set_app_state(&app, AppState::Disabled).await.map(Json)
}

async fn enable_app(
    State(manager): Shared,
    Segment(app): Segment<String>,
) -> Result<Json<AppView>, ManagerError> {
    manager.set_app_state(&app, AppState::Active).await.map(Json)
}

async fn rotate_app_secret(
    State(manager): Shared,
    Segment(app): Segment<String>,
    Body(wish): Body<RotateSecret>,
) -> Result<Json<CreatedApp>, ManagerError> {
    manager.rotate_app_secret(&app, wish).await.map(Json)
}

async fn create_app(
    State(manager): Shared,
    Body(request): Body<CreateApp>,
) -> Result<Json<CreatedApp>, ManagerError> {
    manager.create_app(&request).await.map(Json)
}

async fn list_apps(State(manager): Shared) -> Result<Json<AppList>, ManagerError> {
    manager.list_apps().await.map(Json)
}

async fn rotation(State(manager): Shared) -> Result<Json<RotationView>, ManagerError> {
    manager.rotation().await.map(Json)
}

async fn begin_rotation(State(manager): Shared) -> Result<Json<RotationView>, ManagerError> {
    manager.begin_rotation().await.map(Json)
}

async fn leave_behind(State(manager): Shared) -> Result<Json<RotationView>, ManagerError> {
    manager.leave_behind().await.map(Json)
}

async fn no_such_call() -> Response {
    refuse(StatusCode::NOT_FOUND, ErrorCode::UNKNOWN_OPCODE, "no such call".into())
}

/// A JSON body, whose defects are refused in the API's own form.
struct Body<T>(T);

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

impl IntoResponse for ManagerError {
    fn into_response(self) -> Response {
        let code = self.code();
        let status = match (code, code.info().map(|info| info.fault)) {
            (ErrorCode::KEY_NOT_FOUND, _) => StatusCode::NOT_FOUND,
            (ErrorCode::KEY_CONFLICT | ErrorCode::KEY_STATE, _) => StatusCode::CONFLICT,
            (ErrorCode::INTERNAL, _) => StatusCode::INTERNAL_SERVER_ERROR,
            (_, Some(Fault::Server)) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = chain(&self), "management failed");
        } else if status == StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!(error = chain(&self), "management");
        }
        refuse(status, code, self.to_string())
    }
}

fn refuse(status: StatusCode, code: ErrorCode, message: String) -> Response {
    let body = Refusal { error: code.0, name: code.name().to_owned(), message };
    (status, Json(body)).into_response()
}
