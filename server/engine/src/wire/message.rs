//! The bodies of the words (spec.md, "Engine protocol"). Payloads are borrowed; a length is compared
//! with its limit before anything is stored.

use sealwire_protocol::auth::{Channel, Proof, Transcript};
use sealwire_protocol::message::SessionLimits;
use sealwire_protocol::{Binding, BodyError, Reader, Suite, limits};
use serde::{Deserialize, Serialize};

use crate::custody::Custodian;
use crate::document::DocumentKind;
use crate::{
    Capability, KeyBinding, Purpose, RootKeyId, SignedDocument, State, TokenRecord, Uid,
    WRAPPED_LEN, WrappedKey,
};

/// Longest document, in bytes.
pub const MAX_DOCUMENT: usize = 1024 * 1024;

/// Longest capability, in bytes.
const MAX_CAPABILITY: usize = 1024 * 1024;

/// Longest record of a token, in bytes, its MAC apart.
const MAX_TOKEN: usize = 1024;

/// Longest text of a secret, in bytes.
pub(crate) const MAX_SECRET_TEXT: usize = 256;

const TRANSPORT_TCP: u8 = 0;
const TRANSPORT_TLS: u8 = 1;

/// What an engine is like. JSON: fields that a reader does not know are passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Sealed or open.
    #[serde(flatten)]
    pub state: State,
    /// The root key that a rotation leaves behind; `None` when none is under way, or while sealed.
    pub previous: Option<RootKeyId>,
    /// Whether a rotation is under way, be the engine sealed or not.
    pub rotating: bool,
    /// Key cards that are still to be shown to open it; `None` when it is open, never had a root key, or a card is
    /// being shown just now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<u8>,
    /// Unix time in seconds of the last opening or sealing.
    pub since: u64,
    /// The engine's version.
    pub version: String,
    /// What it has done since its start.
    pub figures: Figures,
}

impl Status {
    /// What the engine of a custodian is like, which has done this much.
    pub(crate) fn of(custodian: &Custodian, figures: Figures) -> Self {
        let engine = custodian.engine();
        Self {
            state: engine.state(),
            previous: engine.roots().and_then(|(_, previous)| previous),
            rotating: custodian.is_rotating(),
            missing: custodian.cards_missing(),
            since: engine.since(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            figures,
        }
    }
}

/// What an engine has done since its start, and holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Messages sealed, ENC, and data keys, DATAKEY.
    pub enc: u64,
    /// Envelopes opened, DEC.
    pub dec: u64,
    /// Envelopes sealed again, REENC.
    pub reenc: u64,
    /// Logins verified, good or not.
    pub auth: u64,
    /// Requests refused, of any word.
    pub refused: u64,
    /// Connections that are open.
    pub connections: u64,
    /// Expanded ciphers that are kept.
    pub ciphers: u64,
}

/// What a connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Live traffic.
    Live = 0,
    /// What may wait: REENC in bulk. Half of an engine's cores work on it at most.
    Bulk = 1,
    /// Long messages of live traffic, which short ones do not wait for.
    Long = 2,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 3] = [Self::Live, Self::Bulk, Self::Long];

    /// The body of STATUS.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let lane = match reader.u8("lane")? {
            0 => Self::Live,
            1 => Self::Bulk,
            2 => Self::Long,
            _ => return Err(BodyError::Value("lane")),
        };
        reader.finish()?;
        Ok(lane)
    }
}

/// A wrapped key on the wire: its purpose apart.
pub(crate) fn push_key(out: &mut Vec<u8>, key: &WrappedKey) {
    push_binding(out, key.binding());
    out.extend_from_slice(key.blob());
}

pub(crate) fn push_binding(out: &mut Vec<u8>, binding: &KeyBinding) {
    out.extend_from_slice(&binding.uid.to_bytes());
    out.extend_from_slice(&binding.index.to_be_bytes());
    out.extend_from_slice(&binding.version.to_be_bytes());
    let length = u8::try_from(binding.name.len()).expect("names have at most 128 bytes");
    out.push(length);
    out.extend_from_slice(binding.name.as_bytes());
}

pub(crate) fn read_binding(
    reader: &mut Reader<'_>,
    purpose: Purpose,
) -> Result<KeyBinding, BodyError> {
    let uid = Uid::from_bytes(reader.array("uid")?);
    let (index, version) = (reader.u32("index")?, reader.u32("version")?);
    let name = reader.short(limits::MAX_KEY_NAME, "name")?;
    let name = std::str::from_utf8(name).map_err(|_| BodyError::Value("name"))?.to_owned();
    Ok(KeyBinding { purpose, uid, index, version, name })
}

/// The bytes of a wrapped key, not looked into: what a connection keeps keys by.
pub(crate) fn raw_key<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], BodyError> {
    let whole = reader.clone().rest();
    reader.bytes(24, "uid, index, version")?;
    reader.short(limits::MAX_KEY_NAME, "name")?;
    reader.bytes(WRAPPED_LEN, "blob")?;
    let length = whole.len() - reader.clone().rest().len();
    Ok(&whole[..length])
}

