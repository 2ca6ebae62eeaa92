//! The key card: one share of a root key, in 161 bytes. `docs/card.md` has it byte by byte.

use std::sync::{Arc, Mutex, PoisonError};

use argon2::{Algorithm, Argon2, Params, Version};
use sha2::{Digest, Sha256};

use super::Passphrase;
use crate::aead::{Cipher, Suite, TAG_LEN};
use crate::memory::{Clear, Inside, Kept};
use crate::{EngineError, RootKeyId, Secret, Vault};

const MAGIC: &[u8; 8] = b"SEALCARD";
const FORMAT: u8 = 1;
const HEADER_LEN: usize = 81;
const SALT: std::ops::Range<usize> = 53..69;
const NONCE: std::ops::Range<usize> = 69..81;
const SHARE: std::ops::Range<usize> = 81..113;
const TAG: std::ops::Range<usize> = 113..129;

/// Bytes of a key card.
pub const CARD_LEN: usize = 161;

/// Most cards in a set.
const MAX_CARDS: u8 = 16;

/// What a card's Argon2id parameters may be: checked before anything is allocated.
const MEMORY_KIB: std::ops::RangeInclusive<u32> = 8 * 1024..=1024 * 1024;
const PASSES: std::ops::RangeInclusive<u32> = 1..=16;
const LANES: std::ops::RangeInclusive<u8> = 1..=4;

/// Memory in KiB, passes and lanes for a generated passphrase: RFC 9106, section 4, second
/// recommendation, with one lane.
const GENERATED: (u32, u32, u8) = (64 * 1024, 3, 1);

/// Argon2id takes up to 1 GiB: whoever shows many cards at once waits.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// For a PIN of one's own, which can be guessed: about five times the work.
const OWN: (u32, u32, u8) = (256 * 1024, 4, 1);

/// What is wrong with a card, or with its passphrase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// The bytes are not a key card.
    #[error("this is not a key card: name the file or folder that holds one")]
    NotACard,
    /// The card's format is newer than this program.
    #[error("this card has format {0}, this program knows format 1: use a newer program")]
    Format(u8),
    /// The checksum does not match.
    #[error("this card is damaged: its checksum does not match; read it again or use another card")]
    Damaged,
    /// The header says what no card may say.
    #[error(
        "this card's {0} is out of bounds: it was not made by Sealwire, or was forged; use another card"
    )]
    Bounds(&'static str),
    /// The passphrase does not open the card.
    #[error("wrong passphrase for card {number} of {of}: try again; what was shown before is kept")]
    WrongPassphrase {
        /// The card's number.
        number: u8,
        /// The cards in its set.
        of: u8,
    },
    /// The machine did not do its part.
    #[error("card {number} could not be opened: {problem}")]
    Machine {
        /// The card's number.
        number: u8,
        /// What is missing.
        problem: String,
    },
    /// The card belongs to another set.
    #[error(
        "card {number} belongs to card set {found}, this ceremony has begun with set {expected}: show a card of \
         that set, or begin again (an unsealing is forgotten when it lapses, or by `sealwire root seal`)"
    )]
    Foreign {
        /// The card's number.
        number: u8,
        /// The set that the ceremony has begun with.
        expected: String,
        /// The card's set.
        found: String,
    },
    /// The card is of another root key than this engine's.
    #[error(
        "card {number} is of root key {found}, this engine is pinned to root key {pinned}: it takes only cards \
         of that one"
    )]
    OtherRoot {
        /// The card's number.
        number: u8,
        /// The card's root key id.
        found: RootKeyId,
        /// The engine's.
        pinned: RootKeyId,
    },
    /// The card was shown twice.
    #[error("card {0} was already shown in this ceremony: show another one")]
    Repeated(u8),
    /// The shares shown so far do not give the root key that the cards name.
    #[error(
        "the cards shown do not give the root key that they name: at least one share is wrong, and with \
         exactly the quorum it cannot be told which; what was shown is kept: show another card of the set"
    )]
    Mismatch,
    /// Shares of new cards do not fit the others.
    #[error("the shares of new cards {0} do not fit the others: they were changed; begin again")]
    WrongShares(String),
    /// Every card was shown, and no quorum of them gives the root key.
    #[error(
        "all cards of the set were shown, and no quorum of them gives the root key that they name: more \
         shares are wrong than can be spared; everything shown was forgotten"
    )]
    Hopeless,
    /// The set's numbers are not possible.
    #[error("a set has 2 to 16 cards, and a threshold from 2 to the number of cards")]
    Threshold,
}

