//! Where a card, or a chip's key, is: `file:/media/usb1/`, or a PKCS#11 URI (RFC 7512).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// Where a card is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file, or a folder that holds one.
    File(PathBuf),
    /// An object on a token.
    Token(TokenUri),
}

/// What is wrong with a URI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{uri}`: {problem}; write file:/media/usb1/ or pkcs11:token=LABEL")]
pub struct PlaceError {
    uri: String,
    problem: String,
}

impl FromStr for Place {
    type Err = PlaceError;

    /// Reads `file:PATH`, `pkcs11:…`, or a path alone.
    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let refuse =
            |problem: &str| PlaceError { uri: text.to_owned(), problem: problem.to_owned() };
        if text.starts_with("pkcs11:") {
            return text.parse().map(Self::Token);
        }
        let Some(path) = text.strip_prefix("file:") else {
            return if text.is_empty() {
                Err(refuse("it is empty"))
            } else {
                Ok(Self::File(text.into()))
            };
        };
        // file:///media/usb1 has an empty host, file:/media/usb1 none (RFC 8089).
        let path = match path.strip_prefix("//") {
            Some(rest) if rest.starts_with('/') => rest,
            Some(_) => return Err(refuse("a file of another host")),
            None => path,
        };
        let path = decode(path).ok_or_else(|| refuse("it is not UTF-8"))?;
        if path.is_empty() { Err(refuse("it names no path")) } else { Ok(Self::File(path.into())) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Token(uri) => uri.fmt(f),
        }
    }
}

/// A PKCS#11 URI: which token, which object on it, and how to get at it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenUri {
    text: String,
    pub(super) token: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) manufacturer: Option<String>,
    pub(super) model: Option<String>,
    /// Whether a PIN stands in the URI itself, where it must not be.
    has_pin: bool,
    /// The object's label.
    pub(super) object: Option<String>,
    /// The library that speaks to the token.
    pub module_path: Option<PathBuf>,
    /// The file that holds the PIN.
    pub pin_source: Option<PathBuf>,
}

impl TokenUri {
    /// Whether a PIN stands in the URI itself, where it must not be.
    #[must_use]
    pub fn holds_pin(&self) -> bool {
        self.has_pin
    }
}

impl FromStr for TokenUri {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let refuse = |problem: String| PlaceError { uri: text.to_owned(), problem };
        let rest = text.strip_prefix("pkcs11:").ok_or_else(|| refuse("no PKCS#11 URI".into()))?;
        if text.contains("pin-value") {
            // Refused where the URI is used: an error of the command line would repeat it.
            return Ok(Self { text: "pkcs11:…".to_owned(), has_pin: true, ..Self::default() });
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Self { text: text.to_owned(), ..Self::default() };
        let parts = path.split(';').chain(query.split('&')).filter(|part| !part.is_empty());
        for part in parts {
            let (name, value) = part.split_once('=').ok_or_else(|| refuse(format!("`{part}`")))?;
            let value = decode(value).ok_or_else(|| refuse(format!("{name} is not UTF-8")))?;
            match name {
                "token" => uri.token = Some(value),
                "serial" => uri.serial = Some(value),
                "manufacturer" => uri.manufacturer = Some(value),
                "model" => uri.model = Some(value),
                "object" => uri.object = Some(value),
                "type" => {}
                "module-path" => uri.module_path = Some(value.into()),
                "pin-source" => {
                    let path = value.strip_prefix("file:").unwrap_or(&value);
                    uri.pin_source = Some(path.strip_prefix("//").unwrap_or(path).into());
                }
                other => return Err(refuse(format!("the attribute `{other}` is not known"))),
            }
        }
        if uri.token.is_none() && uri.serial.is_none() {
            return Err(refuse("it names no token".into()));
        }
        Ok(uri)
    }
}

impl fmt::Display for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> PathBuf {
        match text.parse().expect(text) {
            Place::File(path) => path,
            Place::Token(uri) => panic!("{uri}"),
        }
    }

    #[test]
    fn paths_and_file_uris_are_files() {
        assert_eq!(file("/media/usb1"), PathBuf::from("/media/usb1"));
        assert_eq!(file("file:/media/usb1/"), PathBuf::from("/media/usb1/"));
        assert_eq!(file("file:///media/%E5%8D%A1"), PathBuf::from("/media/卡"));
        for bad in ["", "file:", "file://host/x", "file:/%FF"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pkcs11_uri_names_token_object_module_and_pin_file() {
        let uri: TokenUri =
            "pkcs11:token=card%201;object=root;type=data?module-path=/lib/p.so&pin-source=file:/run/pin"
                .parse()
                .expect("sound");
        assert_eq!((uri.token.as_deref(), uri.object.as_deref()), (Some("card 1"), Some("root")));
        assert_eq!(uri.module_path, Some("/lib/p.so".into()));
        assert_eq!(uri.pin_source, Some("/run/pin".into()));
        for bad in ["pkcs11:", "pkcs11:object=x", "pkcs11:token", "pkcs11:token=a;colour=red"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pin_in_a_uri_is_noticed_and_not_repeated() {
        for text in ["pkcs11:token=a?pin-value=123456", "pkcs11:colour=red?pin-value=123456"] {
            let uri: TokenUri = text.parse().expect("read");
            assert!(uri.holds_pin());
            assert!(!format!("{uri} {uri:?}").contains("123456"));
        }
    }
}
