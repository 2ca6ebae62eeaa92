//! Every call of the API, and who may make it. `docs/manager.md` has the same as a table, which a test tries out,
//! call by call and role by role.

use std::sync::Arc;

use axum::routing::{MethodRouter, delete, get, patch, post};
use sealwire_engine::document::OperatorRole::{self, AppAdmin, Auditor, KeyAdmin, RootOfficer};

use super::openapi::{Described, of};
use super::{apps, audit, keys, openapi, operators, overview, requests, root};
use crate::audit::{
    AuditChains, AuditPage, AuditRows, ChainPart, CheckChain, CheckHeads, CheckedHeads,
};
use crate::{
    AppList, AppLogins, AppView, AttentionView, BreakGlass, CallerView, ChangeApp, ChangeKey,
    ChangePassword, CreateApp, CreateKey, CreateOperator, CreateToken, CreatedApp, CreatedToken,
    DestroyKey, Done, KeyPage, KeyView, Manager, OperatorList, OperatorView, PolicyView,
    RequestList, RequestView, ResetPassword, RotateSecret, RotationView, SealView, SetPolicy,
    SetRoles, SignIn, SignedIn, StateChange, Statement, StatusView, TrafficView, Versions,
    Warranted,
};

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
    /// What it does, in a line.
    pub summary: &'static str,
    pub(super) route: fn() -> MethodRouter<Arc<Manager>>,
    /// The body that it takes, and what it answers.
    pub(super) takes: Option<fn() -> Described>,
    pub(super) gives: fn() -> Described,
    /// Whether it may answer, with 202, that somebody else must approve it.
    pub(super) asks: bool,
    /// What may stand in the query, and whether it is a number.
    pub(super) query: &'static [(&'static str, bool)],
}

impl Call {
    const fn takes(self, body: fn() -> Described) -> Self {
        Self { takes: Some(body), ..self }
    }

    const fn asks(self) -> Self {
        Self { asks: true, ..self }
    }

