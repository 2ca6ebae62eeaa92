//! What each role may ask: grants, capabilities, documents, wrapped keys, and what tampering does.

#[path = "support/now.rs"]
mod now;

use std::cell::Cell;
use std::sync::Arc;

use now::{Now, tag};
use sealwire_engine::aead::{AeadError, Suite};
use sealwire_engine::document::{
    AppDocument, AppSecret, AppState, DocumentKind, Grants, KeyDocument, KeyVersion, Renewal,
    UsableKey, VersionState,
};
use sealwire_engine::wire::message::Lane;
use sealwire_engine::{
    AuthAttempt, Done, Engine, EngineConfig, EngineError, GatewayRole, KeyBinding, ManagerRole,
    RootKey, Session, SignedDocument, Site, State, Uid,
};
use sealwire_protocol::auth::{Channel, Transcript};
use sealwire_protocol::message::SessionLimits;
use sealwire_protocol::{Binding, Envelope, credential};

const NOW: u64 = 1_000_000;

thread_local! {
    static CLOCK: Cell<u64> = const { Cell::new(NOW) };
}

/// Each test has its own time.
fn clock() -> u64 {
    CLOCK.get()
}

struct World {
    engine: Arc<Engine>,
    gateway: GatewayRole,
    manager: ManagerRole,
    site: Site,
}

impl World {
    fn new() -> Self {
        let engine = Engine::new(&EngineConfig::default(), clock).expect("memory");
        engine.open(RootKey::generate(engine.vault()).expect("random"));
        let (gateway, manager) =
            (GatewayRole::new(engine.clone()), ManagerRole::new(engine.clone()));
        let site = manager.make_site().now().expect("a site");
        Self { engine, gateway, manager, site }
    }

    fn key(&self, name: &str, index: u32) -> UsableKey {
        self.version(name, index, Uid::generate().expect("random"), 1)
    }

    fn version(&self, name: &str, index: u32, uid: Uid, version: u32) -> UsableKey {
        let document =
            key_document(name, index, uid, &vec![VersionState::Active; version as usize]);
        let made = self.manager.genkey(document.binding(version)).now().expect("a key");
        self.usable(&document, version, made.blob()).expect("sound")
    }

    /// What a document lets a version be used for.
    fn usable(
        &self,
        document: &KeyDocument,
        version: u32,
        blob: &[u8],
    ) -> Result<UsableKey, EngineError> {
        let signed = self.manager.sign(&self.site, document).now().expect("signed");
        let verified =
            self.gateway.verify::<KeyDocument>(&self.site, &signed).now().expect("verifies");
        verified.usable(version, blob)
    }

    /// An app with these grants, and its secret.
    fn app(&self, grants: &[&str]) -> (AppDocument, [u8; 32]) {
        let (wrapped, secret) = self.manager.make_app_secret("ak_test", 1).now().expect("a secret");
        let app = AppDocument {
            kind: DocumentKind::App,
            id: "ak_test".into(),
            revision: 1,
            name: "test".into(),
            state: AppState::Active,
            created: NOW,
            allow: vec!["127.0.0.0/8".parse().expect("a network")],
            grants: Grants(grants.iter().map(|text| text.parse().expect(text)).collect()),
            secrets: vec![AppSecret::new(&wrapped, None)],
            http_secrets: Vec::new(),
            disabled_by: None,
        };
        (app, *credential::decode_app_secret(&secret).expect("its own form"))
    }

    fn sign(&self, app: &AppDocument) -> SignedDocument {
        self.manager.sign(&self.site, app).now().expect("signed")
    }

    fn session(&self, grants: &[&str]) -> Session {
        let (app, secret) = self.app(grants);
        let signed = self.sign(&app);
        let attempt = self.attempt(&secret, "ak_test");
        let done =
            self.gateway.auth_verify(&self.site, &signed, &attempt).now().expect("authenticated");
        self.gateway.session(&self.site, &done.capability).expect("a session")
    }

    /// A good attempt, upon a fresh challenge.
    fn attempt<'a>(&self, secret: &[u8], app_key: &'a str) -> AuthAttempt<'a> {
        attempt(secret, app_key, self.gateway.challenge(&self.site).now().expect("a challenge"))
    }
}

