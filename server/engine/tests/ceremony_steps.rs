//! Init, verify, reshare, rotate: each with a fresh quorum of its own.

mod support;

use sealwire_engine::custody::{
    CardError, CeremonyKind, Chip, Confirmed, Custodian, CustodyError, Opened, Passphrase,
    Progress, Shown,
};
use sealwire_engine::{
    Engine, EngineConfig, EngineError, KeyBinding, ManagerRole, Purpose, RotationRole, State, Uid,
};
use support::now::Now;
use support::{Site, confirm, forged, is_open, make, refused};

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
    let before = manager.genkey(binding(1)).now().expect("a key");
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
        assert_eq!(rotation.roots(), Some((root, Some(before.root()))));
        let moved = rotation.rewrap(&before).now().expect("opens").expect("it was elsewhere");
        assert_eq!(moved.root(), root);
        assert!(rotation.rewrap(&moved).now().expect("opens").is_none());
    }

    let site = site.restarted(Chip::None);
    for card in &new[..2] {
        site.unseal(card).expect("taken");
    }
    let rotation = RotationRole::new(site.custodian.clone());
    let kept = rotation.wrapped_previous().now().expect("held");
    assert!(rotation.forget_previous(root, before.root()).now().is_err(), "not these two");
    rotation.forget_previous(before.root(), root).now().expect("forgotten");
    // And does not come back, whoever brings it.
    let again = rotation.admit_previous(before.root(), kept.blob()).now();
    assert!(matches!(again, Err(CustodyError::Forgotten(_))), "{again:?}");
    assert!(matches!(rotation.rewrap(&before).now(), Err(EngineError::OtherRoot { .. })));
    site.custodian.seal();
    let error = refused(site.unseal(&old[0]));
    assert!(matches!(error, CardError::OtherRoot { .. }), "{error}");
    for card in &new[1..] {
        site.unseal(card).expect("taken");
    }
    assert_eq!(rotation.roots(), Some((root, None)));
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
fn a_ceremony_is_not_installed_over_another_that_was_faster() {
    let (site, cards) = Site::made(2, 2);
    let mut slow = site.begin(CeremonyKind::Rotate, &cards);
    let slow_cards = make(&mut slow, 2, 2);
    confirm(&mut slow, &slow_cards);
    let mut reshare = site.begin(CeremonyKind::Reshare, &cards);
    let reshared = make(&mut reshare, 2, 2);
    confirm(&mut reshare, &reshared);

    let mut fast = site.begin(CeremonyKind::Rotate, &cards);
    let new = make(&mut fast, 2, 2);
    confirm(&mut fast, &new);
    let root = fast.install().expect("in force");
    let rotation = RotationRole::new(site.custodian.clone());
    let (_, old) = rotation.roots().expect("open");
    rotation.forget_previous(old.expect("rotating"), root).now().expect("over");
    let pin = std::fs::read(site.data().join("root.pin")).expect("a pin");
    for late in [&mut slow, &mut reshare] {
        assert!(matches!(late.install(), Err(CustodyError::OutOfTurn(_))));
    }
    assert_eq!(std::fs::read(site.data().join("root.pin")).expect("a pin"), pin);
    assert_eq!(site.engine.state(), State::Open { root });
}

#[test]
fn an_engine_that_is_sealed_in_the_midst_is_not_opened_by_the_ceremony() {
    let (site, cards) = Site::made(2, 2);
    let mut rotate = site.begin(CeremonyKind::Rotate, &cards);
    let new = make(&mut rotate, 2, 2);
    confirm(&mut rotate, &new);
    site.custodian.seal();
    assert!(matches!(rotate.install(), Err(CustodyError::OutOfTurn(_))));
    assert_eq!(site.engine.state(), State::Sealed);
}

#[test]
fn a_ceremony_lapses_with_its_quorum() {
    let (site, cards) = Site::made(2, 2);
    let site = Site::lapsing(site.folder, Chip::None, std::time::Duration::from_millis(900));
    let mut reshare = site.begin(CeremonyKind::Reshare, &cards);
    std::thread::sleep(std::time::Duration::from_millis(950));
    assert!(matches!(reshare.make(2, vec![None, None]), Err(CustodyError::OutOfTurn(_))));
    assert!(matches!(reshare.follow(), Err(CustodyError::OutOfTurn(_))));
}

#[test]
fn a_root_key_is_not_made_over_a_sealed_one_whose_pin_is_lost() {
    let site = Site::new();
    let chip = Chip::Software { key_file: site.folder.path().join("chip.key") };
    let site = site.restarted(chip.clone());
    let cards = site.init(2, 2);
    std::fs::remove_file(site.data().join("root.pin")).expect("removed");
    let site = site.restarted(chip);
    let mut init = site.custodian.begin(CeremonyKind::Init).expect("begun");
    let made = init.make(2, vec![None, None]);
    assert!(matches!(made, Err(CustodyError::Unpinned(_))), "not over what is there");
    // Its cards bring it back.
    init.follow().expect("adopting");
    confirm(&mut init, &cards);
    init.install().expect("in force");
    assert!(matches!(site.engine.state(), State::Open { .. }));
}

