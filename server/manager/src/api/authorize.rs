//! Who calls, and whether they may.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sealwire_engine::audit::AuditActor;
use tracing::Instrument as _;
use zeroize::Zeroizing;

use super::body::whole;
use super::calls::{Call, May};
use super::https::Admitted;
use crate::audit::{acting, actor_of};
use crate::{Caller, Manager, ManagerError, Source};

/// Longest body, in bytes.
const MAX_BODY: usize = 1024 * 1024;
const MAX_BODY_OF_STRANGERS: usize = 64 * 1024;

/// That a page calls, in this process, with what its browser has kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByPage;

/// Finds out who calls, and lets only those through who may. What is behind it gets the [`Caller`].
pub(super) async fn authorize(
    State((manager, call)): State<(Arc<Manager>, &'static Call)>,
    request: Request,
    next: Next,
) -> Response {
    // All of it first: who calls is asked when everything is there to be done, and not long before.
    let (parts, body) = request.into_parts();
    let known = call.may != May::Anybody && bearer(&parts.headers).is_some();
    let body = match whole(body, if known { MAX_BODY } else { MAX_BODY_OF_STRANGERS }).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let mut request = Request::from_parts(parts, Body::from(body));
    let source = request.extensions().get::<Source>().copied();
    let proof = bearer(request.headers()).map(|token| Zeroizing::new(token.to_owned()));
    let given = proof.is_some();
    let by_page = request.extensions().get::<ByPage>().is_some();
    let (who, answered) = match check(&manager, call.may, source, proof).await {
        Ok(caller) => {
            // Nobody yet: who signs in, or breaks the glass.
            let actor = caller.as_ref().map_or(AuditActor::Socket, actor_of);
            let who = caller.as_ref().map(|caller| caller.name().to_owned());
            if let Some(caller) = caller {
                if let Some(admitted) = request.extensions().get::<Admitted>() {
                    admitted.authenticated();
                }
                request.extensions_mut().insert(caller);
            }
            // By itself, so that a caller who hangs up does not cut it off in the middle.
            let work = acting(actor, next.run(request)).in_current_span();
            let answered = tokio::spawn(work).await;
            let failed = |_| ManagerError::Failed("a call has panicked".into()).into_response();
            (who, answered.unwrap_or_else(failed))
        }
        Err((who, error)) => (who, error.into_response()),
    };
    // What was refused to somebody is on record; a sign-in that was sees to itself.
    let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&answered.status());
    // So is a page's session that has ended: nobody has done anything.
    let ended = by_page && who.is_none() && answered.status() == StatusCode::UNAUTHORIZED;
    if refused && !ended && call.may != May::Anybody && (given || who.is_some()) {
        let who = who.unwrap_or_else(|| "(a session or token that is none)".into());
        let source = source.unwrap_or(Source::Socket);
        // Without what stands in the place of a name: it may be a secret.
        let why = format!("{} {}: {}", call.method, call.path, answered.status());
        manager.record_refused(&who, source, &why);
    }
    answered
}

/// Who calls, if they may; else who it was, as far as that is known, and why not.
async fn check(
    manager: &Manager,
    may: May,
    source: Option<Source>,
    proof: Option<Zeroizing<String>>,
) -> Result<Option<Caller>, (Option<String>, ManagerError)> {
    let May::Operators { roles, in_person, at_first } = may else { return Ok(None) };
    let nobody = |error| (None, error);
    let source = source.ok_or(nobody(ManagerError::SignInNeeded))?;
    let caller = manager.caller(proof.as_ref().map(|token| token.as_str()), source).await;
    let caller = caller.map_err(nobody)?;
    let refused = |error| Err((Some(caller.name().to_owned()), error));
    if caller.must_change_password() && !at_first {
        return refused(ManagerError::PasswordFirst);
    }
    if !caller.has(roles) {
        let names: Vec<_> = roles.iter().map(|role| role.name()).collect();
        return refused(ManagerError::RoleNeeded(names.join(" or ")));
    }
    if in_person && !caller.is_person() {
        return refused(ManagerError::PersonNeeded);
    }
    Ok(Some(caller))
}

/// The token of `Authorization: Bearer` (RFC 6750, section 2.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
