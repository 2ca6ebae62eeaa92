//! A caller: what its connection has said so far, and the words.

use std::sync::Arc;
use std::time::Instant;

use quick_cache::unsync::Cache;
use sealwire_protocol::envelope::Envelope;
use sealwire_protocol::message::{DATA_KEY_LENGTHS, Failure, PingRequest};
use sealwire_protocol::{
    BodyError, ErrorCode, Flags, Frame, Header, Opcode, Reader, frame, limits,
};

use super::Shared;
use super::keys::Keys;
use super::refusal::Refusal;
use crate::audit::AuditWriterKind;
use crate::session::{LocalSession, Workbench};
use crate::wire::audit as bodies;
use crate::wire::message::{self, AuthVerify, Crypt, Figures, Lane};
use crate::wire::{MAX_SESSIONS, Role, failure, unasked, word};
use crate::{
    AuthAttempt, Engine, EngineError, KeyBinding, Purpose, RootKeyId, Site, WRAPPED_LEN, WrappedKey,
};

/// Ciphers that a session keeps for itself. Those of all sessions come from one cache.
const SLOTS: usize = 16;

/// A session that a gateway has named.
struct Named {
    session: LocalSession,
    /// Unix time in seconds.
    expires: u64,
}

/// See the module.
pub(super) struct Caller {
    role: Role,
    peer: String,
    shared: Arc<Shared>,
    site: Option<Site>,
    sessions: Cache<u64, Named>,
    keys: Keys,
    bench: Workbench,
    now: u64,
    done: Figures,
    told_secret: bool,
    pub(super) lane: Lane,
}

impl Caller {
    pub(super) fn new((role, peer): (Role, &str), shared: &Arc<Shared>) -> Self {
        Self {
            role,
            peer: peer.to_owned(),
            shared: shared.clone(),
            site: None,
            sessions: Cache::new(MAX_SESSIONS),
            keys: Keys::new(),
            bench: Workbench::new(),
            now: 0,
            done: Figures::default(),
            told_secret: false,
            lane: Lane::Live,
        }
    }

    fn engine(&self) -> &Arc<Engine> {
        self.shared.custodian.engine()
    }

    /// Called once for each batch of frames.
    pub(super) fn tick(&mut self) {
        self.bench.tick(Instant::now());
        self.now = self.engine().now();
    }

    /// Whether a secret in clear is among the answers since the last time.
    pub(super) fn has_told_secret(&mut self) -> bool {
        std::mem::take(&mut self.told_secret)
    }

    /// Called behind each batch of frames.
    pub(super) fn count(&mut self) {
        self.shared.counters.add(&mut self.done);
    }

    /// The engine was sealed or opened: nothing is kept from before, and the caller is told.
    pub(super) fn engine_changed(&mut self, out: &mut Vec<u8>) {
        self.sessions.clear();
        self.keys = Keys::new();
        let open = frame::begin(out, unasked(word::STATUS));
        self.push_status(out);
        open.finish(out);
    }

    /// Answers a frame.
    pub(super) fn answer(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) {
        let header = frame.header;
        let open = frame::begin(out, Header { flags: Flags::RESPONSE, ..header });
        let start = out.len();
        match self.say(header, frame.body, out) {
            Ok(()) => open.finish(out),
            Err(refusal) => {
                debug_assert!(out.len() == start, "a refused word leaves nothing behind");
                open.cancel(out);
                self.refuse(header, &refusal, out);
            }
        }
    }

    #[cold]
    fn refuse(&mut self, header: Header, refusal: &Refusal, out: &mut Vec<u8>) {
        self.done.refused += 1;
        let (code, detail) = match refusal {
            Refusal::Engine(error) => (failure::code(error), failure::detail(error)),
            Refusal::Code(code, detail) => (*code, detail.clone()),
        };
        match code {
            ErrorCode::ROLE_DENIED => tracing::warn!(
                peer = %self.peer, role = self.role.name(), word = header.opcode.0,
                "a caller's role does not allow its word"
            ),
            ErrorCode::INTERNAL => tracing::error!(peer = %self.peer, detail, "a word failed"),
            _ => tracing::debug!(peer = %self.peer, ?code, detail, "refused"),
        }
        let open = frame::begin(out, Header { flags: Flags::FAILURE, ..header });
        Failure { code, detail: &detail }.encode(out);
        open.finish(out);
    }