/// A wrapped key from its bytes.
pub(crate) fn read_key(raw: &[u8], purpose: Purpose) -> Result<WrappedKey, BodyError> {
    let mut reader = Reader::new(raw);
    let binding = read_binding(&mut reader, purpose)?;
    let blob = reader.bytes(WRAPPED_LEN, "blob")?;
    reader.finish()?;
    WrappedKey::new(binding, blob).map_err(|_| BodyError::Value("blob"))
}

/// Reads a purpose's number.
pub(crate) fn read_purpose(reader: &mut Reader<'_>) -> Result<Purpose, BodyError> {
    let number = usize::from(reader.u8("purpose")?);
    let purpose = number.checked_sub(1).and_then(|at| Purpose::ALL.get(at));
    purpose.copied().ok_or(BodyError::Value("purpose"))
}

/// The number of a purpose.
pub(crate) fn purpose_number(purpose: Purpose) -> u8 {
    let at = Purpose::ALL.iter().position(|known| *known == purpose);
    at.and_then(|at| u8::try_from(at + 1).ok()).expect("every purpose is listed")
}

/// A document and its MAC.
pub(crate) fn push_document(out: &mut Vec<u8>, signed: &SignedDocument) {
    out.push(kind_number(signed.kind));
    let id = signed.id.as_bytes();
    let id = &id[..id.len().min(usize::from(u8::MAX))];
    out.push(u8::try_from(id.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(id);
    out.extend_from_slice(&signed.revision.to_be_bytes());
    out.extend_from_slice(&signed.mac);
    push_long(out, &signed.body);
}

pub(crate) fn read_document(reader: &mut Reader<'_>) -> Result<SignedDocument, BodyError> {
    let kind = read_kind(reader)?;
    let id = reader.short(usize::from(u8::MAX), "id")?;
    let id = std::str::from_utf8(id).map_err(|_| BodyError::Value("id"))?.to_owned();
    let revision = u64::from_be_bytes(reader.array("revision")?);
    let mac = reader.array("MAC")?;
    let body = read_long(reader, MAX_DOCUMENT, "document")?.to_vec();
    Ok(SignedDocument { kind, id, revision, body, mac })
}

pub(crate) fn kind_number(kind: DocumentKind) -> u8 {
    let at = DocumentKind::ALL.iter().position(|known| *known == kind);
    at.and_then(|at| u8::try_from(at + 1).ok()).expect("every kind is listed")
}

pub(crate) fn read_kind(reader: &mut Reader<'_>) -> Result<DocumentKind, BodyError> {
    let number = usize::from(reader.u8("kind")?);
    let kind = number.checked_sub(1).and_then(|at| DocumentKind::ALL.get(at));
    kind.copied().ok_or(BodyError::Value("kind"))
}

/// A field behind its 32-bit length.
pub(crate) fn push_long(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("fields are shorter than a frame");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

pub(crate) fn read_long<'a>(
    reader: &mut Reader<'a>,
    limit: usize,
    field: &'static str,
) -> Result<&'a [u8], BodyError> {
    let length = usize::try_from(reader.u32(field)?).unwrap_or(usize::MAX);
    if length > limit {
        return Err(BodyError::TooLong { field, length, limit });
    }
    reader.bytes(length, field)
}

/// A capability, behind its MAC.
pub(crate) fn push_capability(out: &mut Vec<u8>, capability: &Capability) {
    out.extend_from_slice(&capability.mac);
    push_long(out, &capability.body);
}

pub(crate) fn read_capability(reader: &mut Reader<'_>) -> Result<Capability, BodyError> {
    let mac = reader.array("MAC")?;
    let body = read_long(reader, MAX_CAPABILITY, "capability")?.to_vec();
    Ok(Capability { body, mac })
}

/// A token's record, behind its MAC.
pub(crate) fn push_token(out: &mut Vec<u8>, record: &TokenRecord) {
    out.extend_from_slice(&record.mac);
    push_long(out, &record.body);
}

pub(crate) fn read_token(reader: &mut Reader<'_>) -> Result<TokenRecord, BodyError> {
    let mac = reader.array("MAC")?;
    let body = read_long(reader, MAX_TOKEN, "token record")?.to_vec();
    Ok(TokenRecord { body, mac })
}

/// AUTH_VERIFY: what both sides of an AUTH have said, and the app's document.
pub(crate) struct AuthVerify<'a> {
    pub(crate) document: SignedDocument,
    pub(crate) transcript: Transcript<'a>,
    pub(crate) proof: Proof,
    pub(crate) lifetime: u64,
}

