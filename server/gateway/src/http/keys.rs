//! Keys: shown and listed to apps that have a grant on them, managed by those that may. What is changed, the manager
//! changes.

use std::sync::Arc;

use futures_util::future::join_all;
use hyper::StatusCode;
use sealwire_engine::document::{DocumentKind, Grant, Grants, KeyDocument, Op, Pattern};
use sealwire_engine::wire::manage::{ManageAct, ManageOrder};
use sealwire_protocol::{ErrorCode, Suite};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{self, Answer, Problem};
use super::crypt::find;
use super::dispatch::Call;
use super::input;
use super::lenient::{Flag, Number, Seconds, Text};
use crate::Refusal;
use crate::directory::{KeyEntry, VERIFIED_AT_ONCE, unavailable};

/// Names in one list.
const LISTED: usize = 10_000;

/// Rows that are read at once for a list.
const PAGE: u32 = 1000;

/// Shortest time after which a key is rotated by itself, in seconds.
const LEAST_PERIOD: u64 = 3600;

/// What clients call a key that seals under this suite: some take no name that they do not know. `suites` tells the
/// truth.
const fn type_name(suite: Suite) -> &'static str {
    match suite {
        // A block cipher with keys of 128 bits, in GCM.
        Suite::Sm4Gcm => "aes128-gcm96",
        Suite::ChaCha20Poly1305 | Suite::XChaCha20Poly1305 => "chacha20-poly1305",
        _ => "aes256-gcm96",
    }
}

/// The suites of a type; none for the site's.
///
/// # Errors
/// 400 for what is none, and for those that do not encrypt.
pub(super) fn suites_of(kind: Option<&str>) -> Result<Vec<String>, Problem> {
    let suite = match kind {
        None | Some("") => return Ok(Vec::new()),
        Some("aes256-gcm96") => Suite::Xaes256Gcm,
        Some(name) => name.parse().map_err(|_| {
            Problem::bad(format!(
                "unknown key type {name}: aes256-gcm96, chacha20-poly1305, xchacha20-poly1305, or the name of a suite"
            ))
        })?,
    };
    Ok(vec![suite.name().to_owned()])
}

/// A key that still does something: one whose versions were all deleted looks like none.
fn is_there(key: &KeyDocument) -> bool {
    key.versions.iter().any(|version| version.state.is_usable())
}

/// What is shown of a key.
fn shown(key: &KeyDocument) -> Value {
    let versions: Map<String, Value> = key
        .versions
        .iter()
        .filter(|version| key.may_open(version.version) || key.may_seal(version.version))
        .map(|version| (version.version.to_string(), version.created.into()))
        .collect();
    let gone = key.versions.iter().take_while(|version| !version.state.is_usable()).count();
    let suites: Vec<_> = key.suites.iter().map(|suite| suite.name()).collect();
    json!({
        "name": key.name,
        "type": type_name(key.suites[0]),
        "suites": suites,
        "derived": key.context_required,
        "deletion_allowed": key.deletion_allowed,
        "min_available_version": if gone == 0 { 0 } else { gone + 1 },
        "min_decryption_version": key.min_dec,
        "min_encryption_version": if key.min_enc > 1 { key.min_enc } else { 0 },
        "latest_version": key.versions.len(),
        "exportable": false,
        "allow_plaintext_backup": false,
        "supports_encryption": true,
        "supports_decryption": true,
        "supports_signing": false,
        "supports_derivation": true,
        "auto_rotate_period": key.renewal.after_seconds.unwrap_or(0),
        "imported_key": false,
        "keys": versions,
    })
}

