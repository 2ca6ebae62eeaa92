//! The engine itself: sealed or open, and the ciphers it has expanded.

use std::hash::Hash;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use hmac::{Hmac, KeyInit};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::sync::watch;

use crate::aead::{Cipher, Suite};
use crate::sign::Signs;
use crate::wrap::Fingerprint;
use crate::{EngineError, Protection, Purpose, RootKey, RootKeyId, Secret, Vault, WrappedKey, kdf};

const SUITE_KEY_LABEL: &str = "sealwire suite key v1";

/// Whether the engine holds a root key. Of several engines, what the best of them can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum State {
    /// No root key: nothing opens.
    Sealed,
    /// Open under this root key.
    Open {
        /// The root key's name.
        root: RootKeyId,
    },
    /// No engine can be reached: it is another process.
    Away,
}

/// How an engine is sized.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Expanded ciphers kept, over all keys and suites; about 1 KiB each.
    pub cached_ciphers: usize,
    /// How the root key's memory is protected: as well as the machine can when `None`.
    pub protection: Option<Protection>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { cached_ciphers: 16_384, protection: None }
    }
}

/// MAC keys kept: a site has one, and each of its purposes another.
const CACHED_MACS: usize = 64;

/// The cache's key: the engine's epoch, and everything that the key is. An index never finds a key.
type CacheKey<T> = (u64, Fingerprint, T);

/// The root keys of an open engine.
struct Roots {
    /// Wraps, and opens what it has wrapped.
    current: RootKey,
    /// While a root rotation lasts: the one before, which only opens.
    previous: Option<RootKey>,
}

impl Roots {
    /// The root key that a wrapped key names.
    fn of(&self, wrapped: &WrappedKey) -> &RootKey {
        let previous = self.previous.as_ref().filter(|root| root.id() == wrapped.root());
        previous.unwrap_or(&self.current)
    }
}

/// The root key's holder. Sealed when made.
pub struct Engine {
    vault: Arc<Vault>,
    roots: RwLock<Option<Roots>>,
    /// Counts openings and sealings. What was cached in an older epoch is never used again.
    epoch: AtomicU64,
    ciphers: Cache<CacheKey<Suite>, Arc<Cipher>>,
    macs: Cache<CacheKey<Signs>, Arc<Hmac<Sha256>>>,
    state: watch::Sender<State>,
    /// Unix time in seconds of the last opening or sealing.
    since: AtomicU64,
    clock: fn() -> u64,
}

