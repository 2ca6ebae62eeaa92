//! encrypt, decrypt, rewrap, datakey: each message becomes a frame of TCP, and its reply a piece of JSON.

use std::borrow::Cow;
use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::StatusCode;
use sealwire_engine::document::Op;
use sealwire_protocol::message::{
    DatakeyRequest, DatakeyResponse, DecRequest, EncRequest, ReencRequest,
};
use sealwire_protocol::{Binding, Envelope, ErrorCode, Opcode};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::answer::{self, Answer, Problem};
use super::batch;
use super::body::Room;
use super::connection::{self, Caller};
use super::dispatch::Call;
use super::input::{self, push_base64};
use super::keys;
use super::lenient::{Flag, Number, Text};
use crate::Refusal;
use crate::directory::KeyEntry;
use crate::later::Job;
use crate::ops::max_message;

/// The beginning of every ciphertext in its text form: `vault:vN:` and the envelope, base64.
const PREFIX: &str = "vault:v";

/// What a call carries, and each item of its batch.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default)]
    pub(super) plaintext: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) ciphertext: Option<Text<'a>>,
    #[serde(borrow, default)]
    context: Option<Text<'a>>,
    #[serde(borrow, default)]
    associated_data: Option<Text<'a>>,
    #[serde(borrow, default)]
    nonce: Option<Text<'a>>,
    #[serde(default)]
    key_version: Option<Number>,
    #[serde(borrow, default)]
    pub(super) reference: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) batch_input: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) partial_failure_response_code: Option<Number>,
    /// For a key that is yet to be made.
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(default)]
    convergent_encryption: Option<Flag>,
    /// The length of a data key.
    #[serde(default)]
    bits: Option<Number>,
}

impl Message<'_> {
    /// Refuses what is left out here.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let given = |text: &Option<Text<'_>>| text.as_ref().is_some_and(|text| !text.0.is_empty());
        if given(&self.nonce) {
            return Err(malformed("`nonce`: the server draws it; leave it out"));
        }
        if self.convergent_encryption == Some(Flag(true)) {
            return Err(malformed("`convergent_encryption` is not served here"));
        }
        Ok(())
    }
}

/// What is done to each message of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Encrypt,
    Decrypt,
    Rewrap,
}

impl Deed {
    const fn op(self) -> Op {
        match self {
            Self::Encrypt => Op::Enc,
            Self::Decrypt => Op::Dec,
            Self::Rewrap => Op::Reenc,
        }
    }

    /// Appends the fields of a result.
    fn push(self, out: &mut Vec<u8>, reply: &[u8]) {
        match self {
            Self::Encrypt | Self::Rewrap => push_ciphertext(out, reply),
            Self::Decrypt => push_plaintext(out, reply),
        }
    }
}

/// Does the messages of a call.
pub(super) async fn run(
    call: &Call<'_>,
    (deed, name): (Deed, &str),
    body: &[u8],
    room: &mut Option<Room>,
) -> Result<Answer, Problem> {
    call.caller.check(deed.op(), name)?;
    let message: Message<'_> = input::aside(call, body.len(), || input::parse(body)).await?;
    message.check()?;
    let list = message.batch_input.filter(|list| list.get() != "null");
    let kind = message.kind.as_ref().map(|kind| &*kind.0);
    keys::suites_of(kind)?;
    let key = match look_up(call, name).await? {
        Some(key) => key,
        None if deed == Deed::Encrypt && call.caller.grants().allows(Op::Manage, name) => {
            Box::pin(check_worth(call, &message, list)).await?;
            Box::pin(keys::make(call, name, kind)).await?;
            find(call, name).await?
        }
        None => return Err(unknown()),
    };
    if let Some(list) = list {
        return Box::pin(batch::run(call, (deed, &key), &message, (list, room))).await;
    }
    let mut data = Vec::with_capacity(body.len() + 128);
    data.push(b'{');
    one(&call.caller, (deed, &key), &message, &mut data).await?;
    data.push(b'}');
    Ok(answer::of_json(StatusCode::OK, answer::envelope(call.id, &data, &[])))
}

const NO_PLAINTEXT: &str = "missing plaintext to encrypt";
const TOO_NEW: &str = "requested version for encryption is higher than the latest key version";

fn unknown() -> Problem {
    Problem::bad("encryption key not found")
}

async fn look_up(call: &Call<'_>, name: &str) -> Result<Option<Arc<KeyEntry>>, Problem> {
    match call.caller.find(&call.connection.shared.gateway.directory, name).await {
        Ok(key) => Ok(Some(key)),
        Err(refusal) if refusal.code == ErrorCode::KEY_NOT_FOUND => Ok(None),
        Err(refusal) => Err(refusal.into()),
    }
}

