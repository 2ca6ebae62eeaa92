//! A site with an engine, its data folder and its cards.

#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod now;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sealwire_engine::custody::{
    Card, CardError, Ceremony, CeremonyKind, Chip, Confirmed, Custodian, CustodyError, NewCard,
    Opened, Passphrase,
};
use sealwire_engine::{Engine, EngineConfig, State};
use tempfile::TempDir;

pub(crate) struct Site {
    pub(crate) folder: TempDir,
    pub(crate) engine: Arc<Engine>,
    pub(crate) custodian: Arc<Custodian>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("data")).expect("a folder");
        Self::over(folder, Chip::None)
    }

    pub(crate) fn over(folder: TempDir, chip: Chip) -> Self {
        Self::lapsing(folder, chip, Custodian::LAPSE)
    }

    pub(crate) fn lapsing(folder: TempDir, chip: Chip, lapse: Duration) -> Self {
        let engine = Engine::new(&EngineConfig::default(), || 0).expect("memory");
        let data = folder.path().join("data");
        let custodian = Custodian::new(engine.clone(), data, chip, lapse);
        Self { folder, engine, custodian }
    }

    /// Starts again, with what is on disk.
    pub(crate) fn restarted(self, chip: Chip) -> Self {
        Self::over(self.folder, chip)
    }

    pub(crate) fn made(threshold: u8, cards: u8) -> (Self, Vec<NewCard>) {
        let site = Self::new();
        let made = site.init(threshold, cards);
        (site, made)
    }

    /// Makes a root key and brings it into force.
    pub(crate) fn init(&self, threshold: u8, cards: u8) -> Vec<NewCard> {
        let mut init = self.custodian.begin(CeremonyKind::Init).expect("begun");
        let made = make(&mut init, threshold, cards);
        confirm(&mut init, &made[..usize::from(threshold)]);
        init.install().expect("in force");
        assert!(matches!(self.engine.state(), State::Open { .. }));
        made
    }

    /// Begins a ceremony, and shows a quorum.
    pub(crate) fn begin(&self, kind: CeremonyKind, cards: &[NewCard]) -> Ceremony {
        let mut ceremony = self.custodian.begin(kind).expect("begun");
        for card in cards {
            ceremony.show(&card.card, &card.passphrase).expect("taken");
        }
        ceremony
    }

    pub(crate) fn unseal(&self, card: &NewCard) -> Result<Opened, CustodyError> {
        self.custodian.unseal(&card.card, &card.passphrase)
    }

    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }
}

pub(crate) fn make(ceremony: &mut Ceremony, threshold: u8, cards: u8) -> Vec<NewCard> {
    let pins = (0..cards).map(|_| None).collect();
    ceremony.make(threshold, pins).expect("made")
}

pub(crate) fn confirm(ceremony: &mut Ceremony, cards: &[NewCard]) {
    let mut last = None;
    for new in cards {
        last = Some(ceremony.confirm(&new.card, &new.passphrase).expect("confirmed"));
    }
    assert!(matches!(last, Some(Confirmed::Ready { .. })));
}

pub(crate) fn is_open(opened: &Opened) -> bool {
    matches!(opened, Opened::Open { wrong, .. } if wrong.is_empty())
}

pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, CustodyError>) -> CardError {
    match result {
        Err(CustodyError::Card(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// A card whose share was changed by somebody who knows its passphrase.
pub(crate) fn forged(new: &NewCard) -> NewCard {
    use aes_gcm_siv::{AeadInOut, Aes256GcmSiv, KeyInit};
    let mut bytes = *new.card.bytes();
    let passphrase = new.passphrase.to_text();
    let password = passphrase.replace('-', "");
    let mut key = [0; 32];
    let params = argon2::Params::new(65_536, 3, 1, Some(32)).expect("sound");
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(password.as_bytes(), &bytes[53..69], &mut key)
        .expect("hashed");
    let cipher = Aes256GcmSiv::new_from_slice(&key).expect("a key");
    let (header, body) = bytes.split_at_mut(81);
    let nonce = aes_gcm_siv::Nonce::try_from(&header[69..81]).expect("12 bytes");
    let (share, tag) = body.split_at_mut(32);
    let found = aes_gcm_siv::Tag::try_from(&tag[..16]).expect("16 bytes");
    cipher.decrypt_inout_detached(&nonce, header, share.into(), &found).expect("opens");
    share[7] ^= 1;
    let made = cipher.encrypt_inout_detached(&nonce, header, share.into()).expect("seals");
    tag[..16].copy_from_slice(&made);
    let sum = sha256(&bytes[..129]);
    bytes[129..].copy_from_slice(&sum);
    let card = Card::parse(&bytes).expect("a sound card");
    NewCard { card, passphrase: Passphrase::parse(&passphrase).expect("parses") }
}

pub(crate) fn mode(path: &Path) -> u32 {
    std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).expect("metadata")) & 0o777
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}
