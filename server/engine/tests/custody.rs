//! Cards, ceremonies and the software chip: every wrong combination is named, and opens nothing.

use std::path::Path;
use std::sync::Arc;

use sealwire_engine::custody::{
    CARD_LEN, Card, CardError, Chip, Custodian, CustodyError, NewCard, Opened, Passphrase, Progress,
};
use sealwire_engine::{Engine, EngineConfig, State};
use tempfile::TempDir;

struct Site {
    folder: TempDir,
    engine: Arc<Engine>,
    custodian: Custodian,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("data")).expect("a folder");
        Self::over(folder, Chip::None)
    }

    fn over(folder: TempDir, chip: Chip) -> Self {
        let engine = Engine::new(&EngineConfig::default(), || 0);
        let custodian = Custodian::new(engine.clone(), folder.path().join("data"), chip);
        Self { folder, engine, custodian }
    }

    /// Starts again, with what is on disk.
    fn restarted(self, chip: Chip) -> Self {
        Self::over(self.folder, chip)
    }

    fn made(threshold: u8, cards: u8) -> (Self, Vec<NewCard>) {
        let site = Self::new();
        let made = site.custodian.init(threshold, cards).expect("made");
        confirm(&site, &made[..usize::from(threshold)]);
        (site, made)
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }
}

fn confirm(site: &Site, cards: &[NewCard]) {
    for new in cards {
        site.custodian.confirm(&new.card, &new.passphrase).expect("confirmed");
    }
    assert!(matches!(site.engine.state(), State::Open { .. }));
}

