//! The tokio-util adapter, with its feature on.
#![cfg(feature = "codec")]

use bytes::{Bytes, BytesMut};
use sealwire_protocol::codec::{FrameCodec, OwnedFrame};
use sealwire_protocol::{Flags, Header, Opcode};
use tokio_util::codec::{Decoder, Encoder};

fn owned(request_id: u64, body: &'static [u8]) -> OwnedFrame {
    let header = Header { opcode: Opcode::PING, flags: Flags::REQUEST, request_id };
    OwnedFrame { header, body: Bytes::from_static(body) }
}

#[test]
fn frames_come_out_as_they_went_in_byte_by_byte() {
    let mut codec = FrameCodec::new(1024);
    let mut wire = BytesMut::new();
    for frame in [owned(1, b""), owned(2, b"hello")] {
        codec.encode(frame, &mut wire).expect("encodes");
    }
    let (mut input, mut out) = (BytesMut::new(), Vec::new());
    for byte in wire {
        input.extend_from_slice(&[byte]);
        while let Some(frame) = codec.decode(&mut input).expect("sound") {
            out.push(frame);
        }
    }
    assert_eq!(out, [owned(1, b""), owned(2, b"hello")]);
}

#[test]
fn a_frame_over_the_limit_is_refused_from_its_length_alone() {
    let mut codec = FrameCodec::new(1024);
    let mut input = BytesMut::from(&1021_u32.to_be_bytes()[..]);
    assert!(codec.decode(&mut input).is_err());
}
