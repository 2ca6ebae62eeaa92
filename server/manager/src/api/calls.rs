//! Every call of the API, and who may make it. `docs/manager.md` has the same as a table, which a test tries out,
//! call by call and role by role.

use std::sync::Arc;

use axum::routing::{MethodRouter, delete, get, patch, post};
use sealwire_engine::document::OperatorRole::{self, AppAdmin, Auditor, KeyAdmin, RootOfficer};

use super::{apps, audit, keys, operators, requests, root};
use crate::{Manager, StateChange};

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// Who has not signed in, too.
    Anybody,
    /// Operators.
    Operators {
        /// With one of these roles.
        roles: &'static [OperatorRole],
        /// Only when they have signed in themselves, and not with a token.
        in_person: bool,
        /// Also before they have changed a password that somebody else has chosen.
        at_first: bool,
    },
}

/// A call.
pub struct Call {
    /// GET, POST, PATCH or DELETE.
    pub method: &'static str,
    /// The path, with the names of its variable parts in braces.
    pub path: &'static str,
    /// Who may make it.
    pub may: May,
    pub(super) route: fn() -> MethodRouter<Arc<Manager>>,
}

const fn by(roles: &'static [OperatorRole]) -> May {
    May::Operators { roles, in_person: false, at_first: false }
}

const fn in_person(roles: &'static [OperatorRole]) -> May {
    May::Operators { roles, in_person: true, at_first: false }
}

/// Whoever has signed in, for himself.
const fn at_first(in_person: bool) -> May {
    May::Operators { roles: ALL, in_person, at_first: true }
}

const fn call(
    method: &'static str,
    path: &'static str,
    may: May,
    route: fn() -> MethodRouter<Arc<Manager>>,
) -> Call {
    Call { method, path, may, route }
}

const ALL: &[OperatorRole] = &[KeyAdmin, AppAdmin, Auditor, RootOfficer];
const KEYS: &[OperatorRole] = &[KeyAdmin];
const APPS: &[OperatorRole] = &[AppAdmin];
const ROOT: &[OperatorRole] = &[RootOfficer];
/// Who asks for what takes two persons, and approves it, each in his own field.
const ACTS: &[OperatorRole] = &[KeyAdmin, AppAdmin, RootOfficer];
const WATCH: &[OperatorRole] = &[Auditor, RootOfficer];

/// Every call.
pub static CALLS: &[Call] = &[
    call("POST", "/v1/session", May::Anybody, || post(operators::sign_in)),
    call("GET", "/v1/session", at_first(false), || get(operators::who_am_i)),
    call("DELETE", "/v1/session", at_first(true), || delete(operators::sign_out)),
    call("POST", "/v1/session/password", at_first(true), || post(operators::change_password)),
    call("POST", "/v1/session/tokens", in_person(ALL), || post(operators::create_token)),
    call("DELETE", "/v1/session/tokens/{token}", in_person(ALL), || {
        delete(operators::revoke_own_token)
    }),
    call("POST", "/v1/break-glass", May::Anybody, || post(operators::ask_break_glass)),
    call("POST", "/v1/break-glass/warrant", May::Anybody, || post(operators::break_glass)),
    call("GET", "/v1/operators", by(WATCH), || get(operators::list)),
    call("POST", "/v1/operators", in_person(ROOT), || post(operators::create)),
    call("GET", "/v1/operators/{operator}", by(WATCH), || get(operators::show)),
    call("POST", "/v1/operators/{operator}/disable", in_person(ROOT), || post(operators::disable)),
    call("POST", "/v1/operators/{operator}/enable", in_person(ROOT), || post(operators::enable)),
    call("POST", "/v1/operators/{operator}/roles", in_person(ROOT), || post(operators::set_roles)),
    call("POST", "/v1/operators/{operator}/password", in_person(ROOT), || {
        post(operators::reset_password)
    }),
    call("DELETE", "/v1/operators/{operator}/tokens/{token}", in_person(ROOT), || {
        delete(operators::revoke_token)
    }),
    call("GET", "/v1/keys", by(ALL), || get(keys::list)),
    call("POST", "/v1/keys", by(KEYS), || post(keys::create)),
    call("GET", "/v1/keys/{key}", by(ALL), || get(keys::show)),
    call("PATCH", "/v1/keys/{key}", by(KEYS), || patch(keys::set)),
    call("POST", "/v1/keys/{key}/rotate", by(KEYS), || post(keys::rotate)),
    call("POST", "/v1/keys/{key}/destroy", by(KEYS), || post(keys::destroy)),
    call("POST", "/v1/keys/{key}/close", by(KEYS), || keys::changes(StateChange::Close)),
    call("POST", "/v1/keys/{key}/disable", by(KEYS), || keys::changes(StateChange::Disable)),
    call("POST", "/v1/keys/{key}/enable", by(KEYS), || keys::changes(StateChange::Enable)),
    call("POST", "/v1/keys/{key}/cancel-destroy", by(KEYS), || {
        keys::changes(StateChange::CancelDestroy)
    }),
    call("GET", "/v1/apps", by(ALL), || get(apps::list)),
    call("POST", "/v1/apps", by(APPS), || post(apps::create)),
    call("GET", "/v1/apps/{app}", by(ALL), || get(apps::show)),
    call("POST", "/v1/apps/{app}/disable", by(APPS), || post(apps::disable)),
    call("POST", "/v1/apps/{app}/enable", by(APPS), || post(apps::enable)),
    call("POST", "/v1/apps/{app}/rotate-secret", by(APPS), || post(apps::rotate_secret)),
    call("GET", "/v1/requests", by(ALL), || get(requests::list)),
    call("GET", "/v1/requests/{request}", by(ALL), || get(requests::show)),
    call("POST", "/v1/requests/{request}/approve", in_person(ACTS), || post(requests::approve)),
    call("POST", "/v1/requests/{request}/refuse", in_person(ACTS), || post(requests::refuse)),
    call("GET", "/v1/policy", by(ALL), || get(requests::policy)),
    call("PATCH", "/v1/policy", in_person(ROOT), || patch(requests::set_policy)),
    call("GET", "/v1/audit", by(WATCH), || get(audit::list)),
    call("GET", "/v1/audit/chains", by(WATCH), || get(audit::chains)),
    call("GET", "/v1/audit/chains/{writer}", by(WATCH), || get(audit::rows)),
    call("POST", "/v1/audit/chains/{writer}/check", by(WATCH), || post(audit::check_chain)),
    call("POST", "/v1/audit/heads/check", by(WATCH), || post(audit::check_heads)),
    call("GET", "/v1/root/rotation", by(WATCH), || get(root::rotation)),
    call("POST", "/v1/root/rotation", in_person(ROOT), || post(root::begin_rotation)),
    call("POST", "/v1/root/rotation/leave-behind", in_person(ROOT), || post(root::leave_behind)),
];
