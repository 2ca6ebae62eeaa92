//! Who looks at a page, and in which language.

use std::sync::{Arc, OnceLock};

use askama::Template;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{ACCEPT_LANGUAGE, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderValue, Method};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Router, body};
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use quick_cache::sync::Cache;
use sealwire_engine::EngineError;
use sealwire_engine::document::OperatorRole::{self, AppAdmin, Auditor, KeyAdmin, RootOfficer};
use sealwire_protocol::ErrorCode;
use serde::de::DeserializeOwned;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::check::ChainCheck;
use super::cookies::Kept;
use super::language::Language;
use super::render;
use super::trouble::Trouble;
use super::words::Words;
use crate::access::TOKEN_PREFIX;
use crate::api::{Admitted, ByPage};
use crate::{CallerView, ClientError, Manager, ManagerClient, ManagerError, SessionToken, Source};

/// Visitors who are yet to be told something.
const MOST_NEWS: usize = 1024;

/// What all pages share.
pub(super) struct Front {
    pub(super) api: Router,
    pub(super) is_tls: bool,
    /// What forms prove themselves with is made of this, and of what the browser keeps.
    key: Zeroizing<[u8; 32]>,
    /// What a visitor is to be told on the next page, by the token of their forms.
    news: Cache<String, News>,
    /// The check of the audit that runs, or was run last.
    pub(super) check: ChainCheck,
}

impl Front {
    pub(super) fn new(api: Router, manager: Arc<Manager>, is_tls: bool) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        // Without randomness no key of the site could have been made either.
        getrandom::fill(key.as_mut()).expect("the system gives randomness");
        Self { api, is_tls, key, news: Cache::new(MOST_NEWS), check: ChainCheck::new(manager) }
    }

    fn mac(&self, kept: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_ref()).expect("any length");
        mac.update(kept.as_bytes());
        mac
    }
}

/// What a visitor is told on top of a page.
#[derive(Debug, Clone)]
pub(super) struct News {
    pub(super) good: bool,
    pub(super) text: String,
    /// What the manager has said besides.
    pub(super) more: String,
}

/// Light or dark.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Theme {
    /// As the system is.
    #[default]
    System,
    Light,
    Dark,
}

impl Theme {
    pub(super) const ALL: [Self; 3] = [Self::System, Self::Light, Self::Dark];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// What every page shows around its content.
#[derive(Clone)]
pub(super) struct Frame {
    pub(super) w: &'static Words,
    pub(super) language: Language,
    pub(super) theme: Theme,
    /// What a form proves itself with.
    pub(super) csrf: String,
    /// Where this page is, with its query.
    pub(super) here: String,
    /// Who has signed in.
    pub(super) me: Option<CallerView>,
    pub(super) news: Option<News>,
}

impl Frame {
    pub(super) fn style(&self) -> &'static str {
        &super::assets::STYLE_AT
    }

