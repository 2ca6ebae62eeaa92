//! Apps.

use axum::Json;
use axum::extract::{Path as Segment, State};
use sealwire_engine::document::AppState;

use super::Shared;
use super::answer::Body;
use crate::{AppList, AppView, CreateApp, CreatedApp, ManagerError, RotateSecret};

type Answer = Result<Json<AppView>, ManagerError>;

pub(super) async fn create(
    State(manager): Shared,
    Body(request): Body<CreateApp>,
) -> Result<Json<CreatedApp>, ManagerError> {
    manager.create_app(&request).await.map(Json)
}

pub(super) async fn list(State(manager): Shared) -> Result<Json<AppList>, ManagerError> {
    manager.list_apps().await.map(Json)
}

pub(super) async fn show(State(manager): Shared, Segment(app): Segment<String>) -> Answer {
    manager.show_app(&app).await.map(Json)
}

pub(super) async fn disable(State(manager): Shared, Segment(app): Segment<String>) -> Answer {
    manager.set_app_state(&app, AppState::Disabled).await.map(Json)
}

pub(super) async fn enable(State(manager): Shared, Segment(app): Segment<String>) -> Answer {
    manager.set_app_state(&app, AppState::Active).await.map(Json)
}

pub(super) async fn rotate_secret(
    State(manager): Shared,
    Segment(app): Segment<String>,
    Body(wish): Body<RotateSecret>,
) -> Result<Json<CreatedApp>, ManagerError> {
    manager.rotate_app_secret(&app, wish).await.map(Json)
}
