//! The engine itself: sealed or open, and the ciphers it has expanded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::aead::{Cipher, Suite};
use crate::wrap::Fingerprint;
use crate::{EngineError, RootKey, RootKeyId, Secret, WrappedKey, kdf};

const SUITE_KEY_LABEL: &str = "sealwire suite key v1";

/// Whether the engine holds a root key.
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
}

/// How an engine is sized.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Expanded ciphers kept, over all keys and suites; about 1 KiB each.
    pub cached_ciphers: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { cached_ciphers: 16_384 }
    }
}

/// The cache's key: the engine's epoch, and everything that the key is. An index never finds a key.
type CacheKey = (u64, Fingerprint, Suite);

/// The root key's holder. Sealed when made.
pub struct Engine {
    root: RwLock<Option<RootKey>>,
    /// Counts openings and sealings. What was cached in an older epoch is never used again.
    epoch: AtomicU64,
    ciphers: Cache<CacheKey, Arc<Cipher>>,
    state: watch::Sender<State>,
    clock: fn() -> u64,
}

impl Engine {
    /// A sealed engine. `clock` gives Unix time in seconds: what an engine grants expires by its own
    /// clock, not by its caller's.
    #[must_use]
    pub fn new(config: &EngineConfig, clock: fn() -> u64) -> Arc<Self> {
        Arc::new(Self {
            root: RwLock::new(None),
            epoch: AtomicU64::new(0),
            ciphers: Cache::new(config.cached_ciphers),
            state: watch::Sender::new(State::Sealed),
            clock,
        })
    }

    /// Opens the engine.
    pub fn open(&self, root: RootKey) {
        let state = State::Open { root: root.id() };
        self.replace(Some(root), state);
    }

    /// Forgets the root key and every cached cipher.
    pub fn seal(&self) {
        self.replace(None, State::Sealed);
    }

    fn replace(&self, root: Option<RootKey>, state: State) {
        let mut held = self.root.write().unwrap_or_else(PoisonError::into_inner);
        *held = root;
        self.epoch.fetch_add(1, Ordering::Release);
        drop(held);
        self.ciphers.clear();
        self.state.send_replace(state);
    }

    pub(crate) fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Sealed or open.
    #[must_use]
    pub fn state(&self) -> State {
        *self.state.borrow()
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

    /// Runs `use_root` with the root key.
    pub(crate) fn with_root<T>(
        &self,
        use_root: impl FnOnce(&RootKey) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let held = self.root.read().unwrap_or_else(PoisonError::into_inner);
        use_root(held.as_ref().ok_or(EngineError::Sealed)?)
    }

    /// Opens a wrapped key.
    pub(crate) fn unwrap(&self, wrapped: &WrappedKey) -> Result<Secret<32>, EngineError> {
        self.with_root(|root| root.unwrap(wrapped))
    }

    /// The expanded cipher of a business key and a suite, from the cache when it is there.
    pub(crate) fn cipher(
        &self,
        wrapped: &WrappedKey,
        suite: Suite,
    ) -> Result<Arc<Cipher>, EngineError> {
        let key = (self.epoch(), *wrapped.fingerprint(), suite);
        let cipher = self.ciphers.get_or_insert_with(&key, || {
            let business_key = self.unwrap(wrapped)?;
            Ok::<_, EngineError>(Arc::new(suite_cipher(&business_key, wrapped, suite)?))
        })?;
        if self.epoch() != key.0 {
            // Sealed meanwhile: what was put in after the cache was cleared must not stay there.
            self.ciphers.remove(&key);
            return Err(EngineError::Sealed);
        }
        Ok(cipher)
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
        if self.with_root(|root| Ok(holds(root.secret().expose())))? {
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
    use crate::{KeyBinding, Purpose, Uid};

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
            let root = RootKey::generate().expect("random");
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