fn key_document(name: &str, index: u32, uid: Uid, states: &[VersionState]) -> KeyDocument {
    let versions = (1..).zip(states).map(|(version, state)| KeyVersion {
        version,
        state: *state,
        created: NOW,
        destroy_at: (*state == VersionState::DestroyScheduled).then_some(NOW),
    });
    KeyDocument {
        kind: DocumentKind::Key,
        uid,
        revision: 1,
        name: name.into(),
        index,
        suites: Suite::ALL.to_vec(),
        min_enc: 1,
        min_dec: 1,
        renewal: Renewal::default(),
        sensitive: false,
        context_required: false,
        deletion_allowed: false,
        versions: versions.collect(),
    }
}

fn attempt<'a>(secret: &[u8], app_key: &'a str, server_nonce: [u8; 32]) -> AuthAttempt<'a> {
    let limits = SessionLimits { max_frame: 65_536, max_in_flight: 1, session_seconds: 1 };
    let transcript = Transcript {
        channel: Channel::Tcp,
        client_nonce: [1; 32],
        server_nonce,
        app_key: app_key.as_bytes(),
        limits,
    };
    AuthAttempt { transcript, proof: transcript.client_proof(secret), lifetime: 60 }
}

fn enc(
    session: &mut Session,
    key: &UsableKey,
    suite: Suite,
    aad: &[u8],
    message: &[u8],
) -> Vec<u8> {
    let mut out = Vec::new();
    session.enc(tag(), (key, suite), &Binding::aad(aad), message, &mut out).expect("seals");
    out
}

fn dec(
    session: &mut Session,
    key: &UsableKey,
    aad: &[u8],
    envelope: &[u8],
) -> Result<Vec<u8>, EngineError> {
    let mut out = b"before".to_vec();
    let envelope = Envelope::parse(envelope).expect("an envelope");
    let done = session.dec(tag(), key, &Binding::aad(aad), &envelope, &mut out);
    if done.is_err() {
        assert_eq!(out, b"before", "a refusal leaves the buffer as it was");
    }
    done.map(|_| out.split_off(6))
}

#[test]
fn a_message_survives_every_suite_and_no_nonce_repeats() {
    let world = World::new();
    let (mut session, key) = (world.session(&["enc,dec:chat"]), world.key("chat", 1));
    for suite in Suite::ALL {
        let mut nonces = std::collections::HashSet::new();
        for length in [0, 1, 15, 16, 17, 1000, 70_000] {
            let message = vec![0xA5; length];
            let envelope = enc(&mut session, &key, suite, b"aad", &message);
            assert!(nonces.insert(Envelope::parse(&envelope).expect("sound").nonce.to_vec()));
            assert_eq!(dec(&mut session, &key, b"aad", &envelope), Ok(message), "{suite}");
        }
    }
}

#[test]
fn any_flipped_bit_of_an_envelope_is_refused() {
    let world = World::new();
    let (mut session, key) = (world.session(&["enc,dec:chat"]), world.key("chat", 1));
    for suite in Suite::ALL {
        let envelope = enc(&mut session, &key, suite, b"aad", "你好".as_bytes());
        for bit in 0..envelope.len() * 8 {
            let mut changed = envelope.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let Ok(parsed) = Envelope::parse(&changed) else { continue };
            let mut out = Vec::new();
            let opened = session.dec(tag(), &key, &Binding::aad(b"aad"), &parsed, &mut out);
            assert!(opened.is_err(), "{suite}, bit {bit}");
        }
        assert_eq!(
            dec(&mut session, &key, b"AAD", &envelope),
            Err(EngineError::Aead(AeadError::Auth))
        );
    }
}

#[test]
fn what_is_not_granted_is_refused_by_the_engine_itself() {
    let world = World::new();
    let (chat, other) = (world.key("chat", 1), world.key("other", 2));
    let envelope = enc(&mut world.session(&["enc:chat"]), &chat, Suite::Xaes256Gcm, b"", b"m");
    let mut session = world.session(&["enc:chat", "dec:im-*"]);
    assert_eq!(dec(&mut session, &chat, b"", &envelope), Err(EngineError::NotGranted));
    let mut out = Vec::new();
    let binding = Binding::default();
    let refused = session.enc(tag(), (&other, Suite::Xaes256Gcm), &binding, b"m", &mut out);
    assert_eq!(refused, Err(EngineError::NotGranted));
    assert!(out.is_empty());
}

