//! The body of a request: within its length, within its time, and all long ones within the memory that there is for
//! them, taken as they arrive.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answer::Problem;
use super::{HttpLimits, Shared};

/// What room is counted in, in bytes.
const UNIT: usize = 16 * 1024;

/// What needs no room, in bytes.
const SHORT: usize = 64 * 1024;

/// What a body takes while it is worked on, in its own lengths: itself twice while it grows, and its answer.
const FACTOR: usize = 4;

/// Time for room to be given back by others.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much is read of what is refused, and for how long, so that its sender sees the answer.
const FAREWELL: (usize, Duration) = (1024 * 1024, Duration::from_millis(500));

/// The memory that there is for long requests.
pub(super) fn room(limits: &HttpLimits) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(limits.max_buffered / UNIT))
}

/// Some of it, given back on drop.
pub(super) struct Room(OwnedSemaphorePermit);

impl Room {
    /// Gives back what is not needed for so many bytes.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let spare = self.0.num_permits().saturating_sub(bytes.div_ceil(UNIT));
        drop(self.0.split(spare));
    }
}

/// Takes room for so many bytes, beside what is held already.
///
/// # Errors
/// 503 when there is none in time.
pub(super) async fn take(
    shared: &Shared,
    held: &mut Option<Room>,
    bytes: usize,
) -> Result<(), Problem> {
    let has = held.as_ref().map_or(0, |held| held.0.num_permits() * UNIT);
    if bytes <= SHORT * FACTOR || bytes <= has {
        return Ok(());
    }
    let more = u32::try_from((bytes - has).div_ceil(UNIT)).map_err(|_| busy())?;
    let taken = timeout(PATIENCE, shared.room.clone().acquire_many_owned(more)).await;
    let taken = taken.map_err(|_| busy())?.map_err(|_| busy())?;
    match held {
        Some(held) => held.0.merge(taken),
        None => *held = Some(Room(taken)),
    }
    Ok(())
}

/// A body, and the room that it takes.
pub(super) struct Read {
    pub(super) bytes: Bytes,
    pub(super) room: Option<Room>,
}

/// Reads a body of at most `most` bytes.
///
/// # Errors
/// 413, 408; 503 when there is no room; 400 when it is cut off or broken.
pub(super) async fn read(
    shared: &Shared,
    mut body: Incoming,
    most: usize,
) -> Result<Read, Problem> {
    let announced =
        body.size_hint().upper().map(|upper| usize::try_from(upper).unwrap_or(usize::MAX));
    if announced.is_some_and(|length| length > most) {
        drain(body).await;
        return Err(too_long(most));
    }
    let read = timeout(shared.limits.body_timeout, gather(shared, &mut body, most)).await;
    let read = read.unwrap_or_else(|_| {
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")
            .and_close())
    });
    if read.is_err() {
        drain(body).await;
    }
    read
}

async fn gather(shared: &Shared, body: &mut Incoming, most: usize) -> Result<Read, Problem> {
    let (mut first, mut whole, mut room) = (Bytes::new(), BytesMut::new(), None);
    while let Some(frame) = body.frame().await {
        let broken = |_| Problem::bad("the body is cut off or broken").and_close();
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        let length = first.len() + whole.len() + data.len();
        if length > most {
            return Err(too_long(most));
        }
        take(shared, &mut room, length * FACTOR).await?;
        // What comes in one piece is not copied.
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
    }
    let bytes = if whole.is_empty() { first } else { whole.freeze() };
    Ok(Read { bytes, room })
}

/// Reads on for a moment what is refused: whoever still sends would not see the answer else.
pub(super) async fn drain(mut body: Incoming) {
    let (mut most, time) = FAREWELL;
    let drained = timeout(time, async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(left) = most.checked_sub(length) else { return };
            most = left;
        }
    });
    let _ = drained.await;
}

fn too_long(most: usize) -> Problem {
    let text = format!("the body is longer than {most} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, text).and_close()
}

fn busy() -> Problem {
    let text = "there is no room for more long requests now: try again";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, text).and_close()
}
