//! An engine's caller: words of any content, some of them behind the site's keys. Nothing
//! panics, every word is answered once, no role says another's words, and without a session no key is used.
#![no_main]

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sealwire_engine::custody::{Chip, Custodian};
use sealwire_engine::serve::Service;
use sealwire_engine::wire::{MAX_FRAME, Role, word};
use sealwire_engine::{Engine, EngineConfig, ManagerRole, RootKey};
use sealwire_protocol::message::Failure;
use sealwire_protocol::{ErrorCode, Flags, Frame, Header, Opcode, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Arbitrary)]
struct Input {
    manager: bool,
    /// Whether the site's keys are said first.
    site: bool,
    /// Words: a number from which the opcode comes, and a body.
    words: Vec<(u8, Vec<u8>)>,
    /// Bytes behind them.
    junk: Vec<u8>,
}

/// Words that there are not: what no list names, no role may say.
const UNKNOWN: [Opcode; 2] = [Opcode(0x3F), Opcode(0x5C)];

/// Every word of the engine protocol, and the unknown ones.
const WORDS: [Opcode; 28] = [
    Opcode::PING,
    word::STATUS,
    word::SITE,
    word::SESSION,
    word::VERIFY,
    word::CHALLENGE,
    word::AUTH_VERIFY,
    word::ENC,
    word::DEC,
    word::REENC,
    word::DATAKEY,
    word::LOGIN,
    word::TOKEN,
    word::SIGN,
    word::MAKE_SITE,
    word::GENKEY,
    word::MAKE_SECRET,
    word::REWRAP,
    word::PREVIOUS,
    word::ADMIT,
    word::FORGET,
    word::PEPPER,
    word::WARRANT,
    word::AUDIT,
    word::AUDIT_CHECK,
    word::CEREMONIES,
    UNKNOWN[0],
    UNKNOWN[1],
];

const OF_MANAGERS: [Opcode; 12] = [
    word::SIGN,
    word::MAKE_SITE,
    word::GENKEY,
    word::MAKE_SECRET,
    word::REWRAP,
    word::PREVIOUS,
    word::ADMIT,
    word::FORGET,
    word::PEPPER,
    word::WARRANT,
    word::AUDIT_CHECK,
    word::CEREMONIES,
];

const OF_GATEWAYS: [Opcode; 9] = [
    word::SESSION,
    word::CHALLENGE,
    word::AUTH_VERIFY,
    word::ENC,
    word::DEC,
    word::REENC,
    word::DATAKEY,
    word::LOGIN,
    word::TOKEN,
];

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
});

/// The engine, and the site's keys.
static WORLD: LazyLock<(Service, Vec<u8>)> = LazyLock::new(|| {
    let engine = Engine::new(&EngineConfig::default(), || 0).expect("memory");
    engine.open(RootKey::generate(engine.vault()).expect("random"));
    let site = RUNTIME.block_on(ManagerRole::new(engine.clone()).make_site()).expect("a site");
    let data = tempfile::tempdir().expect("a folder").keep();
    let custodian = Custodian::new(engine, data, Chip::None, Duration::from_secs(60));
    (Service::new(custodian), site.to_bytes())
});

fuzz_target!(|input: Input| {
    // It runs on the runtime itself.
    LazyLock::force(&WORLD);
    RUNTIME.block_on(run(&input));
});

async fn run(input: &Input) {
    let (service, site) = &*WORLD;
    let role = if input.manager { Role::Manager } else { Role::Gateway };
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let stop = CancellationToken::new();
    let serving = service.converse(server, (role, "fuzz"), &stop);
    let talking = async {
        let (bytes, asked) = said(input, site);
        let _ = client.write_all(&bytes).await;
        let _ = client.shutdown().await;
        let mut answers = Vec::new();
        let _ = client.read_to_end(&mut answers).await;
        check(input, &answers, &asked);
    };
    tokio::join!(serving, talking);
}

/// What is said, and which word has which id.
fn said(input: &Input, site: &[u8]) -> (Vec<u8>, HashMap<u64, Opcode>) {
    let (mut bytes, mut asked) = (Vec::new(), HashMap::new());
    let first = input.site.then_some((word::SITE, site));
    let words = input.words.iter().map(|(number, body)| {
        (WORDS[usize::from(*number) % WORDS.len()], &body[..body.len().min(4096)])
    });
    for (request_id, (opcode, body)) in (1..).zip(first.into_iter().chain(words)) {
        let header = Header { opcode, flags: Flags::REQUEST, request_id };
        let open = frame::begin(&mut bytes, header);
        bytes.extend_from_slice(body);
        open.finish(&mut bytes);
        asked.insert(request_id, opcode);
    }
    bytes.extend_from_slice(&input.junk);
    (bytes, asked)
}

fn check(input: &Input, mut answers: &[u8], asked: &HashMap<u64, Opcode>) {
    let mut open = asked.clone();
    // The last word when the junk has another version.
    if let Some(others) = answers.strip_suffix(&frame::version_answer()) {
        answers = others;
    }
    while let Some(frame) = Frame::parse(answers, MAX_FRAME).expect("sound frames") {
        let Header { opcode, flags, request_id } = frame.header;
        answers = &answers[frame.wire_len()..];
        if request_id == 0 {
            continue;
        }
        // What follows the junk may look like a word.
        let Some(asked) = open.remove(&request_id) else {
            assert!(!input.junk.is_empty(), "an answer to nothing, or a second one");
            continue;
        };
        assert_eq!(opcode, asked);
        let others = if input.manager { &OF_GATEWAYS[..] } else { &OF_MANAGERS[..] };
        let denied = others.contains(&opcode) || UNKNOWN.contains(&opcode);
        let uses_a_key = [word::ENC, word::DEC, word::REENC, word::DATAKEY].contains(&opcode);
        if denied || uses_a_key {
            assert_eq!(flags, Flags::FAILURE, "{opcode:?}");
        }
        if flags == Flags::FAILURE {
            let failure = Failure::parse(frame.body).expect("a sound failure");
            assert_ne!(failure.code, ErrorCode::INTERNAL, "{opcode:?}: {}", failure.detail);
            assert_eq!(denied, failure.code == ErrorCode::ROLE_DENIED, "{opcode:?}");
        }
    }
    assert!(answers.is_empty(), "half a frame");
    assert!(open.is_empty() || !input.junk.is_empty(), "words without an answer: {open:?}");
}