#[test]
fn reenc_needs_the_grants_that_the_design_names() {
    let world = World::new();
    let uid = Uid::generate().expect("random");
    let (a1, a2) = (world.version("a", 1, uid, 1), world.version("a", 1, uid, 2));
    let b = world.key("b", 2);
    let sealed = enc(&mut world.session(&["enc:a"]), &a1, Suite::Xaes256Gcm, b"x", b"message");
    let envelope = Envelope::parse(&sealed).expect("sound");
    let run = |grants: &[&str], target: &UsableKey, new_aad: &[u8]| {
        let mut out = Vec::new();
        let (from, to) = (Binding::aad(b"x"), Binding::aad(new_aad));
        world
            .session(grants)
            .reenc(
                (tag(), Lane::Live),
                (&a1, &envelope, &from),
                (target, Suite::Sm4Gcm, &to),
                &mut out,
            )
            .map(|_| out)
    };
    let refused = Err(EngineError::NotGranted);
    assert!(run(&["reenc:a"], &a2, b"x").is_ok());
    assert_eq!(run(&["enc,dec:a"], &a2, b"x"), refused);
    assert_eq!(run(&["reenc:a"], &a2, b"y"), refused);
    assert!(run(&["reenc,enc,dec:a"], &a2, b"y").is_ok());
    assert_eq!(run(&["enc,dec,reenc:*"], &b, b"x"), refused);
    assert_eq!(run(&["reenc:b>a"], &b, b"x"), refused);
    assert!(run(&["reenc:a>b"], &b, b"x").is_ok());
    assert_eq!(run(&["reenc:a>b"], &b, b"y"), refused);
    let moved = run(&["reenc:a>b", "dec:a", "enc:b"], &b, b"y").expect("granted");
    assert_eq!(dec(&mut world.session(&["dec:b"]), &b, b"y", &moved), Ok(b"message".to_vec()));
}

#[test]
fn reenc_of_what_does_not_open_leaves_the_buffer_as_it_was() {
    let world = World::new();
    let (mut session, key) = (world.session(&["enc,dec,reenc:a"]), world.key("a", 1));
    let sealed = enc(&mut session, &key, Suite::Aes256GcmSiv, b"x", b"message");
    let envelope = Envelope::parse(&sealed).expect("sound");
    let (wrong, mut out) = (Binding::aad(b"y"), b"before".to_vec());
    let refused = session.reenc(
        (tag(), Lane::Live),
        (&key, &envelope, &wrong),
        (&key, Suite::Aes256Gcm, &wrong),
        &mut out,
    );
    assert_eq!(refused, Err(EngineError::Aead(AeadError::Auth)));
    assert_eq!(out, b"before");
}

#[test]
fn a_wrapped_key_that_was_moved_or_changed_does_not_open() {
    let world = World::new();
    let (mut session, key) = (world.session(&["enc,dec:*"]), world.key("chat", 1));
    let key = key.wrapped();
    let mut use_key = |binding: KeyBinding, blob: &[u8]| {
        // Signed as what it is not.
        let states = vec![VersionState::Active; binding.version as usize];
        let document = key_document(&binding.name, binding.index, binding.uid, &states);
        let usable = world.usable(&document, binding.version, blob)?;
        session.enc(tag(), (&usable, Suite::Aes256Gcm), &Binding::default(), b"m", &mut Vec::new())
    };
    let good = key.binding();
    assert_eq!(use_key(good.clone(), key.blob()), Ok(Done::Here));
    let other = Uid::generate().expect("random");
    for moved in [
        KeyBinding { name: "other".into(), ..good.clone() },
        KeyBinding { index: 2, ..good.clone() },
        KeyBinding { version: 2, ..good.clone() },
        KeyBinding { uid: other, ..good.clone() },
    ] {
        assert!(matches!(use_key(moved, key.blob()), Err(EngineError::Unwrap(_))));
    }
    for position in 0..key.blob().len() {
        let mut changed = *key.blob();
        changed[position] ^= 1;
        assert!(use_key(good.clone(), &changed).is_err(), "byte {position}");
    }
}

