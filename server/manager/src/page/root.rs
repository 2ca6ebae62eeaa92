//! The root key: is it there, which one is it, does a rotation go on; and the policy.

use askama::Template;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::trouble::Trouble;
use super::visit::{Fields, Frame, Visitor};
use super::{render, text};
use crate::{ClientError, PolicyView, RotationStage, RotationView, SetPolicy, StatusView};

#[derive(Template)]
#[template(path = "root.html")]
struct Page<'a> {
    f: &'a Frame,
    status: StatusView,
    /// Not for everybody, and not known while sealed.
    rotation: Option<RotationView>,
    policy: Option<PolicyView>,
}

impl Page<'_> {
    fn wait_days(&self) -> String {
        self.policy
            .as_ref()
            .map(|policy| text::days(policy.destroy_wait_seconds))
            .unwrap_or_default()
    }

    fn moves(&self) -> bool {
        let moving = [RotationStage::Moving, RotationStage::Stuck];
        self.rotation.as_ref().is_some_and(|view| moving.contains(&view.stage))
    }
}

async fn page(visitor: &Visitor) -> Result<Page<'_>, ClientError> {
    let api = &visitor.api;
    let rotation = async {
        match visitor.frame().watches() {
            true => api.rotation().await.ok(),
            false => None,
        }
    };
    let (status, rotation, policy) = tokio::join!(api.status(), rotation, api.policy());
    let policy = policy.ok();
    Ok(Page { f: visitor.frame(), status: status?, rotation, policy })
}

pub(super) async fn show(visitor: Visitor) -> Response {
    match page(&visitor).await {
        Ok(page) => render(&page),
        Err(error) => Trouble::from(error).into_response(),
    }
}

#[derive(Deserialize)]
pub(super) struct PolicyForm {
    #[serde(default)]
    two_persons: bool,
    wait_days: String,
    /// The policy's revision that the form was made for.
    revision: u64,
}

pub(super) async fn set_policy(visitor: Visitor, Fields(form): Fields<PolicyForm>) -> Response {
    let before = match visitor.api.policy().await {
        Ok(before) => before,
        Err(error) => return Trouble::from(error).into_response(),
    };
    let words = visitor.words();
    if form.revision != before.revision {
        return Trouble::invalid(words.changed_meanwhile).into_response();
    }
    let wait = text::seconds_of_days(&form.wait_days, Some(before.destroy_wait_seconds));
    let Some(wait) = wait else {
        return Trouble::invalid(words.days_are_a_number).into_response();
    };
    let wish = SetPolicy {
        two_persons: (form.two_persons != before.two_persons).then_some(form.two_persons),
        destroy_wait_seconds: (wait != before.destroy_wait_seconds).then_some(wait),
    };
    let done = visitor.api.set_policy(&wish).await;
    visitor.back_to("/root", done, words.policy_set)
}
