//! The client's handle.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sealwire_protocol::message::{
    DatakeyRequest, DatakeyResponse, DecRequest, EncRequest, GenkeyRequest, GenkeyResponse,
    KeyinfoRequest, KeyinfoResponse, PingRequest, ReencRequest,
};
use sealwire_protocol::{Binding, BodyError, Opcode, Suite};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::builder::{Builder, capped};
use crate::command::Lane;
use crate::pool::{Pool, Request};
use crate::{Credentials, Error};

/// A key, as the server tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The index: what requests name.
    pub index: u32,
    /// The newest version.
    pub version: u32,
    /// The suites that the key may seal with, the first being its default.
    pub suites: Vec<Suite>,
}

/// A data key. It has no Debug: it is a secret.
pub struct DataKey {
    /// In clear: wiped when it goes.
    pub key: Zeroizing<Vec<u8>>,
    /// Its envelope, for the store.
    pub envelope: Vec<u8>,
}

/// A client: cheap to clone, all clones share the connections. See the crate.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
    deadline: Duration,
    impatient: bool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects and authenticates, with the defaults of [`Builder`]. The address may name several
    /// servers, as [`Address::list`](crate::Address::list) reads them.
    ///
    /// # Errors
    /// See [`Builder::connect`].
    pub async fn connect(address: &str, credentials: Credentials) -> Result<Self, Error> {
        Self::builder(address, credentials).connect().await
    }

    /// A client to be made, of one address or several with commas between them.
    #[must_use]
    pub fn builder(address: &str, credentials: Credentials) -> Builder {
        Builder::new(address, credentials)
    }

    pub(crate) fn new(pool: Pool, deadline: Duration) -> Self {
        Self { pool: Arc::new(pool), deadline: capped(deadline), impatient: false }
    }

    /// The same client with another [deadline](Builder::deadline), for one request or for many: it
    /// shares the connections. A deadline of more than a year is one of a year.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline: capped(deadline), ..self.clone() }
    }

    /// The same client, sharing the connections, for a caller that would rather decide itself: a
    /// refusal that [is retryable](Error::is_retryable) is told once every server that we are
    /// connected to has been asked, instead of being tried again until the deadline.
    #[must_use]
    pub fn with_refusals_at_once(&self) -> Self {
        Self { impatient: true, ..self.clone() }
    }

    /// ENC under the key's default suite: the envelope of `message`, bound to `aad`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn enc(&self, key: u32, aad: &[u8], message: &[u8]) -> Result<Bytes, Error> {
        let binding = Binding::aad(aad);
        self.enc_with(&EncRequest { key_index: key, suite: None, binding, message }).await
    }

    /// ENC with everything it can say.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn enc_with(&self, request: &EncRequest<'_>) -> Result<Bytes, Error> {
        self.ask(Opcode::ENC, |out| request.encode(out)).await
    }

    /// DEC: the message of `envelope`, which was bound to `aad`.
    ///
    /// # Errors
    /// [`Error`]; see [`Error::is_open_failed`].
    pub async fn dec(&self, aad: &[u8], envelope: &[u8]) -> Result<Bytes, Error> {
        self.dec_with(&DecRequest { binding: Binding::aad(aad), envelope }).await
    }

    /// DEC with everything it can say.
    ///
    /// # Errors
    /// [`Error`]; see [`Error::is_open_failed`].
    pub async fn dec_with(&self, request: &DecRequest<'_>) -> Result<Bytes, Error> {
        self.ask(Opcode::DEC, |out| request.encode(out)).await
    }

    /// REENC under the newest version of the same key: a new envelope of the same message.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn reenc(&self, aad: &[u8], envelope: &[u8]) -> Result<Bytes, Error> {
        self.reenc_with(&same_key(aad, envelope)).await
    }

    /// REENC with everything it can say.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn reenc_with(&self, request: &ReencRequest<'_>) -> Result<Bytes, Error> {
        self.ask(Opcode::REENC, |out| request.encode(out)).await
    }

    /// [`reenc`](Self::reenc) for a message that may wait, as when a whole archive is moved to a new
    /// version of its key: servers work on it below live traffic, and it takes no more than a quarter
    /// of a connection. The deadline holds for it, too; [a longer one](Self::with_deadline) is wise.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn reenc_bulk(&self, aad: &[u8], envelope: &[u8]) -> Result<Bytes, Error> {
        self.reenc_bulk_with(&same_key(aad, envelope)).await
    }

    /// [`reenc_bulk`](Self::reenc_bulk) with everything it can say.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn reenc_bulk_with(&self, request: &ReencRequest<'_>) -> Result<Bytes, Error> {
        self.ask_in(Lane::Bulk, Opcode::REENC, |out| request.encode(out)).await
    }

    /// DATAKEY: a fresh key of 32 bytes for something large, an attachment say: in clear, to seal it with and to
    /// be forgotten, and its envelope, to be stored beside it. [`dec`](Self::dec) opens that later.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn datakey(&self, key: u32, aad: &[u8]) -> Result<DataKey, Error> {
        let (binding, suite) = (Binding::aad(aad), None);
        self.datakey_with(&DatakeyRequest { key_index: key, suite, length: 32, binding }).await
    }

    /// DATAKEY with everything it can say.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn datakey_with(&self, request: &DatakeyRequest<'_>) -> Result<DataKey, Error> {
        let body = self.ask(Opcode::DATAKEY, |out| request.encode(out)).await?;
        let DatakeyResponse { data_key, envelope } =
            DatakeyResponse::parse(&body).map_err(|error| Error::protocol(error.to_string()))?;
        if data_key.len() != usize::from(request.length) {
            return Err(Error::protocol("DATAKEY was answered with a key of another length"));
        }
        Ok(DataKey { key: Zeroizing::new(data_key.to_vec()), envelope: envelope.to_vec() })
    }

    /// KEYINFO: a key by its name.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn key(&self, name: &str) -> Result<Key, Error> {
        let body = self.ask(Opcode::KEYINFO, |out| KeyinfoRequest { name }.encode(out)).await?;
        let KeyinfoResponse { index, version, suites } =
            KeyinfoResponse::parse(&body).map_err(|error| Error::protocol(error.to_string()))?;
        Ok(Key { index, version, suites })
    }

    /// GENKEY: makes a key, or finds the one that was made before under the same name. `index` 0
    /// takes the next free one; empty `suites` take the site's.
    ///
    /// Repeating it gives the same key, so it is sent again like any request when its connection
    /// breaks. `created` then tells of the last sending alone: it may be false for a key that an
    /// earlier one has made.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn genkey(
        &self,
        name: &str,
        index: u32,
        suites: &[Suite],
    ) -> Result<GenkeyResponse, Error> {
        let request = GenkeyRequest { index, suites: suites.to_vec(), name };
        let body = self.ask(Opcode::GENKEY, |out| request.encode(out)).await?;
        GenkeyResponse::parse(&body).map_err(|error| Error::protocol(error.to_string()))
    }

    /// PING: the time that it took.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn ping(&self) -> Result<Duration, Error> {
        let begun = Instant::now();
        let request = PingRequest { echo: b"sealwire" };
        let echo = self
            .ask(Opcode::PING, |out| {
                request.encode(out);
                Ok(())
            })
            .await?;
        if echo != request.echo {
            return Err(Error::protocol("PING was answered with other bytes"));
        }
        Ok(begun.elapsed())
    }

    async fn ask(
        &self,
        opcode: Opcode,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), BodyError>,
    ) -> Result<Bytes, Error> {
        self.ask_in(Lane::Live, opcode, encode).await
    }

    async fn ask_in(
        &self,
        lane: Lane,
        opcode: Opcode,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), BodyError>,
    ) -> Result<Bytes, Error> {
        let (deadline, impatient) = (Instant::now() + self.deadline, self.impatient);
        let mut body = Zeroizing::new(Vec::new());
        encode(&mut body)?;
        self.pool.ask(Request { opcode, lane, body, deadline, impatient }).await
    }
}

fn same_key<'a>(aad: &'a [u8], envelope: &'a [u8]) -> ReencRequest<'a> {
    let (target_index, suite, new_binding) = (0, None, None);
    ReencRequest { target_index, suite, binding: Binding::aad(aad), new_binding, envelope }
}
