//! Every file under `tests/vectors/`: good cases pass, bad ones are refused by the layer they name.

mod support;

use sealwire_protocol::auth::{Channel, Transcript};
use sealwire_protocol::message::{
    AuthRequest, AuthResponse, DatakeyRequest, DatakeyResponse, DecRequest, EncRequest, Failure,
    GenkeyRequest, GenkeyResponse, Goaway, KeyinfoRequest, KeyinfoResponse, PingRequest,
    ReencRequest, SessionLimits,
};
use sealwire_protocol::{BodyError, Envelope, ErrorCode, Flags, Frame, Opcode, frame, limits};
use support::{Vector, vectors};

const MAX_FRAME: usize = limits::DEFAULT_MAX_FRAME;

#[test]
fn each_vector_meets_its_outcome_at_its_layer() {
    let vectors = vectors();
    assert!(vectors.len() > 80, "only {} vectors", vectors.len());
    for vector in vectors {
        match vector.layer.as_str() {
            "frame" => check_frame(&vector),
            "header" => check_header(&vector),
            "body" => check_body(&vector),
            "envelope" => check_envelope(&vector),
            "auth" => check_auth(&vector),
            "aead" => assert!(Envelope::parse(&vector.input).is_ok(), "{}", vector.name),
            other => panic!("{}: layer {other}", vector.name),
        }
    }
}

fn check_frame(vector: &Vector) {
    if vector.kind == "version-answer" {
        assert_eq!(vector.input, frame::version_answer());
        assert_eq!(frame::parse_version_answer(&vector.input), Some((1, 1)));
        return;
    }
    let error = Frame::parse(&vector.input, MAX_FRAME).expect_err(&vector.name);
    assert_eq!(error.code().name(), vector.outcome, "{}", vector.name);
}

/// The server's own checks of a header are tested on a socket; here, that framing lets it through.
fn check_header(vector: &Vector) {
    let header = whole_frame(vector).header;
    let refused = match vector.outcome.as_str() {
        "MALFORMED_FRAME" => header.request_id == 0,
        "RESERVED_FLAGS" => header.flags != Flags::REQUEST,
        "UNKNOWN_OPCODE" => !(Opcode::AUTH.0..=Opcode::DATAKEY.0).contains(&header.opcode.0),
        _ => false,
    };
    assert!(refused, "{}", vector.name);
}

fn check_body(vector: &Vector) {
    let frame = whole_frame(vector);
    let again = reencode(vector, frame.body);
    if vector.is_good() {
        let again = again.unwrap_or_else(|error| panic!("{}: {error}", vector.name));
        assert_eq!(again, frame.body, "{}", vector.name);
        let mut out = Vec::new();
        let open = frame::begin(&mut out, frame.header);
        out.extend_from_slice(&again);
        open.finish(&mut out);
        assert_eq!(out, vector.input, "{}", vector.name);
    } else {
        assert!(again.is_err(), "{} was accepted", vector.name);
        assert_eq!(vector.outcome, ErrorCode::MALFORMED_BODY.name());
    }
}

/// Parses a body as its kind, and encodes it again.
fn reencode(vector: &Vector, body: &[u8]) -> Result<Vec<u8>, BodyError> {
    let mut out = Vec::new();
    match vector.kind.as_str() {
        "auth-request" => AuthRequest::parse(body)?.encode(&mut out)?,
        "auth-response" => AuthResponse::parse(body)?.encode(&mut out),
        "enc-request" => EncRequest::parse(body)?.encode(&mut out)?,
        "dec-request" => DecRequest::parse(body)?.encode(&mut out)?,
        "reenc-request" => ReencRequest::parse(body)?.encode(&mut out)?,
        "genkey-request" => GenkeyRequest::parse(body)?.encode(&mut out)?,
        "genkey-response" => GenkeyResponse::parse(body)?.encode(&mut out),
        "datakey-request" => DatakeyRequest::parse(body)?.encode(&mut out)?,
        "datakey-response" => {
            let made = DatakeyResponse::parse(body)?;
            out.push(u8::try_from(made.data_key.len()).expect("short"));
            out.extend_from_slice(made.data_key);
            out.extend_from_slice(made.envelope);
        }
        "keyinfo-request" => KeyinfoRequest::parse(body)?.encode(&mut out)?,
        "keyinfo-response" => KeyinfoResponse::parse(body)?.encode(&mut out)?,
        "ping" => PingRequest::parse(body)?.encode(&mut out),
        "goaway" => Goaway::parse(body)?.encode(&mut out),
        "failure" => Failure::parse(body)?.encode(&mut out),
        "envelope" => {
            let envelope = Envelope::parse(body).expect("an envelope");
            out.extend_from_slice(&envelope.header.to_bytes());
            for part in [envelope.nonce, envelope.ciphertext, envelope.tag] {
                out.extend_from_slice(part);
            }
        }
        "opaque" => out.extend_from_slice(body),
        other => panic!("{}: kind {other}", vector.name),
    }
    Ok(out)
}

fn check_envelope(vector: &Vector) {
    assert_eq!(vector.outcome, ErrorCode::BAD_ENVELOPE.name());
    assert!(Envelope::parse(&vector.input).is_err(), "{} was accepted", vector.name);
}

fn check_auth(vector: &Vector) {
    let channel = match vector.text("channel") {
        "tcp" => Channel::Tcp,
        _ => Channel::Tls(vector.array("channel_binding")),
    };
    let limits = vector.bytes("limits");
    let number = |at: usize| u32::from_be_bytes(limits[at..at + 4].try_into().expect("4 bytes"));
    let transcript = Transcript {
        channel,
        client_nonce: vector.array("client_nonce"),
        server_nonce: vector.array("server_nonce"),
        app_key: vector.text("app_key").as_bytes(),
        limits: SessionLimits {
            max_frame: number(0),
            max_in_flight: number(4),
            session_seconds: number(8),
        },
    };
    assert_eq!(transcript.to_bytes(), vector.input, "{}", vector.name);
    let secret = vector.bytes("app_secret");
    let client = vector.array("client_proof");
    assert_eq!(
        transcript.verify_client_proof(&secret, &client),
        vector.is_good(),
        "{}",
        vector.name
    );
    if vector.is_good() {
        let server = vector.array("server_proof");
        assert_eq!(transcript.client_proof(&secret), client);
        assert_eq!(transcript.server_proof(&secret, &client), server);
        assert!(transcript.verify_server_proof(&secret, &client, &server));
        assert!(!transcript.verify_server_proof(&secret, &server, &client));
    }
}

fn whole_frame(vector: &Vector) -> Frame<'_> {
    let parsed = Frame::parse(&vector.input, MAX_FRAME);
    let frame = parsed.unwrap_or_else(|error| panic!("{}: {error}", vector.name));
    frame.unwrap_or_else(|| panic!("{} is not a whole frame", vector.name))
}
