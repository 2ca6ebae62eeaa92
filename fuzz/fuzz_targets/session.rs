//! A server session: frames in arbitrary cuts, after a genuine AUTH or without one. Nothing panics, every
//! request that was whole is answered at most once, and nothing but AUTH is answered before AUTH.
#![no_main]

mod world;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sealwire_gateway::connection::{Peer, serve};
use sealwire_protocol::auth::{Channel, Transcript};
use sealwire_protocol::message::{AuthRequest, AuthResponse, Failure};
use sealwire_protocol::{ErrorCode, Flags, Frame, Header, Opcode, frame, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::sync::CancellationToken;
use world::{RUNTIME, WORLD, World};

#[derive(Debug, Arbitrary)]
struct Input {
    login: bool,
    /// Frames that are sound, of any content.
    frames: Vec<(u8, u16, u64, Vec<u8>)>,
    /// Bytes behind them.
    junk: Vec<u8>,
    /// Sizes of the pieces that everything is sent in.
    cuts: Vec<u16>,
}

fuzz_target!(|input: Input| {
    let world = &*WORLD;
    RUNTIME.block_on(run(world, input));
});

async fn run(world: &World, input: Input) {
    let (client, server) = tokio::io::duplex(1 << 20);
    let stop = CancellationToken::new();
    let peer = Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), channel: Channel::Tcp };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    let serving = serve(server, peer, &world.gateway, &stop, deadline, || ());
    tokio::join!(serving, talk(client, world, input));
}

async fn talk(mut stream: DuplexStream, world: &World, input: Input) {
    let mut answers = Answers::default();
    if input.login {
        login(&mut stream, world, &mut answers).await;
    }
    let mut bytes = Vec::new();
    let mut asked = std::collections::HashMap::<u64, usize>::new();
    for (opcode, flags, request_id, body) in &input.frames {
        // Most frames are requests: the others are refused before their content counts.
        let flags = if flags % 16 == 15 { flags } else { &0 };
        let body = &body[..body.len().min(4096)];
        let header =
            Header { opcode: Opcode(opcode % 16), flags: Flags(*flags), request_id: *request_id };
        let open = frame::begin(&mut bytes, header);
        bytes.extend_from_slice(body);
        open.finish(&mut bytes);
        *asked.entry(*request_id).or_default() += 1;
    }
    bytes.extend_from_slice(&input.junk);
    let mut rest = bytes.as_slice();
    for cut in input.cuts.iter().chain([&u16::MAX].into_iter().cycle()) {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(usize::from(*cut).clamp(1, rest.len()));
        if stream.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
        rest = after;
    }
    let _ = stream.shutdown().await;
    while let Some((header, body)) = answers.next(&mut stream).await {
        if !input.login {
            let challenge = header.opcode == Opcode::AUTH && header.flags == Flags::RESPONSE;
            assert!(challenge || header.flags == Flags::FAILURE, "{header:?} before AUTH");
        }
        if header.flags == Flags::FAILURE {
            let failure = Failure::parse(&body).expect("a sound failure");
            assert_ne!(failure.code, ErrorCode::INTERNAL, "{header:?}");
        }
        if header.request_id != 0 && input.junk.is_empty() {
            let left = asked.get_mut(&header.request_id).expect("an answer to a request");
            *left = left.checked_sub(1).expect("one answer for each request");
        }
    }
}

async fn login(stream: &mut DuplexStream, world: &World, answers: &mut Answers) {
    let (client_nonce, app_key) = ([7; 32], world.app_key.as_bytes());
    send(stream, 1, &AuthRequest::Hello { client_nonce, app_key }).await;
    let (_, body) = answers.next(stream).await.expect("a challenge");
    let Ok(AuthResponse::Challenge { server_nonce, limits }) = AuthResponse::parse(&body) else {
        panic!("no challenge");
    };
    let transcript =
        Transcript { channel: Channel::Tcp, client_nonce, server_nonce, app_key, limits };
    let proof = transcript.client_proof(&world.secret);
    send(stream, 2, &AuthRequest::Proof { proof }).await;
    let (_, body) = answers.next(stream).await.expect("accepted");
    assert!(matches!(AuthResponse::parse(&body), Ok(AuthResponse::Accepted { .. })));
}

async fn send(stream: &mut DuplexStream, request_id: u64, request: &AuthRequest<'_>) {
    let mut out = Vec::new();
    let header = Header { opcode: Opcode::AUTH, flags: Flags::REQUEST, request_id };
    let open = frame::begin(&mut out, header);
    request.encode(&mut out).expect("encodes");
    open.finish(&mut out);
    stream.write_all(&out).await.expect("sent");
}

#[derive(Default)]
struct Answers(Vec<u8>);

impl Answers {
    /// The next answer; `None` at the end.
    async fn next(&mut self, stream: &mut DuplexStream) -> Option<(Header, Vec<u8>)> {
        loop {
            if self.0 == frame::version_answer() {
                return None;
            }
            if self.0.get(4) != Some(&0)
                && let Some(frame) = Frame::parse(&self.0, limits::MAX_FRAME).expect("sound frames")
            {
                let (header, body, length) = (frame.header, frame.body.to_vec(), frame.wire_len());
                self.0.drain(..length);
                return Some((header, body));
            }
            if stream.read_buf(&mut self.0).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}
