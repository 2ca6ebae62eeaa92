//! The body of an answer, on its way out: a long one goes in pieces, as the peer takes them, and holds its room until
//! the last of them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::Version;
use hyper::body::{Body, Frame, SizeHint};

use super::body::Room;
use super::connection::Busy;

/// Most bytes that go at once.
const PIECE: usize = 64 * 1024;

/// The end of an answer that goes by itself, in bytes.
const TAIL: usize = 1024;

/// See the module.
#[derive(Default)]
pub(super) struct Outgoing {
    rest: Bytes,
    /// The room of the request, which the answer takes over.
    room: Option<Room>,
    /// Whether its end goes by itself: HTTP/2 takes all that there is as soon as there is place for a byte of it, and the
    /// end alone tells that the rest was taken.
    has_tail: bool,
    /// The request is being answered until all of it is taken.
    busy: Option<Busy>,
}

impl Outgoing {
    pub(super) fn new(rest: Bytes) -> Self {
        Self { rest, room: None, has_tail: false, busy: None }
    }

    pub(super) fn length(&self) -> usize {
        self.rest.len()
    }

    /// Holds room until it is taken: of that of its request, as much as it needs.
    pub(super) fn hold(&mut self, mut room: Option<Room>) {
        if let Some(room) = &mut room {
            room.shrink(self.rest.len());
        }
        self.room = room;
    }

    /// What is left of it, in bytes; nothing is left afterwards.
    pub(super) fn take_length(&mut self) -> usize {
        std::mem::take(&mut self.rest).len()
    }

    /// Counts as being answered until it is taken.
    pub(super) fn keep_busy(&mut self, busy: Busy, version: Version) {
        self.has_tail = version == Version::HTTP_2;
        busy.note_answered(self.rest.len());
        self.busy = Some(busy);
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let has_tail = self.has_tail && self.rest.len() > TAIL;
        if self.rest.len() <= PIECE && self.room.is_none() && !has_tail {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.rest)))));
        }
        // A copy: the last piece would keep the whole, when its room is given back.
        let tail = if has_tail { TAIL } else { 0 };
        let length = (self.rest.len() - tail).min(PIECE);
        let piece = Bytes::copy_from_slice(&self.rest[..length]);
        self.rest.advance(length);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
