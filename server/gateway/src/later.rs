//! What cannot be answered at once: requests whose key must be loaded, large messages, GENKEY and
//! KEYINFO. Each runs beside its connection, under a session of its own, and gives a whole reply.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use sealwire_engine::document::Op;
use sealwire_engine::{Done, Session as EngineSession, Tag};
use sealwire_protocol::message::{GenkeyRequest, GenkeyResponse, KeyinfoRequest, KeyinfoResponse};
use sealwire_protocol::{ErrorCode, Flags, Frame, Header, Opcode, frame, limits};
use tracing::Instrument;
use zeroize::Zeroizing;

use crate::figures::FIGURES;
use crate::keyring::Keyring;
use crate::ops::{Need, Stop, Tools, max_message};
use crate::{Gateway, KeyOrder, Refusal};

/// Times that a request may run: both keys of a REENC may have to be loaded, one looked for in a newer
/// version, and both again after a root rotation, with some room for keys that share a place.
const LOADS: usize = 8;

/// A request on its way to a later reply.
pub(crate) struct Job {
    gateway: Arc<Gateway>,
    /// The AppKey of who asks.
    app: String,
    tag: Tag,
    body: Zeroizing<Vec<u8>>,
    work: Work,
    /// Within the connection's: it runs beside that.
    span: tracing::Span,
}

/// The reply to a job.
pub(crate) struct Reply {
    /// What the job held in memory, in bytes.
    pub(crate) held: usize,
    /// A whole frame.
    pub(crate) frame: Zeroizing<Vec<u8>>,
    /// Which request it answers.
    pub(crate) tag: Tag,
    /// Whether it succeeded.
    pub(crate) outcome: Result<(), ErrorCode>,
}

/// What a job works with; it moves to another thread and back.
struct Work {
    engine: EngineSession,
    keyring: Keyring,
}

impl Work {
    /// What an engine of another process has answered.
    async fn answer(&mut self) -> Result<Zeroizing<Vec<u8>>, Stop> {
        self.engine.send();
        let mut answers = self.engine.answers().await;
        let Some(refused) = answers.refused.pop() else {
            let body = answers.frames.get(limits::HEADER_LEN..).unwrap_or_default();
            return Ok(Zeroizing::new(body.to_vec()));
        };
        match refused.client_request().map(|request| request.indexes()) {
            Some(indexes) => Err(self.keyring.refused(refused.error, indexes)),
            None => Err(Stop::Refuse(refused.error.into())),
        }
    }
}

impl Job {
    pub(crate) fn new(
        (gateway, app): (Arc<Gateway>, String),
        engine: EngineSession,
        frame: &Frame<'_>,
        began: Instant,
    ) -> Self {
        let keyring = Keyring::of_request(gateway.directory.clone());
        let body = Zeroizing::new(frame.body.to_vec());
        let tag = Tag::new(frame.header, began);
        let span = tracing::info_span!("request", id = frame.header.request_id);
        Self { gateway, app, tag, body, work: Work { engine, keyring }, span }
    }