    pub(super) fn script(&self) -> &'static str {
        &super::assets::SCRIPT_AT
    }

    fn has(&self, role: OperatorRole) -> bool {
        self.me.as_ref().is_some_and(|me| me.roles.contains(&role))
    }

    pub(super) fn name(&self) -> &str {
        self.me.as_ref().and_then(|me| me.name.as_deref()).unwrap_or_default()
    }

    pub(super) fn keys_admin(&self) -> bool {
        self.has(KeyAdmin)
    }

    pub(super) fn apps_admin(&self) -> bool {
        self.has(AppAdmin)
    }

    pub(super) fn officer(&self) -> bool {
        self.has(RootOfficer)
    }

    /// Whether they see operators and the audit.
    pub(super) fn watches(&self) -> bool {
        self.has(Auditor) || self.has(RootOfficer)
    }

    /// Whether a place of the menu is where they are.
    pub(super) fn at(&self, place: &str) -> bool {
        let path = self.here.split('?').next().unwrap_or_default();
        path == place || path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// Somebody at a page, who may have signed in.
#[derive(Clone)]
pub(super) struct Visit {
    pub(super) front: Arc<Front>,
    pub(super) frame: Frame,
    /// What the browser proves itself with.
    session: Option<SessionToken>,
    /// The number that a browser is to keep from now on.
    new_visit: Option<String>,
    /// Where the call comes from, for the API.
    origin: Extensions,
    /// Who it turns out to be, for the page of what is refused to them.
    known: Arc<OnceLock<CallerView>>,
}

impl Visit {
    pub(super) fn new(front: Arc<Front>, request: &Request) -> Result<Self, ManagerError> {
        let (headers, is_tls) = (request.headers(), front.is_tls);
        let session = Kept::Session.read(headers, is_tls).map(Zeroizing::new);
        // A program's token is no session.
        let session = session.filter(|session| !session.starts_with(TOKEN_PREFIX));
        let visit = Kept::Visit.read(headers, is_tls).filter(|visit| visit.len() == 32);
        let new_visit = match (&session, &visit) {
            (None, None) => Some(random()?),
            _ => None,
        };
        let kept = session.as_ref().map(|token| token.as_str());
        let kept = kept.or(visit.as_deref()).or(new_visit.as_deref()).unwrap_or_default();
        let csrf = hex::encode(front.mac(kept).finalize().into_bytes());
        let chosen = Kept::Language.read(headers, is_tls);
        let accepted = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        let language = Language::of(chosen.as_deref(), accepted.unwrap_or_default());
        let theme = Kept::Theme.read(headers, is_tls);
        let theme = Theme::ALL.into_iter().find(|known| Some(known.name()) == theme.as_deref());
        let here = place_of(request);
        let mut origin = Extensions::new();
        if let Some(source) = request.extensions().get::<Source>() {
            origin.insert(*source);
        }
        origin.insert(ByPage);
        if let Some(admitted) = request.extensions().get::<Admitted>() {
            origin.insert(admitted.clone());
        }
        let frame = Frame {
            w: language.words(),
            language,
            theme: theme.unwrap_or_default(),
            csrf,
            here,
            me: None,
            news: None,
        };
        Ok(Self { front, frame, session, new_visit, origin, known: Arc::default() })
    }

    /// The page of what was refused.
    pub(super) fn trouble(&self, trouble: &Trouble) -> Response {
        let me = self.known.get().cloned();
        trouble.page(&Frame { me, ..self.frame.clone() })
    }

    /// Whether a form was made for the browser that has sent it, signed in as it is.
    pub(super) fn is_own_form(&self, csrf: &str) -> bool {
        // The number was made just now: no form has it.
        if self.new_visit.is_some() {
            return false;
        }
        let own = self.frame.csrf.as_bytes();
        bool::from(subtle::ConstantTimeEq::ct_eq(own, csrf.as_bytes()))
    }

    /// What the browser is to keep until somebody has signed in.
    pub(super) fn new_cookie(&self) -> Option<HeaderValue> {
        let visit = self.new_visit.as_ref()?;
        HeaderValue::from_str(&Kept::Visit.set(visit, self.front.is_tls)).ok()
    }

    /// The API, as whoever looks at the page.
    pub(super) fn client(&self) -> ManagerClient {
        let client = ManagerClient::within(self.front.api.clone(), self.origin.clone());
        match &self.session {
            Some(token) => client.with_token(token.clone()),
            None => client,
        }
    }

    /// A new session, whatever the browser had kept before.
    pub(super) fn begin_session(&self, token: &SessionToken, to: &str) -> Response {
        let is_tls = self.front.is_tls;
        let cookies = [Kept::Session.set(token, is_tls), Kept::Visit.forget(is_tls)];
        with_cookies(Redirect::to(local(to)).into_response(), &cookies)
    }

    /// The way to the sign-in form; a session that the browser came with is good for nothing any more.
    pub(super) fn to_sign_in(&self) -> Response {
        let to = match self.frame.here.as_str() {
            "/" => "/sign-in".to_owned(),
            path => format!("/sign-in?to={}", utf8_percent_encode(path, NON_ALPHANUMERIC)),
        };
        let redirect = Redirect::to(&to).into_response();
        if self.session.is_none() {
            return redirect;
        }
        with_cookies(redirect, &[Kept::Session.forget(self.front.is_tls)])
    }

    /// Whether the browser has a session.
    pub(super) fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// Whether somebody has followed a link from another site: then a browser holds its cookies back.
    fn follows_a_link(&self, parts: &Parts) -> bool {
        let site = parts.headers.get("sec-fetch-site").map(|site| site.as_bytes());
        let asked_again = Kept::Again.read(&parts.headers, self.front.is_tls).is_some();
        let is_link = parts.method == Method::GET && site == Some(b"cross-site");
        self.session.is_none() && is_link && !asked_again
    }

    /// Has the visitor told something on the next page.
    pub(super) fn tell(&self, news: News) {
        self.front.news.insert(self.frame.csrf.clone(), news);
    }
}

/// Sets cookies.
pub(super) fn with_cookies(mut response: Response, cookies: &[String]) -> Response {
    for cookie in cookies {
        if let Ok(cookie) = HeaderValue::from_str(cookie) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
    response
}

/// A path of this site; the overview for everything else.
pub(super) fn local(to: &str) -> &str {
    let is_path = to.starts_with('/') && !to.starts_with("//") && !to.contains('\\');
    if is_path && to.bytes().all(|byte| byte.is_ascii_graphic()) { to } else { "/" }
}

/// Where a request leads to when it is made anew: of a form, to the page that it is on.
fn place_of(request: &Request) -> String {
    let path = match request.method() {
        &Method::GET => request.uri().path_and_query().map_or("/", |path| path.as_str()),
        _ => {
            let path = request.uri().path();
            let parent = path.rsplit_once('/').map_or("/", |(parent, _)| parent);
            // `/keys/1/rotate` is a form of `/keys/1`, and `/new/key` a page itself.
            if parent.matches('/').count() > 1 { parent } else { path }
        }
    };
    match path {
        "/sign-out" | "/look" | "/audit/check" => "/".to_owned(),
        path => path.to_owned(),
    }
}

/// The page that asks for itself.
#[derive(Template)]
#[template(path = "again.html")]
struct Again<'a> {
    here: &'a str,
}

fn random() -> Result<String, ManagerError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(EngineError::from)?;
    Ok(hex::encode(random))
}

