//! What goes on, at a glance.

use axum::Json;
use axum::extract::{Path as Segment, State};
use serde::Deserialize;

use super::Shared;
use super::answer::Asked as Query;
use crate::{AppLogins, AttentionView, ManagerError, SealView, StatusView, TrafficView};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Minutes {
    minutes: Option<u64>,
}

pub(super) async fn seal(State(manager): Shared) -> Json<SealView> {
    Json(manager.seal())
}

pub(super) async fn status(State(manager): Shared) -> Json<StatusView> {
    Json(manager.status().await)
}

pub(super) async fn attention(State(manager): Shared) -> Result<Json<AttentionView>, ManagerError> {
    manager.attention().await.map(Json)
}

pub(super) async fn traffic(
    State(manager): Shared,
    Query(Minutes { minutes }): Query<Minutes>,
) -> Result<Json<TrafficView>, ManagerError> {
    manager.traffic(minutes).await.map(Json)
}

pub(super) async fn logins(
    State(manager): Shared,
    Segment(app): Segment<String>,
) -> Result<Json<AppLogins>, ManagerError> {
    manager.app_logins(&app).await.map(Json)
}