    const fn query(self, query: &'static [(&'static str, bool)]) -> Self {
        Self { query, ..self }
    }
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
    (method, path): (&'static str, &'static str),
    may: May,
    route: fn() -> MethodRouter<Arc<Manager>>,
    summary: &'static str,
    gives: fn() -> Described,
) -> Call {
    Call { method, path, may, summary, route, takes: None, gives, asks: false, query: &[] }
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
    call(("GET", "/v1/openapi.json"), May::Anybody, || get(openapi::document), "This description of the API", of::<openapi::Document>),
    call(("GET", "/v1/seal"), May::Anybody, || get(overview::seal), "Whether the site can work", of::<SealView>),
    call(("POST", "/v1/session"), May::Anybody, || post(operators::sign_in), "Sign in", of::<SignedIn>).takes(of::<SignIn>),
    call(("GET", "/v1/session"), at_first(false), || get(operators::who_am_i), "Who calls", of::<CallerView>),
    call(("DELETE", "/v1/session"), at_first(true), || delete(operators::sign_out), "Sign out", of::<Done>),
    call(("POST", "/v1/session/password"), at_first(true), || post(operators::change_password), "Change one's own password", of::<Done>).takes(of::<ChangePassword>),
    call(("POST", "/v1/session/tokens"), in_person(ALL), || post(operators::create_token), "Make a token for a program of one's own", of::<CreatedToken>).takes(of::<CreateToken>),
    call(("DELETE", "/v1/session/tokens/{token}"), in_person(ALL), || delete(operators::revoke_own_token), "Revoke a token of one's own", of::<Done>),
    call(("POST", "/v1/break-glass"), May::Anybody, || post(operators::ask_break_glass), "What a quorum of key cards must allow, so that a root-officer is made: over the socket alone", of::<Statement>).takes(of::<BreakGlass>),
    call(("POST", "/v1/break-glass/warrant"), May::Anybody, || post(operators::break_glass), "Make the root-officer whom a quorum has allowed: over the socket alone", of::<OperatorView>).takes(of::<Warranted>),
    call(("GET", "/v1/status"), by(ALL), || get(overview::status), "How the engines and the keystore are", of::<StatusView>),
    call(("GET", "/v1/attention"), by(ALL), || get(overview::attention), "What somebody should look at", of::<AttentionView>),
    call(("GET", "/v1/traffic"), by(ALL), || get(overview::traffic), "Messages and refusals, minute by minute", of::<TrafficView>).query(&[("minutes", true)]),
    call(("GET", "/v1/operators"), by(WATCH), || get(operators::list), "Every operator", of::<OperatorList>),
    call(("POST", "/v1/operators"), in_person(ROOT), || post(operators::create), "Make an operator", of::<OperatorView>).takes(of::<CreateOperator>).asks(),
    call(("GET", "/v1/operators/{operator}"), by(WATCH), || get(operators::show), "An operator, with their tokens and sessions", of::<OperatorView>),
    call(("POST", "/v1/operators/{operator}/disable"), in_person(ROOT), || post(operators::disable), "Keep an operator from signing in", of::<OperatorView>),
    call(("POST", "/v1/operators/{operator}/enable"), in_person(ROOT), || post(operators::enable), "Let an operator sign in again", of::<OperatorView>).asks(),
    call(("POST", "/v1/operators/{operator}/roles"), in_person(ROOT), || post(operators::set_roles), "Give an operator other roles", of::<OperatorView>).takes(of::<SetRoles>).asks(),
    call(("POST", "/v1/operators/{operator}/password"), in_person(ROOT), || post(operators::reset_password), "Give an operator another password", of::<OperatorView>).takes(of::<ResetPassword>).asks(),
    call(("DELETE", "/v1/operators/{operator}/tokens/{token}"), in_person(ROOT), || delete(operators::revoke_token), "Revoke a token of an operator", of::<Done>),
    call(("GET", "/v1/keys"), by(ALL), || get(keys::list), "A page of keys, by name", of::<KeyPage>).query(&[("after", false), ("limit", true)]),
    call(("POST", "/v1/keys"), by(KEYS), || post(keys::create), "Make a key, or find the one of this name", of::<KeyView>).takes(of::<CreateKey>),
    call(("GET", "/v1/keys/{key}"), by(ALL), || get(keys::show), "A key, with its wrapped versions", of::<KeyView>),
    call(("PATCH", "/v1/keys/{key}"), by(KEYS), || patch(keys::set), "Set a key", of::<KeyView>).takes(of::<ChangeKey>).asks(),
    call(("POST", "/v1/keys/{key}/rotate"), by(KEYS), || post(keys::rotate), "Give a key a new version", of::<KeyView>),
    call(("POST", "/v1/keys/{key}/destroy"), by(KEYS), || post(keys::destroy), "Schedule the destruction of versions", of::<KeyView>).takes(of::<DestroyKey>).asks(),
    call(("POST", "/v1/keys/{key}/close"), by(KEYS), || keys::changes(StateChange::Close), "Have versions open, and not seal", of::<KeyView>).takes(of::<Versions>),
    call(("POST", "/v1/keys/{key}/disable"), by(KEYS), || keys::changes(StateChange::Disable), "Have versions neither open nor seal", of::<KeyView>).takes(of::<Versions>),
    call(("POST", "/v1/keys/{key}/enable"), by(KEYS), || keys::changes(StateChange::Enable), "Have versions open again, and the newest seal", of::<KeyView>).takes(of::<Versions>),
    call(("POST", "/v1/keys/{key}/cancel-destroy"), by(KEYS), || keys::changes(StateChange::CancelDestroy), "Call destructions off", of::<KeyView>).takes(of::<Versions>),
    call(("GET", "/v1/apps"), by(ALL), || get(apps::list), "Every app", of::<AppList>),
    call(("POST", "/v1/apps"), by(APPS), || post(apps::create), "Make an app", of::<CreatedApp>).takes(of::<CreateApp>).asks(),
    call(("GET", "/v1/apps/{app}"), by(ALL), || get(apps::show), "An app", of::<AppView>),
    call(("GET", "/v1/apps/{app}/logins"), by(ALL), || get(overview::logins), "When an app was seen last, and from where", of::<AppLogins>),
    call(("PATCH", "/v1/apps/{app}"), by(APPS), || patch(apps::set), "Set what an app may do, and from where", of::<AppView>).takes(of::<ChangeApp>).asks(),
    call(("POST", "/v1/apps/{app}/disable"), by(APPS), || post(apps::disable), "Keep an app from logging in", of::<AppView>),
    call(("POST", "/v1/apps/{app}/enable"), by(APPS), || post(apps::enable), "Let an app log in again", of::<AppView>),
    call(("POST", "/v1/apps/{app}/rotate-secret"), by(APPS), || post(apps::rotate_secret), "Give an app a new secret", of::<CreatedApp>).takes(of::<RotateSecret>).asks(),
    call(("GET", "/v1/requests"), by(ALL), || get(requests::list), "Every request, the newest first", of::<RequestList>),
    call(("GET", "/v1/requests/{request}"), by(ALL), || get(requests::show), "A request", of::<RequestView>),
    call(("POST", "/v1/requests/{request}/approve"), in_person(ACTS), || post(requests::approve), "Approve somebody else's request", of::<RequestView>),
    call(("POST", "/v1/requests/{request}/refuse"), in_person(ACTS), || post(requests::refuse), "Refuse a request, or take one's own back", of::<RequestView>),
    call(("GET", "/v1/policy"), by(ALL), || get(requests::policy), "Whether two persons are needed", of::<PolicyView>),
    call(("PATCH", "/v1/policy"), in_person(ROOT), || patch(requests::set_policy), "Set the policy", of::<PolicyView>).takes(of::<SetPolicy>).asks(),
    call(("GET", "/v1/audit"), by(WATCH), || get(audit::list), "Audit records, the newest first", of::<AuditPage>).query(&[("from", true), ("until", true), ("event", false), ("writer", false), ("about", false), ("before", false), ("limit", true)]),
    call(("GET", "/v1/audit/chains"), by(WATCH), || get(audit::chains), "Every chain of audit records", of::<AuditChains>),
    call(("GET", "/v1/audit/chains/{writer}"), by(WATCH), || get(audit::rows), "Audit records as they are stored", of::<AuditRows>).query(&[("after", true)]),
    call(("POST", "/v1/audit/chains/{writer}/check"), by(WATCH), || post(audit::check_chain), "Check a part of a chain", of::<ChainPart>).takes(of::<CheckChain>),
    call(("POST", "/v1/audit/heads/check"), by(WATCH), || post(audit::check_heads), "Compare heads with the chains", of::<CheckedHeads>).takes(of::<CheckHeads>),
    call(("GET", "/v1/root/rotation"), by(WATCH), || get(root::rotation), "How far a root rotation is", of::<RotationView>),
    call(("POST", "/v1/root/rotation"), in_person(ROOT), || post(root::begin_rotation), "Begin to move what is wrapped under the old root key", of::<RotationView>),
    call(("POST", "/v1/root/rotation/leave-behind"), in_person(ROOT), || post(root::leave_behind), "End a rotation without the rows that are shown", of::<RotationView>),
];
