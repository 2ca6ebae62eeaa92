//! The audit.

use axum::Json;
use axum::extract::{Path as Segment, State};
use serde::Deserialize;

use super::Shared;
use super::answer::{Asked as Query, Body};
use crate::ManagerError;
use crate::audit::{
    AuditChains, AuditPage, AuditQuery, AuditRows, ChainPart, CheckChain, CheckHeads, CheckedHeads,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    #[serde(default = "from_the_first")]
    after: i64,
}

fn from_the_first() -> i64 {
    i64::MIN
}

pub(super) async fn list(
    State(manager): Shared,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditPage>, ManagerError> {
    manager.list_audit(&query).await.map(Json)
}

pub(super) async fn chains(State(manager): Shared) -> Result<Json<AuditChains>, ManagerError> {
    manager.audit_chains().await.map(Json)
}

pub(super) async fn rows(
    State(manager): Shared,
    Segment(writer): Segment<String>,
    Query(After { after }): Query<After>,
) -> Result<Json<AuditRows>, ManagerError> {
    manager.audit_rows(&writer, after).await.map(Json)
}

pub(super) async fn check_chain(
    State(manager): Shared,
    Segment(writer): Segment<String>,
    Body(after): Body<CheckChain>,
) -> Result<Json<ChainPart>, ManagerError> {
    manager.check_chain(&writer, after).await.map(Json)
}

pub(super) async fn check_heads(
    State(manager): Shared,
    Body(heads): Body<CheckHeads>,
) -> Result<Json<CheckedHeads>, ManagerError> {
    manager.check_heads(&heads).await.map(Json)
}