/// A key on which the app has a grant.
///
/// # Errors
/// 400 when there is none.
pub(super) async fn find(call: &Call<'_>, name: &str) -> Result<Arc<KeyEntry>, Problem> {
    look_up(call, name).await?.ok_or_else(unknown)
}

/// Whether a key is to be made: for a message that can be sealed under it, or a list with one.
async fn check_worth(
    call: &Call<'_>,
    message: &Message<'_>,
    list: Option<&RawValue>,
) -> Result<(), Problem> {
    let shared = &call.connection.shared;
    let longest = max_message(shared.gateway.limits.max_frame);
    let Some(list) = list else { return Ok(check_sound(message, longest)?) };
    let most = shared.limits.max_items;
    let parse = || input::parse_list(list, most);
    let items: Vec<Message<'_>> = input::aside(call, list.get().len(), parse).await?;
    let mut first = Err(Problem::bad("missing batch input to process"));
    for (number, item) in items.iter().enumerate() {
        match check_sound(item, longest) {
            Ok(()) => return Ok(()),
            Err(refusal) if number == 0 => first = Err(refusal.into()),
            Err(_) => {}
        }
    }
    first
}

/// Whether a message of at most `longest` bytes could be sealed under a new key.
fn check_sound(message: &Message<'_>, longest: usize) -> Result<(), Refusal> {
    message.check()?;
    if message.key_version.is_some_and(|Number(version)| version > 1) {
        return Err(malformed(TOO_NEW));
    }
    let bound = Bound::of(message)?;
    let request = EncRequest { key_index: 1, suite: None, binding: bound.binding(), message: &[] };
    request.encode(&mut Vec::new())?;
    let mut plain = Zeroizing::new(Vec::new());
    let plaintext = message.plaintext.as_ref();
    decoded(&mut plain, &plaintext.ok_or_else(|| malformed(NO_PLAINTEXT))?.0, "plaintext")?;
    if plain.len() > longest { Err(ErrorCode::MESSAGE_TOO_LARGE.into()) } else { Ok(()) }
}

/// Does one message, and appends the fields of its result.
///
/// # Errors
/// [`Refusal`]; then `out` is as it was before.
pub(super) async fn one(
    caller: &Caller,
    (deed, key): (Deed, &KeyEntry),
    message: &Message<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Refusal> {
    if let Some(job) = start(caller, (deed, key), message, out)? {
        let reply = Box::pin(caller.finish(job)).await;
        deed.push(out, connection::body(&reply)?);
    }
    Ok(())
}

fn start(
    caller: &Caller,
    (deed, key): (Deed, &KeyEntry),
    message: &Message<'_>,
    out: &mut Vec<u8>,
) -> Result<Option<Box<Job>>, Refusal> {
    let bound = Bound::of(message)?;
    let binding = bound.binding();
    if deed != Deed::Decrypt {
        check_version(key, message.key_version)?;
    }
    let take = |reply: &[u8]| deed.push(out, reply);
    match deed {
        Deed::Encrypt => {
            let plaintext = message.plaintext.as_ref();
            let plaintext = &plaintext.ok_or_else(|| malformed(NO_PLAINTEXT))?.0;
            let key_index = key.document.index;
            let request = EncRequest { key_index, suite: None, binding, message: &[] };
            let encode = |frame: &mut Vec<u8>| {
                request.encode(frame)?;
                decoded(frame, plaintext, "plaintext")
            };
            caller.start(Opcode::ENC, encode, take)
        }
        Deed::Decrypt => {
            let request = DecRequest { binding, envelope: &[] };
            let encode = |frame: &mut Vec<u8>| {
                request.encode(frame)?;
                push_envelope(frame, message, key)
            };
            caller.start(Opcode::DEC, encode, take)
        }
        Deed::Rewrap => {
            let (target_index, suite, new_binding) = (0, None, None);
            let request = ReencRequest { target_index, suite, binding, new_binding, envelope: &[] };
            let encode = |frame: &mut Vec<u8>| {
                request.encode(frame)?;
                push_envelope(frame, message, key)
            };
            caller.start(Opcode::REENC, encode, take)
        }
    }
}

pub(super) async fn datakey(
    call: &Call<'_>,
    name: &str,
    in_clear: bool,
    body: &[u8],
) -> Result<Answer, Problem> {
    call.caller.check(Op::Datakey, name)?;
    let wish: Message<'_> = input::parse(body)?;
    wish.check()?;
    let length = match wish.bits.map_or(256, |bits| bits.0) {
        128 => 16,
        256 => 32,
        512 => 64,
        _ => return Err(Problem::bad("invalid bit length: 128, 256 or 512")),
    };
    let key = find(call, name).await?;
    check_version(&key, wish.key_version)?;
    let bound = Bound::of(&wish)?;
    let (key_index, binding) = (key.document.index, bound.binding());
    let request = DatakeyRequest { key_index, suite: None, length, binding };
    let mut reply = Zeroizing::new(Vec::new());
    let encode = |frame: &mut Vec<u8>| Ok(request.encode(frame)?);
    let take = |body: &[u8]| reply.extend_from_slice(body);
    if let Some(job) = call.caller.start(Opcode::DATAKEY, encode, take)? {
        let frame = call.caller.finish(job).await;
        reply.extend_from_slice(connection::body(&frame)?);
    }
    let DatakeyResponse { data_key, envelope } =
        DatakeyResponse::parse(&reply).map_err(Refusal::from)?;
    let mut data = vec![b'{'];
    push_ciphertext(&mut data, envelope);
    if in_clear {
        data.push(b',');
        push_plaintext(&mut data, data_key);
    }
    data.push(b'}');
    Ok(answer::of_json(StatusCode::OK, answer::envelope(call.id, &data, &[])))
}

/// What a message is bound to, decoded.
struct Bound {
    context: Vec<u8>,
    aad: Vec<u8>,
}

impl Bound {
    fn of(message: &Message<'_>) -> Result<Self, Refusal> {
        let read = |text: &Option<Text<'_>>, what| {
            let mut bytes = Vec::new();
            if let Some(Text(text)) = text {
                decoded(&mut bytes, text, what)?;
            }
            Ok::<_, Refusal>(bytes)
        };
        let context = read(&message.context, "context")?;
        Ok(Self { context, aad: read(&message.associated_data, "associated_data")? })
    }

    fn binding(&self) -> Binding<'_> {
        Binding { context: &self.context, aad: &self.aad }
    }
}