#[test]
fn a_version_does_what_its_document_lets_it_and_nothing_else() {
    use VersionState::{Active, DecryptOnly, DestroyScheduled, Destroyed, Disabled};
    let world = World::new();
    let mut session = world.session(&["enc,dec,reenc:*"]);
    let uid = Uid::generate().expect("random");
    let states = [Active, DecryptOnly, Disabled, DestroyScheduled, Destroyed, Active];
    let document = key_document("chat", 1, uid, &states);
    let mut run = |document: &KeyDocument, version: u32| {
        let all = key_document("chat", 1, uid, &vec![Active; version as usize]);
        let made = world.manager.genkey(document.binding(version)).now().expect("a key");
        let free = world.usable(&all, version, made.blob()).expect("sound");
        let usable = world.usable(document, version, made.blob()).expect("sound");
        let sealed = enc(&mut session, &free, Suite::Sm4Gcm, b"", b"m");
        let parsed = Envelope::parse(&sealed).expect("an envelope");
        let none = Binding::default();
        let seals = session.enc(tag(), (&usable, Suite::Sm4Gcm), &none, b"m", &mut Vec::new());
        let opens = session.dec(tag(), &usable, &none, &parsed, &mut Vec::new());
        let (from, to) = ((&usable, &parsed, &none), (&free, Suite::Sm4Gcm, &none));
        let leaves = session.reenc((tag(), Lane::Live), from, to, &mut Vec::new());
        let (from, to) = ((&free, &parsed, &none), (&usable, Suite::Sm4Gcm, &none));
        let enters = session.reenc((tag(), Lane::Live), from, to, &mut Vec::new());
        assert_eq!((seals.is_ok(), opens.is_ok()), (enters.is_ok(), leaves.is_ok()));
        for done in [&seals, &opens] {
            assert!(matches!(done, Ok(Done::Here) | Err(EngineError::NotUsable)), "{done:?}");
        }
        (seals.is_ok(), opens.is_ok())
    };
    let nothing = (false, false);
    for (version, expected) in [
        (1, (true, true)),
        (2, (false, true)),
        (3, nothing),
        (4, nothing),
        (5, nothing),
        (6, (true, true)),
    ] {
        assert_eq!(run(&document, version), expected, "version {version}");
    }
    let lowest = KeyDocument { min_enc: 6, min_dec: 2, ..document.clone() };
    assert_eq!(run(&lowest, 1), nothing);
    assert_eq!(run(&lowest, 2), (false, true));
    assert_eq!(run(&lowest, 6), (true, true));
    let narrow = KeyDocument { suites: vec![Suite::Xaes256Gcm], ..document };
    assert_eq!(run(&narrow, 1), (false, true), "another suite seals, every suite opens");
}

#[test]
fn a_key_of_another_root_key_is_named_as_such() {
    let (here, there) = (World::new(), World::new());
    let key = there.key("chat", 1);
    let binding = key.wrapped().binding();
    let document = key_document("chat", 1, binding.uid, &[VersionState::Active]);
    let key = here.usable(&document, 1, key.wrapped().blob()).expect("sound");
    let mut session = here.session(&["enc:*"]);
    let done =
        session.enc(tag(), (&key, Suite::Aes256Gcm), &Binding::default(), b"", &mut Vec::new());
    assert!(matches!(done, Err(EngineError::OtherRoot { .. })));
}

#[test]
fn a_sealed_engine_opens_nothing_and_old_ciphers_are_not_used() {
    let world = World::new();
    let (mut session, key) = (world.session(&["enc,dec:*"]), world.key("chat", 1));
    let envelope = enc(&mut session, &key, Suite::Aes256Gcm, b"", b"m");
    world.engine.seal();
    assert_eq!(world.engine.state(), State::Sealed);
    assert_eq!(dec(&mut session, &key, b"", &envelope), Err(EngineError::Sealed));
}

#[test]
fn auth_is_refused_alike_for_every_reason() {
    let world = World::new();
    let (app, secret) = world.app(&["enc:*"]);
    let try_with = |app: &AppDocument, attempt: &AuthAttempt<'_>| {
        let signed = world.sign(app);
        world.gateway.auth_verify(&world.site, &signed, attempt).now().map(|done| done.server_proof)
    };
    let good = world.attempt(&secret, "ak_test");
    let proof = try_with(&app, &good).expect("good");
    assert!(good.transcript.verify_server_proof(&secret, &good.proof, &proof));

    let refused = Err(EngineError::AuthFailed);
    assert_eq!(try_with(&app, &world.attempt(&[0; 32], "ak_test")), refused);
    assert_eq!(try_with(&app, &world.attempt(&secret, "ak_other")), refused);
    let disabled = AppDocument { state: AppState::Disabled, ..app.clone() };
    assert_eq!(try_with(&disabled, &good), refused);
    let mut expired = app.clone();
    expired.secrets[0].until = Some(NOW);
    assert_eq!(try_with(&expired, &good), refused);
    expired.secrets[0].until = Some(NOW + 1);
    assert!(try_with(&expired, &good).is_ok());
}