impl<S: Send + Sync> FromRequestParts<S> for Visit {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Trouble> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Trouble::foreign_form)
    }
}

/// Somebody who has signed in.
pub(super) struct Visitor {
    pub(super) visit: Visit,
    /// The API, as them.
    pub(super) api: ManagerClient,
}

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let visit = Visit::from_request_parts(parts, state).await;
        let mut visit = visit.map_err(IntoResponse::into_response)?;
        if visit.follows_a_link(parts) {
            // Asked for once more, by a page of our own, it comes with them.
            let again = render(&Again { here: &visit.frame.here });
            return Err(with_cookies(again, &[Kept::Again.set("1", visit.front.is_tls)]));
        }
        if visit.session.is_none() {
            return Err(visit.to_sign_in());
        }
        let api = visit.client();
        let me = match api.who_am_i().await.map_err(Trouble::from) {
            Ok(me) => me,
            Err(trouble) if trouble.is(ErrorCode::SIGN_IN_NEEDED) => return Err(visit.to_sign_in()),
            Err(trouble) => return Err(trouble.into_response()),
        };
        let _ = visit.known.set(me.clone());
        if me.must_change_password && parts.uri.path() != "/account" {
            return Err(Redirect::to("/account").into_response());
        }
        visit.frame.me = Some(me);
        if parts.method == Method::GET {
            visit.frame.news = visit.front.news.remove(&visit.frame.csrf).map(|(_, news)| news);
        }
        Ok(Self { visit, api })
    }
}

impl Visitor {
    pub(super) fn frame(&self) -> &Frame {
        &self.visit.frame
    }

    pub(super) fn words(&self) -> &'static Words {
        self.visit.frame.w
    }

    /// The way back to a page, which tells how it went: done, asked for, or refused.
    pub(super) fn back_to<T>(
        &self,
        page: &str,
        done: Result<T, ClientError>,
        said: &str,
    ) -> Response {
        let news = match done {
            Ok(_) => News { good: true, text: said.to_owned(), more: String::new() },
            Err(ClientError::Asked(request)) => {
                let text = self.words().asked_for.to_owned();
                self.visit.tell(News { good: true, text, more: String::new() });
                return Redirect::to(&format!("/requests/{}", request.id)).into_response();
            }
            Err(error) => {
                let trouble = Trouble::from(error);
                if trouble.is(ErrorCode::SIGN_IN_NEEDED) {
                    return self.visit.to_sign_in();
                }
                let text = trouble.headline(self.words()).to_owned();
                News { good: false, text, more: trouble.message }
            }
        };
        self.visit.tell(news);
        Redirect::to(page).into_response()
    }
}

/// The fields of a form.
pub(super) struct Fields<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Fields<T> {
    type Rejection = Trouble;

    async fn from_request(request: Request, _: &S) -> Result<Self, Trouble> {
        // The guard has it whole.
        let body = body::to_bytes(request.into_body(), usize::MAX).await;
        let body = Zeroizing::new(body.map_err(|_| Trouble::foreign_form())?.to_vec());
        let fields = serde_html_form::from_bytes(&body);
        // What it says may repeat a field's content, which may be a password.
        fields
            .map(Self)
            .map_err(|_| Trouble::invalid("a field is missing, or is not what it should be"))
    }
}
