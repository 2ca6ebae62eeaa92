//! Reads the test vectors.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::PathBuf;

use serde_json::{Map, Value};

/// A file under `tests/vectors/`.
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) layer: String,
    pub(crate) kind: String,
    pub(crate) outcome: String,
    pub(crate) input: Vec<u8>,
    fields: Map<String, Value>,
}

impl Vector {
    pub(crate) fn is_good(&self) -> bool {
        self.outcome == "good"
    }

    pub(crate) fn text(&self, field: &str) -> &str {
        self.fields[field].as_str().unwrap_or_else(|| panic!("{}: {field}", self.name))
    }

    pub(crate) fn bytes(&self, field: &str) -> Vec<u8> {
        hex::decode(self.text(field)).unwrap_or_else(|_| panic!("{}: {field}", self.name))
    }

    pub(crate) fn array<const N: usize>(&self, field: &str) -> [u8; N] {
        self.bytes(field).try_into().unwrap_or_else(|_| panic!("{}: {field}", self.name))
    }
}

/// Every vector, by name.
pub(crate) fn vectors() -> Vec<Vector> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut vectors: Vec<Vector> = std::fs::read_dir(folder)
        .expect("the folder of vectors")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a readable file");
            let fields: Map<String, Value> = serde_json::from_str(&text).expect("JSON");
            let get = |field: &str| fields[field].as_str().expect(field).to_owned();
            Vector {
                name: path.file_stem().expect("a name").to_string_lossy().into_owned(),
                layer: get("layer"),
                kind: get("kind"),
                outcome: get("outcome"),
                input: hex::decode(get("input")).expect("hexadecimal"),
                fields: fields.clone(),
            }
        })
        .collect();
    vectors.sort_by(|a, b| a.name.cmp(&b.name));
    vectors
}