/// What all cards of a set have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardSet {
    /// The set's name: random.
    pub id: [u8; 16],
    /// The root key that the set gives.
    pub root: RootKeyId,
    /// How many cards give the root key.
    pub threshold: u8,
    /// How many cards there are.
    pub cards: u8,
}

impl CardSet {
    /// A new set for a root key.
    ///
    /// # Errors
    /// [`CardError::Threshold`] unless 2 <= threshold <= cards <= 16.
    pub(super) fn new(id: [u8; 16], root: RootKeyId, k: u8, n: u8) -> Result<Self, CardError> {
        if (2..=n).contains(&k) && n <= MAX_CARDS {
            Ok(Self { id, root, threshold: k, cards: n })
        } else {
            Err(CardError::Threshold)
        }
    }

    /// The set's name in text.
    #[must_use]
    pub fn name(&self) -> String {
        hex::encode(self.id)
    }
}

/// A share that was opened: the number of its card, and 32 bytes of polynomial values in the vault.
pub(super) struct Share {
    pub(super) number: u8,
    pub(super) y: Kept,
}

/// A share in clear.
pub(super) struct ClearShare<'a> {
    pub(super) number: u8,
    pub(super) y: Clear<'a>,
}

impl Share {
    pub(super) fn clear<'a>(&self, inside: &'a Inside) -> Result<ClearShare<'a>, EngineError> {
        Ok(ClearShare { number: self.number, y: self.y.open(inside)? })
    }
}

/// A card to be: everything but the share. The slow part, Argon2id, is done.
pub(super) struct Blank {
    card: Card,
    key: Secret<32>,
}

impl Blank {
    /// # Errors
    /// [`EngineError::Random`]; [`EngineError::Kdf`] when Argon2id does not get its memory.
    pub(super) fn new(
        set: CardSet,
        number: u8,
        passphrase: &Passphrase,
    ) -> Result<Self, EngineError> {
        let (memory, passes, lanes) = if passphrase.is_generated() { GENERATED } else { OWN };
        let mut bytes = [0; CARD_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&[FORMAT, set.threshold, set.cards, number]);
        bytes[12..28].copy_from_slice(&set.id);
        bytes[28..44].copy_from_slice(&set.root.to_bytes());
        bytes[44..48].copy_from_slice(&memory.to_be_bytes());
        bytes[48..52].copy_from_slice(&passes.to_be_bytes());
        bytes[52] = lanes;
        getrandom::fill(&mut bytes[SALT])?;
        getrandom::fill(&mut bytes[NONCE])?;
        let params = bounded(memory, passes, lanes).expect("both are within the bounds");
        let card = Card { bytes, set, number, params };
        let key = card.key(passphrase)?;
        Ok(Self { card, key })
    }

    /// Seals the share into the card.
    pub(super) fn seal(mut self, share: &ClearShare<'_>) -> Result<Card, EngineError> {
        let bytes = &mut self.card.bytes;
        let (header, rest) = bytes.split_at_mut(HEADER_LEN);
        let (body, rest) = rest.split_at_mut(SHARE.len());
        body.copy_from_slice(share.y.expose());
        let cipher = Cipher::new(Suite::Aes256GcmSiv, self.key.expose())?;
        cipher.seal_in_place(&header[NONCE], header, body, &mut rest[..TAG_LEN])?;
        let checksum = Sha256::digest(&bytes[..TAG.end]);
        bytes[TAG.end..].copy_from_slice(&checksum);
        Ok(self.card)
    }
}