    #[inline]
    fn say(&mut self, header: Header, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        if header.flags != Flags::REQUEST {
            return Err(ErrorCode::RESERVED_FLAGS.into());
        }
        if !self.role.may_say(header.opcode) {
            return Err(EngineError::Role.into());
        }
        match header.opcode {
            word::ENC => self.enc(body, out),
            word::DEC => self.dec(body, out),
            word::REENC => self.reenc(body, out),
            word::DATAKEY => self.datakey(body, out),
            _ => self.say_rarer(header.opcode, body, out),
        }
    }

    fn say_rarer(&mut self, opcode: Opcode, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        match opcode {
            Opcode::PING => PingRequest::parse(body)?.encode(out),
            word::STATUS => {
                self.lane = Lane::parse(body)?;
                self.push_status(out);
            }
            word::SITE => self.site = Some(Site::from_bytes(body)?),
            word::SESSION => self.session(body)?,
            word::VERIFY => self.verify(body)?,
            word::CHALLENGE => {
                Reader::new(body).finish()?;
                out.extend_from_slice(&self.engine().challenge(self.site()?)?);
            }
            word::AUTH_VERIFY => self.auth_verify(body, out)?,
            word::LOGIN => self.login(body, out)?,
            word::TOKEN => self.token(body, out)?,
            word::SIGN => self.sign(body, out)?,
            word::MAKE_SITE => {
                Reader::new(body).finish()?;
                out.extend_from_slice(&self.engine().make_site()?.to_bytes());
            }
            word::GENKEY => {
                let mut reader = Reader::new(body);
                let binding = message::read_binding(&mut reader, Purpose::BusinessKey)?;
                reader.finish()?;
                out.extend_from_slice(self.engine().genkey(binding)?.blob());
            }
            word::MAKE_SECRET => self.make_secret(body, out)?,
            word::REWRAP => self.rewrap(body, out)?,
            word::PREVIOUS => {
                Reader::new(body).finish()?;
                let wrapped = self.engine().wrapped_previous()?;
                out.extend_from_slice(&wrapped.binding().uid.to_bytes());
                out.extend_from_slice(wrapped.blob());
            }
            word::ADMIT => {
                let mut reader = Reader::new(body);
                let old = RootKeyId::from_bytes(reader.array("old root key")?);
                let blob = reader.bytes(WRAPPED_LEN, "blob")?;
                reader.finish()?;
                let wrapped = WrappedKey::new(KeyBinding::of_root(old), blob)?;
                self.shared.custodian.admit_previous(&wrapped)?;
            }
            word::FORGET => {
                let mut reader = Reader::new(body);
                let old = RootKeyId::from_bytes(reader.array("old root key")?);
                let new = RootKeyId::from_bytes(reader.array("new root key")?);
                reader.finish()?;
                self.shared.custodian.forget_previous(old, new)?;
            }
            word::PEPPER => {
                let mut reader = Reader::new(body);
                let operator = reader.short(limits::MAX_KEY_NAME, "operator")?;
                let hash = reader.array("hash")?;
                reader.finish()?;
                let operator =
                    std::str::from_utf8(operator).map_err(|_| BodyError::Value("operator"))?;
                out.extend_from_slice(&self.engine().pepper(self.site()?, operator, &hash)?);
            }
            word::AUDIT => self.audit(body, out)?,
            word::AUDIT_CHECK => self.audit_check(body, out)?,
            word::CEREMONIES => {
                let taken = bodies::read_taken(body)?;
                let taken = taken.as_ref().map(|(engine, number)| (*engine, *number));
                let ceremonies = self.shared.custodian.ceremonies(taken)?;
                out.extend_from_slice(&serde_json::to_vec(&ceremonies).expect("plain fields"));
            }
            word::WARRANT => {
                let mut reader = Reader::new(body);
                let warrant = reader.array("warrant")?;
                let statement = std::str::from_utf8(reader.rest())
                    .map_err(|_| BodyError::Value("statement"))?;
                self.engine().check_warrant(statement, &warrant)?;
            }
            _ => return Err(ErrorCode::UNKNOWN_OPCODE.into()),
        }
        Ok(())
    }

