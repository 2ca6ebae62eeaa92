//! What is on its way to a server.

use std::io;

use sealwire_protocol::{Header, frame, limits};
use tokio::io::{AsyncWriteExt, WriteHalf};
use zeroize::Zeroize;

use crate::connect::Stream;

/// Frames that are to be written, many at once. They hold plaintext: zeroized when they go.
#[derive(Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    written: usize,
    unflushed: bool,
}

impl Output {
    pub(crate) fn push(&mut self, header: Header, body: &[u8]) {
        self.reserve(limits::HEADER_LEN + body.len());
        let open = frame::begin(&mut self.bytes, header);
        self.bytes.extend_from_slice(body);
        open.finish(&mut self.bytes);
        self.unflushed = true;
    }

    /// Bytes in the buffer.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.bytes.is_empty() && !self.unflushed
    }

    /// Writes some of what is left, or flushes the last of it. Safe to cancel.
    pub(crate) async fn write_some(&mut self, writer: &mut WriteHalf<Stream>) -> io::Result<()> {
        if self.bytes.is_empty() {
            writer.flush().await?;
            self.unflushed = false;
            return Ok(());
        }
        let length = writer.write(&self.bytes[self.written..]).await?;
        if length == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.written += length;
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
        Ok(())
    }

    /// Room for more. A vector that grows by itself leaves what it held behind in freed memory.
    fn reserve(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let mut larger = Vec::with_capacity(needed.max(2 * self.bytes.capacity()));
            larger.extend_from_slice(&self.bytes);
            self.bytes.zeroize();
            self.bytes = larger;
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}
