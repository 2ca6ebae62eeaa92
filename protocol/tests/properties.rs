//! What holds for every input: encoding and parsing are each other's inverse, and no bytes panic.

use proptest::collection::vec;
use proptest::prelude::*;
use sealwire_protocol::message::{
    AuthRequest, AuthResponse, DecRequest, EncRequest, Failure, GenkeyRequest, GenkeyResponse,
    Goaway, GoawayReason, KeyinfoRequest, KeyinfoResponse, PingRequest, ReencRequest,
    SessionLimits,
};
use sealwire_protocol::{
    Binding, Envelope, ErrorCode, Flags, Frame, Header, Opcode, Suite, frame, limits,
};

fn suite() -> impl Strategy<Value = Suite> {
    (0..Suite::ALL.len()).prop_map(|position| Suite::ALL[position])
}

fn suites() -> impl Strategy<Value = Vec<Suite>> {
    proptest::sample::subsequence(Suite::ALL.to_vec(), 1..=Suite::ALL.len())
}

fn bytes(limit: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..limit)
}

/// Encodes with one closure, and checks that parsing gives the same again.
macro_rules! round_trip {
    ($value:expr, $kind:ty, $encode:expr) => {{
        let value = $value;
        let mut out = Vec::new();
        let encode: fn(&$kind, &mut Vec<u8>) = $encode;
        encode(&value, &mut out);
        prop_assert_eq!(<$kind>::parse(&out).expect("parses"), value);
    }};
}

