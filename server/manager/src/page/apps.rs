//! Apps: the list, one of them with a check of its allow-list, a new one, and what is done to one.

use std::net::IpAddr;

use askama::Template;
use axum::extract::{Path as Segment, Query};
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use sealwire_engine::document::{AppState, Grant, lets_in};
use serde::Deserialize;

use super::render;
use super::trouble::Trouble;
use super::visit::{Fields, Frame, Visitor};
use crate::{
    AppList, AppLogins, AppView, ChangeApp, ClientError, CreateApp, CreatedApp, RotateSecret, Wish,
};

/// Hours for which the secret of before is taken, unless others are asked for.
const OVERLAP_HOURS: u64 = 24;

fn place(app: &AppView) -> String {
    format!("/apps/{}", app.app_key)
}

#[derive(Template)]
#[template(path = "apps.html")]
struct ListPage<'a> {
    f: &'a Frame,
    list: AppList,
    search: &'a str,
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    search: String,
}

pub(super) async fn list(visitor: Visitor, Query(query): Query<ListQuery>) -> Response {
    let text = query.search.trim();
    let lower = text.to_lowercase();
    match visitor.api.list_apps().await {
        Ok(mut list) => {
            list.apps.retain(|app| {
                app.name.to_lowercase().contains(&lower) || app.app_key.contains(&lower)
            });
            render(&ListPage { f: visitor.frame(), list, search: text })
        }
        Err(error) => Trouble::from(error).into_response(),
    }
}

/// What an address that somebody asks about would meet.
enum Checked {
    LetIn,
    Refused,
    /// It is on the list, and the app is disabled.
    Disabled,
    NoAddress,
}

#[derive(Template)]
#[template(path = "app.html")]
struct AppPage<'a> {
    f: &'a Frame,
    app: AppView,
    logins: AppLogins,
    address: &'a str,
    checked: Option<Checked>,
}

#[derive(Deserialize)]
pub(super) struct AddressQuery {
    #[serde(default)]
    address: String,
}

pub(super) async fn show(
    visitor: Visitor,
    Segment(app): Segment<String>,
    Query(query): Query<AddressQuery>,
) -> Response {
    let (app, logins) = tokio::join!(visitor.api.show_app(&app), visitor.api.app_logins(&app));
    let (app, logins) = match (app, logins) {
        (Ok(app), Ok(logins)) => (app, logins),
        (Err(error), _) | (_, Err(error)) => return Trouble::from(error).into_response(),
    };
    let address = query.address.trim();
    let checked = (!address.is_empty()).then(|| match address.parse::<IpAddr>() {
        Err(_) => Checked::NoAddress,
        Ok(address) if !lets_in(&app.allow, address) => Checked::Refused,
        Ok(_) if app.state == AppState::Disabled => Checked::Disabled,
        Ok(_) => Checked::LetIn,
    });
    render(&AppPage { f: visitor.frame(), app, logins, address, checked })
}

/// An app to make, as it is filled in; also from a request that was approved.
#[derive(Default, Deserialize)]
pub(super) struct NewApp {
    #[serde(default)]
    name: String,
    /// One network a line.
    #[serde(default)]
    allow: String,
    /// One grant a line.
    #[serde(default)]
    grants: String,
    /// Whether it may come over HTTP.
    #[serde(default)]
    http: bool,
    /// The request that was approved, by id.
    #[serde(skip)]
    request: String,
}

/// One a line.
fn lines<T: ToString>(things: &[T]) -> String {
    let texts: Vec<_> = things.iter().map(ToString::to_string).collect();
    texts.join("\n")
}

/// The networks and grants of a form, one a line.
fn permissions(allow_text: &str, grants_text: &str) -> Result<(Vec<IpNet>, Vec<Grant>), Trouble> {
    let parts = |text: &str| {
        let parts = text.split_whitespace().map(str::to_owned);
        parts.collect::<Vec<_>>()
    };
    let mut allow = Vec::new();
    for text in parts(&allow_text.replace(',', " ")) {
        // One address by itself is a network, too.
        let network = text.parse::<IpNet>().ok().or_else(|| text.parse().ok().map(IpAddr::into));
        let problem =
            || Trouble::invalid(format!("`{text}`: 10.0.0.0/8, 192.0.2.7, 2001:db8::/32"));
        allow.push(network.ok_or_else(problem)?);
    }
    let mut grants: Vec<Grant> = Vec::new();
    for text in parts(grants_text) {
        grants.push(text.parse().map_err(|error| Trouble::invalid(format!("{error}")))?);
    }
    Ok((allow, grants))
}

