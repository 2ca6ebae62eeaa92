//! Operators: the list, one of them, a new one, and what is done to one.

use askama::Template;
use axum::extract::Path as Segment;
use axum::response::{IntoResponse, Response};
use sealwire_engine::document::{OperatorRole, OperatorState};
use serde::Deserialize;

use super::render;
use super::trouble::Trouble;
use super::visit::{Fields, Frame, Visitor};
use crate::{ClientError, CreateOperator, OperatorList, OperatorView, Password, SetRoles};

#[derive(Template)]
#[template(path = "operators.html")]
struct ListPage<'a> {
    f: &'a Frame,
    list: OperatorList,
}

pub(super) async fn list(visitor: Visitor) -> Response {
    match visitor.api.list_operators().await {
        Ok(list) => render(&ListPage { f: visitor.frame(), list }),
        Err(error) => Trouble::from(error).into_response(),
    }
}

#[derive(Template)]
#[template(path = "operator.html")]
struct OperatorPage<'a> {
    f: &'a Frame,
    operator: OperatorView,
}

impl OperatorPage<'_> {
    fn place(&self) -> String {
        format!("/operators/{}", self.operator.id)
    }

    fn has(&self, role: &OperatorRole) -> bool {
        self.operator.roles.contains(role)
    }

    fn may_sign_in(&self) -> bool {
        self.operator.state == OperatorState::Active
    }
}

pub(super) async fn show(visitor: Visitor, Segment(operator): Segment<String>) -> Response {
    match visitor.api.show_operator(&operator).await {
        Ok(operator) => render(&OperatorPage { f: visitor.frame(), operator }),
        Err(error) => Trouble::from(error).into_response(),
    }
}

#[derive(Default, Deserialize)]
pub(super) struct NewOperator {
    #[serde(default)]
    name: String,
    #[serde(default)]
    roles: Vec<OperatorRole>,
    #[serde(default)]
    password: Password,
}

#[derive(Template)]
#[template(path = "operator_new.html")]
struct NewPage<'a> {
    f: &'a Frame,
    form: &'a NewOperator,
    trouble: Option<Trouble>,
}

pub(super) async fn new(visitor: Visitor) -> Response {
    render(&NewPage { f: visitor.frame(), form: &NewOperator::default(), trouble: None })
}

pub(super) async fn create(visitor: Visitor, Fields(form): Fields<NewOperator>) -> Response {
    let wish = CreateOperator {
        name: form.name.trim().to_owned(),
        roles: form.roles.clone(),
        password: form.password.clone(),
    };
    let made = match form.roles.is_empty() {
        true => Err(Trouble::invalid(visitor.words().a_role_at_least)),
        false => match visitor.api.create_operator(&wish).await {
            Err(asked @ ClientError::Asked(_)) => {
                return visitor.back_to("/requests", Err::<(), _>(asked), "");
            }
            made => made.map_err(Trouble::from),
        },
    };
    match made {
        Ok(made) => {
            let place = format!("/operators/{}", made.id);
            visitor.back_to(&place, Ok(()), visitor.words().operator_made)
        }
        Err(trouble) => {
            let status = trouble.status;
            let page = NewPage { f: visitor.frame(), form: &form, trouble: Some(trouble) };
            (status, render(&page)).into_response()
        }
    }
}

#[derive(Deserialize)]
pub(super) struct ActForm {
    /// The operator's name, typed.
    #[serde(default)]
    name: String,
    #[serde(default)]
    roles: Vec<OperatorRole>,
    #[serde(default)]
    password: Password,
    #[serde(default)]
    token: String,
}

pub(super) async fn act(
    visitor: Visitor,
    Segment((operator, act)): Segment<(String, String)>,
    Fields(form): Fields<ActForm>,
) -> Response {
    let (words, api) = (visitor.words(), &visitor.api);
    let known = match api.show_operator(&operator).await {
        Ok(known) => known,
        Err(error) => return Trouble::from(error).into_response(),
    };
    let (here, operator) = (format!("/operators/{}", known.id), known.id.as_str());
    // What keeps somebody out, or lets somebody in as them.
    let is_dangerous = ["disable", "roles", "password"].contains(&act.as_str());
    if is_dangerous && form.name.trim() != known.name {
        return Trouble::invalid(words.name_differs).into_response();
    }
    if act == "roles" && form.roles.is_empty() {
        return Trouble::invalid(words.a_role_at_least).into_response();
    }
    match act.as_str() {
        "enable" | "disable" => {
            let done = api.enable_operator(operator, act == "enable").await;
            visitor.back_to(&here, done, words.operator_changed)
        }
        "roles" => {
            let done = api.set_operator_roles(operator, &SetRoles { roles: form.roles }).await;
            visitor.back_to(&here, done, words.operator_changed)
        }
        "password" => {
            let done = api.reset_operator_password(operator, form.password).await;
            visitor.back_to(&here, done, words.operator_changed)
        }
        "revoke-token" => {
            let done = api.revoke_token(Some(operator), &form.token).await;
            visitor.back_to(&here, done, words.token_revoked)
        }
        _ => Trouble::no_such_page().into_response(),
    }
}
