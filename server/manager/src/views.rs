//! What the API takes and shows.

use std::collections::BTreeMap;

use ipnet::IpNet;
use sealwire_engine::RootKeyId;
use sealwire_engine::document::{AppDocument, AppState, Grant, KeyDocument, VersionState};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// A key to make.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// The name.
    pub name: String,
    /// The index; `None` takes the next free one.
    #[serde(default)]
    pub index: Option<u32>,
    /// Names of suites, the first being the default; empty takes the site's.
    #[serde(default)]
    pub suites: Vec<String>,
    /// Whether granting DEC on it takes two persons.
    #[serde(default)]
    pub sensitive: bool,
    /// Whether it seals nothing without a context.
    #[serde(default)]
    pub context_required: bool,
}

/// A version of a key, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// The number.
    pub version: u32,
    /// What it may be used for.
    #[schema(value_type = String)]
    pub state: VersionState,
    /// Unix time in seconds of its making.
    pub created: u64,
    /// Unix time in seconds from which it may be destroyed, while that is scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroy_at: Option<u64>,
    /// The wrapped key, base64. Not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrapped: Option<String>,
    /// Messages that gateways have reserved, by suite, where they are counted. Not in lists.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reserved: BTreeMap<String, u64>,
}

/// A key, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// The name.
    pub name: String,
    /// The index.
    pub index: u32,
    /// The uid.
    pub uid: String,
    /// Names of the suites, the first being the default.
    pub suites: Vec<String>,
    /// The lowest version that may seal.
    pub min_enc: u32,
    /// The lowest version that may open.
    pub min_dec: u32,
    /// Age in seconds at which the active version is followed by a new one.
    pub renew_after_seconds: Option<u64>,
    /// Messages under one suite after which the active version is followed by a new one.
    pub renew_after_messages: Option<u64>,
    /// Whether granting DEC on it takes two persons.
    #[serde(default)]
    pub sensitive: bool,
    /// Whether it seals nothing without a context.
    #[serde(default)]
    pub context_required: bool,
    /// Whether apps that may manage it may have it deleted: then an operator is asked.
    #[serde(default)]
    pub deletion_allowed: bool,
    /// The document's revision.
    pub revision: u64,
    /// Whether this request made it.
    #[serde(default)]
    pub created: bool,
    /// What may still hold a version that is to be destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remains: Option<String>,
    /// The versions.
    pub versions: Vec<VersionView>,
}

impl KeyView {
    pub(crate) fn new(key: &KeyDocument) -> Self {
        let versions = key.versions.iter().map(|version| VersionView {
            version: version.version,
            state: version.state,
            created: version.created,
            destroy_at: version.destroy_at,
            wrapped: None,
            reserved: BTreeMap::new(),
        });
        Self {
            name: key.name.clone(),
            index: key.index,
            uid: key.uid.to_string(),
            suites: key.suites.iter().map(|suite| suite.name().to_owned()).collect(),
            min_enc: key.min_enc,
            min_dec: key.min_dec,
            renew_after_seconds: key.renewal.after_seconds,
            renew_after_messages: key.renewal.after_messages,
            sensitive: key.sensitive,
            context_required: key.context_required,
            deletion_allowed: key.deletion_allowed,
            revision: key.revision,
            created: false,
            remains: None,
            versions: versions.collect(),
        }
    }

    pub(crate) fn version_mut(&mut self, version: u32) -> Option<&mut VersionView> {
        self.versions.iter_mut().find(|view| view.version == version)
    }
}

/// Which versions of a key are meant.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// One of them; `None` means all.
    #[serde(default)]
    pub version: Option<u32>,
}

/// Versions of a key to destroy.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DestroyKey {
    /// One of them; `None` means all.
    #[serde(default)]
    pub version: Option<u32>,
    /// Seconds until then; the site's waiting time unless given, and never less.
    #[serde(default)]
    pub after_seconds: Option<u64>,
}

/// What to set a key to. What is not given stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeKey {
    /// Names of the suites, the first being the default.
    #[serde(default)]
    pub suites: Option<Vec<String>>,
    /// The lowest version that may seal.
    #[serde(default)]
    pub min_enc: Option<u32>,
    /// The lowest version that may open.
    #[serde(default)]
    pub min_dec: Option<u32>,
    /// Whether granting DEC on it takes two persons. To take that away takes two persons itself.
    #[serde(default)]
    pub sensitive: Option<bool>,
    /// Whether apps that may manage it may have it deleted: then an operator is asked.
    #[serde(default)]
    pub deletion_allowed: Option<bool>,
    /// Age in seconds at which the active version is followed by a new one; 0 for never.
    #[serde(default)]
    pub renew_after_seconds: Option<u64>,
    /// Messages under one suite after which it is; 0 for the suite's own limit alone.
    #[serde(default)]
    pub renew_after_messages: Option<u64>,
}