    fn push_status(&self, out: &mut Vec<u8>) {
        let status = serde_json::to_vec(&self.shared.status()).expect("plain fields");
        out.extend_from_slice(&status);
    }

    fn site(&self) -> Result<&Site, Refusal> {
        self.site.as_ref().ok_or_else(|| ErrorCode::NO_SESSION.into())
    }

    /// A capability that does not verify leaves no session of its number.
    fn session(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let mut reader = Reader::new(body);
        let number = u64::from_be_bytes(reader.array("session")?);
        self.sessions.remove(&number);
        let capability = message::read_capability(&mut reader)?;
        reader.finish()?;
        let (grants, expires) = self.engine().check_capability(self.site()?, &capability)?;
        let session = LocalSession::new(self.engine().clone(), Arc::new(grants), SLOTS);
        self.sessions.insert(number, Named { session, expires });
        Ok(())
    }

    fn verify(&self, body: &[u8]) -> Result<(), Refusal> {
        let mut reader = Reader::new(body);
        let document = message::read_document(&mut reader)?;
        reader.finish()?;
        let (engine, site) = (self.engine(), self.site()?);
        engine.verify_any(site, &document)?;
        Ok(())
    }

    fn auth_verify(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        self.done.auth += 1;
        let AuthVerify { document, transcript, proof, lifetime } = AuthVerify::parse(body)?;
        let attempt = AuthAttempt { transcript, proof, lifetime };
        let verified = self.engine().auth_verify(self.site()?, &document, &attempt)?;
        out.extend_from_slice(&verified.server_proof);
        message::push_capability(out, &verified.capability);
        Ok(())
    }

    fn login(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        self.done.auth += 1;
        let mut reader = Reader::new(body);
        let token = reader.array("token hash")?;
        let lifetime = u64::from_be_bytes(reader.array("lifetime")?);
        let secret = message::read_long(&mut reader, message::MAX_SECRET_TEXT, "secret")?;
        let document = message::read_document(&mut reader)?;
        reader.finish()?;
        let secret = std::str::from_utf8(secret).map_err(|_| BodyError::Value("secret"))?;
        let shown = (secret, &token);
        let admitted = self.engine().login(self.site()?, &document, shown, lifetime)?;
        message::push_token(out, &admitted.record);
        message::push_capability(out, &admitted.capability);
        Ok(())
    }

    fn token(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        self.done.auth += 1;
        let mut reader = Reader::new(body);
        let token = reader.array("token hash")?;
        let renew = u64::from_be_bytes(reader.array("renewal")?);
        let record = message::read_token(&mut reader)?;
        let document = message::read_document(&mut reader)?;
        reader.finish()?;
        let (token, renew) = ((&record, &token), (renew > 0).then_some(renew));
        let admitted = self.engine().token(self.site()?, &document, token, renew)?;
        message::push_token(out, &admitted.record);
        message::push_capability(out, &admitted.capability);
        Ok(())
    }

    fn sign(&self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let mut reader = Reader::new(body);
        let kind = message::read_kind(&mut reader)?;
        let document = message::read_long(&mut reader, message::MAX_DOCUMENT, "document")?;
        reader.finish()?;
        let (engine, site) = (self.engine(), self.site()?);
        let signed = engine.sign_any(site, kind, document)?;
        out.extend_from_slice(&signed.mac);
        Ok(())
    }

    fn audit(&self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let kind = match self.role {
            Role::Gateway => AuditWriterKind::Gateway,
            Role::Manager => AuditWriterKind::Manager,
            Role::Engine => return Err(EngineError::Role.into()),
        };
        let bodies = bodies::read_records(body)?;
        let signed = self.engine().sign_audit(self.site()?, kind, bodies.into_iter())?;
        out.extend(signed.macs.iter().flatten());
        out.extend_from_slice(&signed.head_mac);
        Ok(())
    }

