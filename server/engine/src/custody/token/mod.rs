//! A token behind PKCS#11: it keeps a card as a private data object, or a chip's key.
//!
//! The token's module is loaded into this process, for the length of one piece of work. It sees a card
//! and its passphrase, or the key that seals `root.sealed`; never the root key.
#![cfg_attr(not(feature = "pkcs11"), allow(dead_code, reason = "the session would use it"))]

#[cfg(feature = "pkcs11")]
mod session;

#[cfg(not(feature = "pkcs11"))]
#[path = "absent.rs"]
mod session;

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::TokenUri;
use crate::Secret;

/// Label of a card's object, unless its URI names another.
const CARD_LABEL: &str = "sealwire card";

/// Label of a chip's key, unless its URI names another.
const CHIP_LABEL: &str = "sealwire chip";

/// Why a token did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// No library was named.
    #[error(
        "token {0}: name the token's PKCS#11 library (--pkcs11-module, or module-path in the URI)"
    )]
    NoModule(String),
    /// A PIN stands in the URI.
    #[error(
        "a PIN does not stand in a URI, where every process of the machine reads it: change the PIN, and use \
         pin-source or --pin-file"
    )]
    PinInUri,
    /// The library does not load.
    #[error("PKCS#11 library {path}: {problem}; name the library of the token's maker")]
    Module {
        /// The library.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
    /// No such token is plugged in.
    #[error("token {0} is not there: plug it in, or see `pkcs11-tool --list-token-slots`")]
    Absent(String),
    /// More than one token fits.
    #[error("token {0}: more than one fits; name its serial number too")]
    Ambiguous(String),
    /// The PIN is wrong.
    #[error("token {uri}: wrong PIN: try again{left}")]
    WrongPin {
        /// The token.
        uri: String,
        /// What the token says of the tries that are left.
        left: &'static str,
    },
    /// The token has locked itself.
    #[error(
        "token {0} is locked after too many wrong PINs: its issuer can unlock it with the SO PIN"
    )]
    Locked(String),
    /// One more wrong PIN locks the token, and nobody is there to type it.
    #[error(
        "token {0}: one more wrong PIN locks it, so it is not tried without a person; log in once with \
         the right PIN to reset the count"
    )]
    LastTry(String),
    /// The object is not there.
    #[error("token {uri} holds no {what}: is it the right token, and its object=… the right one?")]
    NoObject {
        /// The token.
        uri: String,
        /// What was looked for.
        what: &'static str,
    },
    /// There is one already.
    #[error(
        "token {0} holds a card under this name already; it is not overwritten: name another object=…"
    )]
    Exists(String),
    /// The chip's key can leave the token, or was made outside.
    #[error(
        "token {0}: the chip's key can be taken out of the token, or was made outside it; remove it, and the \
         token makes one"
    )]
    Extractable(String),
    /// What the token gave back is not what it was given.
    #[error(
        "token {0}: what was written does not read back; remove the object, and use another token"
    )]
    ReadBack(String),
    /// Another error of PKCS#11.
    #[error("token {uri}: {doing}: {problem}; see the documentation of the token's maker")]
    Other {
        /// The token.
        uri: String,
        /// What was tried.
        doing: &'static str,
        /// The token's answer.
        problem: String,
    },
    /// The binary was built without tokens.
    #[error("this binary was built without PKCS#11 (feature `pkcs11`)")]
    NotBuilt,
}

/// Who answers for a wrong PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Typed {
    /// A person, who can count.
    ByPerson,
    /// A file, read again and again by a server that restarts.
    FromFile,
}

/// A token, the library that speaks to it, and its PIN. No Debug: the PIN is in it.
pub struct Token {
    uri: TokenUri,
    module: PathBuf,
    pin: Zeroizing<String>,
    typed: Typed,
}

impl Token {
    /// A token that a person has given the PIN of. `module` is the library unless the URI names one.
    ///
    /// # Errors
    /// [`TokenError::NoModule`], [`TokenError::PinInUri`]. Whether the token is there shows at the first use.
    pub fn new(
        uri: TokenUri,
        module: Option<PathBuf>,
        pin: Zeroizing<String>,
    ) -> Result<Self, TokenError> {
        if uri.holds_pin() {
            return Err(TokenError::PinInUri);
        }
        let module = uri.module_path.clone().or(module);
        let module = module.ok_or_else(|| TokenError::NoModule(uri.to_string()))?;
        Ok(Self { uri, module, pin, typed: Typed::ByPerson })
    }

    /// The same token, when its PIN comes from a file: the last try before it locks is not made.
    pub(super) fn unattended(self) -> Self {
        Self { typed: Typed::FromFile, ..self }
    }

    /// Reads the card: `docs/card.md` says what its object holds.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn read_card(&self) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        session::with(self, session::Mode::Read, |session| session.read_card())
    }

    /// Writes a card, and reads it back in a session of its own.
    ///
    /// # Errors
    /// [`TokenError::Exists`] when the token holds a card under this name.
    pub fn write_card(&self, bytes: &[u8]) -> Result<(), TokenError> {
        session::with(self, session::Mode::Write, |session| session.write_card(bytes))?;
        if self.read_card()?.as_slice() == bytes {
            Ok(())
        } else {
            Err(TokenError::ReadBack(self.uri.to_string()))
        }
    }

    /// Whether the token holds a card under this name.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn has_card(&self) -> Result<bool, TokenError> {
        session::with(self, session::Mode::Read, |session| session.has_card())
    }

    /// Removes the card, after a ceremony that did not end.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn remove_card(&self) -> Result<(), TokenError> {
        session::with(self, session::Mode::Write, |session| session.remove_card())
    }

    /// Encrypts 32 bytes with the chip's key, AES-256-GCM: the ciphertext followed by its tag. The key
    /// is made when there is none.
    pub(super) fn wrap(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        secret: &Secret<32>,
    ) -> Result<[u8; 48], TokenError> {
        session::with(self, session::Mode::Write, |session| session.wrap(nonce, aad, secret))
    }

    /// Decrypts what [`Token::wrap`] has encrypted.
    pub(super) fn unwrap(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        wrapped: &[u8; 48],
    ) -> Result<Secret<32>, TokenError> {
        session::with(self, session::Mode::Read, |session| session.unwrap(nonce, aad, wrapped))
    }

    fn card_label(&self) -> &str {
        self.uri.object.as_deref().unwrap_or(CARD_LABEL)
    }

    fn chip_label(&self) -> &str {
        self.uri.object.as_deref().unwrap_or(CHIP_LABEL)
    }
}