impl<'a> AuthVerify<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let channel = match reader.u8("transport")? {
            TRANSPORT_TCP => Channel::Tcp,
            TRANSPORT_TLS => Channel::Tls(reader.array("channel binding")?),
            _ => return Err(BodyError::Value("transport")),
        };
        let client_nonce = reader.array("client nonce")?;
        let server_nonce = reader.array("server nonce")?;
        let session = SessionLimits {
            max_frame: reader.u32("max frame")?,
            max_in_flight: reader.u32("max in flight")?,
            session_seconds: reader.u32("session seconds")?,
        };
        let app_key = reader.short(limits::MAX_APP_KEY, "app key")?;
        let proof = reader.array("proof")?;
        let lifetime = u64::from_be_bytes(reader.array("lifetime")?);
        let document = read_document(&mut reader)?;
        reader.finish()?;
        let transcript =
            Transcript { channel, client_nonce, server_nonce, app_key, limits: session };
        Ok(Self { document, transcript, proof, lifetime })
    }

    pub(crate) fn encode(
        out: &mut Vec<u8>,
        document: &SignedDocument,
        transcript: &Transcript<'_>,
        (proof, lifetime): (&Proof, u64),
    ) {
        match &transcript.channel {
            Channel::Tcp => out.push(TRANSPORT_TCP),
            Channel::Tls(binding) => {
                out.push(TRANSPORT_TLS);
                out.extend_from_slice(binding);
            }
        }
        out.extend_from_slice(&transcript.client_nonce);
        out.extend_from_slice(&transcript.server_nonce);
        out.extend_from_slice(&transcript.limits.to_bytes());
        let app_key = &transcript.app_key[..transcript.app_key.len().min(limits::MAX_APP_KEY)];
        out.push(u8::try_from(app_key.len()).expect("at most 64 bytes"));
        out.extend_from_slice(app_key);
        out.extend_from_slice(proof);
        out.extend_from_slice(&lifetime.to_be_bytes());
        push_document(out, document);
    }
}

/// ENC, DEC, REENC, DATAKEY: what they have in common, and what each adds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crypt<'a> {
    /// The number that a SESSION on this connection has given.
    pub(crate) session: u64,
    /// The key that opens, or, for ENC and DATAKEY, that seals.
    pub(crate) key: &'a [u8],
    pub(crate) binding: Binding<'a>,
    /// What seals again: REENC alone.
    pub(crate) target: Option<(&'a [u8], Binding<'a>)>,
    /// What it seals with; DEC takes the envelope's.
    pub(crate) suite: Option<Suite>,
    /// A message, or an envelope; for DATAKEY the length of the data key, in one byte.
    pub(crate) data: &'a [u8],
}

impl<'a> Crypt<'a> {
    #[inline]
    pub(crate) fn parse_enc(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let session = u64::from_be_bytes(reader.array("session")?);
        let key = raw_key(&mut reader)?;
        let suite = Some(read_suite(&mut reader)?);
        let binding = Binding::read(&mut reader)?;
        Ok(Self { session, key, binding, target: None, suite, data: reader.rest() })
    }

    #[inline]
    pub(crate) fn parse_dec(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let session = u64::from_be_bytes(reader.array("session")?);
        let key = raw_key(&mut reader)?;
        let binding = Binding::read(&mut reader)?;
        Ok(Self { session, key, binding, target: None, suite: None, data: reader.rest() })
    }

    #[inline]
    pub(crate) fn parse_reenc(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let session = u64::from_be_bytes(reader.array("session")?);
        let key = raw_key(&mut reader)?;
        let binding = Binding::read(&mut reader)?;
        let target = raw_key(&mut reader)?;
        let suite = Some(read_suite(&mut reader)?);
        let target = Some((target, Binding::read(&mut reader)?));
        Ok(Self { session, key, binding, target, suite, data: reader.rest() })
    }
}

#[inline]
fn read_suite(reader: &mut Reader<'_>) -> Result<Suite, BodyError> {
    Suite::from_id(reader.u8("suite")?).ok_or(BodyError::Value("suite"))
}

#[inline]
pub(crate) fn push_enc(
    out: &mut Vec<u8>,
    session: u64,
    key: &WrappedKey,
    (suite, binding): (Suite, &Binding<'_>),
    message: &[u8],
) -> Result<(), BodyError> {
    out.reserve(8 + 256 + message.len());
    out.extend_from_slice(&session.to_be_bytes());
    push_key(out, key);
    out.push(suite.id());
    binding.write(out)?;
    out.extend_from_slice(message);
    Ok(())
}

#[inline]
pub(crate) fn push_dec(
    out: &mut Vec<u8>,
    session: u64,
    key: &WrappedKey,
    binding: &Binding<'_>,
    envelope: &[u8],
) -> Result<(), BodyError> {
    out.reserve(8 + 256 + envelope.len());
    out.extend_from_slice(&session.to_be_bytes());
    push_key(out, key);
    binding.write(out)?;
    out.extend_from_slice(envelope);
    Ok(())
}

pub(crate) fn push_reenc(
    out: &mut Vec<u8>,
    session: u64,
    (key, binding): (&WrappedKey, &Binding<'_>),
    (target, suite, new_binding): (&WrappedKey, Suite, &Binding<'_>),
    envelope: &[u8],
) -> Result<(), BodyError> {
    out.reserve(8 + 512 + envelope.len());
    out.extend_from_slice(&session.to_be_bytes());
    push_key(out, key);
    binding.write(out)?;
    push_key(out, target);
    out.push(suite.id());
    new_binding.write(out)?;
    out.extend_from_slice(envelope);
    Ok(())
}
