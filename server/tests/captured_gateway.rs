//! A gateway that was taken over: it has its certificate, the keystore and an app's capability, and says what
//! it likes. The engines open the keys that the app may use, and no other.

mod support;

use std::time::Duration;

use sealwire_engine::document::{DocumentKind, KeyDocument, UsableKey};
use sealwire_engine::remote::{Pool, PoolConfig};
use sealwire_engine::wire::Role;
use sealwire_engine::wire::tls::{Identity, TlsFiles};
use sealwire_engine::{
    AuthAttempt, Done, EngineError, GatewayRole, Session, Site, State, Tag, Verified,
};
use sealwire_keystore::{By, DocumentRow, Keystore, MysqlKeystore, MysqlOptions};
use sealwire_protocol::auth::{Channel, Transcript};
use sealwire_protocol::message::SessionLimits;
use sealwire_protocol::{Binding, Envelope, Flags, Header, Opcode, Suite, credential, limits};
use support::App;
use support::cluster::Cluster;
use tokio_util::sync::CancellationToken;

struct Captured {
    role: GatewayRole,
    site: Site,
    keystore: MysqlKeystore,
    stop: CancellationToken,
}

impl Drop for Captured {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Captured {
    async fn start(cluster: &Cluster) -> Self {
        let tls = cluster.folder.path().join("tls");
        let files = TlsFiles {
            authority: tls.join("authority.pem"),
            certificate: tls.join("gateway.pem"),
            key: tls.join("gateway.key"),
        };
        let identity = Identity::read(files, Role::Gateway).expect("a gateway's");
        let config = PoolConfig {
            engines: cluster.engines.iter().map(|engine| engine.address()).collect(),
            connections: 1,
            connect_timeout: Duration::from_secs(5),
        };
        let stop = CancellationToken::new();
        let role = GatewayRole::remote(Pool::start(&config, identity, &stop));
        let keystore = MysqlKeystore::open(MysqlOptions {
            url: cluster.keystore.clone(),
            password: None,
            tls_ca: None,
            connections: 2,
            patience: Duration::from_secs(5),
        });
        let keystore = keystore.await.expect("opens");
        let row = keystore.site().await.expect("read").expect("a site");
        let site = Site::from_bytes(&row.keys).expect("sound");
        role.set_site(&site, &row.decoy);
        let mut states = role.watch();
        states.wait_for(|state| matches!(state, State::Open { .. })).await.expect("opens");
        Self { role, site, keystore, stop }
    }

    async fn row(&self, kind: DocumentKind, by: By<'_>) -> DocumentRow {
        self.keystore.document(kind, by).await.expect("read").expect("there")
    }

    /// The capability that an honest client's login gives.
    async fn log_in(&self, app: &App) -> Session {
        let secret = credential::decode_app_secret(&app.secret).expect("in its form");
        let transcript = Transcript {
            channel: Channel::Tcp,
            client_nonce: [7; 32],
            server_nonce: self.role.challenge(&self.site).await.expect("a challenge"),
            app_key: app.key.as_bytes(),
            limits: SessionLimits { max_frame: 1 << 20, max_in_flight: 64, session_seconds: 60 },
        };
        let proof = transcript.client_proof(secret.as_slice());
        let attempt = AuthAttempt { transcript, proof, lifetime: 60 };
        let row = self.row(DocumentKind::App, By::Id(&app.key)).await;
        let verified = self.role.auth_verify(&self.site, &row.signed, &attempt).await;
        self.role.session(&self.site, &verified.expect("proven").capability).expect("a session")
    }

    async fn document(&self, name: &str) -> Verified<KeyDocument> {
        let row = self.row(DocumentKind::Key, By::Name(name)).await;
        self.role.verify(&self.site, &row.signed).await.expect("verifies")
    }

    /// A key's first version as its document says it is, with the blob of another key, or its own.
    async fn key(&self, name: &str, blob_of: &str) -> UsableKey {
        let uid = self.document(blob_of).await.uid.to_string();
        let blobs = self.keystore.wrapped(&[&uid]).await.expect("read");
        self.document(name).await.usable(1, &blobs[0].blob).expect("a blob")
    }
}

fn tag(opcode: Opcode) -> Tag {
    let header = Header { opcode, flags: Flags::REQUEST, request_id: 1 };
    Tag { header, suite: None, began: std::time::Instant::now() }
}

/// The body of the answer to what was put last.
async fn answer(session: &mut Session, put: Done) -> Result<Vec<u8>, EngineError> {
    assert_eq!(put, Done::Sent);
    session.send();
    let mut answers = session.answers().await;
    match answers.refused.pop() {
        Some(refused) => Err(refused.error),
        None => Ok(answers.frames[limits::HEADER_LEN..].to_vec()),
    }
}

async fn enc(session: &mut Session, key: &UsableKey) -> Result<Vec<u8>, EngineError> {
    let (suite, none) = (Suite::Xaes256Gcm, Binding::default());
    let put = session.enc(tag(Opcode::ENC), (key, suite), &none, b"mine", &mut Vec::new())?;
    answer(session, put).await
}

async fn dec(
    session: &mut Session,
    key: &UsableKey,
    envelope: &[u8],
) -> Result<Vec<u8>, EngineError> {
    let envelope = Envelope::parse(envelope).expect("an envelope");
    let none = Binding::default();
    let put = session.dec(tag(Opcode::DEC), key, &none, &envelope, &mut Vec::new())?;
    answer(session, put).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capability_opens_no_key_outside_it_whatever_the_gateway_says() {
    let cluster = Cluster::start(2, 1).await;
    let app = cluster.app(&["enc,dec:chat"]).await;
    cluster.key("chat").await;
    let vault = cluster.key("vault").await.index;
    let other = cluster.app(&["enc,dec:vault"]).await;
    let client = cluster.client(&other).connect().await.expect("connects");
    let secret = client.enc(vault, b"", b"somebody else's").await.expect("sealed");
    let gateway = Box::pin(Captured::start(&cluster)).await;
    let mut session = gateway.log_in(&app).await;
    let (chat, vault) = (gateway.key("chat", "chat").await, gateway.key("vault", "vault").await);
    // Each of both engines is asked, most likely.
    for _ in 0..16 {
        let sealed = enc(&mut session, &chat).await.expect("granted");
        assert_eq!(dec(&mut session, &chat, &sealed).await.expect("granted"), b"mine");
        let opened = dec(&mut session, &vault, &secret).await;
        assert!(matches!(opened, Err(EngineError::NotGranted)), "{:?}", opened.err());
        let sealed = enc(&mut session, &vault).await;
        assert!(matches!(sealed, Err(EngineError::NotGranted)), "{:?}", sealed.err());
    }
    // Whose blob it is, its wrapping says: under the name of a key that is granted, it does not open.
    let disguised = gateway.key("chat", "vault").await;
    let sealed = enc(&mut session, &disguised).await;
    assert!(matches!(sealed, Err(EngineError::Unwrap(_))), "{:?}", sealed.err());
    // The app whose key it is opens it through the same gateway.
    let mut session = gateway.log_in(&other).await;
    assert_eq!(dec(&mut session, &vault, &secret).await.expect("granted"), b"somebody else's");
}
