//! The root key: is it there, which one is it, does a rotation go on; and the policy.

use askama::Template;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::render;
use super::trouble::Trouble;
use super::visit::{Fields, Frame, Visitor};
use crate::{ClientError, PolicyView, RotationStage, RotationView, SetPolicy, StatusView};

/// A day, in seconds.
const DAY: u64 = 86_400;

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
    fn moves(&self) -> bool {
        let moving = [RotationStage::Moving, RotationStage::Stuck];
        self.rotation.as_ref().is_some_and(|view| moving.contains(&view.stage))
    }
}

async fn page(visitor: &Visitor) -> Result<Page<'_>, ClientError> {
    let api = &visitor.api;
    let (status, rotation, policy) = tokio::join!(api.status(), api.rotation(), api.policy());
    let (rotation, policy) = (rotation.ok(), policy.ok());
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
    wait_days: u64,
}

pub(super) async fn set_policy(visitor: Visitor, Fields(form): Fields<PolicyForm>) -> Response {
    let before = match visitor.api.policy().await {
        Ok(before) => before,
        Err(error) => return Trouble::from(error).into_response(),
    };
    // In days, as it is shown: a waiting time of hours stays what it is unless somebody changes it.
    let stays = before.destroy_wait_seconds.div_ceil(DAY) == form.wait_days;
    let wish = SetPolicy {
        two_persons: (form.two_persons != before.two_persons).then_some(form.two_persons),
        destroy_wait_seconds: (!stays).then_some(form.wait_days.saturating_mul(DAY)),
    };
    let done = visitor.api.set_policy(&wish).await;
    visitor.back_to("/root", done, visitor.words().policy_set)
}
