//! The tokio-util adapter: frames in and out of a `BytesMut`.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use crate::{Frame, Header, frame, limits};

/// A frame that owns its body. The body shares the read buffer's memory: nothing is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedFrame {
    /// The header.
    pub header: Header,
    /// The body.
    pub body: Bytes,
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Clone)]
pub struct FrameCodec {
    max_frame: usize,
}

impl FrameCodec {
    /// Refuses frames of more than `max_frame` bytes, header included.
    #[must_use]
    pub fn new(max_frame: usize) -> Self {
        Self { max_frame }
    }
}

impl Decoder for FrameCodec {
    type Item = OwnedFrame;
    type Error = io::Error;

    fn decode(&mut self, source: &mut BytesMut) -> io::Result<Option<OwnedFrame>> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let Some(frame) = Frame::parse(source, self.max_frame).map_err(invalid)? else {
            return Ok(None);
        };
        let (header, size) = (frame.header, frame.wire_len());
        let body = source.split_to(size).freeze().slice(limits::HEADER_LEN..);
        Ok(Some(OwnedFrame { header, body }))
    }
}

impl Encoder<OwnedFrame> for FrameCodec {
    type Error = io::Error;

    fn encode(&mut self, item: OwnedFrame, out: &mut BytesMut) -> io::Result<()> {
        let mut head = Vec::with_capacity(limits::HEADER_LEN + item.body.len());
        let open = frame::begin(&mut head, item.header);
        head.extend_from_slice(&item.body);
        open.finish(&mut head);
        out.extend_from_slice(&head);
        Ok(())
    }
}
