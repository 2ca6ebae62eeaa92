//! The client's handle.

use std::time::Duration;

use bytes::Bytes;
use sealwire_protocol::message::{
    DecRequest, EncRequest, GenkeyRequest, GenkeyResponse, KeyinfoRequest, KeyinfoResponse,
    PingRequest, ReencRequest,
};
use sealwire_protocol::{Binding, BodyError, Opcode, Suite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::connect::Connector;
use crate::driver::{self, Command};
use crate::{Address, Credentials, Error};

/// Requests that wait for the connection before callers have to.
const QUEUE: usize = 1024;

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
    address: String,
    credentials: Credentials,
    ca_pem: Option<Vec<u8>>,
    deadline: Duration,
    connect_timeout: Duration,
    plain_everywhere: bool,
}

impl Builder {
    /// Trusts these authorities under TLS, in PEM, instead of the system's.
    #[must_use]
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pem = Some(pem.into());
        self
    }

    /// Time that a request may take, waiting for a connection included. 10 seconds unless set.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Time for a connection, TLS and AUTH included. 5 seconds unless set.
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

    /// Connects and authenticates. A first connection that fails is an error; later ones are tried
    /// again.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn connect(self) -> Result<Client, Error> {
        let address: Address = self.address.parse()?;
        let connector = Connector::new(address, self.ca_pem.as_deref(), self.plain_everywhere)?;
        let (sender, commands) = mpsc::channel(QUEUE);
        let driver =
            driver::Driver::new(connector, self.credentials, self.connect_timeout, commands);
        driver.start().await?;
        Ok(Client { sender, deadline: self.deadline })
    }
}

/// A client: cheap to clone, all clones share one connection. See the crate.
#[derive(Clone)]
pub struct Client {
    sender: mpsc::Sender<Command>,
    deadline: Duration,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects and authenticates, with the defaults of [`Builder`].
    ///
    /// # Errors
    /// [`Error`].
    pub async fn connect(address: &str, credentials: Credentials) -> Result<Self, Error> {
        Self::builder(address, credentials).connect().await
    }

    /// A client to be made.
    #[must_use]
    pub fn builder(address: &str, credentials: Credentials) -> Builder {
        Builder {
            address: address.to_owned(),
            credentials,
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
        let mut body = Vec::new();
        encode(&mut body)?;
        let (reply, answer) = oneshot::channel();
        let command = Command { opcode, body, reply, deadline };
        let asked = timeout_at(deadline, async {
            self.sender.send(command).await.map_err(|_| Error::closed())?;
            answer.await.map_err(|_| Error::closed())?
        });
        asked.await.unwrap_or_else(|_| Err(Error::deadline()))
    }
}