fn malformed(detail: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(ErrorCode::MALFORMED_BODY, detail)
}

fn decoded(out: &mut Vec<u8>, text: &str, what: &str) -> Result<(), Refusal> {
    push_base64(out, text).map_err(|error| malformed(format!("{what}: not base64: {error}")))
}

/// Whether the version that seals is the one that is asked for, if one is.
fn check_version(key: &KeyEntry, wish: Option<Number>) -> Result<(), Refusal> {
    let Some(Number(wish)) = wish.filter(|wish| wish.0 > 0) else { return Ok(()) };
    let newest = key.document.versions.len() as u64;
    if wish > newest {
        return Err(malformed(TOO_NEW));
    }
    if key.sealing_version().map(u64::from) != Some(wish) {
        return Err(malformed("only the newest version encrypts: leave key_version out"));
    }
    Ok(())
}

/// Appends the envelope that a ciphertext stands for, when it is one of this key.
fn push_envelope(
    frame: &mut Vec<u8>,
    message: &Message<'_>,
    key: &KeyEntry,
) -> Result<(), Refusal> {
    let bad = |detail: &'static str| Refusal::new(ErrorCode::BAD_ENVELOPE, detail);
    let text = message.ciphertext.as_ref().map_or("", |text| &*text.0);
    if text.is_empty() {
        return Err(malformed("missing ciphertext to decrypt"));
    }
    let rest = text.strip_prefix(PREFIX).ok_or_else(|| bad("invalid ciphertext: no prefix"))?;
    let (version, base64) =
        rest.split_once(':').ok_or_else(|| bad("invalid ciphertext: wrong number of fields"))?;
    let version: u32 = version
        .parse()
        .map_err(|_| bad("invalid ciphertext: version number could not be decoded"))?;
    let start = frame.len();
    push_base64(frame, base64).map_err(|_| bad("invalid ciphertext: could not decode base64"))?;
    let header = Envelope::parse(&frame[start..])?.header;
    if header.key_version != version {
        return Err(bad("invalid ciphertext: its version is not that of its envelope"));
    }
    if header.key_index != key.document.index {
        return Err(bad("invalid ciphertext: it was sealed under another key"));
    }
    Ok(())
}

/// Appends the fields of a ciphertext.
fn push_ciphertext(out: &mut Vec<u8>, envelope: &[u8]) {
    let version = envelope.get(6..10).and_then(|bytes| bytes.try_into().ok());
    let version = u32::from_be_bytes(version.unwrap_or_default());
    let mut digits = itoa::Buffer::new();
    let version = digits.format(version).as_bytes();
    out.extend_from_slice(b"\"ciphertext\":\"");
    out.extend_from_slice(PREFIX.as_bytes());
    out.extend_from_slice(version);
    out.push(b':');
    append_base64(out, envelope);
    out.extend_from_slice(b"\",\"key_version\":");
    out.extend_from_slice(version);
}

/// Appends the field of a plaintext.
fn push_plaintext(out: &mut Vec<u8>, message: &[u8]) {
    out.extend_from_slice(b"\"plaintext\":\"");
    append_base64(out, message);
    out.push(b'"');
}

fn append_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]);
    out.truncate(start + written.expect("there is room for it"));
}
