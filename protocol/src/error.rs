//! The error registry: one table makes the constants, the names, the text and spec.md's table.

use std::fmt;

/// Who is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What the client sent was wrong: sending it again will fail again.
    Client,
    /// The server could not do what it should: not the client's doing.
    Server,
    /// The request was sound, and is not allowed.
    Policy,
}

impl Fault {
    /// The word in spec.md's table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Policy => "policy",
        }
    }
}

/// One row of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorInfo {
    /// The number on the wire.
    pub code: ErrorCode,
    /// The name.
    pub name: &'static str,
    /// Who is at fault.
    pub fault: Fault,
    /// Whether the server closes the connection after it.
    pub fatal: bool,
    /// Whether the same request may succeed later, or on another connection.
    pub retry: bool,
    /// What it means.
    pub meaning: &'static str,
}

/// The number of an error. Numbers that this version does not know are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(pub u16);

macro_rules! registry {
    ($($number:literal $name:ident $fault:ident $fatal:literal $retry:literal $meaning:literal;)+) => {
        impl ErrorCode {
            $(#[doc = $meaning] pub const $name: Self = Self($number);)+
        }

        /// Every error that this version knows, in the order of the numbers.
        pub const REGISTRY: &[ErrorInfo] = &[$(ErrorInfo {
            code: ErrorCode($number),
            name: stringify!($name),
            fault: Fault::$fault,
            fatal: $fatal,
            retry: $retry,
            meaning: $meaning,
        },)+];
    };
}

// number, name, fault, fatal, retry, meaning
registry! {
    1 UNSUPPORTED_VERSION Client true false "the protocol version is not spoken here";
    2 MALFORMED_FRAME Client true false "the header is broken: length below 12, or request id 0";
    3 FRAME_TOO_LARGE Client true false "the frame is larger than agreed";
    4 RESERVED_FLAGS Client false false "a flag is set that a request must not carry";
    5 UNKNOWN_OPCODE Client false false "the opcode is not known";
    6 MALFORMED_BODY Client false false "a field is missing, too long, not allowed, or followed by more bytes";
    16 AUTH_REQUIRED Client true false "something other than AUTH came before AUTH had succeeded";
    17 AUTH_FAILED Policy true false "AUTH was refused; why is in the server's log alone";
    18 AUTH_STATE Client true false "AUTH came out of order, or after it had succeeded";
    19 TLS_REQUIRED Policy true false "plain TCP is not served here: connect with TLS";
    20 SESSION_ENDED Policy true true "the app was changed or disabled, or the session has reached its lifetime: log in again";
    32 KEY_NOT_FOUND Policy false false "no such key, or no grant for this operation on it";
    33 KEY_VERSION_UNAVAILABLE Policy false false "that version of the key does not exist or may not be used for this";
    34 SUITE_NOT_ALLOWED Policy false false "the key does not allow this suite";
    35 KEY_CONFLICT Client false false "another key has this name or this index";
    36 INDEX_NOT_ALLOWED Policy false false "the index is outside the site's range, or none is free";
    37 DENIED Policy false false "the app has no grant for this operation";
    38 KEY_EXHAUSTED Policy false true "this version has sealed as many messages as the suite allows: a new version is on its way";
    39 KEY_STATE Client false false "the state of the key does not allow this change";
    40 CONTEXT_REQUIRED Client false false "the key seals nothing without a context";
    48 BAD_ENVELOPE Client false false "the bytes are not an envelope";
    49 OPEN_FAILED Client false false "the envelope does not open: changed bytes, another key, another context or AAD";
    50 MESSAGE_TOO_LARGE Client false false "the message is longer than frames allow: at most max_frame - 16,464 bytes";
    64 TOO_MANY_CONNECTIONS Server true true "no connection is free, here or for this source";
    65 TIMEOUT Client true true "AUTH, a started frame, or taking an answer took too long";
    66 IDLE Policy true true "the connection was idle for too long";
    80 SEALED Server false true "the engine is sealed: it waits for its key cards";
    81 UNAVAILABLE Server false true "the keystore, the manager or the engines are away";
    82 INTERNAL Server false false "the server failed in a way it should not; its log tells more";
    83 SHUTTING_DOWN Server true true "the server is stopping";
    96 ROLE_DENIED Policy false false "the role of the caller's certificate does not allow this word";
    97 OTHER_ROOT Server false true "wrapped under another root key than this engine's; the detail names the engine's";
    98 NOT_UNWRAPPED Server false false "a wrapped key does not open: it, or what it is bound to, was changed";
    99 NOT_VERIFIED Policy false false "a document does not verify: it was changed, added or moved";
    100 NOT_SOUND Client false false "a document says what no document may say";
    101 PROOF_REFUSED Policy false false "the client's proof is not good, or its app may not log in";
    102 NO_CAPABILITY Policy false false "the capability does not verify";
    103 CAPABILITY_EXPIRED Policy false false "the capability is past its time";
    104 NO_SESSION Client false true "no such session, or no site, was named on this connection";
    105 NO_ROTATION Client false false "no root rotation is under way in this engine, or another one";
    106 NO_WARRANT Policy false false "no quorum of the site's key cards has allowed this";
    107 NO_TOKEN Policy false false "the token is not good, or its app may not use it any more";
    112 SIGN_IN_NEEDED Client false false "the management service wants to know who calls: sign in, or name a token";
    113 SIGN_IN_REFUSED Policy false false "name or password is wrong, or the operator is disabled";
    114 SLOW_DOWN Policy false true "too many wrong passwords from there: wait, and try again";
    115 ROLE_NEEDED Policy false false "the operator's roles do not cover this, or a person must do it";
    116 SECOND_PERSON Policy false false "somebody else than who has asked must approve it";
    117 AUDIT_UNAVAILABLE Server false true "what is done cannot be recorded, so it is not done";
}

impl ErrorCode {
    /// The row of the registry, for numbers that this version knows.
    #[must_use]
    pub fn info(self) -> Option<&'static ErrorInfo> {
        REGISTRY
            .binary_search_by_key(&self.0, |info| info.code.0)
            .ok()
            .and_then(|position| REGISTRY.get(position))
    }

    /// The name, or `UNKNOWN`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.info().map_or("UNKNOWN", |info| info.name)
    }

    /// Whether the connection is closed after it. Unknown numbers are not fatal by themselves.
    #[must_use]
    pub fn is_fatal(self) -> bool {
        self.info().is_some_and(|info| info.fatal)
    }

    /// Whether the same request may succeed later, or on another connection.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        self.info().is_some_and(|info| info.retry)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.info() {
            Some(info) => write!(f, "{} ({}): {}", info.name, self.0, info.meaning),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_so_that_the_search_finds_each() {
        assert!(REGISTRY.is_sorted_by(|a, b| a.code < b.code));
        for info in REGISTRY {
            assert_eq!(info.code.info(), Some(info));
        }
        assert_eq!(ErrorCode(999).info(), None);
    }
}