impl NewApp {
    fn wish(&self) -> Result<CreateApp, Trouble> {
        let (allow, grants) = permissions(&self.allow, &self.grants)?;
        Ok(CreateApp { name: self.name.trim().to_owned(), allow, grants, http: self.http })
    }
}

#[derive(Template)]
#[template(path = "app_new.html")]
struct NewPage<'a> {
    f: &'a Frame,
    form: &'a NewApp,
    trouble: Option<Trouble>,
}

/// What a request asks for: one of the visitor's own that was approved, and is about this app, if it is about one.
async fn wished(visitor: &Visitor, request: &str, app: Option<&str>) -> Result<Wish, Trouble> {
    let view = visitor.api.show_request(request).await?;
    let is_own = view.asked.name == visitor.frame().name();
    if view.state != "approved" || !is_own || view.target.as_deref() != app {
        return Err(Trouble::no_such_page());
    }
    Ok(view.wish)
}

pub(super) async fn new(visitor: Visitor, Query(query): Query<ActQuery>) -> Response {
    let mut form = NewApp::default();
    if !query.request.is_empty() {
        match wished(&visitor, &query.request, None).await {
            Ok(Wish::CreateApp { name, allow, grants, http }) => {
                (form.name, form.allow, form.grants) = (name, lines(&allow), lines(&grants));
                form.http = http;
                form.request = query.request;
            }
            Ok(_) => return Trouble::no_such_page().into_response(),
            Err(trouble) => return trouble.into_response(),
        }
    }
    render(&NewPage { f: visitor.frame(), form: &form, trouble: None })
}

/// The secret of an app. It is shown on the answer to the form, and never again.
#[derive(Template)]
#[template(path = "secret.html")]
struct SecretPage<'a> {
    f: &'a Frame,
    app: &'a AppView,
    app_secret: Option<&'a str>,
    http_secret: Option<&'a str>,
}

fn show_secret(visitor: &Visitor, created: &CreatedApp) -> Response {
    let app_secret = created.app_secret.as_ref().map(|secret| secret.as_str());
    let http_secret = created.http_secret.as_ref().map(|secret| secret.as_str());
    render(&SecretPage { f: visitor.frame(), app: &created.app, app_secret, http_secret })
}

pub(super) async fn create(visitor: Visitor, Fields(form): Fields<NewApp>) -> Response {
    let refuse = |trouble: Trouble| {
        let status = trouble.status;
        let page = NewPage { f: visitor.frame(), form: &form, trouble: Some(trouble) };
        (status, render(&page)).into_response()
    };
    let wish = match form.wish() {
        Ok(wish) => wish,
        Err(trouble) => return refuse(trouble),
    };
    match visitor.api.create_app(&wish).await {
        Ok(created) => show_secret(&visitor, &created),
        Err(asked @ ClientError::Asked(_)) => visitor.back_to("/requests", Err::<(), _>(asked), ""),
        Err(error) => refuse(error.into()),
    }
}

/// What can be done to an app beside letting it in again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AppAct {
    Set,
    Disable,
    Enable,
    RotateSecret,
}

impl AppAct {
    fn named(name: &str) -> Result<Self, Trouble> {
        Ok(match name {
            "set" => Self::Set,
            "disable" => Self::Disable,
            "enable" => Self::Enable,
            "rotate-secret" => Self::RotateSecret,
            _ => return Err(Trouble::no_such_page()),
        })
    }
}

#[derive(Template)]
#[template(path = "app_act.html")]
struct ActPage<'a> {
    f: &'a Frame,
    act: AppAct,
    name: &'a str,
    app: AppView,
    hours: u64,
    /// One a line, to be changed.
    allow: String,
    grants: String,
    request: &'a str,
    /// What was approved: it is done just so.
    approved: Option<Wish>,
}

