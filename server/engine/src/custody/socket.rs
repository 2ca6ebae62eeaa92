//! The ceremony socket: a unix socket of mode 0600, on which officers show their cards to the engine
//! and to nobody else. One JSON line each way, then the connection ends.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{Card, CardError, Custodian, CustodyError, Opened, Passphrase, Progress, Status};

/// Longest line in either direction: sixteen cards and their passphrases fit many times.
const MAX_LINE: u64 = 64 * 1024;

/// Time for one exchange; Argon2id runs within it.
const EXCHANGE: Duration = Duration::from_secs(30);

#[derive(Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Request {
    Status,
    Seal,
    Init { threshold: u8, cards: u8 },
    Confirm { card: String, passphrase: Zeroizing<String> },
    Unseal { card: String, passphrase: Zeroizing<String> },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Response {
    Status(Status),
    Sealed,
    Cards(Vec<ShownCard>),
    Opened(Opened),
    Refused(String),
}

/// A new card on its way to where it will be kept.
#[derive(Serialize, Deserialize)]
pub struct ShownCard {
    /// The card's number.
    pub number: u8,
    /// The card's bytes, base64.
    pub card: String,
    /// The passphrase, to be shown once.
    pub passphrase: Zeroizing<String>,
}

impl ShownCard {
    /// The card's bytes.
    ///
    /// # Errors
    /// [`CeremonyError::Answer`].
    pub fn bytes(&self) -> Result<Vec<u8>, CeremonyError> {
        STANDARD.decode(&self.card).map_err(|_| CeremonyError::Answer)
    }
}

/// Serves ceremonies until `stop`. The socket must be one that nobody else may open.
pub async fn serve(listener: UnixListener, custodian: Arc<Custodian>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let custodian = custodian.clone();
                tokio::spawn(async move {
                    let exchange = tokio::time::timeout(EXCHANGE, exchange(stream, custodian));
                    if let Ok(Err(error)) = exchange.await {
                        tracing::warn!(%error, "ceremony socket");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "ceremony socket: accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn exchange(mut stream: UnixStream, custodian: Arc<Custodian>) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = Zeroizing::new(String::new());
    BufReader::new(reader.take(MAX_LINE)).read_line(&mut line).await?;
    let response = match serde_json::from_str(&line) {
        Ok(request) => tokio::task::spawn_blocking(move || answer(request, &custodian))
            .await
            .unwrap_or_else(|_| Response::Refused("the engine failed; see its log".into())),
        Err(error) => Response::Refused(format!("not a request: {error}")),
    };
    let mut text = Zeroizing::new(serde_json::to_string(&response)?);
    text.push('\n');
    writer.write_all(text.as_bytes()).await
}

fn answer(request: Request, custodian: &Custodian) -> Response {
    let done = match request {
        Request::Status => custodian.status().map(Response::Status),
        Request::Seal => {
            custodian.seal();
            tracing::info!("sealed by an officer");
            Ok(Response::Sealed)
        }
        Request::Init { threshold, cards } => init(custodian, threshold, cards),
        Request::Confirm { card, passphrase } => {
            show(&card, &passphrase, |card, passphrase| custodian.confirm(card, passphrase))
        }
        Request::Unseal { card, passphrase } => {
            show(&card, &passphrase, |card, passphrase| custodian.unseal(card, passphrase))
        }
    };
    done.unwrap_or_else(|error| {
        let text = chain(&error);
        tracing::warn!(error = text, "ceremony refused");
        Response::Refused(text)
    })
}

/// An error with everything that led to it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn init(custodian: &Custodian, threshold: u8, cards: u8) -> Result<Response, CustodyError> {
    let made = custodian.init(threshold, cards)?;
    let shown = made.iter().map(|new| ShownCard {
        number: new.card.number(),
        card: STANDARD.encode(new.card.bytes()),
        passphrase: new.passphrase.to_text(),
    });
    Ok(Response::Cards(shown.collect()))
}

fn show(
    card: &str,
    passphrase: &str,
    take: impl FnOnce(&Card, &Passphrase) -> Result<Opened, CustodyError>,
) -> Result<Response, CustodyError> {
    let bytes = STANDARD.decode(card).map_err(|_| CardError::NotACard)?;
    let card = Card::parse(&bytes)?;
    let (number, of) = (card.number(), card.set().cards);
    let passphrase =
        Passphrase::parse(passphrase).map_err(|_| CardError::WrongPassphrase { number, of })?;
    let opened = take(&card, &passphrase)?;
    match opened {
        Opened::Partly(Progress { have, need }) => {
            tracing::info!(card = number, have, need, "card taken");
        }
        Opened::Open(root) => tracing::info!(card = number, %root, "open"),
    }
    Ok(Response::Opened(opened))
}

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
    #[error("the ceremony socket failed")]
    Io(#[from] io::Error),
    /// The engine refused.
    #[error("{0}")]
    Refused(String),
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

    /// What an officer may know.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn status(&self) -> Result<Status, CeremonyError> {
        match self.ask(&Request::Status).await? {
            Response::Status(status) => Ok(status),
            _ => Err(CeremonyError::Answer),
        }
    }

    /// Seals the engine.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn seal(&self) -> Result<(), CeremonyError> {
        match self.ask(&Request::Seal).await? {
            Response::Sealed => Ok(()),
            _ => Err(CeremonyError::Answer),
        }
    }

    /// Makes a root key and its cards.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn init(&self, threshold: u8, cards: u8) -> Result<Vec<ShownCard>, CeremonyError> {
        match self.ask(&Request::Init { threshold, cards }).await? {
            Response::Cards(cards) => Ok(cards),
            _ => Err(CeremonyError::Answer),
        }
    }

    /// Shows a card of a new set, read back from where it was written.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn confirm(&self, card: &[u8], pass: &str) -> Result<Opened, CeremonyError> {
        let (card, passphrase) = (STANDARD.encode(card), Zeroizing::new(pass.to_owned()));
        self.opened(&Request::Confirm { card, passphrase }).await
    }

    /// Shows a card to unseal.
    ///
    /// # Errors
    /// [`CeremonyError`].
    pub async fn unseal(&self, card: &[u8], pass: &str) -> Result<Opened, CeremonyError> {
        let (card, passphrase) = (STANDARD.encode(card), Zeroizing::new(pass.to_owned()));
        self.opened(&Request::Unseal { card, passphrase }).await
    }

    async fn opened(&self, request: &Request) -> Result<Opened, CeremonyError> {
        match self.ask(request).await? {
            Response::Opened(opened) => Ok(opened),
            _ => Err(CeremonyError::Answer),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Response, CeremonyError> {
        let connect = |source| CeremonyError::Connect { path: self.path.clone(), source };
        let mut stream = UnixStream::connect(&self.path).await.map_err(connect)?;
        let mut text =
            Zeroizing::new(serde_json::to_string(request).map_err(|_| CeremonyError::Answer)?);
        text.push('\n');
        let (reader, mut writer) = stream.split();
        writer.write_all(text.as_bytes()).await?;
        let mut line = Zeroizing::new(String::new());
        BufReader::new(reader.take(MAX_LINE)).read_line(&mut line).await?;
        match serde_json::from_str(&line) {
            Ok(Response::Refused(why)) => Err(CeremonyError::Refused(why)),
            Ok(response) => Ok(response),
            Err(_) => Err(CeremonyError::Answer),
        }
    }
}
