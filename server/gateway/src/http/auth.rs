//! Login, and what a token does with itself.

use hyper::StatusCode;
use sealwire_engine::host::process::now;
use sealwire_protocol::ErrorCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{self, Answer, Problem, RequestId};
use super::connection::Connection;
use super::dispatch::Call;
use super::input;
use super::lenient::{Seconds, Text};
use super::token::Token;

#[derive(Deserialize)]
struct Login<'a> {
    #[serde(borrow, default)]
    role_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    secret_id: Option<Text<'a>>,
}

pub(super) async fn login(
    connection: &Connection,
    body: &[u8],
    id: RequestId,
) -> Result<Answer, Problem> {
    let login: Login<'_> = input::parse(body)?;
    let role_id = login.role_id.as_ref().map_or("", |text| text.0.trim());
    let secret_id = login.secret_id.as_ref().map_or("", |text| text.0.trim());
    if role_id.is_empty() {
        return Err(Problem::bad("missing role_id"));
    }
    if secret_id.is_empty() {
        return Err(Problem::bad("missing secret_id"));
    }
    let admitted = connection.shared.tokens.login(connection.peer, (role_id, secret_id)).await;
    let (text, token) = admitted.map_err(|refusal| match refusal.code {
        ErrorCode::AUTH_FAILED => Problem::bad("invalid role or secret ID"),
        ErrorCode::SESSION_ENDED => {
            let text = "the app is being changed: try again";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, text)
        }
        _ => refusal.into(),
    })?;
    if let Err(problem) = connection.called_by(token.clone()).await {
        // Nobody has it.
        let _ = connection.shared.tokens.revoke(&token).await;
        return Err(problem);
    }
    let body = answer::envelope_of_auth(id, &auth(&token, &text));
    Ok(answer::of_json(StatusCode::OK, body))
}

/// The `auth` of an answer, with the token itself.
fn auth(token: &Token, text: &str) -> Value {
    json!({
        "client_token": text,
        "accessor": accessor(token),
        "policies": [token.app.name],
        "token_policies": [token.app.name],
        "metadata": { "role_name": token.app.name },
        "lease_duration": token.expires.saturating_sub(now()),
        "renewable": true,
        "entity_id": "",
        "token_type": "service",
        "orphan": true,
        "mfa_requirement": null,
        "num_uses": 0,
    })
}

/// What a token may be called where it must not be told: it opens nothing.
fn accessor(token: &Token) -> String {
    hex::encode(&token.hash[..12])
}

pub(super) fn lookup_self(call: &Call<'_>) -> Answer {
    let token = &call.caller.token;
    let time = |seconds: u64| answer::rfc3339(seconds);
    let data = json!({
        "accessor": accessor(token),
        "creation_time": token.issued,
        "creation_ttl": token.expires.saturating_sub(token.issued),
        "display_name": token.app.name,
        "entity_id": "",
        "expire_time": time(token.expires),
        "explicit_max_ttl": 0,
        "id": call.token(),
        "issue_time": time(token.issued),
        "meta": { "role_name": token.app.name, "app_key": token.app.id },
        "num_uses": 0,
        "orphan": true,
        "path": "auth/approle/login",
        "policies": [token.app.name],
        "renewable": true,
        "ttl": token.expires.saturating_sub(now()),
        "type": "service",
    });
    call.done(&data)
}

#[derive(Deserialize)]
struct Renewal {
    #[serde(default)]
    increment: Option<Seconds>,
}

pub(super) async fn renew_self(call: &Call<'_>, body: &[u8]) -> Result<Answer, Problem> {
    let renewal: Renewal = input::parse(body)?;
    let increment = renewal.increment.map(|Seconds(seconds)| seconds);
    let connection = call.connection;
    let renewed =
        connection.shared.tokens.renew(connection.peer, &call.caller.token, increment).await?;
    connection.called_by(renewed.clone()).await?;
    let body = answer::envelope_of_auth(call.id, &auth(&renewed, call.token()));
    Ok(answer::of_json(StatusCode::OK, body))
}

pub(super) async fn revoke_self(call: &Call<'_>) -> Result<Answer, Problem> {
    call.connection.shared.tokens.revoke(&call.caller.token).await?;
    Ok(answer::nothing())
}
