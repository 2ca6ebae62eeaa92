//! The officer's side of the ceremony socket.

use std::io;
use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use super::{PresentedCard, Request, Response, ShownCard, read_line, write_line};
use crate::custody::{CeremonyKind, Confirmed, Opened, Shown, Status};
use crate::{RootKeyId, Warrant};

/// Why a ceremony did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CeremonyError {
    /// The engine could not be reached.
    #[error("ceremony socket {path}: is the engine running?")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the ceremony socket failed: has the engine ended?")]
    Io(#[from] io::Error),
    /// The engine refused.
    #[error("{0}")]
    Refused(String),
    /// The engine does not know what has become of it.
    #[error("{0}")]
    Uncertain(String),
    /// The passphrase does not open the card; another one may.
    #[error("{0}")]
    WrongPassphrase(String),
    /// The answer was not one.
    #[error("the engine's answer was not understood: are both programs of one version?")]
    Answer,
}

/// The officer's side of the ceremony socket.
#[derive(Debug, Clone)]
pub struct CeremonyClient {
    path: PathBuf,
}

impl CeremonyClient {
    /// Speaks to the engine behind this socket.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What an officer may know.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn status(&self) -> Result<Status, CeremonyError> {
        match self.connect().await?.ask(&Request::Status).await? {
            Response::Status(status) => Ok(status),
            _ => Err(CeremonyError::Answer),
        }
    }

    /// Seals the engine.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn seal(&self) -> Result<(), CeremonyError> {
        match self.connect().await?.ask(&Request::Seal).await? {
            Response::Sealed => Ok(()),
            _ => Err(CeremonyError::Answer),
        }
    }

    /// Shows a card to unseal.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn unseal(&self, card: &[u8], passphrase: &str) -> Result<Opened, CeremonyError> {
        let request = Request::Unseal(PresentedCard::new(card, passphrase));
        match self.connect().await?.ask(&request).await? {
            Response::Unsealed(opened) => Ok(opened),
            _ => Err(CeremonyError::Answer),
        }
    }

    /// Begins a ceremony, which ends with what it returns.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn begin(&self, ceremony: CeremonyKind) -> Result<CeremonySession, CeremonyError> {
        let mut connection = self.connect().await?;
        match connection.ask(&Request::Begin { ceremony }).await? {
            Response::Begun => Ok(CeremonySession { connection }),
            _ => Err(CeremonyError::Answer),
        }
    }

    async fn connect(&self) -> Result<Connection, CeremonyError> {
        let connect = |source| CeremonyError::Connect { path: self.path.clone(), source };
        let stream = UnixStream::connect(&self.path).await.map_err(connect)?;
        Ok(Connection(stream))
    }
}

/// A ceremony on its way: see [`Ceremony`](crate::custody::Ceremony) for what each step does.
pub struct CeremonySession {
    connection: Connection,
}

impl CeremonySession {
    /// Shows a current card.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn show(&mut self, card: &[u8], passphrase: &str) -> Result<Shown, CeremonyError> {
        let request = Request::Show(PresentedCard::new(card, passphrase));
        match self.connection.ask(&request).await? {
            Response::Shown(shown) => Ok(shown),
            _ => Err(CeremonyError::Answer),
        }
    }

    /// Makes new cards: one for each of `pins`, under a generated passphrase where there is none.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn make(
        &mut self,
        threshold: u8,
        pins: Vec<Option<Zeroizing<String>>>,
    ) -> Result<Vec<ShownCard>, CeremonyError> {
        match self.connection.ask(&Request::Make { threshold, pins }).await? {
            Response::Cards(cards) => Ok(cards),
            _ => Err(CeremonyError::Answer),
        }
    }

    /// Goes on with new cards that another engine has made.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn follow(&mut self) -> Result<(), CeremonyError> {
        match self.connection.ask(&Request::Follow).await? {
            Response::Following => Ok(()),
            _ => Err(CeremonyError::Answer),
        }
    }

    /// Shows a new card, read back from where it was written.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn confirm(
        &mut self,
        card: &[u8],
        passphrase: &str,
    ) -> Result<Confirmed, CeremonyError> {
        let request = Request::Confirm(PresentedCard::new(card, passphrase));
        match self.connection.ask(&request).await? {
            Response::Confirmed(confirmed) => Ok(confirmed),
            _ => Err(CeremonyError::Answer),
        }
    }

    /// Makes the warrant for a statement.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn warrant(&mut self, statement: &str) -> Result<Warrant, CeremonyError> {
        let request = Request::Warrant { statement: statement.to_owned() };
        let Response::Warranted(warrant) = self.connection.ask(&request).await? else {
            return Err(CeremonyError::Answer);
        };
        let warrant = STANDARD.decode(warrant).map_err(|_| CeremonyError::Answer)?;
        warrant.try_into().map_err(|_| CeremonyError::Answer)
    }

    /// Brings the new cards into force.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn install(mut self) -> Result<RootKeyId, CeremonyError> {
        match self.connection.ask(&Request::Install).await? {
            Response::Installed(root) => Ok(root),
            _ => Err(CeremonyError::Answer),
        }
    }
}

struct Connection(UnixStream);

impl Connection {
    async fn ask(&mut self, request: &Request) -> Result<Response, CeremonyError> {
        let written = write_line(&mut self.0, request).await;
        // An engine that has ended the ceremony may have said why.
        let line = match (read_line(&mut self.0).await, written) {
            (Ok(Some(line)), _) => Some(line),
            (_, Err(error)) => return Err(error.into()),
            (read, Ok(())) => read?,
        };
        let line = line.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        match serde_json::from_slice(&line) {
            Ok(Response::Refused { why, retype: true, .. }) => {
                Err(CeremonyError::WrongPassphrase(why))
            }
            Ok(Response::Refused { why, certain: false, .. }) => Err(CeremonyError::Uncertain(why)),
            Ok(Response::Refused { why, .. }) => Err(CeremonyError::Refused(why)),
            Ok(response) => Ok(response),
            Err(_) => Err(CeremonyError::Answer),
        }
    }
}
