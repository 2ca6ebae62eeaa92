//! What the engine's own part of ENC and DEC costs, for each suite.

#[path = "../tests/support/now.rs"]
mod now;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use now::{Now, tag};
use sealwire_engine::aead::Suite;
use sealwire_engine::document::{
    AppDocument, AppSecret, AppState, DocumentKind, Grants, KeyDocument, KeyVersion, Renewal,
    UsableKey, VersionState,
};
use sealwire_engine::{
    AuthAttempt, Engine, EngineConfig, GatewayRole, ManagerRole, RootKey, Session, Uid,
};
use sealwire_protocol::auth::{Channel, Transcript};
use sealwire_protocol::message::SessionLimits;
use sealwire_protocol::{Binding, Envelope, credential};

fn warm() -> (Session, UsableKey) {
    let engine = Engine::new(&EngineConfig::default(), || 0).expect("memory");
    engine.open(RootKey::generate(engine.vault()).expect("random"));
    let manager = ManagerRole::new(engine.clone());
    let gateway = GatewayRole::new(engine);
    let site = manager.make_site().now().expect("a site");
    let (wrapped, secret) = manager.make_app_secret("ak_bench", 1).now().expect("a secret");
    let app = AppDocument {
        kind: DocumentKind::App,
        id: "ak_bench".into(),
        revision: 1,
        name: "bench".into(),
        state: AppState::Active,
        created: 0,
        allow: Vec::new(),
        grants: Grants(vec!["enc,dec,reenc:*".parse().expect("a grant")]),
        secrets: vec![AppSecret::new(&wrapped, None)],
        http_secrets: Vec::new(),
        disabled_by: None,
    };
    let signed = manager.sign(&site, &app).now().expect("signed");
    let limits = SessionLimits { max_frame: 65_536, max_in_flight: 1, session_seconds: 1 };
    let transcript = Transcript {
        channel: Channel::Tcp,
        client_nonce: [0; 32],
        server_nonce: gateway.challenge(&site).now().expect("a challenge"),
        app_key: b"ak_bench",
        limits,
    };
    let secret = credential::decode_app_secret(&secret).expect("its own form");
    let proof = transcript.client_proof(secret.as_slice());
    let attempt = AuthAttempt { transcript, proof, lifetime: 60 };
    let done = gateway.auth_verify(&site, &signed, &attempt).now().expect("authenticated");
    let session = gateway.session(&site, &done.capability).expect("a session");
    let (state, created, destroy_at) = (VersionState::Active, 0, None);
    let document = KeyDocument {
        kind: DocumentKind::Key,
        uid: Uid::generate().expect("random"),
        revision: 2,
        name: "chat".into(),
        index: 1,
        suites: Suite::ALL.to_vec(),
        min_enc: 1,
        min_dec: 1,
        renewal: Renewal::default(),
        sensitive: false,
        context_required: false,
        deletion_allowed: false,
        versions: vec![KeyVersion { version: 1, state, created, destroy_at }],
    };
    let made = manager.genkey(document.binding(1)).now().expect("a key");
    let signed = manager.sign(&site, &document).now().expect("signed");
    let verified = gateway.verify::<KeyDocument>(&site, &signed).now().expect("verifies");
    (session, verified.usable(1, made.blob()).expect("sound"))
}

fn benches(criterion: &mut Criterion) {
    let (mut session, key) = warm();
    let tag = tag();
    let binding = Binding::aad(b"tenant-1/conversation-0001/message-00000001");
    for size in [256, 4096] {
        let message = vec![7; size];
        let mut out = Vec::with_capacity(size + 64);
        let mut group = criterion.benchmark_group(format!("enc {size} B"));
        group.throughput(Throughput::Bytes(size as u64));
        for suite in Suite::ALL {
            group.bench_function(BenchmarkId::from_parameter(suite), |bench| {
                bench.iter(|| {
                    out.clear();
                    session
                        .enc(tag, (&key, suite), &binding, black_box(&message), &mut out)
                        .expect("seals");
                });
            });
        }
        group.finish();
        let mut group = criterion.benchmark_group(format!("dec {size} B"));
        group.throughput(Throughput::Bytes(size as u64));
        for suite in Suite::ALL {
            out.clear();
            session.enc(tag, (&key, suite), &binding, &message, &mut out).expect("seals");
            let (sealed, mut opened) = (out.clone(), Vec::with_capacity(size + 64));
            let envelope = Envelope::parse(&sealed).expect("an envelope");
            group.bench_function(BenchmarkId::from_parameter(suite), |bench| {
                bench.iter(|| {
                    opened.clear();
                    session
                        .dec(tag, &key, &binding, black_box(&envelope), &mut opened)
                        .expect("opens");
                });
            });
        }
        group.finish();
    }
}

criterion_group!(session, benches);
criterion_main!(session);
