//! Values as clients write them: numbers and booleans may come as strings. Texts are borrowed where they can be.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

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

/// What stands for one value, whether it came as itself or as a string.
trait Lenient: Sized {
    /// What it is called.
    const NAME: &'static str;

    fn of_number(number: u64) -> Option<Self>;

    fn of_bool(_: bool) -> Option<Self> {
        None
    }

    fn of_text(text: &str) -> Option<Self>;
}

/// Reads a [`Lenient`].
struct Read<T>(PhantomData<T>);

impl<T: Lenient> Visitor<'_> for Read<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::NAME)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::of_number(number).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        let read = u64::try_from(number).ok().and_then(T::of_number);
        read.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        T::of_bool(value).ok_or_else(|| E::invalid_type(Unexpected::Bool(value), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::of_text(text.trim()).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// A number that is not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(pub(super) u64);

impl Lenient for Number {
    const NAME: &'static str = "a number from 0 on";

    fn of_number(number: u64) -> Option<Self> {
        Some(Self(number))
    }

    fn of_text(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

/// A truth value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flag(pub(super) bool);

impl Lenient for Flag {
    const NAME: &'static str = "true or false";

    fn of_number(number: u64) -> Option<Self> {
        (number <= 1).then_some(Self(number == 1))
    }

    fn of_bool(value: bool) -> Option<Self> {
        Some(Self(value))
    }

    fn of_text(text: &str) -> Option<Self> {
        match text {
            "true" | "True" | "TRUE" | "t" | "T" | "1" => Some(Self(true)),
            "false" | "False" | "FALSE" | "f" | "F" | "0" | "" => Some(Self(false)),
            _ => None,
        }
    }
}

/// Seconds: a number, or numbers with units, as in `24h` and `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seconds(pub(super) u64);

impl Lenient for Seconds {
    const NAME: &'static str = "seconds, or numbers with the units s, m, h, d";

    fn of_number(number: u64) -> Option<Self> {
        Some(Self(number))
    }

    fn of_text(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(0));
        }
        if let Ok(seconds) = text.parse() {
            return Some(Self(seconds));
        }
        let mut seconds = 0_u64;
        for part in text.split_inclusive(['s', 'm', 'h', 'd']) {
            let (at, unit) = part.char_indices().last()?;
            let unit = match unit {
                's' => 1,
                'm' => 60,
                'h' => 3600,
                'd' => 24 * 3600,
                _ => return None,
            };
            let number: u64 = part[..at].parse().ok()?;
            seconds = seconds.checked_add(number.checked_mul(unit)?)?;
        }
        Some(Self(seconds))
    }
}

macro_rules! read_leniently {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Read(PhantomData))
            }
        }
    )*};
}

read_leniently!(Number, Flag, Seconds);

#[cfg(test)]
mod tests {
    use serde_json::from_str;

    use super::*;

    #[test]
    fn numbers_truths_and_times_may_be_strings() {
        for text in ["7", "\"7\"", "\" 7 \""] {
            assert_eq!(from_str::<Number>(text).expect(text), Number(7), "{text}");
        }
        for text in ["true", "1", "\"true\"", "\"T\"", "\"1\""] {
            assert_eq!(from_str::<Flag>(text).expect(text), Flag(true), "{text}");
        }
        for text in ["false", "0", "\"False\"", "\"\""] {
            assert_eq!(from_str::<Flag>(text).expect(text), Flag(false), "{text}");
        }
        for (text, seconds) in [
            ("90", 90),
            ("\"90\"", 90),
            ("\"90s\"", 90),
            ("\"24h\"", 86_400),
            ("\"1h30m\"", 5400),
            ("\"720h0m0s\"", 2_592_000),
            ("\"\"", 0),
        ] {
            assert_eq!(from_str::<Seconds>(text).expect(text), Seconds(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_out_of_range_or_of_another_kind_is_not_read() {
        for text in ["-1", "1.5", "true", "null", "\"x\"", "\"\"", "\"-1\"", "[1]", "{}"] {
            assert!(from_str::<Number>(text).is_err(), "{text}");
        }
        for text in ["2", "-1", "null", "\"yes\"", "[]"] {
            assert!(from_str::<Flag>(text).is_err(), "{text}");
        }
        for text in [
            "-1",
            "true",
            "\"1y\"",
            "\"s\"",
            "\"1h30\"",
            "\"h1\"",
            "\"1é\"",
            "\"99999999999999999999d\"",
            "\"18446744073709551615m\"",
        ] {
            assert!(from_str::<Seconds>(text).is_err(), "{text}");
        }
        assert!(from_str::<Text<'_>>("5").is_err());
    }

    #[test]
    fn a_text_without_escapes_is_borrowed() {
        let read: Text<'_> = from_str(r#""abc""#).expect("a text");
        assert!(matches!(read, Text(Cow::Borrowed("abc"))));
        let read: Text<'_> = from_str(r#""a\/c""#).expect("a text");
        assert!(matches!(read, Text(Cow::Owned(text)) if text == "a/c"));
    }
}
