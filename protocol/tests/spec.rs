//! spec.md against the code: every hexdump is a vector, the registry's table is the code's.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use sealwire_protocol::error::REGISTRY;
use sealwire_protocol::{Suite, limits};
use support::vectors;

fn spec() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../spec.md");
    std::fs::read_to_string(path).expect("spec.md at the root of the repository")
}

/// The hexdumps of spec.md: name and bytes.
fn hexdumps(spec: &str) -> Vec<(String, Vec<u8>)> {
    let mut dumps = Vec::new();
    let mut lines = spec.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("```hex ") else { continue };
        let digits: String = lines
            .by_ref()
            .take_while(|line| *line != "```")
            .map(|line| line.split(';').next().unwrap_or_default().replace(' ', ""))
            .collect();
        dumps.push((name.to_owned(), hex::decode(digits).expect(name)));
    }
    dumps
}

#[test]
fn every_hexdump_is_the_vector_of_its_name() {
    let dumps = hexdumps(&spec());
    let vectors: BTreeMap<_, _> = vectors().into_iter().map(|v| (v.name.clone(), v)).collect();
    let shown: BTreeSet<_> = dumps.iter().map(|(name, _)| name.clone()).collect();
    for (name, bytes) in &dumps {
        let vector = vectors.get(name).unwrap_or_else(|| panic!("no vector is called {name}"));
        assert!(vector.is_good(), "{name} is a bad case");
        assert_eq!(bytes, &vector.input, "{name}");
    }
    for kind in
        ["auth", "enc", "dec", "reenc", "genkey", "keyinfo", "datakey", "ping", "goaway", "failure"]
    {
        assert!(shown.iter().any(|name| name.starts_with(kind)), "no hexdump of {kind}");
    }
}

#[test]
fn the_registry_is_the_table_of_the_specification() {
    let spec = spec();
    let word = |yes| if yes { "yes" } else { "no" };
    let expected: Vec<String> = REGISTRY
        .iter()
        .map(|info| {
            format!(
                "| {} | {} | {} | {} | {} | {} |",
                info.code.0,
                info.name,
                info.fault.name(),
                word(info.fatal),
                word(info.retry),
                info.meaning
            )
        })
        .collect();
    let table: Vec<&str> = spec
        .lines()
        .skip_while(|line| !line.starts_with("| number | name | fault |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert_eq!(table, expected);
}

#[test]
fn the_suites_are_the_table_of_the_specification() {
    let spec = spec();
    for suite in Suite::ALL {
        let row = format!(
            "| {} | `{}` | {} | {} | {} |",
            suite.id(),
            suite.name(),
            suite.key_len(),
            suite.nonce_len(),
            suite.tag_len()
        );
        assert!(spec.contains(&row), "{row}");
    }
}

#[test]
fn the_limits_are_those_of_the_specification() {
    let spec = spec().replace(',', "");
    for row in [
        format!("| frame before OPEN | {} bytes |", limits::PRE_AUTH_MAX_FRAME),
        format!(
            "`max_frame`: {} to {} bytes {} unless configured",
            limits::MIN_MAX_FRAME,
            limits::MAX_FRAME,
            limits::DEFAULT_MAX_FRAME
        ),
        format!("| AppKey | {} bytes |", limits::MAX_APP_KEY),
        format!("| key name | {} bytes |", limits::MAX_KEY_NAME),
        format!("| body of PING | {} bytes |", limits::MAX_PING),
        format!("| detail of an error | {} bytes |", limits::MAX_DETAIL),
        format!("| context aad | {} bytes each |", limits::MAX_AAD),
    ] {
        assert!(spec.contains(&row), "{row}");
    }
    assert_eq!(limits::MAX_AAD, limits::MAX_CONTEXT);
}
