//! Requests that another operator must approve, and the policy.

use axum::extract::{Path as Segment, State};
use axum::{Extension, Json};

use super::Shared;
use super::answer::Body;
use crate::{Caller, ManagerError, Outcome, PolicyView, RequestList, RequestView, SetPolicy};

type Answer = Result<Json<RequestView>, ManagerError>;

pub(super) async fn list(State(manager): Shared) -> Result<Json<RequestList>, ManagerError> {
    manager.list_requests().await.map(Json)
}

pub(super) async fn show(State(manager): Shared, Segment(request): Segment<String>) -> Answer {
    manager.show_request(&request).await.map(Json)
}

pub(super) async fn approve(
    State(manager): Shared,
    Extension(caller): Extension<Caller>,
    Segment(request): Segment<String>,
) -> Answer {
    manager.approve_request(&request, &caller).await.map(Json)
}

pub(super) async fn refuse(
    State(manager): Shared,
    Extension(caller): Extension<Caller>,
    Segment(request): Segment<String>,
) -> Answer {
    manager.refuse_request(&request, &caller).await.map(Json)
}

pub(super) async fn policy(State(manager): Shared) -> Result<Json<PolicyView>, ManagerError> {
    manager.policy().await.map(Json)
}

pub(super) async fn set_policy(
    State(manager): Shared,
    Extension(caller): Extension<Caller>,
    Body(wish): Body<SetPolicy>,
) -> Result<Outcome<PolicyView>, ManagerError> {
    manager.set_policy(wish, &caller).await
}
