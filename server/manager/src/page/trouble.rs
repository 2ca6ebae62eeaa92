//! What was refused, for people.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sealwire_protocol::ErrorCode;

use super::render;
use super::visit::Frame;
use super::words::Words;
use crate::api::status_of;
use crate::{ClientError, ManagerError};

/// Something that was refused. The guard makes a page of it, in the visitor's language.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) status: StatusCode,
    /// The number in the protocol's registry; 0 for what only pages refuse.
    pub(super) number: u16,
    /// What the manager has said.
    pub(super) message: String,
}

#[derive(Template)]
#[template(path = "trouble.html")]
struct Page<'a> {
    f: &'a Frame,
    trouble: &'a Trouble,
}

impl Trouble {
    pub(super) fn no_such_page() -> Self {
        Self { status: StatusCode::NOT_FOUND, number: 0, message: String::new() }
    }

    /// A form that did not come from a page of this site, or from one of an earlier session.
    pub(super) fn foreign_form() -> Self {
        Self { status: StatusCode::FORBIDDEN, number: 0, message: String::new() }
    }

    /// A form whose fields are none.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        let code = ErrorCode::MALFORMED_BODY;
        Self { status: status_of(code), number: code.0, message: message.into() }
    }

    /// A name that something else has.
    pub(super) fn taken(message: &str) -> Self {
        let code = ErrorCode::KEY_CONFLICT;
        Self { status: status_of(code), number: code.0, message: message.to_owned() }
    }

    pub(super) fn is(&self, code: ErrorCode) -> bool {
        self.number == code.0
    }

    /// What it is, in a sentence in the visitor's language; what the manager has said tells more.
    pub(super) fn headline(&self, words: &'static Words) -> &'static str {
        match ErrorCode(self.number) {
            ErrorCode::SIGN_IN_NEEDED => words.sign_in_needed,
            ErrorCode::SIGN_IN_REFUSED => words.sign_in_refused,
            ErrorCode::SLOW_DOWN => words.slow_down,
            ErrorCode::ROLE_NEEDED => words.role_needed,
            ErrorCode::SECOND_PERSON => words.second_person,
            ErrorCode::KEY_NOT_FOUND => words.not_there,
            ErrorCode::KEY_CONFLICT => words.name_taken,
            ErrorCode::KEY_STATE => words.not_in_this_state,
            ErrorCode::SEALED => words.site_sealed,
            ErrorCode::UNAVAILABLE => words.site_away,
            ErrorCode::AUDIT_UNAVAILABLE => words.nothing_recorded,
            ErrorCode::MALFORMED_BODY => words.not_possible,
            _ if self.status == StatusCode::NOT_FOUND => words.no_such_page,
            _ if self.status == StatusCode::FORBIDDEN => words.foreign_form,
            _ => words.went_wrong,
        }
    }

    /// The page of it.
    pub(super) fn page(&self, frame: &Frame) -> Response {
        let page = render(&Page { f: frame, trouble: self });
        (self.status, page).into_response()
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused { number, message, .. } => {
                Self { status: status_of(ErrorCode(number)), number, message }
            }
            // Whoever can ask sees to that before.
            ClientError::Asked(request) => {
                Self { status: StatusCode::ACCEPTED, number: 0, message: request.what }
            }
            other => {
                tracing::error!(error = %other, "the page's own call");
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Self { status, number: ErrorCode::INTERNAL.0, message: String::new() }
            }
        }
    }
}

impl From<ManagerError> for Trouble {
    fn from(error: ManagerError) -> Self {
        let code = error.code();
        Self { status: status_of(code), number: code.0, message: error.to_string() }
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
