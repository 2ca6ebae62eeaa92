//! The suites against vectors of others: Wycheproof, C2SP, RFC 8998, and spec.md's own.

use sealwire_engine::aead::{AeadError, Suite, open, seal_with_nonce};
use sha3::digest::{ExtendableOutput, Update, XofReader};
use wycheproof::aead::{TestName, TestSet};

/// The Wycheproof sets that apply, with the length of the suite's key in bits.
const SETS: [(Suite, TestName, usize); 5] = [
    (Suite::Aes256Gcm, TestName::AesGcm, 256),
    (Suite::Aes256GcmSiv, TestName::AesGcmSiv, 256),
    (Suite::ChaCha20Poly1305, TestName::ChaCha20Poly1305, 256),
    (Suite::XChaCha20Poly1305, TestName::XChaCha20Poly1305, 256),
    (Suite::Sm4Gcm, TestName::Sm4Gcm, 128),
];

#[test]
fn every_applicable_case_of_wycheproof_passes() {
    for (suite, name, key_size) in SETS {
        let set = TestSet::load(name).expect("a set of Wycheproof");
        let mut run = 0;
        for group in set.test_groups.iter().filter(|group| group.key_size == key_size) {
            for test in &group.tests {
                let sealed = [test.ct.as_slice(), test.tag.as_slice()].concat();
                let opened = open(suite, &test.key, &test.nonce, &test.aad, &sealed);
                let case = format!("{suite} {}: {}", test.tc_id, test.comment);
                if test.nonce.len() != suite.nonce_len() {
                    assert_eq!(opened, Err(AeadError::NonceLength), "{case}");
                } else if test.result.must_fail() {
                    assert_eq!(opened, Err(AeadError::Auth), "{case}");
                } else {
                    assert_eq!(opened.as_deref(), Ok(test.pt.as_slice()), "{case}");
                    let again = seal_with_nonce(suite, &test.key, &test.nonce, &test.aad, &test.pt);
                    assert_eq!(again, Ok(sealed), "{case}");
                }
                run += 1;
            }
        }
        assert!(run > 50, "{suite}: only {run} cases");
    }
}

/// C2SP XAES-256-GCM, "Test vectors": one SHAKE-128 gives keys, nonces, messages and AAD, another takes
/// the ciphertexts in.
fn xaes_accumulated(iterations: usize) -> String {
    let mut random = sha3::Shake128::default().finalize_xof();
    let mut sum = sha3::Shake128::default();
    let mut read = |length: usize| {
        let mut bytes = vec![0; length];
        random.read(&mut bytes);
        bytes
    };
    for _ in 0..iterations {
        let (key, nonce) = (read(32), read(24));
        let length = usize::from(read(1)[0]);
        let message = read(length);
        let length = usize::from(read(1)[0]);
        let aad = read(length);
        let suite = Suite::Xaes256Gcm;
        let sealed = seal_with_nonce(suite, &key, &nonce, &aad, &message).expect("seals");
        assert_eq!(open(suite, &key, &nonce, &aad, &sealed).expect("opens"), message);
        sum.update(&sealed);
    }
    let mut digest = [0; 32];
    sum.finalize_xof().read(&mut digest);
    hex(&digest)
}

#[test]
fn xaes_matches_the_accumulated_vector_of_ten_thousand() {
    assert_eq!(
        xaes_accumulated(10_000),
        "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
    );
}

#[test]
fn xaes_matches_the_accumulated_vector_of_a_million() {
    assert_eq!(
        xaes_accumulated(1_000_000),
        "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15"
    );
}

#[test]
fn sm4_gcm_matches_rfc_8998_appendix_a_1() {
    let key = unhex("0123456789abcdeffedcba9876543210");
    let nonce = unhex("00001234567800000000abcd");
    let aad = unhex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let message = unhex(
        "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd\
         eeeeeeeeeeeeeeeeffffffffffffffffeeeeeeeeeeeeeeeeaaaaaaaaaaaaaaaa",
    );
    let sealed = unhex(
        "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735\
         d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d\
         83de3541e4c2b58177e065a9bf7b62ec",
    );
    let made = seal_with_nonce(Suite::Sm4Gcm, &key, &nonce, &aad, &message);
    assert_eq!(made.as_deref(), Ok(sealed.as_slice()));
    assert_eq!(open(Suite::Sm4Gcm, &key, &nonce, &aad, &sealed), Ok(message));
}

#[test]
fn the_vectors_of_the_specification_open_or_do_not() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../protocol/tests/vectors");
    let mut run = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of vectors") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let vector: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        if vector["layer"] != "aead" {
            continue;
        }
        let bytes = |field: &str| unhex(vector[field].as_str().expect(field));
        let input = bytes("input");
        let envelope = sealwire_protocol::Envelope::parse(&input).expect("an envelope");
        let (context, aad) = (bytes("context"), bytes("aad"));
        let mut bound = Vec::new();
        sealwire_protocol::Binding { context: &context, aad: &aad }
            .bound_aad(envelope.header, &mut bound)
            .expect("within limits");
        let (suite, sealed) = (envelope.header.suite, [envelope.ciphertext, envelope.tag].concat());
        let opened = open(suite, &bytes("suite_key"), envelope.nonce, &bound, &sealed);
        match vector["outcome"].as_str() {
            Some("good") => assert_eq!(opened, Ok(bytes("message")), "{}", path.display()),
            _ => assert_eq!(opened, Err(AeadError::Auth), "{}", path.display()),
        }
        run += 1;
    }
    assert!(run > 20, "only {run} vectors");
}

#[test]
fn wrong_lengths_are_named() {
    for suite in Suite::ALL {
        let (key, nonce) = (vec![0; suite.key_len()], vec![0; suite.nonce_len()]);
        let short = &key[1..];
        assert_eq!(open(suite, short, &nonce, b"", &[0; 16]), Err(AeadError::KeyLength));
        assert_eq!(open(suite, &key, &nonce[1..], b"", &[0; 16]), Err(AeadError::NonceLength));
        assert_eq!(open(suite, &key, &nonce, b"", &[0; 15]), Err(AeadError::Auth));
        assert_eq!(seal_with_nonce(suite, short, &nonce, b"", b""), Err(AeadError::KeyLength));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2) && text.is_ascii(), "hexadecimal");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}