/// A page of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyPage {
    /// The keys, by name.
    pub keys: Vec<KeyView>,
    /// Names of rows that do not verify: somebody has changed the database.
    #[serde(default)]
    pub unverified: Vec<String>,
    /// The name to go on behind; `None` on the last page.
    pub next: Option<String>,
}

/// An app to make.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApp {
    /// The name.
    pub name: String,
    /// Addresses that it may log in from; empty denies all.
    #[schema(value_type = Vec<String>)]
    pub allow: Vec<IpNet>,
    /// What it may do; empty denies everything.
    #[schema(value_type = Vec<String>)]
    pub grants: Vec<Grant>,
    /// Whether it may come over HTTP, with a secret of its own for that.
    #[serde(default)]
    pub http: bool,
}

/// An app, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppView {
    /// The AppKey.
    pub app_key: String,
    /// The name.
    pub name: String,
    /// Whether it may log in.
    #[schema(value_type = String)]
    pub state: AppState,
    /// Unix time in seconds of its making.
    pub created: u64,
    /// Addresses that it may log in from.
    #[schema(value_type = Vec<String>)]
    pub allow: Vec<IpNet>,
    /// What it may do.
    #[schema(value_type = Vec<String>)]
    pub grants: Vec<Grant>,
    /// Whether it may come over HTTP.
    #[serde(default)]
    pub http: bool,
    /// The document's revision.
    pub revision: u64,
}

impl AppView {
    pub(crate) fn new(app: &AppDocument) -> Self {
        Self {
            app_key: app.id.clone(),
            name: app.name.clone(),
            state: app.state,
            created: app.created,
            allow: app.allow.clone(),
            grants: app.grants.0.clone(),
            http: !app.http_secrets.is_empty(),
            revision: app.revision,
        }
    }
}

/// What an app may do, and from where, from now on. What is not given stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeApp {
    /// Addresses that it may log in from; empty denies all.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    pub allow: Option<Vec<IpNet>>,
    /// What it may do; empty denies everything.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    pub grants: Option<Vec<Grant>>,
    /// `false`, and nothing else beside it: it may come over HTTP no longer, and its tokens end.
    #[serde(default)]
    pub http: Option<bool>,
}

/// Every app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppList {
    /// The apps, by name.
    pub apps: Vec<AppView>,
    /// Names of rows that do not verify: somebody has changed the database.
    pub unverified: Vec<String>,
}

/// How long the secret of before is still taken.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateSecret {
    /// Seconds.
    pub overlap_seconds: u64,
    /// Whether a still older one, whose time is not over, is dropped at once.
    #[serde(default)]
    pub drop_older: bool,
    /// Whether it is the HTTP secret: the first one lets the app come over HTTP.
    #[serde(default)]
    pub http: bool,
}

/// An app that was made, or got a new secret. The secret is shown this once.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct CreatedApp {
    /// The app.
    #[serde(flatten)]
    pub app: AppView,
    /// The AppSecret, when there is a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub app_secret: Option<Zeroizing<String>>,
    /// The HTTP secret, when there is a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub http_secret: Option<Zeroizing<String>>,
}

/// Where a root rotation stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RotationStage {
    /// None has been under way since the server's start.
    #[default]
    None,
    /// The engine holds both root keys, and nothing was moved yet: the ceremony was cut off.
    Waiting,
    /// Wrapped keys are being moved.
    Moving,
    /// Everything was moved but rows that do not open; the old root key is kept until they are put
    /// right, or left behind.
    Stuck,
    /// The old root key is forgotten.
    Done,
}

/// How far a root rotation has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RotationView {
    /// Where it stands.
    pub stage: RotationStage,
    /// The root key that is left behind.
    #[schema(value_type = Option<String>)]
    pub old: Option<RootKeyId>,
    /// The root key that takes its place.
    #[schema(value_type = Option<String>)]
    pub new: Option<RootKeyId>,
    /// Wrapped keys moved since this server's start.
    pub moved: u64,
    /// Wrapped keys that were to be moved when this server began.
    pub total: u64,
    /// Rows that cannot be moved, and why.
    #[serde(default)]
    pub stuck: Vec<String>,
    /// Those of them that an officer has said to leave.
    #[serde(default)]
    pub left_behind: Vec<String>,
    /// Why the last try has failed; the next one follows by itself.
    #[serde(default)]
    pub problem: Option<String>,
}

impl RotationView {
    pub(crate) fn of(stage: RotationStage, old: RootKeyId, new: RootKeyId) -> Self {
        Self { stage, old: Some(old), new: Some(new), ..Self::default() }
    }
}
