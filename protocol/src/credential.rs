//! The text forms of AppKey, AppSecret and HTTP secret (spec.md, "Credentials").

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::limits;

/// Every AppSecret's text begins so.
pub const APP_SECRET_PREFIX: &str = "sws1_";

/// Every HTTP secret's text begins so.
pub const HTTP_SECRET_PREFIX: &str = "swh1_";

/// Bytes of an AppSecret, and of an HTTP secret.
pub const APP_SECRET_LEN: usize = 32;

/// Characters of a secret's text: the prefix and 43 characters of base64url.
const APP_SECRET_TEXT_LEN: usize = APP_SECRET_PREFIX.len() + 43;

/// Whether a text may be an AppKey: 1 to 64 characters of `A-Z a-z 0-9 _ -`.
#[must_use]
pub fn is_app_key(text: &[u8]) -> bool {
    (1..=limits::MAX_APP_KEY).contains(&text.len())
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Why bytes are not the name of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a key's name has 1 to 128 bytes of UTF-8, no control characters, white space, `*` or `>`, \
     and is not a number"
)]
pub struct KeyNameError;

/// Checks the name of a key. A name that is only digits would be taken for an index, `*` and `>`
/// are the grants' own signs.
///
/// # Errors
/// [`KeyNameError`], which says what a name may be.
pub fn key_name(bytes: &[u8]) -> Result<&str, KeyNameError> {
    let name = std::str::from_utf8(bytes).map_err(|_| KeyNameError)?;
    let sound = (1..=limits::MAX_KEY_NAME).contains(&name.len())
        && !name.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, '*' | '>'))
        && !name.chars().all(|c| c.is_ascii_digit());
    if sound { Ok(name) } else { Err(KeyNameError) }
}

/// The text of an AppSecret: `sws1_` and base64url without padding (RFC 4648, section 5).
#[must_use]
pub fn encode_app_secret(secret: &[u8; APP_SECRET_LEN]) -> Zeroizing<String> {
    encode(APP_SECRET_PREFIX, secret)
}

/// The text of an HTTP secret: `swh1_` and the same.
#[must_use]
pub fn encode_http_secret(secret: &[u8; APP_SECRET_LEN]) -> Zeroizing<String> {
    encode(HTTP_SECRET_PREFIX, secret)
}

fn encode(prefix: &str, secret: &[u8; APP_SECRET_LEN]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(APP_SECRET_TEXT_LEN));
    text.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(secret, &mut text);
    text
}

/// Reads the text of an AppSecret; `None` when it is not one.
#[must_use]
pub fn decode_app_secret(text: &str) -> Option<Zeroizing<[u8; APP_SECRET_LEN]>> {
    decode(APP_SECRET_PREFIX, text)
}

/// Reads the text of an HTTP secret; `None` when it is not one.
#[must_use]
pub fn decode_http_secret(text: &str) -> Option<Zeroizing<[u8; APP_SECRET_LEN]>> {
    decode(HTTP_SECRET_PREFIX, text)
}

fn decode(prefix: &str, text: &str) -> Option<Zeroizing<[u8; APP_SECRET_LEN]>> {
    if text.len() != APP_SECRET_TEXT_LEN {
        return None;
    }
    let mut secret = Zeroizing::new([0; APP_SECRET_LEN]);
    let body = text.strip_prefix(prefix)?;
    let length = URL_SAFE_NO_PAD.decode_slice(body, secret.as_mut_slice()).ok()?;
    (length == APP_SECRET_LEN).then_some(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_secret_survives_its_text_form() {
        let secret = std::array::from_fn(|i| u8::try_from(i * 7).expect("small"));
        let text = encode_app_secret(&secret);
        assert_eq!(decode_app_secret(&text).as_deref(), Some(&secret));
        assert!(decode_http_secret(&text).is_none(), "one is not taken for the other");
        let text = encode_http_secret(&secret);
        assert_eq!(decode_http_secret(&text).as_deref(), Some(&secret));
        assert!(decode_app_secret(&text).is_none());
    }

    #[test]
    fn a_damaged_app_secret_is_not_taken() {
        let text = encode_app_secret(&[9; 32]);
        assert!(decode_app_secret(&text[..text.len() - 1]).is_none());
        assert!(decode_app_secret(&text.replace("sws1_", "sws2_")).is_none());
        assert!(decode_app_secret(&format!("{}!", &text[..text.len() - 1])).is_none());
    }

    #[test]
    fn a_key_name_may_be_in_any_language_but_not_a_number_or_a_pattern() {
        for good in ["chat", "聊天-2026", "a:b", "k1"] {
            assert_eq!(key_name(good.as_bytes()), Ok(good));
        }
        for bad in ["", "42", "a b", "im-*", "a>b", "tab\t", &"x".repeat(129)] {
            assert_eq!(key_name(bad.as_bytes()), Err(KeyNameError), "{bad:?}");
        }
        assert!(key_name(&[0xFF]).is_err());
    }
}
