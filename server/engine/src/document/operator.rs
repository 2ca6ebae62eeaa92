//! The document of an operator: a person who manages the site.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{Document, DocumentKind};

/// Longest name of an operator or a token, in bytes.
pub const MAX_OPERATOR_NAME: usize = 64;

/// Most tokens that an operator has at once.
pub const MAX_TOKENS: usize = 16;

/// Bytes of an operator's and of a token's random id.
const ID_LEN: usize = 12;

/// Bounds of what checking a password may cost: a document must not be able to fill the memory of who reads it.
const MAX_MEMORY_KIB: u32 = 1 << 20;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 16;

/// What an operator may do. The table of `docs/manager.md` says which calls that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperatorRole {
    /// Makes and manages keys.
    KeyAdmin,
    /// Makes and manages apps.
    AppAdmin,
    /// Sees everything, the audit among it, and changes nothing.
    Auditor,
    /// Leads root rotations, and makes and manages operators.
    RootOfficer,
}

impl OperatorRole {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::KeyAdmin, Self::AppAdmin, Self::Auditor, Self::RootOfficer];

    /// The name in documents and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeyAdmin => "key-admin",
            Self::AppAdmin => "app-admin",
            Self::Auditor => "auditor",
            Self::RootOfficer => "root-officer",
        }
    }
}

impl std::str::FromStr for OperatorRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        let names = || Self::ALL.map(Self::name).join(", ");
        found.ok_or_else(|| format!("`{text}` is not a role: {}", names()))
    }
}

impl std::fmt::Display for OperatorRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether an operator may sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperatorState {
    /// They may.
    Active,
    /// They may not, and their sessions and tokens are good for nothing.
    Disabled,
}

/// Whether a text has the form of an operator's id.
#[must_use]
pub fn is_operator_id(text: &str) -> bool {
    check_id(text, "op_").is_ok()
}

/// A password, hashed with Argon2id (RFC 9106), and with a key of the engine over it (PEPPER): who reads the
/// database cannot try passwords.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasswordHash {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
    /// 16 random bytes, base64.
    pub salt: String,
    /// What PEPPER has made of the hash: 32 bytes, base64.
    pub hash: String,
    /// Unix time in seconds at which the password was set.
    pub set: u64,
    /// Whether somebody else has chosen it: then its owner can do nothing but change it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub foreign: bool,
}

impl PasswordHash {
    /// The salt.
    #[must_use]
    pub fn salt(&self) -> Option<[u8; 16]> {
        STANDARD.decode(&self.salt).ok()?.try_into().ok()
    }

    /// The hash.
    #[must_use]
    pub fn hash(&self) -> Option<[u8; 32]> {
        STANDARD.decode(&self.hash).ok()?.try_into().ok()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let sound = (1..=MAX_LANES).contains(&self.lanes)
            && (1..=MAX_PASSES).contains(&self.passes)
            && (8 * self.lanes..=MAX_MEMORY_KIB).contains(&self.memory_kib);
        if !sound {
            return Err("the cost of the password is out of bounds".into());
        }
        if self.salt().is_none() || self.hash().is_none() {
            return Err("the password's salt or hash has another length".into());
        }
        Ok(())
    }
}

/// A token of an operator, for programs. Only its hash is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorToken {
    /// Which one it is: `tk_` and 24 hexadecimal digits.
    pub id: String,
    /// What it is for, in the operator's words.
    pub name: String,
    /// SHA-256 of the token, base64.
    pub digest: String,
    /// What it may do: no more than its operator.
    pub roles: Vec<OperatorRole>,
    /// Unix time in seconds of its making.
    pub created: u64,
    /// Unix time in seconds from which it is no longer taken.
    pub expires: u64,
}

impl OperatorToken {
    /// The token's hash.
    #[must_use]
    pub fn digest(&self) -> Option<[u8; 32]> {
        STANDARD.decode(&self.digest).ok()?.try_into().ok()
    }

    fn check(&self) -> Result<(), String> {
        check_id(&self.id, "tk_")?;
        check_name(&self.name)?;
        check_roles(&self.roles)?;
        if self.digest().is_none() {
            return Err("a token's hash has another length".into());
        }
        Ok(())
    }
}

/// The document of an operator.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorDocument {
    /// Always [`DocumentKind::Operator`].
    #[serde(rename = "type")]
    pub kind: DocumentKind,
    /// `op_` and 24 hexadecimal digits.
    pub id: String,
    /// See [`Document::revision`].
    pub revision: u64,
    /// The name to sign in with.
    pub name: String,
    /// Whether they may sign in.
    pub state: OperatorState,
    /// Unix time in seconds of its making.
    pub created: u64,
    /// What they may do, in the order of [`OperatorRole::ALL`]; empty denies everything.
    pub roles: Vec<OperatorRole>,
    /// The password.
    pub password: PasswordHash,
    /// How often they were disabled: a session of before is over.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u32,
    /// Tokens.
    pub tokens: Vec<OperatorToken>,
}

impl Document for OperatorDocument {
    const KIND: DocumentKind = DocumentKind::Operator;

    fn kind(&self) -> DocumentKind {
        self.kind
    }

    fn id(&self) -> String {
        self.id.clone()
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn number(&self) -> Option<u32> {
        None
    }

    fn due(&self) -> Option<u64> {
        None
    }

    fn check(&self) -> Result<(), String> {
        check_id(&self.id, "op_")?;
        check_name(&self.name)?;
        check_roles(&self.roles)?;
        self.password.check()?;
        if self.tokens.len() > MAX_TOKENS {
            return Err(format!("an operator has at most {MAX_TOKENS} tokens"));
        }
        self.tokens.iter().try_for_each(OperatorToken::check)?;
        let mut ids: Vec<_> = self.tokens.iter().map(|token| &token.id).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() < self.tokens.len() {
            return Err("two tokens have one id".into());
        }
        Ok(())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

pub(super) fn check_id(id: &str, prefix: &str) -> Result<(), String> {
    let digits = id.strip_prefix(prefix).unwrap_or_default();
    let lower = digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if digits.len() == 2 * ID_LEN && lower {
        return Ok(());
    }
    Err(format!("an id is `{prefix}` and {} hexadecimal digits", 2 * ID_LEN))
}

/// Whether an operator could be called so.
///
/// # Errors
/// What is wrong, in words.
pub fn check_operator_name(name: &str) -> Result<(), String> {
    check_name(name)
}

pub(super) fn check_name(name: &str) -> Result<(), String> {
    let sound = !name.is_empty()
        && name.len() <= MAX_OPERATOR_NAME
        && name.trim() == name
        && !name.chars().any(char::is_control);
    if sound {
        return Ok(());
    }
    Err(format!(
        "a name has 1 to {MAX_OPERATOR_NAME} bytes, no control characters, and no space at its ends"
    ))
}

/// Each role once, in their order: so that a document has one encoding.
pub(super) fn check_roles(roles: &[OperatorRole]) -> Result<(), String> {
    if roles.is_sorted_by(|one, next| one < next) {
        return Ok(());
    }
    Err("roles stand once each, in their order".into())
}
