//! The page: what operators see in a browser, rendered here, without a build step and usable without a script.
//!
//! It is a client of the API in the same process: what somebody may do, what takes two persons and what is recorded is
//! decided there and nowhere else. What is special to browsers is here: cookies, forms that no other site can send, and
//! what a browser may do with a page.
//!
//! | module | what it does |
//! |---|---|
//! | `guard` | what goes around every page: who may send forms, what a browser may do with a page |
//! | `cookies` | what a browser keeps |
//! | `visit` | who looks at a page, and in which language |
//! | `trouble` | what was refused, for people |
//! | `language`, `words`, `text` | the languages, and what is said in them; times, numbers and durations |
//! | `assets` | the style sheet and the script |
//! | `overview`, `keys`, `key_acts`, `apps`, `requests`, `audit`, `check`, `operators`, `root`, `account` | the pages |

mod account;
mod apps;
mod assets;
mod audit;
mod check;
mod cookies;
mod guard;
mod key_acts;
mod keys;
mod language;
mod operators;
mod overview;
mod requests;
mod root;
mod text;
mod trouble;
mod visit;
mod words;

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use crate::{Manager, api};
use trouble::Trouble;
use visit::{Front, Visitor};

/// Every page, and behind them the API. `is_tls` says whether browsers come over TLS. Around it must be what
/// [`api::routes`] wants.
pub(crate) fn routes(manager: &Arc<Manager>, is_tls: bool) -> Router {
    let front = Arc::new(Front::new(api::routes(manager), manager.clone(), is_tls));
    let pages = Router::new()
        .route("/", get(overview::show))
        .route("/sign-in", get(account::sign_in_form).post(account::sign_in))
        .route("/sign-out", post(account::sign_out))
        .route("/look", post(account::look))
        .route("/account", get(account::show).post(account::change_password))
        .route("/keys", get(keys::list))
        .route("/new/key", get(keys::new).post(keys::create))
        .route("/keys/{key}", get(keys::show))
        .route("/keys/{key}/set", post(keys::set))
        .route("/keys/{key}/{act}", get(key_acts::confirm).post(key_acts::act))
        .route("/apps", get(apps::list))
        .route("/new/app", get(apps::new).post(apps::create))
        .route("/apps/{app}", get(apps::show))
        .route("/apps/{app}/{act}", get(apps::confirm).post(apps::act))
        .route("/requests", get(requests::list))
        .route("/requests/{request}", get(requests::show))
        .route("/requests/{request}/{decision}", post(requests::decide))
        .route("/audit", get(audit::list))
        .route("/audit/check", post(check::begin))
        .route("/operators", get(operators::list))
        .route("/new/operator", get(operators::new).post(operators::create))
        .route("/operators/{operator}", get(operators::show))
        .route("/operators/{operator}/{act}", post(operators::act))
        .route("/root", get(root::show).post(root::set_policy))
        .fallback(async |_: Visitor| Trouble::no_such_page())
        .method_not_allowed_fallback(async || Trouble::no_such_page())
        .layer(from_fn_with_state(front.clone(), guard::guard));
    Router::new()
        .route("/assets/{file}", get(assets::serve))
        .route("/favicon.ico", get(async || Redirect::permanent(assets::ICON)))
        .fallback(either)
        .with_state((front, pages))
}

/// The API answers what begins as its paths do; the pages the rest.
async fn either(State((front, pages)): State<(Arc<Front>, Router)>, request: Request) -> Response {
    let is_api = request.uri().path().starts_with("/v1/");
    let routes = if is_api { front.api.clone() } else { pages };
    let answered = TowerToHyperService::new(routes).call(request).await;
    answered.unwrap_or_else(|never| match never {})
}

/// A page.
fn render(template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
