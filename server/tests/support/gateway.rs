//! A gateway's side of the engine protocol, to be used by hand: with a gateway's certificate and the keystore, it
//! says what a test wants.

use std::sync::Arc;
use std::time::Duration;

use sealwire_engine::document::{DocumentKind, KeyDocument, UsableKey};
use sealwire_engine::remote::{Pool, PoolConfig, Waiting};
use sealwire_engine::wire::Role;
use sealwire_engine::wire::tls::{Identity, TlsFiles};
use sealwire_engine::{
    AuthAttempt, Done, EngineError, GatewayRole, Session, Site, State, Tag, Verified,
};
use sealwire_keystore::{By, DocumentRow, Keystore, MysqlKeystore, MysqlOptions};
use sealwire_protocol::auth::{Channel, Transcript};
use sealwire_protocol::message::SessionLimits;
use sealwire_protocol::{Binding, Envelope, Flags, Header, Opcode, Suite, credential, limits};
use tokio_util::sync::CancellationToken;

use super::App;
use super::cluster::Cluster;

/// Requests of each lane that may wait.
pub(crate) const MAX_WAITING: usize = 1000;

pub(crate) struct OwnGateway {
    role: GatewayRole,
    site: Site,
    keystore: MysqlKeystore,
    stop: CancellationToken,
}

impl Drop for OwnGateway {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl OwnGateway {
    /// Connects to engines at these addresses.
    pub(crate) async fn start(cluster: &Cluster, engines: Vec<String>) -> Self {
        let identity = identity(cluster, Role::Gateway);
        let config = PoolConfig {
            engines,
            connections: 2,
            connect_timeout: Duration::from_secs(5),
            max_waiting: Waiting { requests: MAX_WAITING, bytes: 1_000_000 },
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
    pub(crate) async fn log_in(&self, app: &App) -> Session {
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
    pub(crate) async fn key(&self, name: &str, blob_of: &str) -> UsableKey {
        let uid = self.document(blob_of).await.uid.to_string();
        let blobs = self.keystore.wrapped(&[&uid]).await.expect("read");
        self.document(name).await.usable(1, &blobs[0].blob).expect("a blob")
    }
}

/// Who proves himself with this role's certificate.
pub(crate) fn identity(cluster: &Cluster, role: Role) -> Arc<Identity> {
    let tls = cluster.folder.path().join("tls");
    let files = TlsFiles {
        authority: tls.join("authority.pem"),
        certificate: tls.join(format!("{}.pem", role.name())),
        key: tls.join(format!("{}.key", role.name())),
    };
    Identity::read(files, role).expect("of this role")
}

pub(crate) fn tag(opcode: Opcode) -> Tag {
    let header = Header { opcode, flags: Flags::REQUEST, request_id: 1 };
    Tag::new(header, std::time::Instant::now())
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

pub(crate) async fn enc(
    session: &mut Session,
    key: &UsableKey,
    message: &[u8],
) -> Result<Vec<u8>, EngineError> {
    let (suite, none) = (Suite::Xaes256Gcm, Binding::default());
    let put = session.enc(tag(Opcode::ENC), (key, suite), &none, message, &mut Vec::new())?;
    answer(session, put).await
}

pub(crate) async fn dec(
    session: &mut Session,
    key: &UsableKey,
    envelope: &[u8],
) -> Result<Vec<u8>, EngineError> {
    let envelope = Envelope::parse(envelope).expect("an envelope");
    let none = Binding::default();
    let put = session.dec(tag(Opcode::DEC), key, &none, &envelope, &mut Vec::new())?;
    answer(session, put).await
}
