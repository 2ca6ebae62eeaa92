//! A gateway with an engine, a key and an app, that sessions are tried on.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use sealwire_engine::document::{
    AppDocument, AppSecret, AppState, Document, DocumentKind, Grants, KeyDocument, KeyVersion,
    Renewal, VersionState,
};
use sealwire_engine::wire::manage::ManageOrder;
use sealwire_engine::{
    Engine, EngineConfig, GatewayRole, ManagerRole, RootKey, SignedDocument, Uid,
};
use sealwire_gateway::{
    Directory, DirectoryConfig, Gateway, KeyMaker, KeyMakerError, KeyOrder, Limits, MadeKey,
};
use sealwire_keystore::audit::{AuditLimits, AuditSettings, Auditor};
use sealwire_keystore::{
    AuditRow, Change, DocumentRow, Keystore, Marks, SiteRow, SqliteKeystore, WrappedRow,
};
use sealwire_protocol::{ErrorCode, Suite, credential, limits};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

struct NoKeys;

#[async_trait]
impl KeyMaker for NoKeys {
    async fn genkey(&self, _: KeyOrder) -> Result<MadeKey, KeyMakerError> {
        Err(KeyMakerError { code: ErrorCode::UNAVAILABLE, detail: String::new() })
    }

    async fn manage(&self, _: ManageOrder) -> Result<(), KeyMakerError> {
        let detail = String::new();
        Err(KeyMakerError { code: ErrorCode::UNAVAILABLE, detail })
    }
}

/// One for all runs: what a run has begun in the background, another one ends.
pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
});

/// See the module.
#[allow(dead_code, reason = "each target has its own way in")]
pub struct World {
    pub gateway: Arc<Gateway>,
    pub app_key: String,
    pub secret: [u8; 32],
    /// What it shows over HTTP.
    pub http_secret: String,
}

pub static WORLD: LazyLock<World> = LazyLock::new(|| RUNTIME.block_on(world()));

async fn world() -> World {
    let engine = Engine::new(&EngineConfig::default(), || 0).expect("memory");
    engine.open(RootKey::generate(engine.vault()).expect("random"));
    let manager = ManagerRole::new(engine.clone());
    let site = manager.make_site().await.expect("a site");
    let (wrapped, secret) = manager.make_app_secret("ak_fuzz", 1).await.expect("a secret");
    let (over_http, http_secret) = manager.make_http_secret("ak_fuzz", 1).await.expect("a secret");
    let app = AppDocument {
        kind: DocumentKind::App,
        id: "ak_fuzz".into(),
        revision: 1,
        name: "fuzz".into(),
        state: AppState::Active,
        created: 0,
        allow: vec!["0.0.0.0/0".parse().expect("a network")],
        grants: Grants(vec!["enc,dec,reenc,genkey,datakey,manage:*".parse().expect("a grant")]),
        secrets: vec![AppSecret::new(&wrapped, None)],
        http_secrets: vec![AppSecret::new(&over_http, None)],
        disabled_by: None,
    };
    let key = KeyDocument {
        kind: DocumentKind::Key,
        uid: Uid::generate().expect("random"),
        revision: 2,
        name: "chat".into(),
        index: 7,
        suites: Suite::ALL.to_vec(),
        min_enc: 1,
        min_dec: 1,
        renewal: Renewal::default(),
        // What is opened is noted, too.
        sensitive: true,
        context_required: false,
        deletion_allowed: false,
        versions: vec![KeyVersion {
            version: 1,
            state: VersionState::Active,
            created: 0,
            destroy_at: None,
        }],
    };
    let blob = manager.genkey(key.binding(1)).await.expect("a key").blob().to_vec();
    let folder = tempfile::tempdir().expect("a folder").keep();
    let keystore = SqliteKeystore::open(&folder.join("keystore.db")).await.expect("opens");
    let decoy = manager.sign(&site, &app).await.expect("signed");
    let decoy = SiteRow { keys: site.to_bytes(), decoy: SignedDocument { revision: 0, ..decoy } };
    keystore.init_site(&decoy).await.expect("a site");
    let signed = manager.sign(&site, &app).await.expect("signed");
    commit(&keystore, &app, signed, None).await;
    let signed = manager.sign(&site, &key).await.expect("signed");
    let wrapped = WrappedRow { uid: key.uid.to_string(), version: 1, blob };
    commit(&keystore, &key, signed, Some(wrapped)).await;
    let marks = Marks::open(&folder.join("marks.db")).await.expect("opens");
    let role = GatewayRole::new(engine);
    let config = DirectoryConfig { cached_keys: 16, ..DirectoryConfig::default() };
    let keystore: Arc<dyn Keystore> = Arc::new(keystore);
    let settings =
        AuditSettings { heads: folder.join("heads"), folder, limits: AuditLimits::default() };
    let auditor = Auditor::open(&settings, role.audit(), keystore.clone()).await.expect("opens");
    let directory = Directory::new(keystore, role.clone(), Arc::new(marks), &config);
    tokio::spawn(auditor.clone().run(directory.clone(), CancellationToken::new()));
    let limits = Limits {
        max_frame: limits::MIN_MAX_FRAME,
        max_in_flight: 4,
        write_timeout: Duration::from_secs(1),
        offload: 256,
        ..Limits::default()
    };
    World {
        gateway: Gateway::new(role, directory, Arc::new(NoKeys), auditor, limits),
        app_key: "ak_fuzz".into(),
        secret: *credential::decode_app_secret(&secret).expect("its own form"),
        http_secret: http_secret.to_string(),
    }
}

async fn commit<D: Document>(
    keystore: &SqliteKeystore,
    document: &D,
    signed: SignedDocument,
    wrapped: Option<WrappedRow>,
) {
    let upon = signed.revision - 1;
    let document = DocumentRow::new(document, signed);
    let audit = AuditRow {
        writer: "manager-0000000000000000".into(),
        sequence: i64::try_from(upon + 1).expect("small"),
        at: 0,
        event: "changed".into(),
        body: Vec::new(),
        mac: [0; 32],
    };
    keystore
        .commit(&Change { upon, document, wrapped, erased: Vec::new(), audit })
        .await
        .expect("commits");
}
