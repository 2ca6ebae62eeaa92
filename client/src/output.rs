//! What is on its way to a server.

use std::io;

use sealwire_protocol::{Header, frame, limits};
use tokio::io::{AsyncWriteExt, WriteHalf};
use zeroize::Zeroize;

use crate::connect::Stream;

/// Capacity, in bytes, above which an empty buffer is given back.
const KEPT: usize = 1024 * 1024;

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
            self.empty();
        }
        Ok(())
    }

    /// Wipes what was written. The rest of the buffer is blank already: wiping all of it each time
    /// would cost more than the write.
    fn empty(&mut self) {
        self.bytes.as_mut_slice().zeroize();
        self.bytes.clear();
        self.written = 0;
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
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

#[cfg(test)]
mod tests {
    use sealwire_protocol::{Flags, Opcode};
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn what_was_written_is_wiped_and_a_large_buffer_is_given_back() {
        let header = Header { opcode: Opcode::ENC, flags: Flags::REQUEST, request_id: 1 };
        for (length, kept) in [(1000, true), (2 * KEPT, false)] {
            let (near, mut far) = tokio::io::duplex(4 * KEPT);
            let (_reader, mut writer) = tokio::io::split(Box::new(near) as Stream);
            let mut output = Output::default();
            output.push(header, &vec![7; length]);
            while !output.is_done() {
                output.write_some(&mut writer).await.expect("there is room");
            }
            assert_eq!((output.len(), output.bytes.capacity() > 0), (0, kept));
            let capacity = output.bytes.capacity();
            output.bytes.resize(capacity, 0);
            assert!(output.bytes.iter().all(|&byte| byte == 0));
            let mut read = vec![0; limits::HEADER_LEN + length];
            far.read_exact(&mut read).await.expect("all of it");
            assert!(read.ends_with(&[7; 1000]));
        }
    }
}