pub(super) async fn read(call: &Call<'_>, name: &str) -> Result<Answer, Problem> {
    if !call.caller.grants().mentions(name) {
        return Err(Problem::denied());
    }
    match call.caller.find(&call.connection.shared.gateway.directory, name).await {
        Ok(key) if is_there(&key.document) => Ok(call.done(&shown(&key.document))),
        Ok(_) => Err(Problem::new(StatusCode::NOT_FOUND, "")),
        Err(refusal) if refusal.code == ErrorCode::KEY_NOT_FOUND => {
            Err(Problem::new(StatusCode::NOT_FOUND, ""))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// The names of the keys that the app has a grant on, sorted; of a query `after` and `limit`.
pub(super) async fn list(call: &Call<'_>, query: Option<&str>) -> Result<Answer, Problem> {
    let mut after = String::new();
    let mut limit = LISTED;
    for pair in query.unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
        match name {
            "after" => after = value.into_owned(),
            "limit" => {
                let wish: usize =
                    value.parse().map_err(|_| Problem::bad("limit: a number of names"))?;
                if wish > 0 {
                    limit = wish.min(LISTED);
                }
            }
            _ => {}
        }
    }
    let _turn = call.connection.shared.lists.acquire().await;
    let mut names = Vec::new();
    for pattern in patterns(call.caller.grants()) {
        names.extend(matching(call, &pattern, &after, limit + 1).await?);
    }
    names.sort_unstable();
    names.dedup();
    let more = names.len() > limit;
    names.truncate(limit);
    if names.is_empty() {
        return Err(Problem::new(StatusCode::NOT_FOUND, ""));
    }
    let mut warnings = Vec::new();
    if more {
        let last = names.last().map_or("", String::as_str);
        warnings.push(format!("there are more keys: ask again with after={last}").into());
    }
    let mut data = Vec::new();
    answer::push_json(&mut data, &json!({ "keys": names }));
    Ok(answer::of_json(StatusCode::OK, answer::envelope(call.id, &data, &warnings)))
}

/// Which keys the grants speak of, each once.
fn patterns(grants: &Grants) -> Vec<Pattern> {
    let mut patterns: Vec<Pattern> = Vec::new();
    for grant in &grants.0 {
        let (first, second) = match grant {
            Grant::Keys { keys, .. } => (keys, None),
            Grant::Cross { from, to } => (from, Some(to)),
        };
        for pattern in std::iter::once(first).chain(second) {
            let covers = |held: &Pattern| match (held, pattern) {
                (Pattern::Prefix(held), Pattern::Name(text) | Pattern::Prefix(text)) => {
                    text.starts_with(held.as_str())
                }
                (held, pattern) => held == pattern,
            };
            if !patterns.iter().any(covers) {
                patterns.push(pattern.clone());
            }
        }
    }
    patterns
}

/// At most so many names of keys that a pattern covers, behind `after`.
async fn matching(
    call: &Call<'_>,
    pattern: &Pattern,
    after: &str,
    limit: usize,
) -> Result<Vec<String>, Problem> {
    let directory = &call.connection.shared.gateway.directory;
    let prefix = match pattern {
        Pattern::Name(name) if name.as_str() <= after => return Ok(Vec::new()),
        Pattern::Name(name) => {
            return match directory.find(name).await {
                Ok(key) if is_there(&key.document) => Ok(vec![name.clone()]),
                Ok(_) => Ok(Vec::new()),
                Err(refusal) if refusal.code == ErrorCode::KEY_NOT_FOUND => Ok(Vec::new()),
                Err(refusal) => Err(refusal.into()),
            };
        }
        Pattern::Prefix(prefix) => prefix,
    };
    let mut names = Vec::new();
    // The page begins behind a name: one that is just the prefix is looked for by itself.
    if !prefix.is_empty() && prefix.as_str() > after {
        let itself = Pattern::Name(prefix.clone());
        names.extend(Box::pin(matching(call, &itself, after, limit)).await?);
    }
    let mut behind = after.max(prefix.as_str()).to_owned();
    while names.len() < limit {
        directory.reachable()?;
        let page = directory.keystore().list(DocumentKind::Key, &behind, PAGE).await;
        let page = page.map_err(|error| Problem::from(unavailable(&error)))?;
        for rows in page.rows.chunks(VERIFIED_AT_ONCE) {
            let verify = rows.iter().map(|row| directory.verified::<KeyDocument>(&row.signed));
            for (row, key) in rows.iter().zip(join_all(verify).await) {
                if !row.name.starts_with(prefix.as_str()) {
                    return Ok(names);
                }
                // What does not verify is no key.
                if let Some(key) = key?
                    && row.check::<KeyDocument>(&key).is_ok()
                    && is_there(&key)
                {
                    names.push(key.name.clone());
                }
            }
        }
        match page.next {
            Some(next) => behind = next,
            None => break,
        }
    }
    Ok(names)
}

#[derive(Default, Deserialize)]
struct Config<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(default)]
    derived: Option<Flag>,
    #[serde(default)]
    convergent_encryption: Option<Flag>,
    #[serde(default)]
    exportable: Option<Flag>,
    #[serde(default)]
    allow_plaintext_backup: Option<Flag>,
    #[serde(default)]
    auto_rotate_period: Option<Seconds>,
    #[serde(default)]
    min_decryption_version: Option<Number>,
    #[serde(default)]
    min_encryption_version: Option<Number>,
    #[serde(default)]
    deletion_allowed: Option<Flag>,
}

