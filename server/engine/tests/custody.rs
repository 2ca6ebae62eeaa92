//! Cards, ceremonies and the software chip: every wrong combination is named, and opens nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sealwire_engine::custody::{
    CARD_LEN, Card, CardError, Ceremony, CeremonyKind, Chip, Confirmed, Custodian, CustodyError,
    NewCard, Opened, Passphrase, Progress, Shown,
};
use sealwire_engine::{
    Engine, EngineConfig, EngineError, KeyBinding, ManagerRole, Purpose, RotationRole, State, Uid,
};
use tempfile::TempDir;

struct Site {
    folder: TempDir,
    engine: Arc<Engine>,
    custodian: Arc<Custodian>,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("data")).expect("a folder");
        Self::over(folder, Chip::None)
    }

    fn over(folder: TempDir, chip: Chip) -> Self {
        Self::lapsing(folder, chip, Custodian::LAPSE)
    }

    fn lapsing(folder: TempDir, chip: Chip, lapse: Duration) -> Self {
        let engine = Engine::new(&EngineConfig::default(), || 0).expect("memory");
        let data = folder.path().join("data");
        let custodian = Custodian::new(engine.clone(), data, chip, lapse);
        Self { folder, engine, custodian }
    }

    /// Starts again, with what is on disk.
    fn restarted(self, chip: Chip) -> Self {
        Self::over(self.folder, chip)
    }

    fn made(threshold: u8, cards: u8) -> (Self, Vec<NewCard>) {
        let site = Self::new();
        let made = site.init(threshold, cards);
        (site, made)
    }

    /// Makes a root key and brings it into force.
    fn init(&self, threshold: u8, cards: u8) -> Vec<NewCard> {
        let mut init = self.custodian.begin(CeremonyKind::Init).expect("begun");
        let made = make(&mut init, threshold, cards);
        confirm(&mut init, &made[..usize::from(threshold)]);
        init.install().expect("in force");
        assert!(matches!(self.engine.state(), State::Open { .. }));
        made
    }

    /// Begins a ceremony, and shows a quorum.
    fn begin(&self, kind: CeremonyKind, cards: &[NewCard]) -> Ceremony {
        let mut ceremony = self.custodian.begin(kind).expect("begun");
        for card in cards {
            ceremony.show(&card.card, &card.passphrase).expect("taken");
        }
        ceremony
    }

    fn unseal(&self, card: &NewCard) -> Result<Opened, CustodyError> {
        self.custodian.unseal(&card.card, &card.passphrase)
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }
}

fn make(ceremony: &mut Ceremony, threshold: u8, cards: u8) -> Vec<NewCard> {
    let pins = (0..cards).map(|_| None).collect();
    ceremony.make(threshold, pins).expect("made")
}

fn confirm(ceremony: &mut Ceremony, cards: &[NewCard]) {
    let mut last = None;
    for new in cards {
        last = Some(ceremony.confirm(&new.card, &new.passphrase).expect("confirmed"));
    }
    assert!(matches!(last, Some(Confirmed::Ready(_))));
}

fn is_open(opened: &Opened) -> bool {
    matches!(opened, Opened::Open { wrong, .. } if wrong.is_empty())
}

fn refused<T: std::fmt::Debug>(result: Result<T, CustodyError>) -> CardError {
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
        assert!(is_open(&second));
    }
}

#[test]
fn a_root_key_comes_into_force_only_when_its_cards_were_shown() {
    let site = Site::new();
    let mut init = site.custodian.begin(CeremonyKind::Init).expect("begun");
    assert!(matches!(init.install(), Err(CustodyError::OutOfTurn(_))));
    let cards = make(&mut init, 2, 2);
    init.confirm(&cards[0].card, &cards[0].passphrase).expect("taken");
    assert!(matches!(init.install(), Err(CustodyError::OutOfTurn(_))));
    assert_eq!(site.custodian.status().expect("status").root, None);
    let late = site.unseal(&cards[1]);
    assert!(matches!(late, Err(CustodyError::NoRootKey)));
    init.confirm(&cards[1].card, &cards[1].passphrase).expect("taken");
    assert_eq!(site.engine.state(), State::Sealed);
    init.install().expect("in force");
    assert!(matches!(site.engine.state(), State::Open { .. }));
}

