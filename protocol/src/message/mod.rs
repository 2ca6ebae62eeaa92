//! The messages: one kind, one file. A request has `parse` and `encode`; both speak of the frame's
//! body alone, and payloads are borrowed.

mod auth;
mod datakey;
mod dec;
mod enc;
mod failure;
mod genkey;
mod goaway;
mod keyinfo;
mod ping;
mod reenc;

pub use auth::{AuthRequest, AuthResponse, SessionLimits};
pub use datakey::{DATA_KEY_LENGTHS, DatakeyRequest, DatakeyResponse};
pub use dec::DecRequest;
pub use enc::EncRequest;
pub use failure::Failure;
pub use genkey::{GenkeyRequest, GenkeyResponse};
pub use goaway::{Goaway, GoawayReason};
pub use keyinfo::{KeyinfoRequest, KeyinfoResponse};
pub use ping::PingRequest;
pub use reenc::ReencRequest;

use crate::{BodyError, Reader, Suite};

/// A suite's byte, where 0 leaves the choice to the key.
pub(crate) fn optional_suite(reader: &mut Reader<'_>) -> Result<Option<Suite>, BodyError> {
    match reader.u8("suite")? {
        0 => Ok(None),
        id => Suite::from_id(id).map(Some).ok_or(BodyError::Value("suite")),
    }
}

/// The byte of an optional suite.
pub(crate) fn suite_byte(suite: Option<Suite>) -> u8 {
    suite.map_or(0, Suite::id)
}

/// A field behind its 8-bit length.
pub(crate) fn push_short(
    out: &mut Vec<u8>,
    bytes: &[u8],
    limit: usize,
    field: &'static str,
) -> Result<(), BodyError> {
    match u8::try_from(bytes.len()) {
        Ok(length) if bytes.len() <= limit => {
            out.push(length);
            out.extend_from_slice(bytes);
            Ok(())
        }
        _ => Err(BodyError::TooLong { field, length: bytes.len(), limit }),
    }
}

/// A list of suites behind its 8-bit count: each known, none twice.
pub(crate) fn suite_list(reader: &mut Reader<'_>) -> Result<Vec<Suite>, BodyError> {
    let ids = reader.short(Suite::ALL.len(), "suites")?;
    let mut suites = Vec::with_capacity(ids.len());
    for &id in ids {
        let suite = Suite::from_id(id).ok_or(BodyError::Value("suites"))?;
        if suites.contains(&suite) {
            return Err(BodyError::Value("suites"));
        }
        suites.push(suite);
    }
    Ok(suites)
}

/// A list of suites behind its 8-bit count.
pub(crate) fn push_suites(out: &mut Vec<u8>, suites: &[Suite]) -> Result<(), BodyError> {
    let ids: Vec<u8> = suites.iter().map(|suite| suite.id()).collect();
    push_short(out, &ids, Suite::ALL.len(), "suites")
}