impl Config<'_> {
    /// Refuses what is left out here.
    fn check(&self) -> Result<(), Problem> {
        let wished = |flag: Option<Flag>| flag == Some(Flag(true));
        if wished(self.exportable) || wished(self.allow_plaintext_backup) {
            return Err(Problem::bad(
                "keys never leave this server: exportable and allow_plaintext_backup stay false",
            ));
        }
        if wished(self.convergent_encryption) {
            return Err(Problem::bad(
                "convergent_encryption is not served here: equal messages would look alike",
            ));
        }
        if self.auto_rotate_period.is_some_and(|Seconds(time)| time > 0 && time < LEAST_PERIOD) {
            return Err(Problem::bad(
                "auto rotate period must be 0 to disable or at least an hour",
            ));
        }
        Ok(())
    }
}

pub(super) async fn create(call: &Call<'_>, name: &str, body: &[u8]) -> Result<Answer, Problem> {
    call.caller.check(Op::Manage, name)?;
    check_name(name)?;
    let config: Config<'_> = input::parse(body)?;
    config.check()?;
    let suites = suites_of(config.kind.as_ref().map(|kind| &*kind.0))?;
    let known = call.connection.shared.gateway.directory.load_by_name(name).await;
    let existed = match known {
        Ok(key) if !is_there(&key.document) => {
            return Err(Problem::bad(format!(
                "key {name} was deleted, or disabled: an operator enables it again, or its destruction goes on"
            )));
        }
        Ok(_) => true,
        Err(refusal) if refusal.code == ErrorCode::KEY_NOT_FOUND => false,
        Err(refusal) => return Err(refusal.into()),
    };
    if !existed {
        let act = ManageAct::Create {
            suites,
            context_required: config.derived == Some(Flag(true)),
            renew_after_seconds: config.auto_rotate_period.map(|Seconds(time)| time),
        };
        order(call, name, act).await?;
    }
    let key = call.connection.shared.gateway.directory.load_by_name(name).await?;
    let mut data = Vec::new();
    answer::push_json(&mut data, &shown(&key.document));
    let warnings = match existed {
        true => vec![format!("key {name} already existed").into()],
        false => Vec::new(),
    };
    Ok(answer::of_json(StatusCode::OK, answer::envelope(call.id, &data, &warnings)))
}

fn check_name(name: &str) -> Result<(), Problem> {
    if name.contains('/') {
        let text = "some clients cannot name a key with `/` in it: take another name";
        return Err(Problem::bad(text));
    }
    Ok(())
}

/// Makes a key, for a message that is to be sealed under it.
pub(super) async fn make(call: &Call<'_>, name: &str, kind: Option<&str>) -> Result<(), Problem> {
    check_name(name)?;
    let suites = suites_of(kind)?;
    let act = ManageAct::Create { suites, context_required: false, renew_after_seconds: None };
    order(call, name, act).await
}

