//! The words that are not on the hot path: one function each.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sealwire_protocol::{Flags, Header, Opcode, Reader, frame};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::batch::{self, Batch, Item, Ticket, Trace, Work};
use super::{Pool, RemoteSession};
use crate::audit::{AuditHead, AuditProof, AuditRecord, AuditSigned};
use crate::custody::Ceremonies;
use crate::document::{self, AppDocument, Document};
use crate::wire::audit as bodies;
use crate::wire::message::{self, AuthVerify, Lane, Status};
use crate::wire::{MAX_FRAME, failure, word};
use crate::{
    Admitted, AuthAttempt, Authenticated, Capability, EngineError, KeyBinding, Purpose, RootKeyId,
    SignedDocument, Site, State, TokenHash, TokenRecord, Uid, Verified, WRAPPED_LEN, Warrant,
    WrappedKey,
};

/// Time for a word, engines that are tried in turn included.
const PATIENCE: Duration = Duration::from_secs(10);

/// The answer to a word, and it ends where it should.
struct Answer(Zeroizing<Vec<u8>>);

impl Answer {
    fn read<T>(
        &self,
        fields: impl FnOnce(&mut Reader<'_>) -> Result<T, sealwire_protocol::BodyError>,
    ) -> Result<T, EngineError> {
        let mut reader = Reader::new(&self.0);
        let read = fields(&mut reader).and_then(|value| reader.finish().map(|()| value));
        read.map_err(|error| EngineError::Away(format!("an engine broke the protocol: {error}")))
    }
}

/// What LOGIN and TOKEN are answered with.
fn admitted(
    app: &SignedDocument,
    answer: Result<Answer, EngineError>,
) -> Result<Admitted, EngineError> {
    let answer = answer.map_err(|error| failure::about(error, (app.kind.name(), &app.id)))?;
    let (record, capability) = answer
        .read(|reader| Ok((message::read_token(reader)?, message::read_capability(reader)?)))?;
    Admitted::new(record, capability, Verified::elsewhere(app)?)
}

impl Pool {
    /// Says a word to an engine, to `engine` if that is named, and waits for the answer.
    async fn call(
        &self,
        opcode: Opcode,
        (site, engine): (Option<&Site>, Option<usize>),
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Answer, EngineError> {
        let mut frames = Zeroizing::new(Vec::new());
        let header = Header { opcode, flags: Flags::REQUEST, request_id: 0 };
        let open = frame::begin(&mut frames, header);
        encode(&mut frames);
        open.finish(&mut frames);
        if frames.len() > MAX_FRAME {
            return Err(EngineError::Document("larger than what an engine takes".into()));
        }
        let items = vec![Item { end: frames.len(), tag: batch::call_tag() }];
        let site = site.map(|site| Arc::from(site.to_bytes()));
        let (origin, mut answers) = mpsc::unbounded_channel();
        let (session, lane) = (None, Lane::Live);
        let batch = Arc::new(Batch { site, session, frames, items, origin, lane, engine });
        self.dispatch_word(Work { batch, range: 0..1, trace: Trace::default() });
        let answer = tokio::time::timeout(PATIENCE, answers.recv()).await;
        let answer = answer.ok().flatten();
        let mut answer = answer.ok_or_else(|| EngineError::Away("no answer in time".into()))?;
        match answer.refused.pop() {
            Some(refused) => Err(refused.error),
            None => Ok(Answer(batch::body(&answer))),
        }
    }

    pub(crate) async fn challenge(&self, site: &Site) -> Result<[u8; 32], EngineError> {
        let answer = self.call(word::CHALLENGE, (Some(site), None), |_| {}).await?;
        answer.read(|reader| reader.array("server nonce"))
    }

    pub(crate) async fn auth_verify(
        &self,
        site: &Site,
        app: &SignedDocument,
        attempt: &AuthAttempt<'_>,
    ) -> Result<Authenticated, EngineError> {
        if app.body.len() > message::MAX_DOCUMENT {
            let (kind, id) = (app.kind.name(), app.id.clone());
            return Err(EngineError::DocumentMac { kind, id });
        }
        let answer = self.call(word::AUTH_VERIFY, (Some(site), None), |out| {
            let rest = (&attempt.proof, attempt.lifetime);
            AuthVerify::encode(out, app, &attempt.transcript, rest);
        });
        let refused = |error| failure::about(error, (app.kind.name(), &app.id));
        let answer = answer.await.map_err(refused)?;
        let (server_proof, capability) = answer.read(|reader| {
            Ok((reader.array("server proof")?, message::read_capability(reader)?))
        })?;
        Ok(Authenticated {
            server_proof,
            capability,
            app: Verified::<AppDocument>::elsewhere(app)?,
        })
    }

    pub(crate) async fn login(
        &self,
        site: &Site,
        app: &SignedDocument,
        (secret, token): (&str, &TokenHash),
        lifetime: u64,
    ) -> Result<Admitted, EngineError> {
        if secret.len() > message::MAX_SECRET_TEXT {
            return Err(EngineError::AuthFailed);
        }
        let say = self.call(word::LOGIN, (Some(site), None), |out| {
            out.extend_from_slice(token);
            out.extend_from_slice(&lifetime.to_be_bytes());
            message::push_long(out, secret.as_bytes());
            message::push_document(out, app);
        });
        admitted(app, say.await)
    }

    pub(crate) async fn token(
        &self,
        site: &Site,
        app: &SignedDocument,
        (record, token): (&TokenRecord, &TokenHash),
        renew: Option<u64>,
    ) -> Result<Admitted, EngineError> {
        let say = self.call(word::TOKEN, (Some(site), None), |out| {
            out.extend_from_slice(token);
            out.extend_from_slice(&renew.unwrap_or(0).to_be_bytes());
            message::push_token(out, record);
            message::push_document(out, app);
        });
        admitted(app, say.await)
    }

    pub(crate) fn session(
        self: &Arc<Self>,
        capability: &Capability,
    ) -> Result<RemoteSession, EngineError> {
        let grants = Arc::new(capability.grants()?);
        let number = self.next_session.fetch_add(1, Ordering::Relaxed);
        let mut body = number.to_be_bytes().to_vec();
        message::push_capability(&mut body, capability);
        Ok(RemoteSession::new(self.clone(), Arc::new(Ticket { number, body }), grants))
    }

    pub(crate) async fn verify<D: Document>(
        &self,
        site: &Site,
        signed: &SignedDocument,
    ) -> Result<Verified<D>, EngineError> {
        let about = (D::KIND.name(), signed.id.as_str());
        if signed.kind != D::KIND || signed.body.len() > message::MAX_DOCUMENT {
            let (kind, id) = (D::KIND.name(), signed.id.clone());
            return Err(EngineError::DocumentMac { kind, id });
        }
        let verify = |out: &mut Vec<u8>| message::push_document(out, signed);
        let answer = self.call(word::VERIFY, (Some(site), None), verify).await;
        answer.map_err(|error| failure::about(error, about))?.read(|_| Ok(()))?;
        Verified::elsewhere(signed)
    }

    pub(crate) async fn sign<D: Document>(
        &self,
        site: &Site,
        document: &D,
    ) -> Result<SignedDocument, EngineError> {
        let body = document::encode(document)?;
        let answer = self.call(word::SIGN, (Some(site), None), |out| {
            out.push(message::kind_number(D::KIND));
            message::push_long(out, &body);
        });
        let mac = answer.await?.read(|reader| reader.array("MAC"))?;
        let (kind, id, revision) = (D::KIND, document.id(), document.revision());
        Ok(SignedDocument { kind, id, revision, body, mac })
    }

    pub(crate) async fn pepper(
        &self,
        site: &Site,
        operator: &str,
        hash: &[u8; 32],
    ) -> Result<[u8; 32], EngineError> {
        let answer = self.call(word::PEPPER, (Some(site), None), |out| {
            out.push(u8::try_from(operator.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(operator.as_bytes());
            out.extend_from_slice(hash);
        });
        answer.await?.read(|reader| reader.array("peppered hash"))
    }

    /// AUDIT: the bodies are those of the records.
    pub(crate) async fn sign_audit(
        &self,
        site: &Site,
        records: &[AuditRecord],
        bodies: &[Vec<u8>],
    ) -> Result<AuditSigned, EngineError> {
        let (Some(record), Some(body)) = (records.last(), bodies.last()) else {
            return Err(EngineError::Document("no audit records".into()));
        };
        let say = |out: &mut Vec<u8>| bodies::push_records(out, bodies);
        let answer = self.call(word::AUDIT, (Some(site), None), say).await?;
        let (macs, head_mac) = answer.read(|reader| {
            let macs = bodies.iter().map(|_| reader.array("MAC")).collect::<Result<_, _>>()?;
            Ok((macs, reader.array("head's MAC")?))
        })?;
        Ok(AuditSigned { macs, head: AuditHead::of(record, body), head_mac })
    }

    pub(crate) async fn check_audit(
        &self,
        site: &Site,
        proofs: &[AuditProof<'_>],
    ) -> Result<Option<usize>, EngineError> {
        let say = |out: &mut Vec<u8>| bodies::push_proofs(out, proofs);
        let answer = self.call(word::AUDIT_CHECK, (Some(site), None), say).await?;
        let bad = answer.read(|reader| reader.u8("first bad one"))?;
        Ok((bad != u8::MAX).then_some(usize::from(bad)))
    }

    /// CEREMONIES, of one engine.
    pub(crate) async fn ceremonies(
        &self,
        engine: usize,
        taken: Option<(&str, u64)>,
    ) -> Result<Ceremonies, EngineError> {
        let say = |out: &mut Vec<u8>| bodies::push_taken(out, taken);
        let answer = self.call(word::CEREMONIES, (None, Some(engine)), say).await?;
        serde_json::from_slice(&answer.0)
            .map_err(|error| EngineError::Away(format!("an engine broke the protocol: {error}")))
    }

    pub(crate) async fn check_warrant(
        &self,
        statement: &str,
        warrant: &Warrant,
    ) -> Result<(), EngineError> {
        let answer = self.call(word::WARRANT, (None, None), |out| {
            out.extend_from_slice(warrant);
            out.extend_from_slice(statement.as_bytes());
        });
        answer.await?.read(|_| Ok(()))
    }

    pub(crate) async fn make_site(&self) -> Result<Site, EngineError> {
        let answer = self.call(word::MAKE_SITE, (None, None), |_| {}).await?;
        let site = Site::from_bytes(&answer.0)?;
        self.check_root(site.root()).map(|()| site)
    }

    pub(crate) async fn genkey(&self, binding: KeyBinding) -> Result<WrappedKey, EngineError> {
        let asked = self
            .call(word::GENKEY, (None, None), |out| message::push_binding(out, &binding))
            .await?;
        let blob: [u8; WRAPPED_LEN] = asked.read(|reader| reader.array("blob"))?;
        self.of_site(WrappedKey::new(binding, &blob)?)
    }

    pub(crate) async fn make_secret(
        &self,
        purpose: Purpose,
        app: &str,
        version: u32,
    ) -> Result<(WrappedKey, Zeroizing<String>), EngineError> {
        let answer = self.call(word::MAKE_SECRET, (None, None), |out| {
            out.push(message::purpose_number(purpose));
            out.push(u8::try_from(app.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(app.as_bytes());
            out.extend_from_slice(&version.to_be_bytes());
        });
        let (uid, blob, secret) = answer.await?.read(|reader| {
            let uid: [u8; 16] = reader.array("uid")?;
            let blob: [u8; WRAPPED_LEN] = reader.array("blob")?;
            let secret = message::read_long(reader, 256, "secret")?;
            let secret = std::str::from_utf8(secret)
                .map_err(|_| sealwire_protocol::BodyError::Value("secret"))?;
            Ok((Uid::from_bytes(uid), blob, Zeroizing::new(secret.to_owned())))
        })?;
        let wrapped = WrappedKey::new(KeyBinding::of_secret(purpose, app, uid, version), &blob)?;
        Ok((self.of_site(wrapped)?, secret))
    }

    pub(crate) async fn rewrap(
        &self,
        wrapped: &WrappedKey,
    ) -> Result<Option<WrappedKey>, EngineError> {
        let answer = self.call(word::REWRAP, (None, None), |out| {
            out.push(message::purpose_number(wrapped.binding().purpose));
            message::push_key(out, wrapped);
        });
        let blob = answer.await?.0;
        if blob.is_empty() {
            return Ok(None);
        }
        self.of_site(WrappedKey::new(wrapped.binding().clone(), &blob)?).map(Some)
    }

    /// Passes on a wrapped key that an engine has made, when it is wrapped under a root key of the site: one
    /// that another engine could not open would be lost.
    fn of_site(&self, wrapped: WrappedKey) -> Result<WrappedKey, EngineError> {
        self.check_root(wrapped.root()).map(|()| wrapped)
    }

    fn check_root(&self, found: RootKeyId) -> Result<(), EngineError> {
        match self.roots() {
            Some((root, previous)) if found == root || Some(found) == previous => Ok(()),
            Some((held, _)) => Err(EngineError::OtherRoot { found, held }),
            None => Err(EngineError::Sealed),
        }
    }

    /// What every engine has told, when all can be reached and are open.
    fn all_open(&self) -> Result<Vec<(usize, Status)>, EngineError> {
        let mut all = Vec::with_capacity(self.engines.len());
        for (number, engine) in self.engines.iter().enumerate() {
            match engine.status().clone() {
                Some(status) if matches!(status.state, State::Open { .. }) => {
                    all.push((number, status));
                }
                Some(_) => {
                    return Err(EngineError::Away(format!("engine {} is sealed", engine.address)));
                }
                None => {
                    return Err(EngineError::Away(format!(
                        "engine {} cannot be reached",
                        engine.address
                    )));
                }
            }
        }
        Ok(all)
    }

    /// The root keys of the engines that are open: the newest, and, in a root rotation, the one before.
    pub(crate) fn roots(&self) -> Option<(RootKeyId, Option<RootKeyId>)> {
        let State::Open { root } = self.state() else { return None };
        let statuses = self.engines.iter().filter_map(|engine| engine.status().clone());
        let mut of_root = statuses.filter(|status| status.state == State::Open { root });
        Some((root, of_root.find_map(|status| status.previous)))
    }

    pub(crate) fn is_rotating(&self) -> bool {
        let mut statuses = self.engines.iter().filter_map(|engine| engine.status().clone());
        statuses.any(|status| status.rotating)
    }

    /// The root key of before, once every engine of the site holds both.
    pub(crate) async fn wrapped_previous(&self) -> Result<WrappedKey, EngineError> {
        let all = self.all_open()?;
        let first = all.first().map(|(_, status)| (status.state, status.previous));
        let differs = all.iter().find(|(_, status)| {
            Some((status.state, status.previous)) != first || status.previous.is_none()
        });
        if let Some((number, _)) = differs {
            let address = &self.engines[*number].address;
            return Err(EngineError::Away(format!(
                "engine {address} does not hold both root keys of the rotation: let it take part (`sealwire root rotate`)"
            )));
        }
        let answer = self.call(word::PREVIOUS, (None, None), |_| {}).await?;
        let (old, blob): ([u8; 16], [u8; WRAPPED_LEN]) =
            answer.read(|reader| Ok((reader.array("old root key")?, reader.array("blob")?)))?;
        WrappedKey::new(KeyBinding::of_root(RootKeyId::from_bytes(old)), &blob)
    }

    /// Gives the root key of before to every engine that lacks it.
    pub(crate) async fn admit_previous(
        &self,
        old: RootKeyId,
        blob: &[u8],
    ) -> Result<(), EngineError> {
        for (number, status) in self.all_open()? {
            if status.previous.is_none() {
                self.call(word::ADMIT, (None, Some(number)), |out| {
                    out.extend_from_slice(&old.to_bytes());
                    out.extend_from_slice(blob);
                })
                .await?;
            }
        }
        Ok(())
    }

    /// Has every engine forget the root key of before.
    pub(crate) async fn forget_previous(
        &self,
        old: RootKeyId,
        new: RootKeyId,
    ) -> Result<(), EngineError> {
        for (number, status) in self.all_open()? {
            if status.previous.is_none() && status.state == (State::Open { root: new }) {
                continue;
            }
            let forgot = self
                .call(word::FORGET, (None, Some(number)), |out| {
                    out.extend_from_slice(&old.to_bytes());
                    out.extend_from_slice(&new.to_bytes());
                })
                .await;
            forgot?;
            // Until it tells so itself, a moment later.
            if let Some(status) = self.engines[number].status().as_mut() {
                status.previous = None;
                status.rotating = false;
            }
        }
        Ok(())
    }
}
