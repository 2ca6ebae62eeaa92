//! Apps.

use axum::extract::{Path as Segment, State};
use axum::{Extension, Json};
use sealwire_engine::document::AppState;

use super::Shared;
use super::answer::Body;
use crate::{
    AppList, AppView, Caller, ChangeApp, CreateApp, CreatedApp, ManagerError, Outcome, RotateSecret,
};

type Answer = Result<Json<AppView>, ManagerError>;

pub(super) async fn create(
    State(manager): Shared,
    Extension(caller): Extension<Caller>,
    Body(request): Body<CreateApp>,
) -> Result<Outcome<CreatedApp>, ManagerError> {
    manager.ask_create_app(&request, &caller).await
}

pub(super) async fn list(State(manager): Shared) -> Result<Json<AppList>, ManagerError> {
    manager.list_apps().await.map(Json)
}

pub(super) async fn show(State(manager): Shared, Segment(app): Segment<String>) -> Answer {
    manager.show_app(&app).await.map(Json)
}

pub(super) async fn set(
    State(manager): Shared,
    Extension(caller): Extension<Caller>,
    Segment(app): Segment<String>,
    Body(wish): Body<ChangeApp>,
) -> Result<Outcome<AppView>, ManagerError> {
    manager.ask_set_app(&app, &wish, &caller).await
}

pub(super) async fn disable(State(manager): Shared, Segment(app): Segment<String>) -> Answer {
    manager.set_app_state(&app, AppState::Disabled).await.map(Json)
}

pub(super) async fn enable(State(manager): Shared, Segment(app): Segment<String>) -> Answer {
    manager.set_app_state(&app, AppState::Active).await.map(Json)
}

pub(super) async fn rotate_secret(
    State(manager): Shared,
    Extension(caller): Extension<Caller>,
    Segment(app): Segment<String>,
    Body(wish): Body<RotateSecret>,
) -> Result<Outcome<CreatedApp>, ManagerError> {
    manager.ask_rotate_secret(&app, wish, &caller).await
}