#[test]
fn a_root_key_is_never_made_twice() {
    let site = Site::new();
    let mut late = site.custodian.begin(CeremonyKind::Init).expect("begun");
    let cards = make(&mut late, 2, 2);
    confirm(&mut late, &cards);
    site.init(2, 2);
    assert!(matches!(site.custodian.begin(CeremonyKind::Init), Err(CustodyError::Exists(_))));
    assert!(matches!(late.install(), Err(CustodyError::Exists(_))));
}

#[test]
fn impossible_thresholds_are_refused() {
    let site = Site::new();
    let mut init = site.custodian.begin(CeremonyKind::Init).expect("begun");
    for (threshold, cards) in [(0, 3), (1, 3), (4, 3), (2, 17), (2, 1), (0, 0)] {
        let made = init.make(threshold, (0..cards).map(|_| None).collect());
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
    assert!(is_open(&right));
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
    let mut init = site.custodian.begin(CeremonyKind::Init).expect("begun");
    let old = make(&mut init, 2, 2);
    let new = make(&mut init, 2, 2);
    let error = refused(init.confirm(&old[0].card, &old[0].passphrase));
    assert!(matches!(error, CardError::Foreign { number: 1, .. }), "{error}");
    confirm(&mut init, &new);
    init.install().expect("in force");
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
    let cards = site.init(2, 2);

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
    let cards = site.init(2, 2);
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
    let mut init = site.custodian.begin(CeremonyKind::Init).expect("begun");
    let cards = make(&mut init, 2, 2);
    confirm(&mut init, &cards);
    let error = init.install().expect_err("inside");
    assert!(error.to_string().contains("must not lie in the data folder"), "{error}");
    assert_eq!(site.custodian.status().expect("status").root, None);
}

#[test]
fn a_changed_sealed_root_key_does_not_open() {
    let site = Site::new();
    let chip = Chip::Software { key_file: site.folder.path().join("chip.key") };
    let site = site.restarted(chip.clone());
    site.init(2, 2);
    let path = site.data().join("root.sealed");
    let sealed = std::fs::read(&path).expect("sealed");
    for position in [0, 8, 20, 30, 50, sealed.len() - 1] {
        let mut changed = sealed.clone();
        changed[position] ^= 1;
        std::fs::write(&path, &changed).expect("written");
        let engine = Engine::new(&EngineConfig::default(), || 0).expect("memory");
        let (data, chip) = (site.data(), chip.clone());
        let custodian = Custodian::new(engine.clone(), data, chip, Custodian::LAPSE);
        assert!(custodian.start().is_err(), "byte {position}");
        assert_eq!(engine.state(), State::Sealed);
    }
}

#[test]
fn the_data_folder_holds_neither_root_key_nor_passphrase() {
    let site = Site::new();
    let chip = Chip::Software { key_file: site.folder.path().join("chip.key") };
    let site = site.restarted(chip);
    let cards = site.init(2, 2);
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

#[test]
fn every_quorum_opens_and_nothing_less_for_each_threshold() {
    for (threshold, count) in [(2_u8, 2_u8), (2, 4), (3, 4), (4, 4)] {
        let (site, cards) = Site::made(threshold, count);
        for chosen in 1_u32..1 << count {
            let size = u8::try_from(chosen.count_ones()).expect("small");
            if size > threshold {
                continue;
            }
            site.custodian.seal();
            let shown = (0..count).filter(|card| chosen >> card & 1 == 1);
            let opened: Vec<Opened> =
                shown.map(|card| site.unseal(&cards[usize::from(card)]).expect("taken")).collect();
            let open = opened.iter().any(is_open);
            assert_eq!(open, size == threshold, "{chosen:b} of {threshold}/{count}");
        }
    }
}

#[test]
fn cards_that_nobody_goes_on_with_lapse() {
    let (site, cards) = Site::made(2, 3);
    site.custodian.seal();
    let site = Site::lapsing(site.folder, Chip::None, Duration::from_millis(300));
    site.unseal(&cards[0]).expect("taken");
    assert!(site.custodian.status().expect("status").progress.is_some());
    std::thread::sleep(Duration::from_millis(350));
    site.custodian.expire();
    assert_eq!(site.custodian.status().expect("status").progress, None);
    let again = site.unseal(&cards[1]).expect("taken");
    assert_eq!(again, Opened::Partly(Progress { have: 1, need: 2 }));
}

/// A card whose share was changed by somebody who knows its passphrase.
fn forged(new: &NewCard) -> NewCard {
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

#[test]
fn a_wrong_share_cannot_be_told_with_the_quorum_and_is_named_with_one_card_more() {
    let (site, cards) = Site::made(2, 3);
    site.custodian.seal();
    let bad = forged(&cards[1]);
    site.unseal(&cards[0]).expect("taken");
    let error = refused(site.unseal(&bad));
    assert_eq!(error, CardError::Mismatch);
    assert!(error.to_string().contains("cannot be told which"), "{error}");
    let progress = site.custodian.status().expect("status").progress;
    assert_eq!(progress, Some(Progress { have: 2, need: 2 }));
    match site.unseal(&cards[2]).expect("opens") {
        Opened::Open { wrong, .. } => assert_eq!(wrong, [2]),
        other @ Opened::Partly(_) => panic!("{other:?}"),
    }
}

#[test]
fn when_all_cards_are_shown_and_none_fit_everything_is_forgotten() {
    let (site, cards) = Site::made(2, 2);
    site.custodian.seal();
    let bad = forged(&cards[1]);
    site.unseal(&cards[0]).expect("taken");
    assert_eq!(refused(site.unseal(&bad)), CardError::Hopeless);
    assert_eq!(site.custodian.status().expect("status").progress, None);
    site.unseal(&cards[0]).expect("taken");
    assert!(is_open(&site.unseal(&cards[1]).expect("opens")));
}

#[test]
fn cards_that_agree_with_each_other_but_are_not_ours_open_nothing() {
    let (site, _) = Site::made(2, 2);
    let (other, foreign) = Site::made(2, 2);
    let pin = std::fs::read(site.data().join("root.pin")).expect("a pin");
    drop(other);
    site.custodian.seal();
    for card in &foreign {
        let error = refused(site.unseal(card));
        assert!(matches!(error, CardError::OtherRoot { .. }), "{error}");
    }
    for kind in [CeremonyKind::Verify, CeremonyKind::Reshare, CeremonyKind::Rotate] {
        let mut ceremony = site.custodian.begin(kind).expect("begun");
        let error = refused(ceremony.show(&foreign[0].card, &foreign[0].passphrase));
        assert!(matches!(error, CardError::OtherRoot { .. }), "{error}");
    }
    assert_eq!(std::fs::read(site.data().join("root.pin")).expect("a pin"), pin);
    assert_eq!(site.engine.state(), State::Sealed);
}

#[test]
fn verify_says_which_cards_are_good_and_changes_nothing() {
    let (site, cards) = Site::made(2, 3);
    let pin = std::fs::read(site.data().join("root.pin")).expect("a pin");
    for sealed in [false, true] {
        if sealed {
            site.custodian.seal();
        }
        let before = site.engine.state();
        let mut verify = site.custodian.begin(CeremonyKind::Verify).expect("begun");
        let bad = forged(&cards[2]);
        verify.show(&cards[0].card, &cards[0].passphrase).expect("taken");
        let shown = verify.show(&cards[1].card, &cards[1].passphrase).expect("proven");
        assert!(
            matches!(&shown, Shown::Proven { good, wrong, .. } if *good == [1, 2] && wrong.is_empty())
        );
        let shown = verify.show(&bad.card, &bad.passphrase).expect("proven");
        assert!(
            matches!(&shown, Shown::Proven { good, wrong, .. } if *good == [1, 2] && *wrong == [3])
        );
        assert!(matches!(verify.make(2, vec![None, None]), Err(CustodyError::OutOfTurn(_))));
        assert!(verify.install().is_err());
        assert_eq!(site.engine.state(), before);
    }
    assert_eq!(std::fs::read(site.data().join("root.pin")).expect("a pin"), pin);
}

#[test]
fn cards_shown_for_one_ceremony_never_count_for_another() {
    let (site, cards) = Site::made(2, 2);
    // The engine is open, and a quorum was shown to one ceremony: neither counts for the next one.
    let _verify = site.begin(CeremonyKind::Verify, &cards);
    for kind in [CeremonyKind::Reshare, CeremonyKind::Rotate] {
        let mut ceremony = site.begin(kind, &cards[..1]);
        assert!(matches!(ceremony.make(2, vec![None, None]), Err(CustodyError::OutOfTurn(_))));
        assert!(matches!(ceremony.follow(), Err(CustodyError::OutOfTurn(_))));
    }
    site.custodian.seal();
    let first = site.unseal(&cards[0]).expect("taken");
    assert_eq!(first, Opened::Partly(Progress { have: 1, need: 2 }));
}

#[test]
fn reshared_cards_open_and_so_do_the_old_ones() {
    let (site, old) = Site::made(2, 2);
    let root = site.custodian.status().expect("status").root;
    let mut reshare = site.begin(CeremonyKind::Reshare, &old);
    let new = make(&mut reshare, 3, 5);
    confirm(&mut reshare, &new[..3]);
    reshare.install().expect("in force");
    let status = site.custodian.status().expect("status");
    assert_eq!(status.root, root);
    let set = status.set.expect("a set");
    assert_eq!((set.threshold, set.cards), (3, 5));
    for cards in [&new[2..], &old[..]] {
        site.custodian.seal();
        let opened: Vec<Opened> =
            cards.iter().map(|card| site.unseal(card).expect("taken")).collect();
        assert!(is_open(opened.last().expect("shown")));
    }
    site.custodian.seal();
    site.unseal(&new[0]).expect("taken");
    assert!(matches!(refused(site.unseal(&old[0])), CardError::Foreign { .. }));
}

#[test]
fn a_rotated_root_key_opens_with_the_new_cards_and_carries_the_old_one_until_it_is_forgotten() {
    let site = Site::new();
    let chip = Chip::Software { key_file: site.folder.path().join("chip.key") };
    let site = site.restarted(chip.clone());
    let old = site.init(2, 2);
    let manager = ManagerRole::new(site.engine.clone());
    let binding = |index| KeyBinding {
        purpose: Purpose::BusinessKey,
        uid: Uid::generate().expect("random"),
        index,
        version: 1,
        name: "chat".into(),
    };
    let before = manager.genkey(binding(1)).expect("a key");
    let mut rotate = site.begin(CeremonyKind::Rotate, &old);
    let new = make(&mut rotate, 2, 3);
    confirm(&mut rotate, &new[..2]);
    let root = rotate.install().expect("in force");
    let again = site.custodian.begin(CeremonyKind::Rotate);
    assert!(matches!(again, Err(CustodyError::Rotating(_))));

    // After a crash, the chip or the new cards alone give both root keys.
    for by_chip in [true, false] {
        let engine = Engine::new(&EngineConfig::default(), || 0).expect("memory");
        let chip = if by_chip { chip.clone() } else { Chip::None };
        let custodian = Custodian::new(engine.clone(), site.data(), chip, Custodian::LAPSE);
        if by_chip {
            assert!(custodian.start().expect("opens"));
        } else {
            for card in &new[1..] {
                custodian.unseal(&card.card, &card.passphrase).expect("taken");
            }
        }
        assert_eq!(engine.state(), State::Open { root });
        let rotation = RotationRole::new(custodian.clone());
        assert_eq!(rotation.previous(), Some(before.root()));
        let moved = rotation.rewrap(&before).expect("opens").expect("it was elsewhere");
        assert_eq!(moved.root(), root);
        assert!(rotation.rewrap(&moved).expect("opens").is_none());
    }

    let site = site.restarted(Chip::None);
    for card in &new[..2] {
        site.unseal(card).expect("taken");
    }
    let rotation = RotationRole::new(site.custodian.clone());
    rotation.forget_previous().expect("forgotten");
    assert!(matches!(rotation.rewrap(&before), Err(EngineError::OtherRoot { .. })));
    site.custodian.seal();
    let error = refused(site.unseal(&old[0]));
    assert!(matches!(error, CardError::OtherRoot { .. }), "{error}");
    for card in &new[1..] {
        site.unseal(card).expect("taken");
    }
    assert_eq!(rotation.previous(), None);
}

#[test]
fn a_card_under_a_pin_of_ones_own_opens_with_it() {
    let site = Site::new();
    let mut init = site.custodian.begin(CeremonyKind::Init).expect("begun");
    let pins = ["314159", "Tr0ub4dor-3"].map(|pin| Some(Passphrase::parse(pin).expect("a PIN")));
    let cards = init.make(2, pins.into()).expect("made");
    confirm(&mut init, &cards);
    init.install().expect("in force");
    site.custodian.seal();
    let wrong = Passphrase::parse("314158").expect("a PIN");
    let error = refused(site.custodian.unseal(&cards[0].card, &wrong));
    assert_eq!(error, CardError::WrongPassphrase { number: 1, of: 2 });
    site.unseal(&cards[0]).expect("taken");
    assert!(is_open(&site.unseal(&cards[1]).expect("opens")));
}