    fn audit_check(&self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let proofs = bodies::read_proofs(body)?;
        let bad = self.engine().check_audit(self.site()?, proofs.into_iter())?;
        out.push(bad.map_or(u8::MAX, |bad| u8::try_from(bad).expect("batches are short")));
        Ok(())
    }

    fn make_secret(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let mut reader = Reader::new(body);
        let purpose = message::read_purpose(&mut reader)?;
        let app = reader.short(limits::MAX_APP_KEY, "app key")?;
        let version = reader.u32("version")?;
        reader.finish()?;
        let app = std::str::from_utf8(app).map_err(|_| BodyError::Value("app key"))?;
        let (wrapped, secret) = self.engine().make_secret(purpose, app, version)?;
        out.extend_from_slice(&wrapped.binding().uid.to_bytes());
        out.extend_from_slice(wrapped.blob());
        message::push_long(out, secret.as_bytes());
        self.told_secret = true;
        Ok(())
    }

    fn rewrap(&self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let mut reader = Reader::new(body);
        let purpose = message::read_purpose(&mut reader)?;
        let key = message::read_key(reader.rest(), purpose)?;
        if let Some(moved) = self.engine().rewrap(&key)? {
            out.extend_from_slice(moved.blob());
        }
        Ok(())
    }

    #[inline]
    fn enc(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let request = Crypt::parse_enc(body)?;
        let mut named =
            self.sessions.get_mut(&request.session).ok_or(Refusal::from(ErrorCode::NO_SESSION))?;
        in_time(named.expires, self.now)?;
        let key = self.keys.get(request.key)?;
        let suite = request.suite.ok_or(BodyError::Value("suite"))?;
        named.session.enc(&mut self.bench, (key, suite), &request.binding, request.data, out)?;
        self.done.enc += 1;
        Ok(())
    }

    fn datakey(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let request = Crypt::parse_enc(body)?;
        let mut named =
            self.sessions.get_mut(&request.session).ok_or(Refusal::from(ErrorCode::NO_SESSION))?;
        in_time(named.expires, self.now)?;
        let &[length] = request.data else { return Err(BodyError::Value("length").into()) };
        if !DATA_KEY_LENGTHS.contains(&length) {
            return Err(BodyError::Value("length").into());
        }
        let key = self.keys.get(request.key)?;
        let suite = request.suite.ok_or(BodyError::Value("suite"))?;
        named.session.datakey(&mut self.bench, (key, suite), &request.binding, length, out)?;
        self.told_secret = true;
        self.done.enc += 1;
        Ok(())
    }

    #[inline]
    fn dec(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let request = Crypt::parse_dec(body)?;
        let mut named =
            self.sessions.get_mut(&request.session).ok_or(Refusal::from(ErrorCode::NO_SESSION))?;
        in_time(named.expires, self.now)?;
        let envelope = envelope(request.data)?;
        let key = self.keys.get(request.key)?;
        named.session.dec(&mut self.bench, key, &request.binding, &envelope, out)?;
        self.done.dec += 1;
        Ok(())
    }

    fn reenc(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let request = Crypt::parse_reenc(body)?;
        let mut named =
            self.sessions.get_mut(&request.session).ok_or(Refusal::from(ErrorCode::NO_SESSION))?;
        in_time(named.expires, self.now)?;
        let envelope = envelope(request.data)?;
        // Two keys at once: the ring may give one place to both.
        let key: WrappedKey = self.keys.get(request.key)?.clone();
        let (target, new_binding) = request.target.ok_or(BodyError::Value("target"))?;
        let target = self.keys.get(target)?;
        let suite = request.suite.ok_or(BodyError::Value("suite"))?;
        let from = (&key, &envelope, &request.binding);
        named.session.reenc(&mut self.bench, from, (target, suite, &new_binding), out)?;
        self.done.reenc += 1;
        Ok(())
    }
}

#[inline]
fn in_time(expires: u64, now: u64) -> Result<(), EngineError> {
    if now < expires { Ok(()) } else { Err(EngineError::CapabilityExpired) }
}

#[inline]
fn envelope(bytes: &[u8]) -> Result<Envelope<'_>, Refusal> {
    Envelope::parse(bytes)
        .map_err(|error| Refusal::Code(ErrorCode::BAD_ENVELOPE, error.to_string()))
}
