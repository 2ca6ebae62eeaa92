//! `sealwire root …`: the ceremonies.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sealwire_engine::custody::Place;

#[derive(Subcommand)]
pub(crate) enum Root {
    /// Make the root key, and its key cards.
    #[command(
        after_help = "Examples:\n  three sticks, all three needed:\n    sealwire root init --card file:/media/usb1/ \
                      --card file:/media/usb2/ --card file:/media/usb3/\n  five, any three of them:\n    sealwire \
                      root init --threshold 3 --card /media/a --card /media/b --card /media/c --card /media/d \
                      --card /media/e\n  tokens:\n    sealwire root init --pkcs11-module /usr/lib/softhsm/libsofthsm2.so \
                      --card pkcs11:token=card-1 --card pkcs11:token=card-2\n\nAll cards are written, read back and \
                      shown to the engine before the root key comes into force. The passphrase of a card in a file \
                      is shown once."
    )]
    Init {
        /// Where a card goes: file:FOLDER/ or a path (a file sealwire.card is made in a folder), or
        /// pkcs11:token=LABEL. Once for each.
        #[arg(long = "card", required = true, value_name = "URI")]
        cards: Vec<Place>,
        /// A file with the PIN of a card that needs one (a token's; with --weak-pin, every card's), in the
        /// order of those cards. Asked for unless given.
        #[arg(long = "pin-file", value_name = "FILE")]
        pins: Vec<PathBuf>,
        #[command(flatten)]
        new: NewCards,
        #[command(flatten)]
        shared: Shared,
    },
    /// Show cards until the engine opens. Custodians may come one after another.
    #[command(
        after_help = "Examples:\n  sealwire root unseal --card /media/usb1\n  sealwire root unseal --card file:/media/usb1/ \
                      --pin-file pin1 --card pkcs11:token=card-2 --pin-file pin2\n  two engines at once:\n    sealwire root \
                      unseal --engine /run/a/engine.sock --engine /run/b/engine.sock --card /media/usb1"
    )]
    Unseal {
        #[command(flatten)]
        current: CurrentCards,
        #[command(flatten)]
        shared: Shared,
    },
    /// Make an engine without a root key hold that of these cards: a further engine of a site, or one
    /// whose data folder was lost.
    #[command(
        after_help = "Example:\n  sealwire root adopt --engine /run/b/engine.sock --card /media/usb1 --card /media/usb2 \
                      --card /media/usb3"
    )]
    Adopt {
        #[command(flatten)]
        current: CurrentCards,
        #[command(flatten)]
        shared: Shared,
    },
    /// Sealed or open, which root key, which cards, which chip, since when.
    #[command(after_help = "Example:\n  sealwire root status --json")]
    Status {
        /// Print JSON: an object; with several engines, an array of them.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        engines: Engines,
    },
    /// Seal the engine: nothing opens until cards are shown again. With a chip, until the next start.
    #[command(after_help = "Example:\n  sealwire root seal --transcript 2026-11-24-seal.txt")]
    Seal {
        /// Write down what was done, without secrets, into this new file.
        #[arg(long, value_name = "FILE")]
        transcript: Option<PathBuf>,
        #[command(flatten)]
        engines: Engines,
    },
    /// Prove that cards give this engine's root key. Changes nothing, and opens nothing.
    #[command(
        after_help = "Example:\n  sealwire root verify --card /media/usb1 --card /media/usb2 --card /media/usb3\n\nMore \
                      cards than the quorum are checked too, each by itself."
    )]
    Verify {
        #[command(flatten)]
        current: CurrentCards,
        #[command(flatten)]
        shared: Shared,
    },
    /// Make a root-officer with the key cards, when no operator can: passwords lost, everybody gone.
    #[command(
        after_help = "The manager says in words what is to be done; show a quorum of cards to one engine only if that is what \
                      you want.\n\nExample:\n  sealwire root break-glass carol --card /media/usb1 --card /media/usb2 \
                      --card /media/usb3"
    )]
    BreakGlass {
        /// The name to sign in with.
        name: String,
        /// A file with the password, 12 characters at least; asked for unless given.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        #[command(flatten)]
        socket: super::ManagerSocket,
        #[command(flatten)]
        current: CurrentCards,
        #[command(flatten)]
        shared: Shared,
    },
    /// New cards for the same root key: another number of them, another threshold, other custodians.
    #[command(
        after_help = "Example (from 3 of 3 to 3 of 5):\n  sealwire root reshare --card /media/old1 --card /media/old2 \
                      --card /media/old3 --threshold 3 --new-card /media/a --new-card /media/b --new-card /media/c \
                      --new-card /media/d --new-card /media/e\n\nThe old cards still open the root key: destroy them. If \
                      one was lost or stolen, `sealwire root rotate` instead."
    )]
    Reshare {
        #[command(flatten)]
        current: CurrentCards,
        #[command(flatten)]
        places: NewPlaces,
        #[command(flatten)]
        new: NewCards,
        #[command(flatten)]
        shared: Shared,
    },
    /// A new root key and new cards: everything that is wrapped is wrapped anew, while ENC and DEC go on.
    #[command(
        after_help = "Examples:\n  sealwire root rotate --card /media/old1 --card /media/old2 --card /media/old3 \
                      --new-card /media/new1 --new-card /media/new2 --new-card /media/new3\n  go on after a crash, and see how far it is:\n    \
                      sealwire root rotate --resume\n  an engine that was left out:\n    sealwire root rotate --join \
                      --engine /run/c/engine.sock --card /media/old1 … --new-card /media/new1 …\n\nName every engine of the site (--engine). Afterwards the old cards \
                      open nothing any more, but what was wrapped before lies in backups still. The business keys \
                      stay: after a stolen quorum, rotate those too (`sealwire key rotate`) and re-encrypt."
    )]
    Rotate(Rotate),
}

