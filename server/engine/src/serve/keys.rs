//! The wrapped keys that a connection has used lately, found by their very bytes: what a wrapped key is
//! called in the engine's caches is a hash over all of it, and costs more than sealing a message.

use sealwire_protocol::BodyError;

use crate::wire::message::read_key;
use crate::{Purpose, WrappedKey};

/// Keys that are kept. Each has one place, by the last byte of its tag and that before.
const PLACES: usize = 1024;

/// See the module.
pub(super) struct Keys {
    places: Vec<Option<(Box<[u8]>, WrappedKey)>>,
}

impl Keys {
    pub(super) fn new() -> Self {
        Self { places: Vec::new() }
    }

    /// A business key from its bytes.
    #[inline]
    pub(super) fn get(&mut self, raw: &[u8]) -> Result<&WrappedKey, BodyError> {
        if self.places.is_empty() {
            self.places.resize_with(PLACES, || None);
        }
        let end = raw.last_chunk::<2>().ok_or(BodyError::Truncated("key"))?;
        let place = &mut self.places[usize::from(u16::from_be_bytes(*end)) % PLACES];
        let there = place.as_ref().is_some_and(|(known, _)| **known == *raw);
        if !there {
            *place = Some((raw.into(), read_key(raw, Purpose::BusinessKey)?));
        }
        Ok(&place.as_ref().expect("the place was filled above").1)
    }
}
