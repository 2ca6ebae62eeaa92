//! Cards, unsealing and the software chip: every wrong combination is named, and opens nothing.

mod support;

use std::time::Duration;

use sealwire_engine::custody::{
    CARD_LEN, Card, CardError, CeremonyKind, Chip, Custodian, Opened, Passphrase, Progress,
};
use sealwire_engine::{Engine, EngineConfig, State};
use support::{Site, forged, is_open, mode, refused, sha256};

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
    let (site, cards) = Site::made(2, 2);
    site.custodian.seal();
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
    let error = refused(site.custodian.unseal(&renumbered, &passphrase));
    assert_eq!(error, CardError::WrongPassphrase { number: 2, of: 2 });
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
    // Before a card is made, not after.
    let mut init = site.custodian.begin(CeremonyKind::Init).expect("begun");
    let refused = init.make(2, vec![None, None]).map(drop);
    let error = refused.expect_err("inside");
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
