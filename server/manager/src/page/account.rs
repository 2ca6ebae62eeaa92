//! Signing in and out, one's own password, and how somebody likes the page.

use askama::Template;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use sealwire_protocol::ErrorCode;
use serde::Deserialize;

use super::cookies::Kept;
use super::language::Language;
use super::render;
use super::trouble::Trouble;
use super::visit::{Fields, Frame, Theme, Visit, Visitor, local, with_cookies};
use crate::{ChangePassword, Password, SealView};

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    f: &'a Frame,
    seal: Option<SealView>,
    trouble: Option<Trouble>,
    name: &'a str,
    to: &'a str,
}

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage<'a> {
    f: &'a Frame,
    trouble: Option<Trouble>,
}

#[derive(Deserialize)]
pub(super) struct Destination {
    #[serde(default)]
    to: String,
}

#[derive(Deserialize)]
pub(super) struct SignInForm {
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: Password,
    #[serde(default)]
    to: String,
}

#[derive(Deserialize)]
pub(super) struct PasswordForm {
    #[serde(default)]
    current: Password,
    #[serde(default)]
    new: Password,
    #[serde(default)]
    again: Password,
}

#[derive(Deserialize)]
pub(super) struct LookForm {
    language: Option<String>,
    theme: Option<String>,
    #[serde(default)]
    to: String,
}

async fn sign_in_page(
    visit: &Visit,
    (name, to): (&str, &str),
    trouble: Option<Trouble>,
) -> Response {
    let seal = visit.client().seal().await.ok();
    let status = trouble.as_ref().map_or(StatusCode::OK, |trouble| trouble.status);
    let page = SignInPage { f: &visit.frame, seal, trouble, name, to: local(to) };
    (status, render(&page)).into_response()
}

pub(super) async fn sign_in_form(
    visit: Visit,
    Query(Destination { to }): Query<Destination>,
) -> Response {
    sign_in_page(&visit, ("", &to), None).await
}

pub(super) async fn sign_in(visit: Visit, Fields(form): Fields<SignInForm>) -> Response {
    let client = visit.client();
    match client.sign_in(form.name.trim(), form.password).await {
        Ok(signed_in) => {
            // Whatever session the browser came with is over: nobody goes on with one that somebody else knows.
            if visit.has_session() {
                let _ = client.sign_out().await;
            }
            visit.begin_session(&signed_in.token, &form.to)
        }
        Err(error) => sign_in_page(&visit, (&form.name, &form.to), Some(error.into())).await,
    }
}

/// Whatever becomes of the session: the browser keeps it no longer.
pub(super) async fn sign_out(visit: Visit) -> Response {
    if let Err(error) = visit.client().sign_out().await {
        let trouble = Trouble::from(error);
        tracing::warn!(error = trouble.message, "sign-out");
    }
    let forgotten = [Kept::Session.forget(visit.front.is_tls)];
    with_cookies(Redirect::to("/sign-in").into_response(), &forgotten)
}

pub(super) async fn show(visitor: Visitor) -> Response {
    render(&AccountPage { f: visitor.frame(), trouble: None })
}

pub(super) async fn change_password(
    visitor: Visitor,
    Fields(form): Fields<PasswordForm>,
) -> Response {
    let words = visitor.words();
    let refuse = |trouble: Trouble| {
        let status = trouble.status;
        let page = AccountPage { f: visitor.frame(), trouble: Some(trouble) };
        (status, render(&page)).into_response()
    };
    if *form.new != *form.again {
        return refuse(Trouble::invalid(words.passwords_differ));
    }
    let change = ChangePassword { current: form.current, new: form.new };
    match visitor.api.change_password(&change).await.map_err(Trouble::from) {
        Ok(_) => visitor.back_to("/account", Ok(()), words.password_changed),
        Err(trouble) if trouble.is(ErrorCode::SIGN_IN_NEEDED) => visitor.visit.to_sign_in(),
        Err(trouble) => refuse(trouble),
    }
}

/// Sets the language, or light and dark: also for who has not signed in.
pub(super) async fn look(visit: Visit, Fields(form): Fields<LookForm>) -> Response {
    let is_tls = visit.front.is_tls;
    let mut cookies = Vec::new();
    if let Some(language) = form.language.as_deref().and_then(Language::named) {
        cookies.push(Kept::Language.set(language.tag(), is_tls));
    }
    let theme = form.theme.as_deref();
    if let Some(theme) = Theme::ALL.into_iter().find(|known| Some(known.name()) == theme) {
        cookies.push(Kept::Theme.set(theme.name(), is_tls));
    }
    with_cookies(Redirect::to(local(&form.to)).into_response(), &cookies)
}
