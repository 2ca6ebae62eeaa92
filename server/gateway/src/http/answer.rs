//! Answers: the envelope that clients expect, byte by byte, and the errors.

use std::borrow::Cow;
use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode, Version};
use sealwire_protocol::ErrorCode;
use serde::Serialize;
use serde_json::{Value, json};

use super::outgoing::Outgoing;
use crate::Refusal;

/// An answer on its way out.
pub(super) type Answer = Response<Outgoing>;

/// What is not done, and what is said of it.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) text: Cow<'static, str>,
    /// Whether nothing more is read from the connection.
    pub(super) closes: bool,
    /// The methods that are, for one that is not.
    allow: &'static str,
}

impl Problem {
    pub(super) fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, text: text.into(), closes: false, allow: "" }
    }

    /// A mistake of the client's.
    pub(super) fn bad(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub(super) fn denied() -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission denied")
    }

    pub(super) fn method(allow: &'static str) -> Self {
        Self { allow, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "unsupported operation") }
    }

    /// The connection ends with it.
    pub(super) fn and_close(self) -> Self {
        Self { closes: true, ..self }
    }

    /// The answer.
    pub(super) fn into_answer(self, version: Version) -> Answer {
        // As clients have it from elsewhere: what is not there has no words.
        let errors = if self.text.is_empty() { json!([]) } else { json!([self.text]) };
        let mut answer = plain(self.status, &json!({ "errors": errors }));
        if self.closes && version <= Version::HTTP_11 {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if !self.allow.is_empty() {
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(self.allow));
        }
        answer
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = status_of(refusal.code);
        if status == StatusCode::FORBIDDEN {
            return Self::denied();
        }
        let Refusal { code, detail } = refusal;
        let text = match code {
            _ if detail.is_empty() => code.to_string(),
            // What is wrong with a request says the detail alone: its fields are not those of a frame.
            ErrorCode::MALFORMED_BODY | ErrorCode::KEY_STATE => detail.into_owned(),
            _ => format!("{code}; {detail}"),
        };
        Self::new(status, text)
    }
}

/// The status of a refusal. What a client has done is never 500.
fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::AUTH_FAILED
        | ErrorCode::SESSION_ENDED
        | ErrorCode::DENIED
        | ErrorCode::KEY_NOT_FOUND => StatusCode::FORBIDDEN,
        ErrorCode::MESSAGE_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::TOO_MANY_CONNECTIONS | ErrorCode::KEY_EXHAUSTED => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::SEALED
        | ErrorCode::UNAVAILABLE
        | ErrorCode::SHUTTING_DOWN
        | ErrorCode::AUDIT_UNAVAILABLE => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::INTERNAL => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// The id of a request, as 36 characters: RFC 9562, version 8.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestId {
    pub(super) connection: u64,
    pub(super) number: u64,
}

impl RequestId {
    fn write(self, out: &mut Vec<u8>) {
        let Self { connection, number } = self;
        let (a, b, c) = (connection >> 32, (connection >> 16) & 0xFFFF, connection & 0xFFF);
        let (d, e) = ((number >> 48) & 0x3FFF | 0x8000, number & 0xFFFF_FFFF_FFFF);
        let _ = write!(out, "{a:08x}-{b:04x}-8{c:03x}-{d:04x}-{e:012x}");
    }
}

/// Writes the envelope around `data`, a JSON value that is already in its text form.
pub(super) fn envelope(id: RequestId, data: &[u8], warnings: &[Cow<'static, str>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 224);
    out.extend_from_slice(b"{\"request_id\":\"");
    id.write(&mut out);
    out.extend_from_slice(
        b"\",\"lease_id\":\"\",\"renewable\":false,\"lease_duration\":0,\"data\":",
    );
    out.extend_from_slice(data);
    out.extend_from_slice(b",\"wrap_info\":null,\"warnings\":");
    if warnings.is_empty() {
        out.extend_from_slice(b"null");
    } else {
        push_json(&mut out, warnings);
    }
    out.extend_from_slice(b",\"auth\":null}\n");
    out
}

/// The same around `auth`.
pub(super) fn envelope_of_auth(id: RequestId, auth: &Value) -> Vec<u8> {
    let mut text = Vec::with_capacity(40);
    id.write(&mut text);
    let mut out = Vec::new();
    push_json(
        &mut out,
        &json!({
            "request_id": String::from_utf8_lossy(&text),
            "lease_id": "",
            "renewable": false,
            "lease_duration": 0,
            "data": null,
            "wrap_info": null,
            "warnings": null,
            "auth": auth,
        }),
    );
    out.push(b'\n');
    out
}

/// Appends a value as JSON.
pub(super) fn push_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("plain fields into memory");
}

/// An answer of JSON that has its text form already.
pub(super) fn of_json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Outgoing::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A Unix time in seconds, as clients expect times.
pub(super) fn rfc3339(seconds: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// An answer without the envelope.
pub(super) fn plain(status: StatusCode, value: &Value) -> Answer {
    let mut body = Vec::new();
    push_json(&mut body, value);
    body.push(b'\n');
    of_json(status, body)
}

/// An answer that says nothing but that it is done.
pub(super) fn nothing() -> Answer {
    empty(StatusCode::NO_CONTENT)
}

/// An answer with its status alone.
pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Outgoing::default());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
