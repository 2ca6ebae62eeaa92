//! The read buffer of a connection: frames are parsed in place, nothing is copied out.

use std::io;

use sealwire_protocol::limits;
use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroize;

/// What a connection starts with; an idle one costs no more.
const START: usize = 8 * 1024;

/// What a busy connection grows to: a read of 64 KiB takes many pipelined frames at once.
const FULL: usize = 64 * 1024;

/// A read buffer that grows with what has arrived, never with what a peer has announced. It holds
/// plaintext, and is zeroized when it goes.
pub struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReadBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: vec![0; START], start: 0, end: 0 }
    }

    /// A buffer without room: what stands in the place of one that is in use elsewhere.
    pub(crate) fn none() -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0 }
    }

    /// What has arrived and was not consumed.
    #[inline]
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Drops the first `length` bytes of [`ReadBuffer::unread`].
    #[inline]
    pub fn consume(&mut self, length: usize) {
        self.start += length;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > FULL {
                self.bytes.zeroize();
                self.bytes = vec![0; FULL];
            }
        }
    }

    /// Reads once from `stream`; 0 is its end. Safe to cancel.
    ///
    /// # Errors
    /// The stream's.
    pub async fn fill<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<usize> {
        self.make_room();
        let room = self.bytes.len() - self.end;
        let length = stream.read(&mut self.bytes[self.end..]).await?;
        self.end += length;
        if length == room && self.bytes.len() < FULL {
            self.grow(FULL);
        }
        Ok(length)
    }

    /// Makes room behind the unread bytes: moves them to the front, or doubles the buffer when they
    /// fill it (a frame larger than the buffer, that is arriving).
    fn make_room(&mut self) {
        if self.end < self.bytes.len() {
            return;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        } else {
            self.grow((self.bytes.len() * 2).min(limits::MAX_FRAME + 1));
        }
    }

    /// Moves to a larger buffer and leaves nothing behind in the old one.
    fn grow(&mut self, size: usize) {
        let mut larger = vec![0; size.max(self.bytes.len())];
        larger[..self.end].copy_from_slice(&self.bytes[..self.end]);
        self.bytes.zeroize();
        self.bytes = larger;
    }
}

impl Default for ReadBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn bytes_come_out_as_they_came_in_whatever_the_cuts() {
        let sent: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).collect();
        let (mut stream, mut buffer) = (sent.as_slice(), ReadBuffer::new());
        let (mut got, mut turn) = (Vec::new(), 0);
        while buffer.fill(&mut stream).await.expect("reads") > 0 {
            turn += 1;
            let take = buffer.unread().len() * (turn % 4) / 3;
            let take = take.min(buffer.unread().len());
            got.extend_from_slice(&buffer.unread()[..take]);
            buffer.consume(take);
        }
        got.extend_from_slice(buffer.unread());
        assert!(got == sent);
    }
}
