//! Root rotations.

use axum::Json;
use axum::extract::State;

use super::Shared;
use crate::{ManagerError, RotationView};

type Answer = Result<Json<RotationView>, ManagerError>;

pub(super) async fn rotation(State(manager): Shared) -> Answer {
    manager.rotation().await.map(Json)
}

pub(super) async fn begin_rotation(State(manager): Shared) -> Answer {
    manager.begin_rotation().await.map(Json)
}

pub(super) async fn leave_behind(State(manager): Shared) -> Answer {
    manager.leave_behind().await.map(Json)
}
