//! Many messages in one request: each has its own result.

use std::borrow::Cow;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use hyper::StatusCode;
use serde_json::value::RawValue;

use super::answer::{self, Answer, Problem, push_json};
use super::body::{self, Room};
use super::crypt::{Deed, Message, one};
use super::dispatch::Call;
use super::input;
use crate::Refusal;
use crate::directory::KeyEntry;

/// Items after which other connections have their turn.
const TURN: usize = 32;

/// What a result takes besides its text, in bytes, at most.
const RESULT: usize = 128;

/// Items that are on their way to engines of other processes at once.
const AT_ONCE: usize = 256;

/// How a batch has gone so far.
#[derive(Default)]
struct Tally {
    succeeded: usize,
    /// The status of those that have failed, while it is the same.
    failed: Option<StatusCode>,
    /// Whether they have failed for different reasons, and one of these is the client's.
    mixed: bool,
    client: bool,
}

impl Tally {
    fn count(&mut self, outcome: Result<(), StatusCode>) {
        match outcome {
            Ok(()) => self.succeeded += 1,
            Err(status) => {
                self.client |= !status.is_server_error();
                self.mixed |= *self.failed.get_or_insert(status) != status;
            }
        }
    }
}

/// Does a batch.
pub(super) async fn run(
    call: &Call<'_>,
    (deed, key): (Deed, &KeyEntry),
    message: &Message<'_>,
    (list, room): (&RawValue, &mut Option<Room>),
) -> Result<Answer, Problem> {
    let (shared, text) = (&call.connection.shared, list.get());
    let most = shared.limits.max_items;
    // Short items take more here than on the wire.
    let likely = text.bytes().filter(|byte| *byte == b'{').count().min(most);
    let size = 4 * text.len() + likely * (size_of::<Message<'_>>() + RESULT);
    body::take(shared, room, size).await?;
    let parse = || input::parse_list(list, most);
    let items: Vec<Message<'_>> = input::aside(call, text.len(), parse).await?;
    if items.is_empty() {
        return Err(Problem::bad("missing batch input to process"));
    }
    let mut data = Vec::with_capacity(list.get().len() + items.len() * 64);
    data.extend_from_slice(b"{\"batch_results\":[");
    let mut tally = Tally::default();
    if call.caller.is_remote() {
        let mut results = FuturesOrdered::new();
        let mut left = items.iter();
        loop {
            while results.len() < AT_ONCE
                && let Some(item) = left.next()
            {
                results.push_back(by_itself(call, (deed, key), item));
            }
            let Some((outcome, result)) = results.next().await else { break };
            data.extend_from_slice(&result);
            data.push(b',');
            tally.count(outcome);
            call.check_still().await?;
        }
    } else {
        for (number, item) in items.iter().enumerate() {
            if number % TURN == TURN - 1 {
                tokio::task::yield_now().await;
                call.check_still().await?;
            }
            tally.count(result(call, (deed, key), item, &mut data).await);
            data.push(b',');
        }
    }
    data.pop();
    data.extend_from_slice(b"]}");
    let (status, warnings) = status(deed, &tally, message);
    Ok(answer::of_json(status, answer::envelope(call.id, &data, &warnings)))
}

/// Does an item beside others.
fn by_itself<'a>(
    call: &'a Call<'_>,
    (deed, key): (Deed, &'a KeyEntry),
    item: &'a Message<'_>,
) -> BoxFuture<'a, (Result<(), StatusCode>, Vec<u8>)> {
    Box::pin(async move {
        let mut out = Vec::new();
        let outcome = result(call, (deed, key), item, &mut out).await;
        (outcome, out)
    })
}

/// Does an item, and appends its result.
async fn result(
    call: &Call<'_>,
    (deed, key): (Deed, &KeyEntry),
    item: &Message<'_>,
    out: &mut Vec<u8>,
) -> Result<(), StatusCode> {
    out.push(b'{');
    let done = match item.check() {
        Ok(()) => one(&call.caller, (deed, key), item, out).await,
        Err(refusal) => Err(refusal),
    };
    let outcome = done.map_err(|refusal: Refusal| {
        if deed == Deed::Decrypt {
            out.extend_from_slice(b"\"plaintext\":\"\",");
        }
        let Problem { status, text, .. } = refusal.into();
        out.extend_from_slice(b"\"error\":");
        push_json(out, &text);
        status
    });
    out.extend_from_slice(b",\"reference\":");
    push_json(out, item.reference.as_ref().map_or("", |reference| &*reference.0));
    out.push(b'}');
    outcome
}

/// The status of the whole. A rewrap says only in its items what has failed, as elsewhere.
fn status(
    deed: Deed,
    tally: &Tally,
    message: &Message<'_>,
) -> (StatusCode, Vec<Cow<'static, str>>) {
    let Some(failed) = tally.failed else { return (StatusCode::OK, Vec::new()) };
    let usual = match deed {
        Deed::Rewrap if tally.client || tally.succeeded > 0 => StatusCode::OK,
        // One reason is told as it is: what may be tried again is.
        _ if !tally.mixed && tally.succeeded == 0 => failed,
        _ if tally.client => StatusCode::BAD_REQUEST,
        _ => failed,
    };
    let Some(wish) = message.partial_failure_response_code.filter(|_| tally.succeeded > 0) else {
        return (usual, Vec::new());
    };
    // Of those below 200 more would have to follow, and 204 and 304 have no body.
    let wished = u16::try_from(wish.0).ok().filter(|code| (200..600).contains(code));
    match wished.and_then(|code| StatusCode::from_u16(code).ok()) {
        Some(status) if !matches!(status.as_u16(), 204 | 205 | 304) => (status, Vec::new()),
        _ => {
            let said = "invalid HTTP response code override from partial_failure_response_code, reverting to";
            (usual, vec![format!("{said} {}", usual.as_u16()).into()])
        }
    }
}
