//! The body of a request: within its length, within its time, and all long ones within the memory that there is for
//! them.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use super::Shared;
use super::answer::Problem;

/// What room for long bodies is counted in, in bytes.
pub(super) const UNIT: usize = 16 * 1024;

/// A body from which it needs room, in bytes.
const LONG: usize = 64 * 1024;

/// What a body takes while it is worked on, in its own lengths: itself, its items, the answer.
const FACTOR: usize = 4;

/// A body, and the room that it takes.
pub(super) struct Read<'a> {
    pub(super) bytes: Bytes,
    _room: Option<SemaphorePermit<'a>>,
}

/// Reads a body of at most `most` bytes.
///
/// # Errors
/// 413, 408; 503 when there is no room; 400 when it is cut off or broken.
pub(super) async fn read(
    shared: &Shared,
    body: Incoming,
    most: usize,
) -> Result<Read<'_>, Problem> {
    let announced =
        body.size_hint().upper().map(|upper| usize::try_from(upper).unwrap_or(usize::MAX));
    if announced.is_some_and(|length| length > most) {
        return Err(too_long(most));
    }
    let read = timeout(shared.limits.body_timeout, async {
        let mut room = match announced {
            Some(length) if length > LONG => {
                let room = shared.room.acquire_many(units(length)).await;
                Some(room.map_err(|_| busy())?)
            }
            _ => None,
        };
        let bytes = gather(shared, body, (most, announced), &mut room).await?;
        Ok(Read { bytes, _room: room })
    });
    read.await.unwrap_or_else(|_| {
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")
            .and_close())
    })
}

async fn gather<'a>(
    shared: &'a Shared,
    mut body: Incoming,
    (most, announced): (usize, Option<usize>),
    room: &mut Option<SemaphorePermit<'a>>,
) -> Result<Bytes, Problem> {
    let mut gathered: Option<BytesMut> = None;
    let mut first: Option<Bytes> = None;
    while let Some(frame) = body.frame().await {
        let broken = |_| Problem::bad("the body is cut off or broken").and_close();
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        let length = gathered.as_ref().map_or(0, BytesMut::len)
            + first.as_ref().map_or(0, Bytes::len)
            + data.len();
        if length > most {
            return Err(too_long(most));
        }
        if announced.is_none() && length > LONG {
            let held = room.as_ref().map_or(0, SemaphorePermit::num_permits);
            let more = units(length).saturating_sub(u32::try_from(held).unwrap_or(u32::MAX));
            if more > 0 {
                let more = shared.room.try_acquire_many(more).map_err(|_| busy())?;
                match room {
                    Some(room) => room.merge(more),
                    None => *room = Some(more),
                }
            }
        }
        match (&mut gathered, first.take()) {
            (Some(gathered), _) => gathered.extend_from_slice(&data),
            // What comes in one piece is not copied.
            (None, None) => first = Some(data),
            (None, Some(begun)) => {
                let mut whole = BytesMut::with_capacity(2 * length);
                whole.extend_from_slice(&begun);
                whole.extend_from_slice(&data);
                gathered = Some(whole);
            }
        }
    }
    Ok(gathered.map(BytesMut::freeze).or(first).unwrap_or_default())
}

fn units(length: usize) -> u32 {
    u32::try_from((length * FACTOR).div_ceil(UNIT)).unwrap_or(u32::MAX)
}

fn too_long(most: usize) -> Problem {
    let text = format!("the body is longer than {most} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, text).and_close()
}

fn busy() -> Problem {
    let text = "too many long requests at once: try again";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, text).and_close()
}