impl Engine {
    /// A sealed engine. `clock` gives Unix time in seconds: what an engine grants expires by its own
    /// clock, not by its caller's.
    ///
    /// # Errors
    /// When the memory for the root key cannot be had: see [`Vault::new`].
    pub fn new(config: &EngineConfig, clock: fn() -> u64) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            vault: Vault::new(config.protection)?,
            roots: RwLock::new(None),
            epoch: AtomicU64::new(0),
            ciphers: Cache::new(config.cached_ciphers),
            macs: Cache::new(CACHED_MACS),
            state: watch::Sender::new(State::Sealed),
            since: AtomicU64::new(clock()),
            clock,
        }))
    }

    /// Where the engine keeps its root key.
    #[must_use]
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// Opens the engine.
    pub fn open(&self, root: RootKey) {
        self.open_with(root, None);
    }

    /// Opens the engine in the midst of a root rotation.
    pub(crate) fn open_with(&self, current: RootKey, previous: Option<RootKey>) {
        let state = State::Open { root: current.id() };
        self.replace(Some(Roots { current, previous }), state);
    }

    /// Forgets the root key and everything that was unwrapped under it.
    pub fn seal(&self) {
        self.replace(None, State::Sealed);
    }

    fn replace(&self, roots: Option<Roots>, state: State) {
        let mut held = self.roots.write().unwrap_or_else(PoisonError::into_inner);
        *held = roots;
        self.epoch.fetch_add(1, Ordering::Release);
        self.ciphers.clear();
        self.macs.clear();
        self.since.store(self.now(), Ordering::Relaxed);
        // While the lock is held, so that what is told is never older than what is.
        self.state.send_replace(state);
    }

    /// Begins a root rotation, and opens an engine that is sealed: from now on `new` wraps, and what was wrapped under the
    /// root key of before still opens. Nothing that is cached is lost.
    pub(crate) fn rotate(&self, new: RootKey, old: RootKey) {
        let state = State::Open { root: new.id() };
        let mut held = self.roots.write().unwrap_or_else(PoisonError::into_inner);
        let was_open = held.is_some();
        *held = Some(Roots { current: new, previous: Some(old) });
        if !was_open {
            self.since.store(self.now(), Ordering::Relaxed);
        }
        self.state.send_replace(state);
    }

    /// Takes the root key of before, wrapped under the current one, from a rotation that another engine
    /// has begun, or this one before its folder was lost.
    pub(crate) fn admit_previous(&self, wrapped: &WrappedKey) -> Result<(), EngineError> {
        let mut held = self.roots.write().unwrap_or_else(PoisonError::into_inner);
        let roots = held.as_mut().ok_or(EngineError::Sealed)?;
        roots.previous = Some(roots.current.unwrap_root(wrapped)?);
        Ok(())
    }

    /// The root key of before, wrapped under the current one.
    pub(crate) fn wrapped_previous(&self) -> Result<WrappedKey, EngineError> {
        self.with_roots(|roots| {
            let previous = roots.previous.as_ref().ok_or(EngineError::NoRotation)?;
            roots.current.wrap_root(previous)
        })
    }

    /// Forgets the root key of before.
    pub(crate) fn forget_previous(&self) {
        let mut held = self.roots.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(roots) = held.as_mut() {
            roots.previous = None;
        }
    }

    /// The current root key, and the one that a rotation leaves behind; `None` while sealed.
    pub(crate) fn roots(&self) -> Option<(RootKeyId, Option<RootKeyId>)> {
        let held = self.roots.read().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().map(|roots| (roots.current.id(), roots.previous.as_ref().map(RootKey::id)))
    }

    pub(crate) fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Expanded ciphers that are kept.
    pub(crate) fn cached_ciphers(&self) -> u64 {
        self.ciphers.len() as u64
    }

    /// Sealed or open.
    #[must_use]
    pub fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Unix time in seconds of the last opening or sealing.
    #[must_use]
    pub fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// Tells of every sealing and opening. Sessions that keep ciphers must
    /// [purge](crate::Session::purge) them then.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    fn with_roots<T>(
        &self,
        work: impl FnOnce(&Roots) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let held = self.roots.read().unwrap_or_else(PoisonError::into_inner);
        work(held.as_ref().ok_or(EngineError::Sealed)?)
    }

    /// Runs `work` with the root key.
    pub(crate) fn with_root<T>(
        &self,
        work: impl FnOnce(&RootKey) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        self.with_roots(|roots| work(&roots.current))
    }

    /// Opens a wrapped key. A wrapped root key opens into the vault alone, never here.
    pub(crate) fn unwrap(&self, wrapped: &WrappedKey) -> Result<Secret<32>, EngineError> {
        not_a_root_key(wrapped)?;
        self.with_roots(|roots| roots.of(wrapped).unwrap(wrapped))
    }

    /// REWRAP: a key that was wrapped under the root key of before, under the current one; `None` when
    /// it is there already.
    pub(crate) fn rewrap(&self, wrapped: &WrappedKey) -> Result<Option<WrappedKey>, EngineError> {
        not_a_root_key(wrapped)?;
        self.with_roots(|roots| {
            if wrapped.root() == roots.current.id() {
                return Ok(None);
            }
            let secret = roots.of(wrapped).unwrap(wrapped)?;
            roots.current.wrap(wrapped.binding().clone(), &secret).map(Some)
        })
    }

    /// The expanded cipher of a business key and a suite, from the cache when it is there.
    pub(crate) fn cipher(
        &self,
        wrapped: &WrappedKey,
        suite: Suite,
    ) -> Result<Arc<Cipher>, EngineError> {
        if wrapped.binding().purpose != Purpose::BusinessKey {
            return Err(EngineError::Unwrap(wrapped.binding().purpose.name()));
        }
        self.cached(&self.ciphers, (*wrapped.fingerprint(), suite), || {
            suite_cipher(&self.unwrap(wrapped)?, wrapped, suite)
        })
    }

    /// The keyed state of one of the site's MACs, from the cache when it is there.
    pub(crate) fn keyed_mac(
        &self,
        wrapped: &WrappedKey,
        signs: Signs,
    ) -> Result<Arc<Hmac<Sha256>>, EngineError> {
        self.cached(&self.macs, (*wrapped.fingerprint(), signs), || {
            let root = self.unwrap(wrapped)?;
            let key: Secret<32> = kdf::derive(root.expose(), signs.label(), &[]);
            Ok(Hmac::new_from_slice(key.expose()).expect("HMAC takes a key of any length"))
        })
    }

    fn cached<T: Copy + Eq + Hash, V>(
        &self,
        cache: &Cache<CacheKey<T>, Arc<V>>,
        (fingerprint, kind): (Fingerprint, T),
        make: impl FnOnce() -> Result<V, EngineError>,
    ) -> Result<Arc<V>, EngineError> {
        let key = (self.epoch(), fingerprint, kind);
        let value = cache.get_or_insert_with(&key, || make().map(Arc::new))?;
        if self.epoch() != key.0 {
            // Sealed meanwhile: what was put in after the cache was cleared must not stay there.
            cache.remove(&key);
            return Err(EngineError::Sealed);
        }
        Ok(value)
    }

    /// Whether `haystack` holds the root key, or one of `keys`, in clear: a check that an operator
    /// can run over a database file or a log. The keys themselves do not come out.
    ///
    /// # Errors
    /// [`EngineError`] when a key does not open.
    pub fn finds_in_clear(
        &self,
        haystack: &[u8],
        keys: &[WrappedKey],
    ) -> Result<bool, EngineError> {
        let holds = |secret: &[u8; 32]| haystack.windows(32).any(|window| window == secret);
        let of_root = |root: &RootKey| root.enter(|_, root| Ok(holds(root.secret().expose())));
        if self.with_root(of_root)? {
            return Ok(true);
        }
        for key in keys {
            if holds(self.unwrap(key)?.expose()) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn not_a_root_key(wrapped: &WrappedKey) -> Result<(), EngineError> {
    match wrapped.binding().purpose {
        Purpose::RootKey => Err(EngineError::Unwrap(Purpose::RootKey.name())),
        _ => Ok(()),
    }
}

/// Derives a suite's key from a business key (spec.md, "Key derivation") and expands it.
fn suite_cipher(
    business_key: &Secret<32>,
    wrapped: &WrappedKey,
    suite: Suite,
) -> Result<Cipher, EngineError> {
    let binding = wrapped.binding();
    let mut key = Secret::<32>::zeroed();
    let length = suite.key_len();
    let out = &mut key.expose_mut()[..length];
    kdf::expand(
        business_key.expose(),
        SUITE_KEY_LABEL,
        &[
            &[suite.id()],
            &binding.uid.to_bytes(),
            &binding.version.to_be_bytes(),
            &[u8::try_from(length).expect("keys are short")],
        ],
        out,
    );
    Ok(Cipher::new(suite, &key.expose()[..length])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyBinding, Uid};

    /// The worked example of spec.md, section 9: `protocol/tests/vectors/open-*.json`.
    #[test]
    fn the_suite_key_is_the_specification_s() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../protocol/tests/vectors");
        for suite in Suite::ALL {
            let text =
                std::fs::read_to_string(format!("{folder}/open-{suite}.json")).expect("vector");
            let vector: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let bytes =
                |field: &str| hex::decode(vector[field].as_str().expect(field)).expect(field);
            let binding = KeyBinding {
                purpose: Purpose::BusinessKey,
                uid: Uid::try_from(hex::encode(bytes("uid"))).expect("uid"),
                index: 7,
                version: 1,
                name: "chat".into(),
            };
            let key = Secret::copy_from(&bytes("business_key")).expect("32 bytes");
            let vault = Vault::new(None).expect("a vault");
            let root = RootKey::generate(&vault).expect("random");
            let wrapped = root.wrap(binding, &key).expect("wraps");
            let cipher = suite_cipher(&key, &wrapped, suite).expect("a cipher");
            let sealed = bytes("input");
            let envelope = sealwire_protocol::Envelope::parse(&sealed).expect("an envelope");
            let (aad, context) = (bytes("aad"), bytes("context"));
            let mut bound = Vec::new();
            sealwire_protocol::Binding { context: &context, aad: &aad }
                .bound_aad(envelope.header, &mut bound)
                .expect("within limits");
            let mut buffer = envelope.ciphertext.to_vec();
            cipher.open_in_place(envelope.nonce, &bound, &mut buffer, envelope.tag).expect("opens");
            assert_eq!(buffer, bytes("message"), "{suite}");
        }
    }
}