fn refused(result: Result<Opened, CustodyError>) -> CardError {
    match result {
        Err(CustodyError::Card(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_quorum_opens_and_nothing_less_does() {
    let (site, cards) = Site::made(2, 3);
    for (a, b) in [(0, 1), (1, 2), (2, 0)] {
        site.custodian.seal();
        let first = site.custodian.unseal(&cards[a].card, &cards[a].passphrase).expect("taken");
        assert_eq!(first, Opened::Partly(Progress { have: 1, need: 2 }));
        assert_eq!(site.engine.state(), State::Sealed);
        let second = site.custodian.unseal(&cards[b].card, &cards[b].passphrase).expect("taken");
        assert!(matches!(second, Opened::Open(_)));
    }
}

#[test]
fn a_root_key_comes_into_force_only_when_its_cards_were_shown() {
    let site = Site::new();
    let cards = site.custodian.init(2, 2).expect("made");
    site.custodian.confirm(&cards[0].card, &cards[0].passphrase).expect("taken");
    assert_eq!(site.custodian.status().expect("status").root, None);
    let site = site.restarted(Chip::None);
    let late = site.custodian.confirm(&cards[1].card, &cards[1].passphrase);
    assert!(matches!(late, Err(CustodyError::NothingPending)));
    let late = site.custodian.unseal(&cards[1].card, &cards[1].passphrase);
    assert!(matches!(late, Err(CustodyError::NoRootKey)));
}

#[test]
fn a_root_key_is_never_made_twice() {
    let (site, _) = Site::made(2, 2);
    assert!(matches!(site.custodian.init(2, 2), Err(CustodyError::Exists(_))));
}

#[test]
fn impossible_thresholds_are_refused() {
    let site = Site::new();
    for (threshold, cards) in [(0, 3), (1, 3), (4, 3), (2, 17), (2, 1), (0, 0)] {
        let made = site.custodian.init(threshold, cards);
        assert!(
            matches!(made, Err(CustodyError::Card(CardError::Threshold))),
            "{threshold}/{cards}"
        );
    }
}

#[test]
fn a_repeated_card_is_named_and_the_progress_kept() {
    let (site, cards) = Site::made(3, 3);
    site.custodian.seal();
    let show = |n: usize| site.custodian.unseal(&cards[n].card, &cards[n].passphrase);
    show(0).expect("taken");
    assert_eq!(refused(show(0)), CardError::Repeated(1));
    assert_eq!(show(1).expect("taken"), Opened::Partly(Progress { have: 2, need: 3 }));
}

#[test]
fn a_wrong_passphrase_is_named_and_the_progress_kept() {
    let (site, cards) = Site::made(2, 2);
    site.custodian.seal();
    site.custodian.unseal(&cards[0].card, &cards[0].passphrase).expect("taken");
    let wrong = site.custodian.unseal(&cards[1].card, &cards[0].passphrase);
    assert_eq!(refused(wrong), CardError::WrongPassphrase { number: 2, of: 2 });
    let right = site.custodian.unseal(&cards[1].card, &cards[1].passphrase).expect("taken");
    assert!(matches!(right, Opened::Open(_)));
}

#[test]
fn cards_of_another_site_are_refused_by_their_root_key() {
    let (site, _) = Site::made(2, 2);
    let (_, foreign) = Site::made(2, 2);
    site.custodian.seal();
    for card in &foreign {
        let error = refused(site.custodian.unseal(&card.card, &card.passphrase));
        assert!(matches!(error, CardError::OtherRoot { .. }), "{error}");
    }
    assert_eq!(site.engine.state(), State::Sealed);
}

#[test]
fn a_card_of_another_set_is_refused_by_name() {
    let site = Site::new();
    let old = site.custodian.init(2, 2).expect("made");
    let new = site.custodian.init(2, 2).expect("made");
    let error = refused(site.custodian.confirm(&old[0].card, &old[0].passphrase));
    assert!(matches!(error, CardError::OtherRoot { number: 1, .. }), "{error}");
    confirm(&site, &new);
}

#[test]
fn a_damaged_card_is_told_from_a_wrong_passphrase() {
    let (_, cards) = Site::made(2, 2);
    let bytes = cards[0].card.bytes();
    for position in 0..CARD_LEN {
        let mut damaged = *bytes;
        damaged[position] ^= 1;
        let error = Card::parse(&damaged).expect_err("damaged");
        let expected = match position {
            0..8 => CardError::NotACard,
            8 => CardError::Format(0),
            _ => CardError::Damaged,
        };
        assert_eq!(error, expected, "byte {position}");
    }
    assert_eq!(Card::parse(&bytes[..CARD_LEN - 1]).expect_err("cut"), CardError::Damaged);
    assert_eq!(Card::parse(b"").expect_err("empty"), CardError::NotACard);
}

#[test]
fn a_forged_header_is_refused_before_any_memory_is_taken() {
    let (_, cards) = Site::made(2, 2);
    let forge = |position: usize, bytes: &[u8]| {
        let mut card = *cards[0].card.bytes();
        card[position..position + bytes.len()].copy_from_slice(bytes);
        let sum = sha256(&card[..129]);
        card[129..].copy_from_slice(&sum);
        Card::parse(&card)
    };
    let bounds = |result: Result<Card, CardError>| match result {
        Err(CardError::Bounds(what)) => what,
        other => panic!("{:?}", other.map(|card| card.number())),
    };
    assert_eq!(bounds(forge(44, &u32::MAX.to_be_bytes())), "Argon2id parameters");
    assert_eq!(bounds(forge(48, &u32::MAX.to_be_bytes())), "Argon2id parameters");
    assert_eq!(bounds(forge(52, &[0])), "Argon2id parameters");
    assert_eq!(bounds(forge(9, &[1])), "threshold");
    assert_eq!(bounds(forge(11, &[0])), "number");
    assert_eq!(bounds(forge(11, &[3])), "number");
    let renumbered = forge(11, &[2]).expect("a sound header");
    let passphrase = Passphrase::parse(&cards[0].passphrase.to_text()).expect("parses");
    let (site, _) = Site::made(2, 2);
    assert!(site.custodian.unseal(&renumbered, &passphrase).is_err());
}

#[test]
fn the_software_chip_opens_at_start_and_the_cards_when_it_fails() {
    let site = Site::new();
    let key_file = site.folder.path().join("chip.key");
    let chip = Chip::Software { key_file: key_file.clone() };
    let site = site.restarted(chip.clone());
    let cards = site.custodian.init(2, 2).expect("made");
    confirm(&site, &cards);

    let site = site.restarted(chip.clone());
    assert!(site.custodian.start().expect("starts"));
    assert!(matches!(site.engine.state(), State::Open { .. }));

    std::fs::remove_file(&key_file).expect("removed");
    let site = site.restarted(chip.clone());
    let error = site.custodian.start().expect_err("the key file is gone");
    assert!(error.to_string().contains("chip.key"), "{error}");
    assert_eq!(site.engine.state(), State::Sealed);
    for card in &cards {
        site.custodian.unseal(&card.card, &card.passphrase).expect("taken");
    }
    assert!(matches!(site.engine.state(), State::Open { .. }));
}

#[test]
fn the_cards_open_the_engine_also_when_the_chip_cannot_seal() {
    let site = Site::new();
    let key_file = site.folder.path().join("chip.key");
    let site = site.restarted(Chip::Software { key_file: key_file.clone() });
    let cards = site.custodian.init(2, 2).expect("made");
    confirm(&site, &cards);
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&key_file, readable).expect("changed");
    let site = site.restarted(Chip::Software { key_file });
    assert!(site.custodian.start().expect_err("others may read it").to_string().contains("chmod"));
    for card in &cards {
        site.custodian.unseal(&card.card, &card.passphrase).expect("taken");
    }
    assert!(matches!(site.engine.state(), State::Open { .. }));
}

#[test]
fn the_software_chip_refuses_what_is_not_safe() {
    let site = Site::new();
    let inside = Chip::Software { key_file: site.data().join("chip.key") };
    let site = site.restarted(inside);
    let cards = site.custodian.init(2, 2).expect("made");
    site.custodian.confirm(&cards[0].card, &cards[0].passphrase).expect("taken");
    let error = site.custodian.confirm(&cards[1].card, &cards[1].passphrase).expect_err("inside");
    assert!(error.to_string().contains("must not lie in the data folder"), "{error}");
    assert_eq!(site.custodian.status().expect("status").root, None);
}

#[test]
fn a_changed_sealed_root_key_does_not_open() {
    let site = Site::new();
    let chip = Chip::Software { key_file: site.folder.path().join("chip.key") };
    let site = site.restarted(chip.clone());
    let cards = site.custodian.init(2, 2).expect("made");
    confirm(&site, &cards);
    let path = site.data().join("root.sealed");
    let sealed = std::fs::read(&path).expect("sealed");
    for position in [0, 8, 20, 30, 50, sealed.len() - 1] {
        let mut changed = sealed.clone();
        changed[position] ^= 1;
        std::fs::write(&path, &changed).expect("written");
        let engine = Engine::new(&EngineConfig::default(), || 0);
        let custodian = Custodian::new(engine.clone(), site.data(), chip.clone());
        assert!(custodian.start().is_err(), "byte {position}");
        assert_eq!(engine.state(), State::Sealed);
    }
}

#[test]
fn the_data_folder_holds_neither_root_key_nor_passphrase() {
    let site = Site::new();
    let chip = Chip::Software { key_file: site.folder.path().join("chip.key") };
    let site = site.restarted(chip);
    let cards = site.custodian.init(2, 2).expect("made");
    confirm(&site, &cards);
    let mut haystack = Vec::new();
    for entry in std::fs::read_dir(site.data()).expect("readable") {
        haystack.extend(std::fs::read(entry.expect("entry").path()).expect("readable"));
    }
    assert!(haystack.len() > 80);
    assert!(!site.engine.finds_in_clear(&haystack, &[]).expect("open"));
    for card in &cards {
        let text = card.passphrase.to_text();
        assert!(!haystack.windows(text.len()).any(|window| window == text.as_bytes()));
    }
    assert_eq!(mode(&site.data().join("root.sealed")), 0o600);
    assert_eq!(mode(&site.folder.path().join("chip.key")), 0o600);
}

fn mode(path: &Path) -> u32 {
    std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).expect("metadata")) & 0o777
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}