/// What `root rotate` takes.
#[derive(Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    pub(crate) current: RotateCards,
    #[command(flatten)]
    pub(crate) new: NewCards,
    /// Go on with a rotation that was cut off, and watch it to its end.
    #[arg(long, conflicts_with_all = ["cards", "new_cards"])]
    pub(crate) resume: bool,
    /// Bring along an engine that was not named in the rotation: the new cards exist already, and are
    /// shown after a quorum of the old ones.
    #[arg(long, conflicts_with_all = ["resume", "threshold", "weak_pin"])]
    pub(crate) join: bool,
    /// With --resume: end it although some rows do not open and cannot be moved.
    #[arg(long, requires = "resume")]
    pub(crate) leave_behind: bool,
    /// The manager's socket: it leads the rotation, and tells how far it is.
    #[arg(
        long = "socket",
        env = "SEALWIRE_SOCKET",
        value_name = "SOCKET",
        required_unless_present = "join"
    )]
    pub(crate) manager: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) shared: Shared,
}

/// The cards that exist.
#[derive(Args)]
pub(crate) struct CurrentCards {
    /// A card: file:FOLDER/, a path, or pkcs11:token=LABEL. Once for each.
    #[arg(long = "card", required = true, value_name = "URI")]
    pub(crate) cards: Vec<Place>,
    /// A file with the passphrase or PIN of a card, in the order of the cards. Asked for unless given.
    #[arg(long = "pin-file", value_name = "FILE")]
    pub(crate) pins: Vec<PathBuf>,
}

/// The current cards and the new ones of a rotation, unless it is only watched.
#[derive(Args)]
pub(crate) struct RotateCards {
    /// A current card: file:FOLDER/, a path, or pkcs11:token=LABEL. Once for each of a quorum.
    #[arg(long = "card", required_unless_present = "resume", value_name = "URI")]
    pub(crate) cards: Vec<Place>,
    /// A file with the passphrase or PIN of a current card, in their order. Asked for unless given.
    #[arg(long = "pin-file", value_name = "FILE")]
    pub(crate) pins: Vec<PathBuf>,
    /// Where a new card goes. Once for each.
    #[arg(long = "new-card", required_unless_present = "resume", value_name = "URI")]
    pub(crate) new_cards: Vec<Place>,
    /// A file with the PIN of a new card that needs one, in their order. Asked for unless given.
    #[arg(long = "new-pin-file", value_name = "FILE")]
    pub(crate) new_pins: Vec<PathBuf>,
}

/// Where new cards go.
#[derive(Args)]
pub(crate) struct NewPlaces {
    /// Where a new card goes. Once for each.
    #[arg(long = "new-card", required = true, value_name = "URI")]
    pub(crate) new_cards: Vec<Place>,
    /// A file with the PIN of a new card that needs one, in their order. Asked for unless given.
    #[arg(long = "new-pin-file", value_name = "FILE")]
    pub(crate) new_pins: Vec<PathBuf>,
}

/// How new cards are made.
#[derive(Args)]
pub(crate) struct NewCards {
    /// How many cards give the root key, from 2. All of them unless given: then one lost card, and the
    /// machine lost with it, loses every message.
    #[arg(long, value_name = "K")]
    pub(crate) threshold: Option<u8>,
    /// Put cards in files under PINs of one's own instead of generated passphrases. They can be guessed by
    /// whoever gets hold of the card.
    #[arg(long)]
    pub(crate) weak_pin: bool,
}

/// What every ceremony takes.
#[derive(Args)]
pub(crate) struct Shared {
    #[command(flatten)]
    pub(crate) tokens: Tokens,
    /// Write down what was done, without secrets, into this new file, for the officers to sign.
    #[arg(long, value_name = "FILE")]
    pub(crate) transcript: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) engines: Engines,
}

#[derive(Args)]
pub(crate) struct Tokens {
    /// The tokens' PKCS#11 library, unless a card's URI names one (module-path).
    #[arg(long = "pkcs11-module", env = "SEALWIRE_PKCS11_MODULE", value_name = "LIBRARY")]
    pub(crate) module: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Engines {
    /// An engine's ceremony socket. Once for each engine; separated by colons in the variable.
    #[arg(
        long = "engine",
        alias = "ceremony-socket",
        env = "SEALWIRE_CEREMONY_SOCKET",
        value_delimiter = ':',
        value_name = "SOCKET"
    )]
    pub(crate) sockets: Vec<PathBuf>,
}
