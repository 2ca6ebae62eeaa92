//! KEYINFO: find a key by its name.

use super::{push_short, push_suites, suite_list};
use crate::{BodyError, Reader, Suite, credential, limits};

/// A request for a key's index, newest version and suites. Any grant on the key allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyinfoRequest<'a> {
    /// The name: see [`credential::key_name`].
    pub name: &'a str,
}

impl<'a> KeyinfoRequest<'a> {
    /// Parses a body.
    ///
    /// # Errors
    /// A [`BodyError`] that names the field.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let name = reader.short(limits::MAX_KEY_NAME, "name")?;
        let name = credential::key_name(name).map_err(|_| BodyError::Value("name"))?;
        reader.finish()?;
        Ok(Self { name })
    }

    /// Appends the body.
    ///
    /// # Errors
    /// [`BodyError`] when the name is not one.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        credential::key_name(self.name.as_bytes()).map_err(|_| BodyError::Value("name"))?;
        push_short(out, self.name.as_bytes(), limits::MAX_KEY_NAME, "name")
    }
}

/// What the server tells of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyinfoResponse {
    /// The key's index.
    pub index: u32,
    /// The newest version.
    pub version: u32,
    /// The suites that the key may seal with, the first being its default; never empty.
    pub suites: Vec<Suite>,
}

impl KeyinfoResponse {
    /// Parses a body.
    ///
    /// # Errors
    /// A [`BodyError`] that names the field.
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let index = reader.u32("index")?;
        let version = reader.u32("version")?;
        let suites = suite_list(&mut reader)?;
        if suites.is_empty() {
            return Err(BodyError::Value("suites"));
        }
        reader.finish()?;
        Ok(Self { index, version, suites })
    }

    /// Appends the body.
    ///
    /// # Errors
    /// [`BodyError`] when more suites are listed than there are.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        out.extend_from_slice(&self.index.to_be_bytes());
        out.extend_from_slice(&self.version.to_be_bytes());
        push_suites(out, &self.suites)
    }
}
