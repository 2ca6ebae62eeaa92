//! `root.sealed`, byte by byte: `docs/card.md` has it in words.
//!
//! ```text
//!  0          8   9             25           37            37+n         69+n       85+n
//! +----------+---+-------------+------------+-------------+------------+----------+
//! | SEALROOT | f | root key id | nonce (12) | chip's part | root key   | tag (16) |
//! +----------+---+-------------+------------+-------------+------------+----------+
//! ```

use std::sync::Arc;

use super::{ChipError, pkcs11};
use crate::aead::{Cipher, Suite};
use crate::memory::Clear;
use crate::root::ClearRoot;
use crate::{EngineError, RootKey, RootKeyId, Secret, Vault, kdf};

const MAGIC: &[u8; 8] = b"SEALROOT";

/// Magic, format, root key id: what the chip's part is bound to.
const HEADER: usize = 25;
const NONCE: std::ops::Range<usize> = 25..37;

/// Which chip has sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Software,
    Pkcs11,
}

impl Format {
    const fn number(self) -> u8 {
        match self {
            Self::Software => 1,
            Self::Pkcs11 => 2,
        }
    }

    /// Bytes of the chip's part.
    const fn chip_len(self) -> usize {
        match self {
            Self::Software => 0,
            Self::Pkcs11 => pkcs11::LEN,
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Software => "sealwire software chip v1",
            Self::Pkcs11 => "sealwire pkcs11 chip v1",
        }
    }

    /// Where the sealed root key begins.
    const fn body(self) -> usize {
        NONCE.end + self.chip_len()
    }
}

/// The root key id that a sealed root key names.
pub(in crate::custody) fn sealed_root_of(sealed: &[u8]) -> Option<RootKeyId> {
    let id = sealed.strip_prefix(MAGIC)?.get(1..17)?;
    Some(RootKeyId::from_bytes(id.try_into().ok()?))
}

/// A `root.sealed` that lacks only the root key: what the chip does is done.
pub(in crate::custody) struct Seal {
    format: Format,
    root: RootKeyId,
    bytes: Vec<u8>,
    key: Secret<32>,
}

impl Seal {
    /// A seal for a root key, under the seal key that `seal_key` gives; it also fills the chip's part.
    pub(super) fn prepare(
        format: Format,
        root: RootKeyId,
        seal_key: impl FnOnce(&[u8], &mut [u8]) -> Result<Secret<32>, ChipError>,
    ) -> Result<Self, ChipError> {
        let mut bytes = vec![0; format.body() + 32 + 16];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = format.number();
        bytes[9..HEADER].copy_from_slice(&root.to_bytes());
        getrandom::fill(&mut bytes[NONCE]).map_err(EngineError::from)?;
        let (header, rest) = bytes.split_at_mut(HEADER);
        let key = seal_key(header, &mut rest[NONCE.len()..][..format.chip_len()])?;
        Ok(Self { format, root, bytes, key })
    }

    /// Seals the root key that it was prepared for.
    pub(in crate::custody) fn close(mut self, root: &RootKey) -> Result<Vec<u8>, EngineError> {
        if root.id() != self.root {
            return Err(EngineError::OtherRoot { found: root.id(), held: self.root });
        }
        let (bound, body) = self.bytes.split_at_mut(self.format.body());
        root.enter(|inside, root| {
            let mut secret = root.secret().copy(inside);
            let (sealed, tag) = body.split_at_mut(32);
            let cipher = cipher(self.format, &self.key, root.id())?;
            cipher.seal_in_place(&bound[NONCE], bound, secret.expose_mut(), tag)?;
            sealed.copy_from_slice(secret.expose());
            Ok(())
        })?;
        Ok(self.bytes)
    }
}

/// Opens a sealed root key into the vault, under the seal key that `seal_key` gives.
pub(super) fn open(
    format: Format,
    sealed: &[u8],
    vault: &Arc<Vault>,
    seal_key: impl FnOnce(&[u8], &[u8]) -> Result<Secret<32>, ChipError>,
) -> Result<RootKey, ChipError> {
    let whole = sealed.len() == format.body() + 32 + 16 && sealed[8] == format.number();
    let id = sealed_root_of(sealed).filter(|_| whole).ok_or(ChipError::DoesNotOpen)?;
    let (bound, body) = sealed.split_at(format.body());
    let seal_key = seal_key(&bound[..HEADER], &bound[NONCE.end..])?;
    let opened = vault.enter(|inside| {
        let mut secret = Clear::zeroed(inside);
        secret.expose_mut().copy_from_slice(&body[..32]);
        let cipher = cipher(format, &seal_key, id)?;
        cipher.open_in_place(&bound[NONCE], bound, secret.expose_mut(), &body[32..])?;
        RootKey::keep(vault, inside, &ClearRoot::new(secret))
    });
    match opened {
        Ok(root) if root.id() == id => Ok(root),
        Ok(_) | Err(EngineError::Aead(_)) => Err(ChipError::DoesNotOpen),
        Err(error) => Err(error.into()),
    }
}

fn cipher(format: Format, key: &Secret<32>, root: RootKeyId) -> Result<Cipher, EngineError> {
    let key: Secret<32> = kdf::derive(key.expose(), format.label(), &[&root.to_bytes()]);
    Ok(Cipher::new(Suite::Aes256GcmSiv, key.expose())?)
}
