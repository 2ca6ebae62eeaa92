//! What is read from a peer's JSON. Payloads are borrowed; lists are cut off at their limit while they are read.
//! Numbers and booleans may come as strings, as some clients write them.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::StatusCode;
use serde::de::{Error, IgnoredAny, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::answer::Problem;
use super::dispatch::Call;

/// A text, borrowed where nothing in it is escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E>(self, text: String) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(Read)
    }
}

/// A number that is not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(pub(super) u64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number from 0 on")
            }

            fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
                Ok(Number(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Number, E> {
                let number = u64::try_from(value);
                number.map(Number).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
                let number = text.trim().parse();
                number.map(Number).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// A truth value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flag(pub(super) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Flag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Flag, E> {
                match value {
                    0 => Ok(Flag(false)),
                    1 => Ok(Flag(true)),
                    _ => Err(E::invalid_value(Unexpected::Unsigned(value), &self)),
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Flag, E> {
                match text {
                    "true" | "True" | "TRUE" | "t" | "T" | "1" => Ok(Flag(true)),
                    "false" | "False" | "FALSE" | "f" | "F" | "0" | "" => Ok(Flag(false)),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// Seconds: a number, or a number with a unit, as in `24h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seconds(pub(super) u64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Seconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seconds, or a number with one of the units s, m, h, d")
            }

            fn visit_u64<E>(self, value: u64) -> Result<Seconds, E> {
                Ok(Seconds(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Seconds, E> {
                let number = u64::try_from(value);
                number.map(Seconds).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Seconds, E> {
                let text = text.trim();
                let wrong = || E::invalid_value(Unexpected::Str(text), &self);
                if text.is_empty() {
                    return Ok(Seconds(0));
                }
                let (number, unit) = match text.char_indices().last() {
                    Some((at, 's')) => (&text[..at], 1),
                    Some((at, 'm')) => (&text[..at], 60),
                    Some((at, 'h')) => (&text[..at], 3600),
                    Some((at, 'd')) => (&text[..at], 24 * 3600),
                    _ => (text, 1),
                };
                let number: u64 = number.parse().map_err(|_| wrong())?;
                number.checked_mul(unit).map(Seconds).ok_or_else(wrong)
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// Reads a body. An empty one has no fields.
///
/// # Errors
/// 400.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    if is_deep(body) {
        return Err(Problem::bad(format!("JSON that nests more than {DEEPEST} deep is not read")));
    }
    serde_json::from_slice(body).map_err(|error| wrong(&error))
}

/// Reads a list.
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
            while let Some(item) = list.next_element()? {
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
    out.truncate(start);
    let bare: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    STANDARD.decode_vec(bare, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Sample<'a> {
        #[serde(borrow, default)]
        text: Option<Text<'a>>,
        #[serde(default)]
        number: Option<Number>,
        #[serde(default)]
        flag: Option<Flag>,
        #[serde(default)]
        time: Option<Seconds>,
        #[serde(borrow, default)]
        list: Option<&'a RawValue>,
    }

    #[test]
    fn numbers_truths_and_times_may_be_strings() {
        for body in [
            r#"{"number":7,"flag":true,"time":90,"text":"a"}"#,
            r#"{"number":"7","flag":"true","time":"90s","text":"a","list":null}"#,
            r#"{"number":"7","flag":1,"time":"90"}"#,
        ] {
            let read: Sample<'_> = parse(body.as_bytes()).expect(body);
            assert_eq!(read.number, Some(Number(7)), "{body}");
            assert_eq!(read.flag, Some(Flag(true)), "{body}");
            assert_eq!(read.time, Some(Seconds(90)), "{body}");
        }
        let read: Sample<'_> = parse(b"").expect("no fields");
        assert!(read.text.is_none() && read.number.is_none());
        let read: Sample<'_> = parse(br#"{"time":"24h"}"#).expect("a time");
        assert_eq!(read.time, Some(Seconds(86_400)));
        for body in [
            r#"{"number":-1}"#,
            r#"{"number":"x"}"#,
            r#"{"flag":2}"#,
            r#"{"time":"1y"}"#,
            r#"{"time":"99999999999999999999d"}"#,
            r#"{"text":5}"#,
            "[]x",
            "{",
        ] {
            let refused = parse::<Sample<'_>>(body.as_bytes()).expect_err(body);
            assert_eq!(refused.status, 400, "{body}");
        }
    }

    #[test]
    fn a_text_without_escapes_is_borrowed() {
        let read: Sample<'_> = parse(br#"{"text":"abc"}"#).expect("a text");
        assert!(matches!(read.text, Some(Text(Cow::Borrowed("abc")))));
        let read: Sample<'_> = parse(br#"{"text":"a\/c"}"#).expect("a text");
        assert!(matches!(read.text, Some(Text(Cow::Owned(text))) if text == "a/c"));
    }

    #[test]
    fn a_list_is_cut_off_at_its_limit() {
        let read = |body: &str| -> Result<Vec<Number>, Problem> {
            let sample: Sample<'_> = parse(body.as_bytes())?;
            parse_list(sample.list.expect("a list"), 3)
        };
        assert_eq!(read(r#"{"list":[1,"2",3]}"#).expect("three").len(), 3);
        let long = format!("{{\"list\":[{}1]}}", "1,".repeat(1_000_000));
        assert_eq!(read(&long).expect_err("long").status, 413);
        for bad in [r#"{"list":{}}"#, r#"{"list":[1,{}]}"#, r#"{"list":"x"}"#] {
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
