//! What waits for a second person.

use askama::Template;
use axum::extract::Path as Segment;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::key_acts::Consequence;
use super::keys::segment;
use super::render;
use super::trouble::Trouble;
use super::visit::{Fields, Frame, Visitor};
use crate::{PolicyView, RequestList, RequestView, Wish};

/// Requests that are decided, and shown.
const DECIDED: usize = 100;

fn waits(request: &RequestView) -> bool {
    ["pending", "approved"].contains(&request.state.as_str())
}

#[derive(Template)]
#[template(path = "requests.html")]
struct ListPage<'a> {
    f: &'a Frame,
    list: RequestList,
    policy: PolicyView,
}

impl ListPage<'_> {
    /// What somebody must still do something about.
    fn waiting(&self) -> Vec<&RequestView> {
        self.list.requests.iter().filter(|one| waits(one)).collect()
    }

    fn others(&self) -> Vec<&RequestView> {
        self.list.requests.iter().filter(|one| !waits(one)).take(DECIDED).collect()
    }
}

pub(super) async fn list(visitor: Visitor) -> Response {
    let (list, policy) = tokio::join!(visitor.api.list_requests(), visitor.api.policy());
    match (list, policy) {
        (Ok(list), Ok(policy)) => render(&ListPage { f: visitor.frame(), list, policy }),
        (Err(error), _) | (_, Err(error)) => Trouble::from(error).into_response(),
    }
}

#[derive(Template)]
#[template(path = "request.html")]
struct RequestPage<'a> {
    f: &'a Frame,
    request: RequestView,
    /// What becomes unreadable, if something does.
    about: Option<Consequence>,
    /// The app that gets a new secret, by AppKey.
    app: Option<String>,
}

impl RequestPage<'_> {
    fn shows_a_secret(&self) -> bool {
        matches!(self.request.wish, Wish::CreateApp { .. } | Wish::RotateSecret { .. })
    }

    /// Whether the visitor has asked for it.
    fn is_own(&self) -> bool {
        self.request.asked.name == self.f.name()
    }

    /// Whether the visitor may decide about it.
    fn may_decide(&self) -> bool {
        let role = self.request.role;
        self.f.officer() || self.f.me.as_ref().is_some_and(|me| me.roles.contains(&role))
    }

    /// Whether the visitor can approve it; and what was approved and not done, because the server died between, is
    /// done by approving it once more.
    fn can_approve(&self) -> bool {
        let open = match self.request.state.as_str() {
            "pending" => true,
            "approved" => !self.shows_a_secret(),
            _ => false,
        };
        open && self.may_decide() && !self.is_own()
    }

    /// Whether the visitor can refuse it, or take it back.
    fn can_refuse(&self) -> bool {
        let open = match self.request.state.as_str() {
            "pending" => true,
            "approved" => self.shows_a_secret(),
            _ => false,
        };
        open && (self.may_decide() || self.is_own())
    }

    /// Where who has asked goes on, when it was approved and shows a secret.
    fn goes_on(&self) -> Option<String> {
        if self.request.state != "approved" || !self.is_own() {
            return None;
        }
        let id = segment(&self.request.id);
        match &self.request.wish {
            Wish::CreateApp { .. } => Some(format!("/new/app?request={id}")),
            Wish::RotateSecret { .. } => {
                let app = self.app.as_ref()?;
                Some(format!("/apps/{app}/rotate-secret?request={id}"))
            }
            _ => None,
        }
    }
}

/// A request in the visitor's language. What stands in the record of it are the manager's own words.
impl Frame {
    pub(super) fn wish(&self, request: &RequestView) -> String {
        let target = request.target.as_deref().unwrap_or_default();
        let w = self.w;
        match &request.wish {
            Wish::DestroyKey { version: Some(version), after_seconds } => {
                self.say3(w.wish_destroy_version, version, target, self.duration(after_seconds))
            }
            Wish::DestroyKey { version: None, after_seconds } => {
                self.say2(w.wish_destroy_key, target, self.duration(after_seconds))
            }
            Wish::TrimKey { below, after_seconds } => {
                self.say3(w.wish_trim, below, target, self.duration(after_seconds))
            }
            Wish::UnmarkKey => self.say(w.wish_unmark, target),
            Wish::CreateApp { name, .. } => self.say(w.wish_app, name),
            Wish::RotateSecret { overlap_seconds, .. } => {
                self.say2(w.wish_secret, target, self.duration(overlap_seconds))
            }
            Wish::SetApp { .. } => self.say(w.wish_set_app, target),
            Wish::EnableOperator => self.say(w.wish_enable_operator, target),
            Wish::CreateOperator { name, roles } => {
                self.say2(w.wish_operator, name, self.roles(roles))
            }
            Wish::SetRoles { roles } => self.say2(w.wish_roles, target, self.roles(roles)),
            Wish::ResetPassword => self.say(w.wish_password, target),
            Wish::SetPolicy { two_persons, destroy_wait_seconds } => {
                let two = if *two_persons { w.two_persons_on } else { w.two_persons_off };
                self.say2(w.wish_policy, two, self.duration(destroy_wait_seconds))
            }
        }
    }
}

pub(super) async fn show(visitor: Visitor, Segment(request): Segment<String>) -> Response {
    let request = match visitor.api.show_request(&request).await {
        Ok(request) => request,
        Err(error) => return Trouble::from(error).into_response(),
    };
    let about = match (&request.wish, &request.target) {
        (Wish::DestroyKey { version, .. }, Some(key)) if waits(&request) => {
            match Consequence::of(&visitor.api, key, *version).await {
                Ok(about) => Some(about),
                // Nobody approves what he cannot see the consequence of.
                Err(error) => return Trouble::from(error).into_response(),
            }
        }
        _ => None,
    };
    let app = match (&request.wish, &request.target) {
        (Wish::RotateSecret { .. }, Some(app)) => visitor.api.show_app(app).await.ok(),
        _ => None,
    };
    let app = app.map(|app| app.app_key);
    render(&RequestPage { f: visitor.frame(), request, about, app })
}

#[derive(Deserialize)]
pub(super) struct Decision {
    /// The name of what it is about, typed.
    #[serde(default)]
    name: String,
}

pub(super) async fn decide(
    visitor: Visitor,
    Segment((request, decision)): Segment<(String, String)>,
    Fields(form): Fields<Decision>,
) -> Response {
    let words = visitor.words();
    let approve = match decision.as_str() {
        "approve" => true,
        "refuse" => false,
        _ => return Trouble::no_such_page().into_response(),
    };
    let view = match visitor.api.show_request(&request).await {
        Ok(view) => view,
        Err(error) => return Trouble::from(error).into_response(),
    };
    if approve && view.target.as_deref().is_some_and(|target| target != form.name.trim()) {
        return Trouble::invalid(words.name_differs).into_response();
    }
    let done = visitor.api.decide_request(&request, approve).await;
    let said = if approve { words.request_approved } else { words.request_refused };
    visitor.back_to(&format!("/requests/{}", segment(&request)), done, said)
}
