//! The ceremony socket: a unix socket of mode 0600, on which officers show their cards to the engine
//! and to nobody else. JSON lines, an answer for each request; a ceremony lives as long as its
//! connection.

mod client;
mod server;

pub use client::{CeremonyClient, CeremonyError, CeremonySession};
pub use server::serve;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{CeremonyKind, Confirmed, Opened, Shown, Status};
use crate::RootKeyId;

/// Longest line in either direction: sixteen cards and their passphrases fit many times.
const MAX_LINE: u64 = 64 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Request {
    Status,
    Seal,
    Unseal(PresentedCard),
    /// Begins a ceremony on this connection; one that had begun is forgotten.
    Begin {
        ceremony: CeremonyKind,
    },
    /// Shows a current card.
    Show(PresentedCard),
    /// Makes a card for each PIN, or under a generated passphrase where there is none.
    Make {
        threshold: u8,
        pins: Vec<Option<Zeroizing<String>>>,
    },
    /// Goes on with new cards that another engine has made.
    Follow,
    /// Shows a new card.
    Confirm(PresentedCard),
    Install,
}

/// A card and what opens it.
#[derive(Serialize, Deserialize)]
struct PresentedCard {
    /// Base64.
    card: String,
    passphrase: Zeroizing<String>,
}

impl PresentedCard {
    fn new(card: &[u8], passphrase: &str) -> Self {
        Self { card: STANDARD.encode(card), passphrase: Zeroizing::new(passphrase.to_owned()) }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Response {
    Status(Status),
    Sealed,
    Unsealed(Opened),
    Begun,
    Shown(Shown),
    Cards(Vec<ShownCard>),
    Following,
    Confirmed(Confirmed),
    Installed(RootKeyId),
    Refused(String),
}

/// A new card on its way to where it will be kept.
#[derive(Serialize, Deserialize)]
pub struct ShownCard {
    /// The card's number.
    pub number: u8,
    /// The card's bytes, base64.
    pub card: String,
    /// The passphrase, to be shown once.
    pub passphrase: Zeroizing<String>,
}

impl ShownCard {
    /// The card's bytes.
    ///
    /// # Errors
    /// [`CeremonyError::Answer`].
    pub fn bytes(&self) -> Result<Vec<u8>, CeremonyError> {
        STANDARD.decode(&self.card).map_err(|_| CeremonyError::Answer)
    }
}
