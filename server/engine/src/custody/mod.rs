//! Custody of the root key: key cards, the chip, and the ceremonies.
//!
//! The root key exists as shares on key cards (Shamir's scheme), and inside an open engine. A
//! *chip* may also seal it for the disk, so that a restart needs no custodian.

mod card;
mod chip;
mod custodian;
mod folder;
mod gathering;
mod passphrase;
mod shares;
mod socket;

pub use card::{CARD_LEN, Card, CardError, CardSet};
pub use chip::{Chip, ChipError};
pub use custodian::{Custodian, CustodyError, NewCard, Opened, Status};
pub use gathering::Progress;
pub use passphrase::{Passphrase, PassphraseError};
pub use socket::{CeremonyClient, CeremonyError, ShownCard, serve};