#[test]
fn a_login_that_was_recorded_cannot_be_verified_again_later() {
    let world = World::new();
    let (app, secret) = world.app(&["enc:*"]);
    let signed = world.sign(&app);
    let verify = |attempt: &AuthAttempt<'_>| {
        world.gateway.auth_verify(&world.site, &signed, attempt).now().map(drop)
    };
    let recorded = world.attempt(&secret, "ak_test");
    assert_eq!(verify(&recorded), Ok(()));
    CLOCK.set(NOW + 61);
    assert_eq!(verify(&recorded), Err(EngineError::AuthFailed));
    CLOCK.set(NOW);
    for forged in [[0; 32], [0xFF; 32]] {
        assert_eq!(verify(&attempt(&secret, "ak_test", forged)), Err(EngineError::AuthFailed));
    }
    let mut shifted = world.gateway.challenge(&world.site).now().expect("a challenge");
    shifted[7] ^= 1;
    assert_eq!(verify(&attempt(&secret, "ak_test", shifted)), Err(EngineError::AuthFailed));
}

#[test]
fn a_document_that_was_changed_added_or_moved_does_not_verify() {
    let world = World::new();
    let (app, _) = world.app(&["enc:chat"]);
    let signed = world.sign(&app);
    let verify =
        |signed: &SignedDocument| world.gateway.verify::<AppDocument>(&world.site, signed).now();
    assert_eq!(&*verify(&signed).expect("as signed"), &app);

    let mut widened = signed.clone();
    let text = String::from_utf8(signed.body.clone()).expect("JSON");
    widened.body = text.replace("enc:chat", "enc:*").into_bytes();
    assert!(verify(&widened).is_err());
    assert!(verify(&SignedDocument { id: "ak_other".into(), ..signed.clone() }).is_err());
    assert!(verify(&SignedDocument { revision: 2, ..signed.clone() }).is_err());
    assert!(verify(&SignedDocument { kind: DocumentKind::Key, ..signed.clone() }).is_err());
    let mut forged = signed.clone();
    forged.mac[0] ^= 1;
    assert!(verify(&forged).is_err());
    let other = World::new();
    assert!(verify(&other.sign(&app)).is_err());
}

#[test]
fn a_capability_is_good_for_its_time_and_its_site() {
    let world = World::new();
    let (app, secret) = world.app(&["enc:*"]);
    let signed = world.sign(&app);
    let attempt = world.attempt(&secret, "ak_test");
    let done =
        world.gateway.auth_verify(&world.site, &signed, &attempt).now().expect("authenticated");
    let session = |site, now| {
        CLOCK.set(now);
        world.gateway.session(site, &done.capability).map(drop)
    };
    assert_eq!(session(&world.site, NOW + 59), Ok(()));
    assert_eq!(session(&world.site, NOW + 60), Err(EngineError::CapabilityExpired));
    let another = world.manager.make_site().now().expect("a site");
    assert_eq!(session(&another, NOW), Err(EngineError::Capability));
}

#[test]
fn documents_that_say_what_none_may_say_are_not_signed() {
    let world = World::new();
    let key = key_document("chat", 1, Uid::generate().expect("random"), &[VersionState::Active]);
    assert!(world.manager.sign(&world.site, &key).now().is_ok());
    let (first, unset) = (key.versions[0], Renewal::default());
    let scheduled = VersionState::DestroyScheduled;
    let gap = vec![KeyVersion { version: 2, ..first }];
    for wrong in [
        KeyDocument { index: 0, ..key.clone() },
        KeyDocument { name: "4711".into(), ..key.clone() },
        KeyDocument { suites: vec![], ..key.clone() },
        KeyDocument { versions: vec![], ..key.clone() },
        KeyDocument { versions: gap, ..key.clone() },
        KeyDocument { kind: DocumentKind::App, ..key.clone() },
        KeyDocument { min_dec: 0, ..key.clone() },
        KeyDocument { min_enc: 1, min_dec: 2, ..key.clone() },
        KeyDocument { renewal: Renewal { after_seconds: Some(0), ..unset }, ..key.clone() },
        KeyDocument { renewal: Renewal { after_messages: Some(0), ..unset }, ..key.clone() },
        KeyDocument { versions: vec![KeyVersion { destroy_at: Some(1), ..first }], ..key.clone() },
        KeyDocument { versions: vec![KeyVersion { state: scheduled, ..first }], ..key.clone() },
    ] {
        assert!(world.manager.sign(&world.site, &wrong).now().is_err(), "{wrong:?}");
    }
}
