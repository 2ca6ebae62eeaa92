//! The frame decoder: what is decoded and encoded again gives the same bytes, none is lost between
//! frames, and the adapter agrees with the parser.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sealwire_protocol::codec::FrameCodec;
use sealwire_protocol::message::{
    AuthRequest, AuthResponse, DatakeyRequest, DecRequest, EncRequest, Failure, GenkeyRequest,
    GenkeyResponse, Goaway, KeyinfoRequest, KeyinfoResponse, PingRequest, ReencRequest,
};
use sealwire_protocol::{BodyError, Frame, Opcode, frame};
use tokio_util::codec::{Decoder, Encoder};

const MAX_FRAME: usize = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let (mut rest, mut out) = (input, Vec::new());
    let mut codec = FrameCodec::new(MAX_FRAME);
    let mut stream = BytesMut::from(input);
    loop {
        let adapted = codec.decode(&mut stream);
        let frame = match Frame::parse(rest, MAX_FRAME) {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                assert!(adapted.expect("not broken either").is_none());
                break;
            }
            Err(_) => {
                assert!(adapted.is_err());
                break;
            }
        };
        let owned = adapted.expect("sound").expect("whole");
        assert_eq!((owned.header, owned.body.as_ref()), (frame.header, frame.body));
        let mut again = BytesMut::new();
        codec.encode(owned, &mut again).expect("encodes");
        let open = frame::begin(&mut out, frame.header);
        out.extend_from_slice(frame.body);
        assert_eq!(open.wire_len(&out), frame.wire_len());
        open.finish(&mut out);
        let (consumed, after) = rest.split_at(frame.wire_len());
        assert_eq!(again, consumed);
        bodies(frame.header.opcode, frame.body);
        rest = after;
    }
    assert_eq!(out, input[..input.len() - rest.len()]);
});

/// Parses a body as request and as response: what is accepted encodes to the same bytes.
fn bodies(opcode: Opcode, body: &[u8]) {
    type Again = Result<Vec<u8>, BodyError>;
    let encode = |write: &dyn Fn(&mut Vec<u8>) -> Result<(), BodyError>| -> Again {
        let mut out = Vec::new();
        write(&mut out).map(|()| out)
    };
    let plain = |write: &dyn Fn(&mut Vec<u8>)| -> Again {
        let mut out = Vec::new();
        write(&mut out);
        Ok(out)
    };
    let again: [Again; 3] = [
        match opcode {
            Opcode::AUTH => AuthRequest::parse(body).and_then(|m| encode(&|out| m.encode(out))),
            Opcode::ENC => EncRequest::parse(body).and_then(|m| encode(&|out| m.encode(out))),
            Opcode::DEC => DecRequest::parse(body).and_then(|m| encode(&|out| m.encode(out))),
            Opcode::REENC => ReencRequest::parse(body).and_then(|m| encode(&|out| m.encode(out))),
            Opcode::DATAKEY => {
                DatakeyRequest::parse(body).and_then(|m| encode(&|out| m.encode(out)))
            }
            Opcode::GENKEY => GenkeyRequest::parse(body).and_then(|m| encode(&|out| m.encode(out))),
            Opcode::KEYINFO => {
                KeyinfoRequest::parse(body).and_then(|m| encode(&|out| m.encode(out)))
            }
            _ => PingRequest::parse(body).and_then(|m| plain(&|out| m.encode(out))),
        },
        match opcode {
            Opcode::AUTH => AuthResponse::parse(body).and_then(|m| plain(&|out| m.encode(out))),
            Opcode::GENKEY => GenkeyResponse::parse(body).and_then(|m| plain(&|out| m.encode(out))),
            Opcode::KEYINFO => {
                KeyinfoResponse::parse(body).and_then(|m| encode(&|out| m.encode(out)))
            }
            _ => Goaway::parse(body).and_then(|m| plain(&|out| m.encode(out))),
        },
        Failure::parse(body).and_then(|m| plain(&|out| m.encode(out))),
    ];
    for bytes in again.into_iter().flatten() {
        assert_eq!(bytes, body);
    }
}