    /// What the job holds in memory, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.body.len()
    }

    /// Runs the request, and gives its reply: also when it panics, which would be a bug of ours.
    pub(crate) async fn run(self) -> Reply {
        let (mut tag, held) = (self.tag, self.size());
        let header = tag.header;
        let span = self.span.clone();
        let run = async {
            match header.opcode {
                Opcode::GENKEY => self.genkey().await,
                Opcode::KEYINFO => self.keyinfo().await,
                _ => self.crypt(&mut tag).await,
            }
        };
        let result = AssertUnwindSafe(run.instrument(span)).catch_unwind().await;
        let result = result.unwrap_or_else(|_| Err(ErrorCode::INTERNAL.into()));
        let mut out = Zeroizing::new(Vec::new());
        let outcome = match result {
            Ok(body) => {
                out.reserve_exact(limits::HEADER_LEN + body.len());
                let open = frame::begin(&mut out, Header { flags: Flags::RESPONSE, ..header });
                out.extend_from_slice(&body);
                open.finish(&mut out);
                Ok(())
            }
            Err(refusal) => {
                tracing::debug!(request = header.request_id, %refusal, "refused");
                refusal.write(header, &mut out);
                Err(refusal.code)
            }
        };
        Reply { held, frame: out, tag, outcome }
    }

    async fn genkey(self) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let request = GenkeyRequest::parse(&self.body)?;
        if !self.work.engine.grants().allows(Op::Genkey, request.name) {
            return Err(Refusal::new(ErrorCode::DENIED, "no grant `genkey` covers this name"));
        }
        self.gateway.directory.reachable()?;
        let order = KeyOrder {
            app: self.app,
            name: request.name.to_owned(),
            index: (request.index != 0).then_some(request.index),
            suites: request.suites,
        };
        let made = self.gateway.key_maker.genkey(order).await;
        let made = made.map_err(|error| match error.code {
            // Only these details speak of nothing but the request: others may name keys that the app
            // has no grant for, or rows of the keystore.
            ErrorCode::INDEX_NOT_ALLOWED | ErrorCode::MALFORMED_BODY => {
                Refusal::new(error.code, error.detail)
            }
            code => code.into(),
        })?;
        let mut body = Zeroizing::new(Vec::new());
        let (index, version, suite, created) = (made.index, made.version, made.suite, made.created);
        GenkeyResponse { index, version, suite, created }.encode(&mut body);
        Ok(body)
    }

    async fn keyinfo(self) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let request = KeyinfoRequest::parse(&self.body)?;
        if !self.work.engine.grants().mentions(request.name) {
            return Err(ErrorCode::KEY_NOT_FOUND.into());
        }
        let key = self.gateway.directory.load_by_name(request.name).await?;
        let newest = key.sealing_version().ok_or(ErrorCode::KEY_VERSION_UNAVAILABLE)?;
        let response = KeyinfoResponse {
            index: key.document.index,
            version: newest,
            suites: key.document.suites.clone(),
        };
        let mut body = Zeroizing::new(Vec::new());
        response.encode(&mut body)?;
        Ok(body)
    }

    /// ENC, DEC, REENC, DATAKEY: loads what is needed, then runs; off the runtime's threads when large. Notes the suite.
    async fn crypt(self, tag: &mut Tag) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let Self { gateway, body, mut work, .. } = self;
        let header = tag.header;
        let max_message = max_message(gateway.limits.max_frame);
        let large = !work.engine.is_remote() && body.len() >= gateway.limits.offload;
        let body = Arc::new(body);
        let _turn = match header.flags {
            Flags::BULK if !work.engine.is_remote() => {
                let turn = gateway.bulk.acquire().await;
                tokio::task::yield_now().await;
                Some(turn)
            }
            _ => None,
        };
        // What comes here because of a key that is to be read first, the connection has counted.
        let mut counted = !large && header.flags != Flags::BULK;
        for _ in 0..LOADS {
            let (body, mut noted) = (body.clone(), *tag);
            let run = move || {
                let mut out = Zeroizing::new(Vec::new());
                let Work { engine, keyring } = &mut work;
                let ran = Tools { engine, keyring, max_message }.run(&mut noted, &body, &mut out);
                (work, noted, ran.map(|done| (done, out)))
            };
            let (returned, noted, ran) = if large {
                // It goes on, whether or not somebody still waits for it.
                let turn = gateway.heavy.clone().acquire_owned().await;
                let run = move || {
                    let _turn = turn;
                    run()
                };
                let ran = tokio::task::spawn_blocking(run).await;
                ran.map_err(|_| Refusal::from(ErrorCode::INTERNAL))?
            } else {
                run()
            };
            (work, *tag) = (returned, noted);
            if !std::mem::replace(&mut counted, true) {
                FIGURES.count_lookups(work.keyring.take_lookups());
            }
            match ran {
                Ok((Done::Here, out)) => return Ok(out),
                Ok((Done::Sent, _)) => match work.answer().await {
                    Ok(out) => return Ok(out),
                    Err(Stop::Refuse(refusal)) => return Err(refusal),
                    Err(Stop::Need(need)) => load(&gateway, &mut work.keyring, need).await?,
                },
                Err(Stop::Refuse(refusal)) => return Err(refusal),
                Err(Stop::Need(need)) => load(&gateway, &mut work.keyring, need).await?,
            }
        }
        Err(Refusal::new(ErrorCode::UNAVAILABLE, "the key changes too fast: try again"))
    }
}

async fn load(gateway: &Gateway, keyring: &mut Keyring, need: Need) -> Result<(), Refusal> {
    let index = match need {
        Need::Key(index) => index,
        Need::Newer(index) => {
            keyring.note_looked_again();
            keyring.put(index, gateway.directory.look_again(index).await?);
            return Ok(());
        }
        Need::Rewrapped([one, other]) => {
            keyring.note_reloaded();
            keyring.put(one, gateway.directory.reload(one).await?);
            if one != other {
                keyring.put(other, gateway.directory.reload(other).await?);
            }
            return Ok(());
        }
        Need::Messages(index, suite) => {
            let key = gateway.directory.load(index).await?;
            if let Some(budget) = gateway.directory.budget(&key, suite) {
                budget.refill().await?;
            }
            index
        }
    };
    keyring.put(index, gateway.directory.load(index).await?);
    Ok(())
}
