//! The PKCS#11 chip: a random seal key, wrapped by an AES key that cannot leave its token.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::{ChipError, software};
use crate::custody::{Token, TokenUri};
use crate::{EngineError, Secret};

const PIN_FILE: &str = "PIN file";

/// Where the PKCS#11 chip's key is, and how to get at it.
#[derive(Debug, Clone)]
pub struct TokenChip {
    /// The token, and the key's label.
    pub token: TokenUri,
    /// The library that speaks to the token.
    pub module: PathBuf,
    /// The file that holds the token's PIN, mode 0600.
    pub pin_file: PathBuf,
}

impl TokenChip {
    /// The token, with the PIN of its file.
    pub(super) fn token(&self) -> Result<Token, ChipError> {
        let pin = software::read_private(PIN_FILE, &self.pin_file)?;
        let text = std::str::from_utf8(&pin).map_err(|_| ChipError::Unsafe {
            what: PIN_FILE,
            path: self.pin_file.clone(),
            problem: "it is not text",
        })?;
        let pin = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
        let (token, module) = (self.token.clone(), self.module.clone());
        Ok(Token::new(token, Some(module), pin)?.unattended())
    }
}

/// Bytes of the chip's part of `root.sealed`: nonce, wrapped seal key, tag.
pub(super) const LEN: usize = 12 + 48;

/// Makes a seal key, and fills the chip's part with its wrapped form.
pub(super) fn make_seal_key(
    token: &Token,
    header: &[u8],
    chip: &mut [u8],
) -> Result<Secret<32>, ChipError> {
    let key = Secret::<32>::generate()?;
    let mut nonce = [0; 12];
    getrandom::fill(&mut nonce).map_err(EngineError::from)?;
    let wrapped = token.wrap(&nonce, header, &key)?;
    chip[..12].copy_from_slice(&nonce);
    chip[12..].copy_from_slice(&wrapped);
    // A seal that the token would not open again is worth nothing, and better known now.
    seal_key(token, header, chip)?;
    Ok(key)
}

/// The seal key that the chip's part holds.
pub(super) fn seal_key(token: &Token, header: &[u8], chip: &[u8]) -> Result<Secret<32>, ChipError> {
    let (nonce, wrapped) = chip.split_first_chunk().ok_or(ChipError::DoesNotOpen)?;
    let wrapped = wrapped.try_into().map_err(|_| ChipError::DoesNotOpen)?;
    Ok(token.unwrap(nonce, header, wrapped)?)
}
