//! Grants: which operations on which keys. What is not granted is denied.

use std::{fmt, str::FromStr};

use sealwire_protocol::{credential, limits};
use serde::{Deserialize, Serialize};

/// An operation that can be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// Seal messages.
    Enc = 1,
    /// Open envelopes.
    Dec = 2,
    /// Seal again under the same key.
    Reenc = 4,
    /// Make keys of these names.
    Genkey = 8,
    /// Have data keys made: in clear for the app, and sealed under the key.
    Datakey = 16,
    /// Manage keys over HTTP: make, rotate, set, and ask for their destruction.
    Manage = 32,
}

impl Op {
    const ALL: [Self; 6] =
        [Self::Enc, Self::Dec, Self::Reenc, Self::Genkey, Self::Datakey, Self::Manage];

    const fn name(self) -> &'static str {
        match self {
            Self::Enc => "enc",
            Self::Dec => "dec",
            Self::Reenc => "reenc",
            Self::Genkey => "genkey",
            Self::Datakey => "datakey",
            Self::Manage => "manage",
        }
    }
}

/// A set of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ops(u8);

impl Ops {
    /// Whether `op` is in the set.
    #[must_use]
    #[inline]
    pub const fn contains(self, op: Op) -> bool {
        self.0 & op as u8 != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    const fn with(self, op: Op) -> Self {
        Self(self.0 | op as u8)
    }

    const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Which keys: a name, or the beginning of names followed by `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// The key of this name.
    Name(String),
    /// Every key whose name begins so; `*` alone is every key.
    Prefix(String),
}

impl Pattern {
    /// Whether the pattern covers the key of this name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(exact) => exact == name,
            Self::Prefix(prefix) => name.starts_with(prefix),
        }
    }
}

/// Whether the name of a key may begin so.
fn may_begin_a_name(prefix: &str) -> bool {
    let strange =
        |letter: char| letter.is_control() || letter.is_whitespace() || matches!(letter, '*' | '>');
    prefix.len() <= limits::MAX_KEY_NAME && !prefix.chars().any(strange)
}

impl FromStr for Pattern {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let bad = || GrantError(text.to_owned());
        match text.strip_suffix('*') {
            Some("") => Ok(Self::Prefix(String::new())),
            Some(prefix) if may_begin_a_name(prefix) => Ok(Self::Prefix(prefix.to_owned())),
            Some(_) => Err(bad()),
            None => {
                credential::key_name(text.as_bytes()).map_err(|_| bad())?;
                Ok(Self::Name(text.to_owned()))
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// One grant, in text `enc,dec:KEY` or `reenc:A>B`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Grant {
    /// Operations on keys.
    Keys {
        /// The operations.
        ops: Ops,
        /// The keys.
        keys: Pattern,
    },
    /// REENC from one key to another: it opens A to whoever reads B.
    Cross {
        /// The key that the envelopes are sealed under.
        from: Pattern,
        /// The key that they are sealed under afterwards.
        to: Pattern,
    },
}

/// A text that is not a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a grant: write operations (enc, dec, reenc, genkey, datakey, manage; separated by \
     commas), a colon and a key's name, `PREFIX*` or `*`, as in `enc,dec:chat`; or `reenc:A>B` for REENC from A to B"
)]
pub struct GrantError(pub String);

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let bad = || GrantError(text.to_owned());
        let (ops, keys) = text.split_once(':').ok_or_else(bad)?;
        if let Some((from, to)) = keys.split_once('>') {
            if ops != Op::Reenc.name() {
                return Err(bad());
            }
            let pattern = |text: &str| text.parse().map_err(|_| bad());
            return Ok(Self::Cross { from: pattern(from)?, to: pattern(to)? });
        }
        let mut set = Ops::default();
        for name in ops.split(',') {
            let op = Op::ALL.into_iter().find(|op| op.name() == name).ok_or_else(bad)?;
            set = set.with(op);
        }
        Ok(Self::Keys { ops: set, keys: keys.parse().map_err(|_| bad())? })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cross { from, to } => write!(f, "reenc:{from}>{to}"),
            Self::Keys { ops, keys } => {
                let names: Vec<_> =
                    Op::ALL.into_iter().filter(|op| ops.contains(*op)).map(Op::name).collect();
                write!(f, "{}:{keys}", names.join(","))
            }
        }
    }
}

impl TryFrom<String> for Grant {
    type Error = GrantError;

    fn try_from(text: String) -> Result<Self, GrantError> {
        text.parse()
    }
}

impl From<Grant> for String {
    fn from(grant: Grant) -> Self {
        grant.to_string()
    }
}

/// All grants of an app. Empty denies everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Grants(pub Vec<Grant>);

impl Grants {
    /// The operations that are granted on the key of this name.
    #[must_use]
    pub fn ops(&self, name: &str) -> Ops {
        self.0.iter().fold(Ops::default(), |ops, grant| match grant {
            Grant::Keys { ops: granted, keys } if keys.matches(name) => ops.union(*granted),
            _ => ops,
        })
    }

    /// Whether `op` is granted on the key of this name.
    #[must_use]
    pub fn allows(&self, op: Op, name: &str) -> bool {
        self.ops(name).contains(op)
    }

    /// Whether REENC from one key to another is granted.
    #[must_use]
    pub fn allows_cross(&self, from_name: &str, to_name: &str) -> bool {
        self.0.iter().any(|grant| match grant {
            Grant::Cross { from, to } => from.matches(from_name) && to.matches(to_name),
            Grant::Keys { .. } => false,
        })
    }

    /// Whether anything at all is granted on the key of this name: only then may its existence show.
    #[must_use]
    pub fn mentions(&self, name: &str) -> bool {
        self.0.iter().any(|grant| match grant {
            Grant::Keys { keys, .. } => keys.matches(name),
            Grant::Cross { from, to } => from.matches(name) || to.matches(name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(texts: &[&str]) -> Grants {
        Grants(texts.iter().map(|text| text.parse().expect(text)).collect())
    }

    #[test]
    fn a_grant_survives_its_text_form() {
        for text in [
            "enc:chat",
            "enc,dec,reenc:im-*",
            "genkey:*",
            "datakey,manage:k",
            "reenc:a>b",
            "reenc:im-*>x",
        ] {
            assert_eq!(text.parse::<Grant>().expect(text).to_string(), text);
        }
        assert_eq!("dec,enc:k".parse::<Grant>().expect("grant").to_string(), "enc,dec:k");
    }

    #[test]
    fn what_is_no_grant_is_refused() {
        for text in ["", "enc", "enc:", ":k", "all:k", "enc:42", "enc:a>b", "enc:a*b", "enc,:k"] {
            assert!(text.parse::<Grant>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_granted_is_denied() {
        let grants = grants(&["enc:chat", "dec:im-*", "reenc:old>new"]);
        assert!(grants.allows(Op::Enc, "chat"));
        assert!(!grants.allows(Op::Dec, "chat"));
        assert!(grants.allows(Op::Dec, "im-1"));
        assert!(!grants.allows(Op::Dec, "im"));
        assert!(grants.allows_cross("old", "new"));
        assert!(!grants.allows_cross("new", "old"));
        assert!(!grants.allows(Op::Reenc, "old"));
        assert!(!Grants::default().mentions("chat"));
    }
}
