//! A root key comes back from its cards without Sealwire: by the example program, and by the program that
//! `docs/card.md` prints.

#[path = "support/now.rs"]
mod now;
#[path = "../examples/recover_root_key.rs"]
mod recover;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use aes_gcm_siv::{AeadInOut, Aes256GcmSiv, KeyInit};
use now::Now;
use sealwire_engine::custody::{CeremonyKind, Chip, Custodian, NewCard, Passphrase};
use sealwire_engine::{Engine, EngineConfig, KeyBinding, ManagerRole, Purpose, Uid};

fn page() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/card.md");
    std::fs::read_to_string(path).expect("docs/card.md")
}

/// Cards, and what was typed for each.
type Cards = Vec<(Vec<u8>, String)>;

/// An engine with a root key, and its cards: some under passphrases, the last under a PIN.
fn ceremony(threshold: u8) -> (tempfile::TempDir, Arc<Engine>, Cards) {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::new(&EngineConfig::default(), || 0).expect("memory");
    let data = folder.path().to_owned();
    let custodian = Custodian::new(engine.clone(), data, Chip::None, Custodian::LAPSE);
    let mut init = custodian.begin(CeremonyKind::Init).expect("begun");
    let own = Passphrase::parse("Tr0ub4dor-3").expect("a PIN");
    let cards = init.make(threshold, vec![None, None, None, Some(own)]).expect("made");
    for NewCard { card, passphrase } in &cards[..usize::from(threshold)] {
        init.confirm(card, passphrase).expect("confirmed");
    }
    init.install().expect("in force");
    let cards = cards.iter().map(|NewCard { card, passphrase }| {
        (card.bytes().to_vec(), passphrase.to_text().to_string())
    });
    (folder, engine, cards.collect())
}

#[test]
fn the_example_gives_back_the_root_key_that_opens_what_the_engine_wraps() {
    let (_folder, engine, cards) = ceremony(3);
    for quorum in [&cards[..3], &cards[1..], &cards] {
        let root = recover::recover(quorum).expect("recovered");
        let (purpose, uid) = (Purpose::BusinessKey, Uid::generate().expect("random"));
        let binding = KeyBinding { purpose, uid, index: 7, version: 2, name: "聊天".into() };
        let wrapped = ManagerRole::new(engine.clone()).genkey(binding).now().expect("a key");
        let id = wrapped.root().to_bytes();
        let kek: [u8; 32] = recover::derive(&root, &[b"sealwire wrap kek v1", &id]);
        let mut aad = Vec::new();
        let fields: [&[u8]; 7] = [
            b"sealwire wrapped key v1",
            b"business key",
            &uid.to_bytes(),
            &7_u32.to_be_bytes(),
            &2_u32.to_be_bytes(),
            "聊天".as_bytes(),
            &id,
        ];
        for field in fields {
            aad.extend(u16::try_from(field.len()).expect("short").to_be_bytes());
            aad.extend_from_slice(field);
        }
        let blob = wrapped.blob();
        let nonce = aes_gcm_siv::Nonce::try_from(&blob[17..29]).expect("12 bytes");
        let tag = aes_gcm_siv::Tag::try_from(&blob[61..77]).expect("16 bytes");
        let mut key = blob[29..61].to_vec();
        Aes256GcmSiv::new_from_slice(&kek)
            .expect("a key")
            .decrypt_inout_detached(&nonce, &aad, key.as_mut_slice().into(), &tag)
            .expect("the wrapped key opens");
    }
}

#[test]
fn the_example_says_what_is_wrong() {
    let (_folder, _engine, cards) = ceremony(2);
    let (_other, _engine, foreign) = ceremony(2);
    let refused = |cards: &[(Vec<u8>, String)]| recover::recover(cards).expect_err("refused");
    assert!(refused(&cards[..1]).contains("2 different cards"));
    assert!(refused(&[cards[0].clone(), cards[0].clone()]).contains("different cards"));
    assert!(refused(&[cards[0].clone(), foreign[1].clone()]).contains("different sets"));
    let swapped = [(cards[0].0.clone(), cards[1].1.clone()), cards[1].clone()];
    assert!(refused(&swapped).contains("wrong passphrase"));
    let mut damaged = cards[0].clone();
    damaged.0[100] ^= 1;
    assert!(refused(&[damaged, cards[1].clone()]).contains("damaged"));
}

/// The cards of the page's worked example.
fn worked_example() -> Cards {
    let page = page();
    let example = page.split("## Worked example").nth(1).expect("the example");
    let cards = example.split("passphrase `").skip(1).map(|text| {
        let (passphrase, rest) = text.split_once('`').expect("a passphrase");
        let dump = rest.split("```").nth(1).expect("a hexdump");
        let digits: String = dump.split_whitespace().collect();
        (hex::decode(digits).expect("hexadecimal"), passphrase.to_owned())
    });
    cards.take(2).collect()
}

#[test]
fn the_worked_example_of_the_page_is_right() {
    let page = page();
    let cards = worked_example();
    for (card, passphrase) in &cards {
        let (number, share) = recover::open_card(card, passphrase).expect("opens");
        assert!(page.contains(&format!("| share {number} | `{}` |", hex::encode(share))));
    }
    let root = recover::recover(&cards).expect("recovered");
    assert!(page.contains(&format!("| root key | `{}` |", hex::encode(root))));
}

#[test]
fn the_program_that_the_page_prints_recovers_a_root_key() {
    let page = page();
    let program = page.split("```python\n").nth(1).and_then(|text| text.split("```").next());
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("recover.py");
    std::fs::write(&script, program.expect("a program")).expect("written");
    let python = std::env::var("SEALWIRE_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let (_data, engine, made) = ceremony(2);
    let wrapped = ManagerRole::new(engine).make_site().now().expect("a site");
    for (cards, id) in [
        (worked_example(), "6e2124da0128046ecd66f3a8791cb503".to_owned()),
        (made[2..].to_vec(), wrapped.root().to_string()),
    ] {
        let mut command = Command::new(&python);
        command.arg(&script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (number, (card, _)) in cards.iter().enumerate() {
            let file = folder.path().join(format!("{number}.card"));
            std::fs::write(&file, card).expect("written");
            command.arg(file);
        }
        let mut child = command.spawn().expect("python3: ./scripts/test installs it");
        let mut typed = child.stdin.take().expect("piped");
        for (_, passphrase) in &cards {
            writeln!(typed, "{passphrase}").expect("written");
        }
        drop(typed);
        let output = child.wait_with_output().expect("ends");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{error}\n(the program needs the package cryptography, 44 or newer: ./scripts/test installs it)"
        );
        let said = String::from_utf8(output.stdout).expect("text");
        assert!(said.contains(&format!("root key id {id}")), "{said}");
        let root = recover::recover(&cards).expect("recovered");
        assert!(said.contains(&hex::encode(root)), "{said}");
    }
}
