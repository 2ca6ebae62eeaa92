//! Keys.

use std::sync::Arc;

use axum::extract::{Path as Segment, State};
use axum::routing::{MethodRouter, post};
use axum::{Extension, Json};

use super::Shared;
use super::answer::{Asked as Query, Body, Page};
use crate::{
    Caller, ChangeKey, CreateKey, DestroyKey, KeyPage, KeyView, Manager, ManagerError, Outcome,
    StateChange, Versions,
};

type Answer = Result<Json<KeyView>, ManagerError>;
type Asked = Result<Outcome<KeyView>, ManagerError>;

pub(super) async fn create(State(manager): Shared, Body(request): Body<CreateKey>) -> Answer {
    manager.create_key(&request).await.map(Json)
}

pub(super) async fn list(
    State(manager): Shared,
    Query(page): Query<Page>,
) -> Result<Json<KeyPage>, ManagerError> {
    manager.list_keys(&page.after, page.limit).await.map(Json)
}

pub(super) async fn show(State(manager): Shared, Segment(key): Segment<String>) -> Answer {
    manager.show_key(&key).await.map(Json)
}

pub(super) async fn rotate(State(manager): Shared, Segment(key): Segment<String>) -> Answer {
    manager.rotate_key(&key).await.map(Json)
}

pub(super) async fn set(
    State(manager): Shared,
    Extension(caller): Extension<Caller>,
    Segment(key): Segment<String>,
    Body(wish): Body<ChangeKey>,
) -> Asked {
    manager.ask_set_key(&key, &wish, &caller).await
}

pub(super) async fn destroy(
    State(manager): Shared,
    Extension(caller): Extension<Caller>,
    Segment(key): Segment<String>,
    Body(wish): Body<DestroyKey>,
) -> Asked {
    manager.ask_destroy_key(&key, (wish.version, wish.after_seconds), &caller).await
}

/// A call that changes the state of versions.
pub(super) fn changes(change: StateChange) -> MethodRouter<Arc<Manager>> {
    let handle = async move |State(manager): Shared,
                             Segment(key): Segment<String>,
                             Body(Versions { version }): Body<Versions>| {
        manager.change_state(&key, version, change).await.map(Json)
    };
    post(handle)
}
