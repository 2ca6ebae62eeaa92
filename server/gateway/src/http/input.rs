//! What is read from a peer's JSON. Payloads are borrowed; lists are cut off at their limit while they are read.

use std::fmt;
use std::marker::PhantomData;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::StatusCode;
use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;
use tokio::runtime::{Handle, RuntimeFlavor};
use zeroize::{Zeroize, Zeroizing};

use super::answer::Problem;
use super::dispatch::Call;

/// Reads a body. An empty one has no fields, nor has `null`, which some clients send for it.
///
/// # Errors
/// 400.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    let body = if matches!(body.trim_ascii(), b"" | b"null") { b"{}" } else { body };
    if is_deep(body) {
        return Err(Problem::bad(format!("JSON that nests more than {DEEPEST} deep is not read")));
    }
    let fields: Fields<T> = serde_json::from_slice(body).map_err(|error| wrong(&error))?;
    Ok(fields.0)
}

/// What has its fields by name: a list of their values would be taken, too.
struct Fields<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Fields<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = Fields<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Fields)
            }
        }
        deserializer.deserialize_map(Read(PhantomData))
    }
}

/// Reads a list of objects.
///
/// # Errors
/// 400; 413 when it has more items than `most`.
pub(super) fn parse_list<'a, T: Deserialize<'a>>(
    list: &'a RawValue,
    most: usize,
) -> Result<Vec<T>, Problem> {
    struct List<T>(usize, PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for &List<T> {
        type Value = Option<Vec<T>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(Fields(item)) = list.next_element()? {
                if items.len() == self.0 {
                    while list.next_element::<IgnoredAny>()?.is_some() {}
                    return Ok(None);
                }
                items.push(item);
            }
            Ok(Some(items))
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(list.get());
    let items =
        deserializer.deserialize_seq(&List(most, PhantomData)).map_err(|error| wrong(&error))?;
    items.ok_or_else(|| {
        let text = format!("the list has more than {most} items: send it in parts");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    })
}

/// Parses a body of this many bytes: a long one where it keeps nobody waiting who shares the thread.
pub(super) async fn aside<T>(
    call: &Call<'_>,
    length: usize,
    parse: impl FnOnce() -> Result<T, Problem>,
) -> Result<T, Problem> {
    let gateway = &call.connection.shared.gateway;
    if length < gateway.limits.offload
        || Handle::current().runtime_flavor() != RuntimeFlavor::MultiThread
    {
        return parse();
    }
    let _turn = gateway.heavy.acquire().await;
    tokio::task::block_in_place(parse)
}

/// What is wrong, and where; not what stands there, which may be secret.
fn wrong(error: &serde_json::Error) -> Problem {
    let what = match error.classify() {
        Category::Data => "a field is of another kind, out of its range, or there twice",
        _ => "this is not JSON",
    };
    let (line, column) = (error.line(), error.column());
    Problem::bad(format!("error parsing JSON: line {line}, column {column}: {what}"))
}

/// Deepest nesting that is read, also in what is not looked at.
const DEEPEST: usize = 64;

/// Whether JSON nests deeper than [`DEEPEST`].
fn is_deep(json: &[u8]) -> bool {
    let opens = |byte: &u8| matches!(byte, b'[' | b'{');
    if json.iter().filter(|byte| opens(byte)).count() <= DEEPEST {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > DEEPEST {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Appends what a base64 text stands for (RFC 4648, section 4); line ends in it are passed over.
pub(super) fn push_base64(out: &mut Vec<u8>, text: &str) -> Result<(), base64::DecodeError> {
    let start = out.len();
    let decoded = STANDARD.decode_vec(text, out);
    if decoded.is_ok() || !text.contains(['\r', '\n']) {
        return decoded;
    }
    // What was read of it may be secret.
    out[start..].zeroize();
    out.truncate(start);
    let bare: Zeroizing<Vec<u8>> =
        Zeroizing::new(text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect());
    STANDARD.decode_vec(&*bare, out)
}

#[cfg(test)]
mod tests {
    use super::super::lenient::{Number, Text};
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Sample<'a> {
        #[serde(borrow, default)]
        text: Option<Text<'a>>,
        #[serde(borrow, default)]
        list: Option<&'a RawValue>,
    }

    #[test]
    fn what_is_no_body_of_its_fields_is_refused() {
        for body in ["", "null\n", "{}"] {
            let read: Sample<'_> = parse(body.as_bytes()).expect("no fields");
            assert!(read.text.is_none() && read.list.is_none());
        }
        for body in [r#"{"text":5}"#, r#"{"text":"a","text":"b"}"#, "[]x", "{", "[]", "nul"] {
            let refused = parse::<Sample<'_>>(body.as_bytes()).expect_err(body);
            assert_eq!(refused.status, 400, "{body}");
        }
    }

    #[test]
    fn a_list_is_cut_off_at_its_limit() {
        #[derive(Debug, Deserialize)]
        struct Item {
            n: Number,
        }
        let read = |body: &str| -> Result<Vec<Item>, Problem> {
            let sample: Sample<'_> = parse(body.as_bytes())?;
            parse_list(sample.list.expect("a list"), 3)
        };
        let three = read(r#"{"list":[{"n":1},{"n":"2"},{"n":3}]}"#).expect("three");
        assert_eq!(three.iter().map(|item| item.n.0).sum::<u64>(), 6);
        let long = format!("{{\"list\":[{}{{\"n\":1}}]}}", "{\"n\":1},".repeat(100_000));
        assert_eq!(read(&long).expect_err("long").status, 413);
        for bad in [r#"{"list":{}}"#, r#"{"list":[[1]]}"#, r#"{"list":[{}]}"#, r#"{"list":"x"}"#] {
            assert_eq!(read(bad).expect_err(bad).status, 400);
        }
    }

    #[test]
    fn what_nests_deeply_is_refused_and_brackets_in_texts_are_none() {
        let nested = |depth| format!("{{\"other\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        let read = |body: String| parse::<Sample<'_>>(body.as_bytes()).map(drop);
        assert!(read(nested(DEEPEST - 1)).is_ok());
        assert_eq!(read(nested(DEEPEST)).expect_err("deep").status, 400);
        assert_eq!(read(nested(1_000_000)).expect_err("deep").status, 400);
        assert!(read(format!("{{\"text\":\"\\\"{}\"}}", "[".repeat(200))).is_ok());
    }

    #[test]
    fn base64_may_be_in_lines() {
        let mut out = b"x".to_vec();
        push_base64(&mut out, "aGVs\r\nbG8=").expect("base64");
        assert_eq!(out, b"xhello");
        for bad in ["aGVsbG8", "aGVs bG8=", "aGVsbG8_", "a", "====", "aGVsbG9="] {
            assert!(push_base64(&mut Vec::new(), bad).is_err(), "{bad}");
        }
    }
}
