//! Custody of the root key: key cards, the chip, and the ceremonies.
//!
//! The root key exists as shares on key cards (Shamir's scheme), and inside an open engine. A
//! *chip* may also seal it for the disk, so that a restart needs no custodian.
//!
//! | module | what it does |
//! |---|---|
//! | `card`, `passphrase`, `shares` | one share on one card; Shamir's scheme |
//! | `place`, `token` | where a card is: a file, or an object on a PKCS#11 token |
//! | `gathering` | the cards shown so far, and the root key that a quorum gives |
//! | `custodian` | the pin, unsealing card by card, the chip at start |
//! | `ceremony` | init, verify, reshare, rotate: a fresh quorum for each |
//! | `journal` | what officers have done, for the audit |
//! | `status` | what officers are told |
//! | `chip` | `none`, `software`, `pkcs11`; `root.sealed` |
//! | `socket` | the unix socket on which officers show their cards |

mod card;
mod ceremony;
mod chip;
mod custodian;
mod error;
mod folder;
mod gathering;
mod journal;
mod passphrase;
mod place;
mod shares;
mod socket;
mod status;
mod token;

pub use card::{CARD_LEN, Card, CardError, CardSet};
pub use ceremony::{Ceremony, CeremonyKind, Confirmed, NewCard, Shown};
pub use chip::{Chip, ChipError, TokenChip};
pub use custodian::Custodian;
pub use error::CustodyError;
pub use folder::{PinnedSet, write as write_whole};
pub use gathering::Progress;
pub use journal::{Ceremonies, CeremonyEntry, CeremonyStep};
pub use passphrase::{Passphrase, PassphraseError};
pub use place::{Place, PlaceError, TokenUri};
pub use socket::{CeremonyClient, CeremonyError, CeremonySession, ShownCard, serve};
pub use status::{Opened, Status};
pub use token::{Token, TokenError};
