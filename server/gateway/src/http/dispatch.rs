//! From a request to its answer.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HOST};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, StatusCode, Version};
use sealwire_protocol::ErrorCode;
use serde_json::Value;
use tokio::time::timeout;

use super::answer::{self, Answer, Problem, RequestId};
use super::body::Room;
use super::connection::{Caller, Connection, token_of};
use super::crypt::Deed;
use super::route::Route;
use super::{Shared, auth, body, crypt, keys, openapi, sys};
use crate::figures::FIGURES;

/// Longest body of a login, in bytes: nobody has proven anything yet.
const MAX_LOGIN: usize = 4096;

/// Longest body of a call that carries no message, in bytes.
const MAX_PLAIN: usize = 64 * 1024;

/// A request of an app.
pub(super) struct Call<'a> {
    pub(super) connection: &'a Connection,
    pub(super) caller: Arc<Caller>,
    pub(super) id: RequestId,
    /// Among them the token, as it was sent.
    pub(super) headers: &'a HeaderMap,
}

impl Call<'_> {
    /// The token, as it was sent.
    pub(super) fn token(&self) -> &str {
        let text = token_of(self.headers).ok().and_then(|token| std::str::from_utf8(token).ok());
        text.unwrap_or_default()
    }

    /// That it is done, and this is what it has given.
    pub(super) fn done(&self, data: &Value) -> Answer {
        let mut text = Vec::new();
        answer::push_json(&mut text, data);
        answer::of_json(StatusCode::OK, answer::envelope(self.id, &text, &[]))
    }
}

/// Answers a request.
pub(super) async fn answer(connection: &Arc<Connection>, request: Request<Incoming>) -> Answer {
    let (busy, id) = connection.begin();
    let (version, is_head) = (request.version(), *request.method() == Method::HEAD);
    let mut answer = take(connection, request, id).await.unwrap_or_else(|problem| {
        tracing::debug!(status = problem.status.as_u16(), text = %problem.text, "refused");
        problem.into_answer(version)
    });
    if is_head {
        // Over HTTP/2 nobody else leaves the body out.
        let length = answer.body_mut().take_length();
        answer.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    answer.body_mut().keep_busy(busy, version);
    answer
}

async fn take(
    connection: &Connection,
    request: Request<Incoming>,
    id: RequestId,
) -> Result<Answer, Problem> {
    let (head, incoming) = request.into_parts();
    if let Err(problem) = check(&head) {
        Box::pin(body::drain(incoming)).await;
        return Err(problem);
    }
    let route = Route::of(&head.method, &head.uri);
    // Strangers are told of no route that they may not use.
    if !route.as_ref().is_ok_and(Route::is_open) {
        let called = called_by(connection, &head.headers).await;
        return match called.and_then(|caller| Ok((caller, route?))) {
            Ok((caller, route)) => {
                let call = Call { connection, caller, id, headers: &head.headers };
                call.answer(route, head.uri.query(), incoming).await
            }
            Err(problem) => {
                Box::pin(body::drain(incoming)).await;
                Err(problem)
            }
        };
    }
    let shared = &connection.shared;
    match route? {
        Route::Health => sys::health(shared, head.uri.query()),
        Route::SealStatus => Ok(sys::seal_status(shared)),
        Route::Leader => Ok(sys::leader()),
        Route::Init => Ok(sys::init(shared)),
        Route::OpenApi => Ok(openapi::answer()),
        _ => {
            let body = body::read(shared, incoming, MAX_LOGIN).await?;
            let login = Box::pin(auth::login(connection, &body.bytes, id));
            let answered = in_time(connection, TOO_LONG, login).await;
            let outcome = answered.as_ref().map(drop).map_err(|_| ErrorCode::AUTH_FAILED);
            FIGURES.count("auth", outcome);
            answered
        }
    }
}

/// Whose request it is.
async fn called_by(connection: &Connection, headers: &HeaderMap) -> Result<Arc<Caller>, Problem> {
    match connection.known_caller(headers) {
        Some(caller) => Ok(caller),
        None => in_time(connection, TOO_LONG, Box::pin(connection.caller(headers))).await,
    }
}

/// What is said when a request has taken too long.
const TOO_LONG: &str = "the request took too long: send less at once, or try again";

/// The same of one that changes a key: its manager may still be at it.
const STILL_DONE: &str =
    "the request took too long, and may still be done: look at the key before you try again";

/// Does something within the time of a request, or has this said.
async fn in_time<T>(
    connection: &Connection,
    too_long: &'static str,
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let done = timeout(connection.shared.limits.request_timeout, work).await;
    done.unwrap_or_else(|_| Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, too_long)))
}

