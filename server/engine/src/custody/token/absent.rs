//! What stands in for a token's session in a binary that was built without PKCS#11.

use zeroize::Zeroizing;

use super::{Token, TokenError};
use crate::Secret;

pub(super) enum Mode {
    Read,
    Write,
}

/// There is none.
pub(super) enum Session {}

pub(super) fn with<T>(
    _: &Token,
    _: Mode,
    _: impl FnOnce(&Session) -> Result<T, TokenError>,
) -> Result<T, TokenError> {
    Err(TokenError::NotBuilt)
}

impl Session {
    pub(super) fn read_card(&self) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        match *self {}
    }

    pub(super) fn has_card(&self) -> Result<bool, TokenError> {
        match *self {}
    }

    pub(super) fn write_card(&self, _: &[u8]) -> Result<(), TokenError> {
        match *self {}
    }

    pub(super) fn remove_card(&self) -> Result<(), TokenError> {
        match *self {}
    }

    pub(super) fn wrap(
        &self,
        _: &[u8; 12],
        _: &[u8],
        _: &Secret<32>,
    ) -> Result<[u8; 48], TokenError> {
        match *self {}
    }

    pub(super) fn unwrap(
        &self,
        _: &[u8; 12],
        _: &[u8],
        _: &[u8; 48],
    ) -> Result<Secret<32>, TokenError> {
        match *self {}
    }
}