/// A key card whose header is sound and whose checksum matches.
#[derive(Debug, Clone)]
pub struct Card {
    bytes: [u8; CARD_LEN],
    set: CardSet,
    number: u8,
    params: Params,
}

impl Card {
    /// Reads a card. Nothing is decrypted yet.
    ///
    /// # Errors
    /// [`CardError::NotACard`], [`CardError::Format`], [`CardError::Damaged`], [`CardError::Bounds`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CardError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(CardError::NotACard)?;
        match rest.first() {
            Some(&FORMAT) => {}
            Some(&format) => return Err(CardError::Format(format)),
            None => return Err(CardError::Damaged),
        }
        let bytes: [u8; CARD_LEN] = bytes.try_into().map_err(|_| CardError::Damaged)?;
        if Sha256::digest(&bytes[..TAG.end]).as_slice() != &bytes[TAG.end..] {
            return Err(CardError::Damaged);
        }
        let [threshold, cards, number] = [bytes[9], bytes[10], bytes[11]];
        let root = RootKeyId::from_bytes(take(&bytes, 28));
        let set = CardSet::new(take(&bytes, 12), root, threshold, cards)
            .map_err(|_| CardError::Bounds("threshold"))?;
        if number == 0 || number > cards {
            return Err(CardError::Bounds("number"));
        }
        let memory = u32::from_be_bytes(take(&bytes, 44));
        let passes = u32::from_be_bytes(take(&bytes, 48));
        let params = bounded(memory, passes, bytes[52])?;
        Ok(Self { bytes, set, number, params })
    }

    /// Opens the share into the vault. Takes about a tenth of a second, and 64 MiB, by design.
    pub(super) fn open(
        &self,
        passphrase: &Passphrase,
        vault: &Arc<Vault>,
    ) -> Result<Share, CardError> {
        let number = self.number;
        let machine =
            |error: EngineError| CardError::Machine { number, problem: error.to_string() };
        let key = self.key(passphrase).map_err(machine)?;
        let header = &self.bytes[..HEADER_LEN];
        let opened = vault.enter(|inside| {
            let cipher = Cipher::new(Suite::Aes256GcmSiv, key.expose())?;
            let mut y = Clear::zeroed(inside);
            y.expose_mut().copy_from_slice(&self.bytes[SHARE]);
            cipher.open_in_place(&header[NONCE], header, y.expose_mut(), &self.bytes[TAG])?;
            vault.keep(inside, y.expose())
        });
        match opened {
            Ok(y) => Ok(Share { number, y }),
            Err(EngineError::Aead(_)) => {
                Err(CardError::WrongPassphrase { number, of: self.set.cards })
            }
            Err(error) => Err(machine(error)),
        }
    }

    /// The bytes to store.
    #[must_use]
    pub fn bytes(&self) -> &[u8; CARD_LEN] {
        &self.bytes
    }

    /// The set that the card belongs to.
    #[must_use]
    pub fn set(&self) -> &CardSet {
        &self.set
    }

    /// The card's number in its set, from 1.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.number
    }

    /// The key that seals the share.
    fn key(&self, passphrase: &Passphrase) -> Result<Secret<32>, EngineError> {
        const { assert!(TAG.end - TAG.start == TAG_LEN) };
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = Secret::<32>::zeroed();
        Argon2::new(Algorithm::Argon2id, Version::V0x13, self.params.clone())
            .hash_password_into(passphrase.bytes(), &self.bytes[SALT], key.expose_mut())
            .map_err(|error| EngineError::Kdf(error.to_string()))?;
        Ok(key)
    }
}

fn take<const N: usize>(bytes: &[u8; CARD_LEN], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the header's fields are within the card")
}

fn bounded(memory: u32, passes: u32, lanes: u8) -> Result<Params, CardError> {
    let sound = MEMORY_KIB.contains(&memory) && PASSES.contains(&passes) && LANES.contains(&lanes);
    if !sound {
        return Err(CardError::Bounds("Argon2id parameters"));
    }
    Params::new(memory, passes, u32::from(lanes), Some(32))
        .map_err(|_| CardError::Bounds("Argon2id parameters"))
}
