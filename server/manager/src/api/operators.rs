//! Operators, who is signed in, and tokens.

use axum::extract::{Path as Segment, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealwire_engine::document::OperatorState;

use super::Shared;
use super::answer::Body;
use super::authorize::bearer;
use crate::{
    BreakGlass, Caller, CallerView, ChangePassword, CreateOperator, CreateToken, CreatedToken,
    Done, ManagerError, OperatorList, OperatorView, Outcome, ResetPassword, SetRoles, SignIn,
    SignedIn, Source, Statement, Warranted, Who,
};

type Answer = Result<Json<OperatorView>, ManagerError>;
type Asked = Result<Outcome<OperatorView>, ManagerError>;

pub(super) async fn sign_in(
    State(manager): Shared,
    Extension(source): Extension<Source>,
    Body(SignIn { name, password }): Body<SignIn>,
) -> Result<Json<SignedIn>, ManagerError> {
    let (token, caller) = manager.sign_in(&name, password, source).await?;
    Ok(Json(SignedIn { token, operator: CallerView::new(&caller) }))
}

pub(super) async fn ask_break_glass(
    State(manager): Shared,
    Extension(source): Extension<Source>,
    Body(request): Body<BreakGlass>,
) -> Result<Json<Statement>, ManagerError> {
    let statement = manager.ask_break_glass(request, source).await?;
    Ok(Json(Statement { statement }))
}

pub(super) async fn break_glass(
    State(manager): Shared,
    Extension(source): Extension<Source>,
    Body(Warranted { statement, warrant }): Body<Warranted>,
) -> Answer {
    let warrant = STANDARD.decode(&warrant).ok().and_then(|bytes| bytes.try_into().ok());
    let warrant = warrant.ok_or_else(|| ManagerError::Invalid("that is no warrant".into()))?;
    manager.break_glass(&statement, &warrant, source).await.map(Json)
}

pub(super) async fn who_am_i(Extension(caller): Extension<Caller>) -> Json<CallerView> {
    Json(CallerView::new(&caller))
}

pub(super) async fn sign_out(
    State(manager): Shared,
    headers: HeaderMap,
) -> Result<Json<Done>, ManagerError> {
    manager.sign_out(bearer(&headers).unwrap_or_default()).await.map(|()| Json(Done {}))
}

pub(super) async fn change_password(
    State(manager): Shared,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Body(ChangePassword { current, new }): Body<ChangePassword>,
) -> Result<Json<Done>, ManagerError> {
    let session = bearer(&headers).unwrap_or_default();
    manager.change_password(&caller, (current, new), session).await.map(|()| Json(Done {}))
}

pub(super) async fn create_token(
    State(manager): Shared,
    Extension(caller): Extension<Caller>,
    Body(request): Body<CreateToken>,
) -> Result<Json<CreatedToken>, ManagerError> {
    manager.create_token(&caller, &request).await.map(Json)
}

pub(super) async fn revoke_own_token(
    State(manager): Shared,
    Extension(caller): Extension<Caller>,
    Segment(token): Segment<String>,
) -> Result<Json<Done>, ManagerError> {
    let Who::Operator { id, .. } = &caller.who else { return Err(ManagerError::SignInNeeded) };
    manager.revoke_token(id, &token).await.map(|()| Json(Done {}))
}

pub(super) async fn list(State(manager): Shared) -> Result<Json<OperatorList>, ManagerError> {
    manager.list_operators().await.map(Json)
}

pub(super) async fn create(
    State(manager): Shared,
    Extension(caller): Extension<Caller>,
    Body(request): Body<CreateOperator>,
) -> Asked {
    manager.create_operator(request, &caller).await
}

pub(super) async fn show(State(manager): Shared, Segment(operator): Segment<String>) -> Answer {
    manager.show_operator(&operator).await.map(Json)
}

pub(super) async fn disable(
    State(manager): Shared,
    Extension(caller): Extension<Caller>,
    Segment(operator): Segment<String>,
) -> Answer {
    let changed = manager.set_operator_state(&operator, OperatorState::Disabled, None).await?;
    tracing::info!(operator = %changed.name, by = caller.name(), "operator disabled");
    Ok(Json(changed))
}

pub(super) async fn enable(
    State(manager): Shared,
    Extension(caller): Extension<Caller>,
    Segment(operator): Segment<String>,
) -> Asked {
    manager.ask_enable_operator(&operator, &caller).await
}

pub(super) async fn set_roles(
    State(manager): Shared,
    Extension(caller): Extension<Caller>,
    Segment(operator): Segment<String>,
    Body(SetRoles { roles }): Body<SetRoles>,
) -> Asked {
    manager.ask_set_roles(&operator, roles, &caller).await
}

pub(super) async fn reset_password(
    State(manager): Shared,
    Extension(caller): Extension<Caller>,
    Segment(operator): Segment<String>,
    Body(ResetPassword { password }): Body<ResetPassword>,
) -> Asked {
    manager.ask_reset_password(&operator, password, &caller).await
}

pub(super) async fn revoke_token(
    State(manager): Shared,
    Segment((operator, token)): Segment<(String, String)>,
) -> Result<Json<Done>, ManagerError> {
    manager.revoke_token(&operator, &token).await.map(|()| Json(Done {}))
}
