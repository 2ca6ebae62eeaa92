//! Where a server is, and how it is spoken to.

use std::str::FromStr;

use crate::Error;

const DEFAULT_PORT: u16 = 7700;

/// An address: `sealwire://host:port` for TLS, `sealwire+tcp://host:port` for plain TCP. The port is
/// 7700 unless given; an IPv6 address stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// Several addresses, with commas between them and white space around those as you like:
    /// `sealwire://a:7700, sealwire://b:7700`. TLS and plain TCP may stand side by side; what is
    /// named twice counts once.
    ///
    /// # Errors
    /// When a part is not an address, which an empty text is not either.
    pub fn list(text: &str) -> Result<Vec<Self>, Error> {
        let mut addresses = Vec::new();
        for part in text.split(',') {
            let address = part.trim().parse()?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || {
            Error::usage(format!(
                "`{text}` is not an address: write sealwire://HOST:PORT (TLS) or \
                 sealwire+tcp://HOST:PORT (plain TCP), several with commas between them"
            ))
        };
        let (tls, rest) = match text.split_once("://").ok_or_else(bad)? {
            ("sealwire", rest) => (true, rest),
            ("sealwire+tcp", rest) => (false, rest),
            _ => return Err(bad()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(bad)?;
                (host, port.strip_prefix(':'))
            }
            None => match rest.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = port.map_or(Ok(DEFAULT_PORT), str::parse).map_err(|_| bad())?;
        if host.is_empty() || host.contains(['/', '@', ' ', ',']) {
            return Err(bad());
        }
        Ok(Self { tls, host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_nonsense_is_not() {
        let read = |text: &str| text.parse::<Address>().map(|a| (a.tls, a.host, a.port)).ok();
        assert_eq!(read("sealwire://a.example:1"), Some((true, "a.example".into(), 1)));
        assert_eq!(read("sealwire+tcp://127.0.0.1"), Some((false, "127.0.0.1".into(), 7700)));
        assert_eq!(read("sealwire://[::1]:9"), Some((true, "::1".into(), 9)));
        for bad in ["", "a:1", "https://a:1", "sealwire://", "sealwire://a:x", "sealwire://u@a"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(read("sealwire://a,b"), None, "one address, not two");
    }

    #[test]
    fn several_addresses_each_keep_their_own_rule() {
        let list =
            Address::list("sealwire://a:1 ,sealwire+tcp://[::1],\tsealwire://a:1").expect("two");
        let read: Vec<_> = list.iter().map(|a| (a.tls, a.host.as_str(), a.port)).collect();
        assert_eq!(read, [(true, "a", 1), (false, "::1", 7700)]);
        for bad in ["", " ", ",", "sealwire://a,", ",sealwire://a", "sealwire://a;sealwire://b"] {
            assert!(Address::list(bad).is_err(), "{bad}");
        }
    }
}
