//! The client's handle.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sealwire_protocol::message::{
    DecRequest, EncRequest, GenkeyRequest, GenkeyResponse, KeyinfoRequest, KeyinfoResponse,
    PingRequest, ReencRequest,
};
use sealwire_protocol::{Binding, BodyError, Opcode, Suite};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use crate::endpoint::Endpoints;
use crate::pool::Pool;
use crate::{Address, Credentials, Error};

/// Connections of a client, unless set: two lose nothing to one, and with one of them down the other
/// still works.
const CONNECTIONS: usize = 2;

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

/// How a client is made.
pub struct Builder {
    addresses: Vec<String>,
    credentials: Credentials,
    connections: usize,
    ca_pem: Option<Vec<u8>>,
    deadline: Duration,
    connect_timeout: Duration,
    plain_everywhere: bool,
}

impl Builder {
    /// One more address, or several with commas between them, beside those that are there.
    #[must_use]
    pub fn address(mut self, addresses: &str) -> Self {
        self.addresses.push(addresses.to_owned());
        self
    }

    /// Connections that are kept up, spread evenly over the servers; at least one. 2 unless set, for
    /// one server too. More than there are servers only pays when one connection's TLS keeps a
    /// core busy.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// Trusts these authorities under TLS, in PEM, instead of the system's.
    #[must_use]
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pem = Some(pem.into());
        self
    }

    /// Time that a request may take, waiting for a connection and being sent again included. 10
    /// seconds unless set.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Time for a connection, TLS and AUTH included, over all servers that are tried for it: each has
    /// its share. 5 seconds unless set.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Speaks plain TCP beyond loopback, where everybody on the way can read along.
    #[must_use]
    pub fn plain_beyond_loopback(mut self) -> Self {
        self.plain_everywhere = true;
        self
    }

    /// Connects and authenticates. Returns when one connection stands; the others follow by
    /// themselves, and later failures are tried again for as long as the client is there.
    ///
    /// # Errors
    /// Text that is not an address; [AUTH refused](Error::is_auth), by whichever server was asked
    /// first; when no server takes us within the connect timeout, what is clearest of what they said.
    pub async fn connect(self) -> Result<Client, Error> {
        let addresses = Address::list(&self.addresses.join(","))?;
        let endpoints = Endpoints::new(
            addresses,
            self.credentials,
            self.ca_pem.as_deref(),
            self.plain_everywhere,
            self.connect_timeout,
        )?;
        let pool = Pool::open(endpoints, self.connections).await?;
        Ok(Client { pool: Arc::new(pool), deadline: self.deadline })
    }
}

/// A client: cheap to clone, all clones share the connections. See the crate.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
    deadline: Duration,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects and authenticates, with the defaults of [`Builder`]. The address may name several
    /// servers, as [`Address::list`] reads them.
    ///
    /// # Errors
    /// See [`Builder::connect`].
    pub async fn connect(address: &str, credentials: Credentials) -> Result<Self, Error> {
        Self::builder(address, credentials).connect().await
    }

    /// A client to be made, of one address or several with commas between them.
    #[must_use]
    pub fn builder(address: &str, credentials: Credentials) -> Builder {
        Builder {
            addresses: vec![address.to_owned()],
            credentials,
            connections: CONNECTIONS,
            ca_pem: None,
            deadline: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            plain_everywhere: false,
        }
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
        let binding = Binding::aad(aad);
        let (target_index, suite, new_binding) = (0, None, None);
        self.reenc_with(&ReencRequest { target_index, suite, binding, new_binding, envelope }).await
    }

    /// REENC with everything it can say.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn reenc_with(&self, request: &ReencRequest<'_>) -> Result<Bytes, Error> {
        self.ask(Opcode::REENC, |out| request.encode(out)).await
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
        let deadline = Instant::now() + self.deadline;
        let mut body = Zeroizing::new(Vec::new());
        encode(&mut body)?;
        let asked = timeout_at(deadline, self.pool.ask(opcode, body, deadline));
        asked.await.unwrap_or_else(|_| Err(Error::deadline()))
    }
}