#[test]
fn a_damaged_root_key_of_before_keeps_nothing_shut() {
    let (site, cards) = Site::made(2, 2);
    let mut rotate = site.begin(CeremonyKind::Rotate, &cards);
    let new = make(&mut rotate, 2, 2);
    confirm(&mut rotate, &new);
    let root = rotate.install().expect("in force");
    let kept = RotationRole::new(site.custodian.clone()).wrapped_previous().now().expect("held");
    let path = site.data().join("root.pin");
    let pin = std::fs::read_to_string(&path).expect("a pin");
    let mut pin: serde_json::Value = serde_json::from_str(&pin).expect("JSON");
    pin["previous"]["wrapped"] = "AAAA".into();
    std::fs::write(&path, pin.to_string()).expect("written");
    let site = site.restarted(Chip::None);
    for card in &new {
        site.unseal(card).expect("taken");
    }
    let rotation = RotationRole::new(site.custodian.clone());
    assert_eq!(rotation.roots(), Some((root, None)));
    let old = cards[0].card.set().root;
    rotation.admit_previous(old, kept.blob()).now().expect("the manager has another copy");
    assert_eq!(rotation.roots(), Some((root, Some(old))));
}

#[test]
fn a_root_key_that_was_left_behind_is_not_rotated_back_in() {
    let (site, old) = Site::made(2, 2);
    let mut rotate = site.begin(CeremonyKind::Rotate, &old);
    let new = make(&mut rotate, 2, 2);
    confirm(&mut rotate, &new);
    let root = rotate.install().expect("in force");
    let rotation = RotationRole::new(site.custodian.clone());
    rotation.forget_previous(old[0].card.set().root, root).now().expect("over");
    // Old and new cards mixed up, or a stolen old quorum.
    let mut back = site.begin(CeremonyKind::Rotate, &new);
    back.follow().expect("following");
    let refused = back.confirm(&old[0].card, &old[0].passphrase);
    assert!(matches!(refused, Err(CustodyError::Forgotten(_))), "{refused:?}");
}

#[test]
fn a_dead_chip_keeps_back_neither_reshare_nor_adopt_but_is_told_before_cards_are_made() {
    let site = Site::new();
    let key_file = site.folder.path().join("chip.key");
    let chip = Chip::Software { key_file: key_file.clone() };
    let site = site.restarted(chip.clone());
    let cards = site.init(2, 2);
    let dead = |path: &std::path::Path| {
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(path, readable).expect("changed");
    };
    dead(&key_file);
    let mut reshare = site.begin(CeremonyKind::Reshare, &cards);
    let new = make(&mut reshare, 2, 3);
    confirm(&mut reshare, &new[..2]);
    reshare.install().expect("in force");
    let mut rotate = site.begin(CeremonyKind::Rotate, &cards);
    assert!(matches!(rotate.make(2, vec![None, None]), Err(CustodyError::Chip(_))));

    for file in ["root.pin", "root.sealed"] {
        std::fs::remove_file(site.data().join(file)).expect("removed");
    }
    let site = site.restarted(chip);
    let mut adopt = site.custodian.begin(CeremonyKind::Init).expect("begun");
    assert!(matches!(adopt.make(2, vec![None, None]), Err(CustodyError::Chip(_))));
    adopt.follow().expect("adopting");
    confirm(&mut adopt, &new[1..]);
    adopt.install().expect("in force");
    assert!(matches!(site.engine.state(), State::Open { .. }));
    let status = site.custodian.status().expect("status");
    assert!(status.chip_problem.expect("noted").contains("chmod 600"));
}

#[test]
fn adopting_with_one_card_more_than_the_quorum_gets_over_a_wrong_share() {
    let (_site, cards) = Site::made(2, 3);
    let other = Site::new();
    let mut adopt = other.custodian.begin(CeremonyKind::Init).expect("begun");
    adopt.follow().expect("adopting");
    let bad = forged(&cards[0]);
    adopt.confirm(&bad.card, &bad.passphrase).expect("taken");
    let error = refused(adopt.confirm(&cards[1].card, &cards[1].passphrase));
    assert_eq!(error, CardError::Mismatch);
    match adopt.confirm(&cards[2].card, &cards[2].passphrase).expect("ready") {
        Confirmed::Ready { wrong, .. } => assert_eq!(wrong, [1]),
        other @ Confirmed::Partly(_) => panic!("{other:?}"),
    }
    adopt.install().expect("in force");
}