proptest! {
    #[test]
    fn enc_survives(
        index in 1_u32.., suite in proptest::option::of(suite()),
        context in bytes(100), aad in bytes(100), message in bytes(300),
    ) {
        let binding = Binding { context: &context, aad: &aad };
        round_trip!(
            EncRequest { key_index: index, suite, binding, message: &message },
            EncRequest<'_>, |value, out| value.encode(out).expect("encodes")
        );
    }

    #[test]
    fn dec_survives(context in bytes(100), aad in bytes(100), envelope in bytes(300)) {
        let binding = Binding { context: &context, aad: &aad };
        round_trip!(
            DecRequest { binding, envelope: &envelope },
            DecRequest<'_>, |value, out| value.encode(out).expect("encodes")
        );
    }

    #[test]
    fn reenc_survives(
        target_index: u32, suite in proptest::option::of(suite()), rebind: bool,
        parts in [bytes(60), bytes(60), bytes(60), bytes(60), bytes(300)],
    ) {
        let [a, b, c, d, envelope] = &parts;
        let binding = Binding { context: a, aad: b };
        let new_binding = rebind.then_some(Binding { context: c, aad: d });
        round_trip!(
            ReencRequest { target_index, suite, binding, new_binding, envelope },
            ReencRequest<'_>, |value, out| value.encode(out).expect("encodes")
        );
    }

    #[test]
    fn genkey_survives(
        index: u32, version: u32, suites in suites(), created: bool,
        name in "[a-z聊天é][a-z0-9_.:-]{0,40}",
    ) {
        let suite = suites[0];
        round_trip!(
            GenkeyRequest { index, suites: suites.clone(), name: &name },
            GenkeyRequest<'_>, |value, out| value.encode(out).expect("encodes")
        );
        round_trip!(
            GenkeyResponse { index, version, suite, created },
            GenkeyResponse, GenkeyResponse::encode
        );
        round_trip!(
            KeyinfoRequest { name: &name },
            KeyinfoRequest<'_>, |value, out| value.encode(out).expect("encodes")
        );
        round_trip!(
            KeyinfoResponse { index, version, suites },
            KeyinfoResponse, |value, out| value.encode(out).expect("encodes")
        );
    }

    #[test]
    fn auth_survives(
        nonce: [u8; 32], proof: [u8; 32], app_key in "[A-Za-z0-9_-]{1,64}",
        max_frame in 32_768_u32..=0x00FF_FFFF, max_in_flight in 1_u32.., session_seconds: u32,
    ) {
        let app_key = app_key.as_bytes();
        for request in [AuthRequest::Hello { client_nonce: nonce, app_key }, AuthRequest::Proof { proof }] {
            round_trip!(request, AuthRequest<'_>, |value, out| value.encode(out).expect("encodes"));
        }
        let limits = SessionLimits { max_frame, max_in_flight, session_seconds };
        for response in [
            AuthResponse::Challenge { server_nonce: nonce, limits },
            AuthResponse::Accepted { proof },
        ] {
            round_trip!(response, AuthResponse, AuthResponse::encode);
        }
    }

    #[test]
    fn the_small_messages_survive(
        echo in bytes(limits::MAX_PING), code: u16, detail in "[a-z聊天 ]{0,100}", reason: u16, grace_ms: u32,
    ) {
        round_trip!(PingRequest { echo: &echo }, PingRequest<'_>, |value, out| value.encode(out));
        round_trip!(Failure { code: ErrorCode(code), detail: &detail }, Failure<'_>, |value, out| value.encode(out));
        round_trip!(Goaway { reason: GoawayReason(reason), grace_ms }, Goaway, Goaway::encode);
    }

    #[test]
    fn a_detail_that_is_too_long_is_cut_at_a_character(detail in "[a聊👋]{400,800}") {
        let mut out = Vec::new();
        Failure { code: ErrorCode::INTERNAL, detail: &detail }.encode(&mut out);
        let parsed = Failure::parse(&out).expect("parses");
        prop_assert!(detail.starts_with(parsed.detail));
        prop_assert!(parsed.detail.len() > limits::MAX_DETAIL - 4);
    }

    #[test]
    fn frames_survive_whatever_the_cuts(
        frames in vec((any::<u8>(), 0_u16..4, any::<u64>(), bytes(200)), 1..8), cut in any::<prop::sample::Index>(),
    ) {
        let mut stream = Vec::new();
        for (opcode, flags, request_id, body) in &frames {
            let header = Header { opcode: Opcode(*opcode), flags: Flags(*flags), request_id: *request_id };
            let open = frame::begin(&mut stream, header);
            stream.extend_from_slice(body);
            open.finish(&mut stream);
        }
        let cut = cut.index(stream.len());
        let (mut at, mut seen) = (0, 0);
        for end in [cut, stream.len()] {
            while let Some(frame) = Frame::parse(&stream[at..end], limits::MAX_FRAME).expect("sound") {
                let (opcode, flags, request_id, body) = &frames[seen];
                prop_assert_eq!(frame.header.opcode, Opcode(*opcode));
                prop_assert_eq!(frame.header.flags, Flags(*flags));
                prop_assert_eq!(frame.header.request_id, *request_id);
                prop_assert_eq!(frame.body, body.as_slice());
                at += frame.wire_len();
                seen += 1;
            }
        }
        prop_assert_eq!((at, seen), (stream.len(), frames.len()));
    }

    #[test]
    fn no_bytes_make_a_parser_panic_and_what_parses_encodes_to_the_same(input in bytes(200)) {
        let _ = Frame::parse(&input, limits::MAX_FRAME);
        let _ = AuthRequest::parse(&input);
        let _ = AuthResponse::parse(&input);
        let _ = Failure::parse(&input);
        if let Ok(request) = EncRequest::parse(&input) {
            let mut out = Vec::new();
            request.encode(&mut out).expect("encodes");
            prop_assert_eq!(&out, &input);
        }
        if let Ok(request) = ReencRequest::parse(&input) {
            let mut out = Vec::new();
            request.encode(&mut out).expect("encodes");
            prop_assert_eq!(&out, &input);
        }
        if let Ok(envelope) = Envelope::parse(&input) {
            prop_assert!(envelope.header.to_bytes() == input[..10]);
        }
    }

    #[test]
    fn text_is_never_an_envelope(text in ".*") {
        prop_assert!(!sealwire_protocol::is_envelope(text.as_bytes()));
    }
}
