//! The AEAD suites: numbers, names, lengths.

use std::{fmt, str::FromStr};

/// An AEAD suite. The number stands in the envelope and never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Suite {
    /// AES-256-GCM, NIST SP 800-38D, 96-bit random nonce.
    Aes256Gcm = 1,
    /// XAES-256-GCM, C2SP, 192-bit random nonce. The default.
    Xaes256Gcm = 2,
    /// AES-256-GCM-SIV, RFC 8452, 96-bit random nonce, resists nonce misuse.
    Aes256GcmSiv = 3,
    /// ChaCha20-Poly1305, RFC 8439, 96-bit random nonce.
    ChaCha20Poly1305 = 4,
    /// XChaCha20-Poly1305, draft-irtf-cfrg-xchacha-03, 192-bit random nonce.
    XChaCha20Poly1305 = 5,
    /// SM4-GCM, RFC 8998, 96-bit random nonce.
    Sm4Gcm = 6,
}

/// A text that names no suite.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no suite is called `{0}`; the suites are: {list}", list = Suite::names())]
pub struct UnknownSuite(pub String);

impl Suite {
    /// Every suite, in the order of the numbers.
    pub const ALL: [Self; 6] = [
        Self::Aes256Gcm,
        Self::Xaes256Gcm,
        Self::Aes256GcmSiv,
        Self::ChaCha20Poly1305,
        Self::XChaCha20Poly1305,
        Self::Sm4Gcm,
    ];

    /// The suite of a key that was made without naming one.
    pub const DEFAULT: Self = Self::Xaes256Gcm;

    /// Longest tag of any suite, in bytes.
    pub const MAX_TAG_LEN: usize = 16;

    /// Longest nonce of any suite, in bytes.
    pub const MAX_NONCE_LEN: usize = 24;

    /// Messages that one key version may seal under a suite with a random nonce of 96 bits: 2^32 (NIST
    /// SP 800-38D, section 8.3). `None` where nonces are so long that nobody gets there.
    #[must_use]
    pub const fn message_limit(self) -> Option<u64> {
        match self.nonce_len() {
            12 => Some(1 << 32),
            _ => None,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The suite behind a number on the wire.
    #[must_use]
    #[inline]
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            1 => Some(Self::Aes256Gcm),
            2 => Some(Self::Xaes256Gcm),
            3 => Some(Self::Aes256GcmSiv),
            4 => Some(Self::ChaCha20Poly1305),
            5 => Some(Self::XChaCha20Poly1305),
            6 => Some(Self::Sm4Gcm),
            _ => None,
        }
    }

    /// The name in configuration, on the command line and in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes-256-gcm",
            Self::Xaes256Gcm => "xaes-256-gcm",
            Self::Aes256GcmSiv => "aes-256-gcm-siv",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
            Self::XChaCha20Poly1305 => "xchacha20-poly1305",
            Self::Sm4Gcm => "sm4-gcm",
        }
    }

    /// Length of the key, in bytes.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Sm4Gcm => 16,
            _ => 32,
        }
    }

    /// Length of the nonce, in bytes.
    #[must_use]
    #[inline]
    pub const fn nonce_len(self) -> usize {
        match self {
            Self::Xaes256Gcm | Self::XChaCha20Poly1305 => 24,
            _ => 12,
        }
    }

    /// Length of the tag, in bytes.
    #[must_use]
    #[inline]
    pub const fn tag_len(self) -> usize {
        16
    }

    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Suite {
    type Err = UnknownSuite;

    fn from_str(name: &str) -> Result<Self, UnknownSuite> {
        Self::ALL
            .into_iter()
            .find(|suite| suite.name() == name)
            .ok_or_else(|| UnknownSuite(name.to_owned()))
    }
}