#[derive(Deserialize)]
pub(super) struct ActForm {
    /// The app's name, typed.
    #[serde(default)]
    name: String,
    /// One network a line, and one grant a line.
    #[serde(default)]
    allow: String,
    #[serde(default)]
    grants: String,
    #[serde(default)]
    overlap_hours: Option<u64>,
    #[serde(default)]
    drop_older: bool,
    /// Whether it is the HTTP secret.
    #[serde(default)]
    http: bool,
    /// The request that was approved, by id: then it is done as it was asked for.
    #[serde(default)]
    request: String,
    /// The revision that the form was made for, so that a page that is sent again does nothing.
    #[serde(default)]
    revision: u64,
}

#[derive(Deserialize)]
pub(super) struct ActQuery {
    #[serde(default)]
    request: String,
}

pub(super) async fn confirm(
    visitor: Visitor,
    Segment((app, name)): Segment<(String, String)>,
    Query(query): Query<ActQuery>,
) -> Response {
    let act = match AppAct::named(&name) {
        Ok(act) if act != AppAct::Enable => act,
        Ok(_) => return Trouble::no_such_page().into_response(),
        Err(trouble) => return trouble.into_response(),
    };
    let f = visitor.frame();
    match visitor.api.show_app(&app).await {
        Ok(app) => {
            let approved = match query.request.as_str() {
                "" => None,
                request => match wished(&visitor, request, Some(&app.name)).await {
                    Ok(wish) => Some(wish),
                    Err(trouble) => return trouble.into_response(),
                },
            };
            let (hours, request) = (OVERLAP_HOURS, query.request.as_str());
            let (allow, grants) = (lines(&app.allow), lines(&app.grants));
            render(&ActPage { f, act, name: &name, app, hours, allow, grants, request, approved })
        }
        Err(error) => Trouble::from(error).into_response(),
    }
}

pub(super) async fn act(
    visitor: Visitor,
    Segment((app, name)): Segment<(String, String)>,
    Fields(form): Fields<ActForm>,
) -> Response {
    let (words, api) = (visitor.words(), &visitor.api);
    let act = match AppAct::named(&name) {
        Ok(act) => act,
        Err(trouble) => return trouble.into_response(),
    };
    let app = match api.show_app(&app).await {
        Ok(app) => app,
        Err(error) => return Trouble::from(error).into_response(),
    };
    let here = place(&app);
    if act != AppAct::Enable && form.name.trim() != app.name {
        return Trouble::invalid(words.name_differs).into_response();
    }
    match act {
        AppAct::Enable => {
            visitor.back_to(&here, api.enable_app(&app.app_key, true).await, words.app_enabled)
        }
        AppAct::Disable => {
            visitor.back_to(&here, api.enable_app(&app.app_key, false).await, words.app_disabled)
        }
        AppAct::Set | AppAct::RotateSecret if form.revision != app.revision => {
            Trouble::invalid(words.changed_meanwhile).into_response()
        }
        AppAct::Set => match permissions(&form.allow, &form.grants) {
            Ok((allow, grants)) => {
                let wish = ChangeApp { allow: Some(allow), grants: Some(grants), http: None };
                let done = api.set_app(&app.app_key, &wish).await;
                visitor.back_to(&here, done, words.app_set)
            }
            Err(trouble) => trouble.into_response(),
        },
        AppAct::RotateSecret => {
            let hours = form.overlap_hours.unwrap_or(OVERLAP_HOURS);
            let own = (hours.saturating_mul(3600), form.drop_older, form.http);
            let (overlap_seconds, drop_older, http) = match form.request.as_str() {
                "" => own,
                request => match wished(&visitor, request, Some(&app.name)).await {
                    Ok(Wish::RotateSecret { overlap_seconds, drop_older, http }) => {
                        (overlap_seconds, drop_older, http)
                    }
                    Ok(_) => return Trouble::no_such_page().into_response(),
                    Err(trouble) => return trouble.into_response(),
                },
            };
            let wish = RotateSecret { overlap_seconds, drop_older, http };
            match api.rotate_app_secret(&app.app_key, wish).await {
                Ok(created) => show_secret(&visitor, &created),
                Err(error) => visitor.back_to(&here, Err::<(), _>(error), ""),
            }
        }
    }
}