/// Refuses what two readers could take for two different requests (RFC 9112, section 3.2), and what is asked for besides
/// and not done. A request with both lengths is read in chunks, and the last of its connection (section 6.3).
fn check(head: &Parts) -> Result<(), Problem> {
    let headers = &head.headers;
    if head.version == Version::HTTP_11 && headers.get_all(HOST).iter().count() != 1 {
        return Err(Problem::bad("a request has one Host").and_close());
    }
    if headers.get("x-vault-wrap-ttl").is_some_and(|value| !value.is_empty()) {
        return Err(Problem::bad("answers are not wrapped here: leave X-Vault-Wrap-TTL out"));
    }
    let namespace = headers.get("x-vault-namespace").map_or(&b""[..], |value| value.as_bytes());
    if !matches!(namespace, b"" | b"/" | b"root" | b"root/" | b"/root" | b"/root/") {
        return Err(Problem::bad("there are no namespaces here: leave X-Vault-Namespace out"));
    }
    Ok(())
}

impl Call<'_> {
    async fn answer(
        mut self,
        route: Route<'_>,
        query: Option<&str>,
        incoming: Incoming,
    ) -> Result<Answer, Problem> {
        let shared = &self.connection.shared;
        let most = match route {
            Route::Encrypt(_) | Route::Decrypt(_) | Route::Rewrap(_) => shared.limits.max_body,
            _ => MAX_PLAIN.min(shared.limits.max_body),
        };
        let body::Read { bytes, mut room } = body::read(shared, incoming, most).await?;
        if !self.connection.lets_go_on(&self.caller.token) {
            // The body has taken its time.
            self.caller = called_by(self.connection, self.headers).await?;
        }
        let (tells, changes) = (route.tells(), route.changes());
        let too_long = if changes { STILL_DONE } else { TOO_LONG };
        let mut answer =
            in_time(self.connection, too_long, self.run(route, query, &bytes, &mut room)).await?;
        if tells {
            self.check_still().await?;
        }
        drop(bytes);
        body::take(shared, &mut room, answer.body().length()).await?;
        answer.body_mut().hold(room);
        Ok(answer)
    }

    /// Whether who calls still may: what takes longer looks again, now and then.
    ///
    /// # Errors
    /// 403; 503 when the app was changed.
    pub(super) async fn check_still(&self) -> Result<(), Problem> {
        let token = &self.caller.token;
        if self.connection.lets_go_on(token) {
            return Ok(());
        }
        let Shared { gateway, tokens, .. } = &*self.connection.shared;
        gateway.directory.keep_up().await;
        // Another request may have renewed it.
        let now = Box::pin(tokens.find(self.connection.peer, &token.hash)).await?;
        if now.app.revision == token.app.revision {
            return Ok(());
        }
        let text = "the app was changed while the request was answered: try again";
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, text))
    }

    /// What is not on the hot path is boxed: its futures would be moved about with the others.
    async fn run(
        &self,
        route: Route<'_>,
        query: Option<&str>,
        body: &[u8],
        room: &mut Option<Room>,
    ) -> Result<Answer, Problem> {
        match route {
            Route::Encrypt(name) => crypt::run(self, (Deed::Encrypt, &name), body, room).await,
            Route::Decrypt(name) => crypt::run(self, (Deed::Decrypt, &name), body, room).await,
            Route::Rewrap(name) => crypt::run(self, (Deed::Rewrap, &name), body, room).await,
            Route::Datakey { name, in_clear } => {
                Box::pin(crypt::datakey(self, &name, in_clear, body)).await
            }
            Route::ListKeys => Box::pin(keys::list(self, query)).await,
            Route::ReadKey(name) => Box::pin(keys::read(self, &name)).await,
            Route::CreateKey(name) => Box::pin(keys::create(self, &name, body)).await,
            Route::DeleteKey(name) => Box::pin(keys::delete(self, &name)).await,
            Route::ConfigKey(name) => Box::pin(keys::config(self, &name, body)).await,
            Route::RotateKey(name) => Box::pin(keys::rotate(self, &name)).await,
            Route::TrimKey(name) => Box::pin(keys::trim(self, &name, body)).await,
            Route::LookupSelf => Ok(auth::lookup_self(self)),
            Route::RenewSelf => Box::pin(auth::renew_self(self, body)).await,
            Route::RevokeSelf => Box::pin(auth::revoke_self(self)).await,
            Route::Mounts => Ok(sys::mounts(self.id)),
            Route::Health
            | Route::SealStatus
            | Route::Leader
            | Route::Init
            | Route::OpenApi
            | Route::Login => unreachable!("they are answered to everybody"),
        }
    }
}
