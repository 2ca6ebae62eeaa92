//! GENKEY: make a key, or find the one made before under the same name.

use super::{push_short, push_suites, suite_list};
use crate::{BodyError, Reader, Suite, credential, limits};

/// A request to make a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenkeyRequest<'a> {
    /// The index; 0 takes the next free one of the site's range.
    pub index: u32,
    /// The suites that the key may seal with, the first being its default; empty leaves the choice
    /// to the site.
    pub suites: Vec<Suite>,
    /// The name: see [`credential::key_name`].
    pub name: &'a str,
}

impl<'a> GenkeyRequest<'a> {
    /// Parses a body.
    ///
    /// # Errors
    /// A [`BodyError`] that names the field.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let index = reader.u32("index")?;
        let suites = suite_list(&mut reader)?;
        let name = reader.short(limits::MAX_KEY_NAME, "name")?;
        let name = credential::key_name(name).map_err(|_| BodyError::Value("name"))?;
        reader.finish()?;
        Ok(Self { index, suites, name })
    }

    /// Appends the body.
    ///
    /// # Errors
    /// [`BodyError`] when the name is not one, or too many suites are listed.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        credential::key_name(self.name.as_bytes()).map_err(|_| BodyError::Value("name"))?;
        out.extend_from_slice(&self.index.to_be_bytes());
        push_suites(out, &self.suites)?;
        push_short(out, self.name.as_bytes(), limits::MAX_KEY_NAME, "name")
    }
}

/// The key that was made, or found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenkeyResponse {
    /// The key's index.
    pub index: u32,
    /// The newest version.
    pub version: u32,
    /// The default suite.
    pub suite: Suite,
    /// Whether this request made it.
    pub created: bool,
}

impl GenkeyResponse {
    /// Parses a body.
    ///
    /// # Errors
    /// A [`BodyError`] that names the field.
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let index = reader.u32("index")?;
        let version = reader.u32("version")?;
        let suite = Suite::from_id(reader.u8("suite")?).ok_or(BodyError::Value("suite"))?;
        let created = match reader.u8("created")? {
            0 => false,
            1 => true,
            _ => return Err(BodyError::Value("created")),
        };
        reader.finish()?;
        Ok(Self { index, version, suite, created })
    }

    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.index.to_be_bytes());
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&[self.suite.id(), u8::from(self.created)]);
    }
}