pub(super) async fn config(call: &Call<'_>, name: &str, body: &[u8]) -> Result<Answer, Problem> {
    call.caller.check(Op::Manage, name)?;
    let config: Config<'_> = input::parse(body)?;
    config.check()?;
    let version = |Number(version)| u32::try_from(version).unwrap_or(u32::MAX);
    let key = find(call, name).await?;
    let min_dec = config.min_decryption_version.map(|wish| version(wish).max(1));
    // 0 takes the bound away, but for what does not open any more: nothing but the newest seals anyway.
    let min_enc = config.min_encryption_version.map(version);
    let lowest = match min_dec {
        Some(min_dec) => min_dec,
        None if min_enc == Some(0) => look_again(call, &key).await?.document.min_dec,
        None => 1,
    };
    let act = ManageAct::Set {
        min_dec,
        min_enc: min_enc.map(|wish| if wish == 0 { lowest } else { wish }),
        deletion_allowed: config.deletion_allowed.map(|Flag(allowed)| allowed),
        renew_after_seconds: config.auto_rotate_period.map(|Seconds(time)| time),
    };
    change(call, key, act).await
}

pub(super) async fn rotate(call: &Call<'_>, name: &str) -> Result<Answer, Problem> {
    call.caller.check(Op::Manage, name)?;
    change(call, find(call, name).await?, ManageAct::Rotate).await
}

#[derive(Deserialize)]
struct Trim {
    #[serde(default)]
    min_available_version: Option<Number>,
}

pub(super) async fn trim(call: &Call<'_>, name: &str, body: &[u8]) -> Result<Answer, Problem> {
    call.caller.check(Op::Manage, name)?;
    let trim: Trim = input::parse(body)?;
    let Number(below) =
        trim.min_available_version.ok_or_else(|| Problem::bad("missing min_available_version"))?;
    if below == 0 {
        return Err(Problem::bad("minimum available version should be positive"));
    }
    let below = u32::try_from(below).unwrap_or(u32::MAX);
    change(call, find(call, name).await?, ManageAct::Trim { below }).await
}

pub(super) async fn delete(call: &Call<'_>, name: &str) -> Result<Answer, Problem> {
    call.caller.check(Op::Manage, name)?;
    let key = find(call, name).await?;
    // Whether that is allowed, the manager knows: here its word may be a moment old.
    order(call, name, ManageAct::Delete).await.map_err(|problem| match problem.status {
        StatusCode::BAD_REQUEST => {
            Problem::bad(format!("error deleting policy {name}: {}", problem.text))
        }
        _ => problem,
    })?;
    look_after(call, &key).await?;
    Ok(answer::nothing())
}

/// Has the manager change a key, and shows it.
async fn change(call: &Call<'_>, key: Arc<KeyEntry>, act: ManageAct) -> Result<Answer, Problem> {
    order(call, &key.document.name, act).await?;
    let key = look_after(call, &key).await?;
    Ok(call.done(&shown(&key.document)))
}

/// A key as it is now: also when a manager of another process has changed it.
async fn look_again(call: &Call<'_>, key: &KeyEntry) -> Result<Arc<KeyEntry>, Problem> {
    let directory = &call.connection.shared.gateway.directory;
    Ok(directory.look_again(key.document.index).await?)
}

/// A key as it is after a change, which whoever is told of trouble here must not ask for again.
async fn look_after(call: &Call<'_>, key: &KeyEntry) -> Result<Arc<KeyEntry>, Problem> {
    look_again(call, key).await.map_err(|problem| match problem.status {
        StatusCode::SERVICE_UNAVAILABLE => {
            let text = "it is done, and the key cannot be read just now: look at it later";
            Problem::new(problem.status, text)
        }
        _ => problem,
    })
}

async fn order(call: &Call<'_>, name: &str, act: ManageAct) -> Result<(), Problem> {
    let gateway = &call.connection.shared.gateway;
    gateway.directory.reachable()?;
    let order = ManageOrder { app: call.caller.token.app.id.clone(), key: name.to_owned(), act };
    gateway.key_maker.manage(order).await.map_err(|error| {
        // Only these details speak of nothing but the request and its key.
        let detail = match error.code {
            ErrorCode::KEY_STATE | ErrorCode::MALFORMED_BODY | ErrorCode::INDEX_NOT_ALLOWED => {
                error.detail
            }
            // Some of it may be, or is yet to be.
            ErrorCode::UNAVAILABLE => "look at the key before you try again".to_owned(),
            _ => String::new(),
        };
        Refusal::new(error.code, detail).into()
    })
}
