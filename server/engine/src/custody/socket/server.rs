//! The engine's side of the ceremony socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{PresentedCard, Request, Response, ShownCard, read_line, write_line};
use crate::chain;
use crate::custody::{
    Card, CardError, Ceremony, CeremonyStep, Confirmed, Custodian, CustodyError, Opened,
    Passphrase, Progress, Shown,
};

/// Connections served at once.
const CONNECTIONS: usize = 16;

/// Time for writing an answer.
const WRITE: Duration = Duration::from_secs(30);

/// Time between two looks for cards that have lapsed.
const EXPIRY: Duration = Duration::from_secs(1);

/// Serves ceremonies until `stop`. The socket must be one that nobody else may open.
pub async fn serve(listener: UnixListener, custodian: Arc<Custodian>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut expiry = tokio::time::interval(EXPIRY);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            _ = expiry.tick() => {
                custodian.expire();
                continue;
            }
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let (custodian, stop) = (custodian.clone(), stop.clone());
                tokio::spawn(async move {
                    let _place = place;
                    let served = tokio::select! {
                        () = stop.cancelled() => Ok(()),
                        served = Desk::new(custodian).serve(stream) => served,
                    };
                    if let Err(error) = served {
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

async fn accept(
    listener: &UnixListener,
    places: &Arc<Semaphore>,
) -> io::Result<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// One connection, and its ceremony.
struct Desk {
    custodian: Arc<Custodian>,
    ceremony: Option<Ceremony>,
}

impl Desk {
    fn new(custodian: Arc<Custodian>) -> Self {
        Self { custodian, ceremony: None }
    }

    /// Answers line by line, until the officer leaves or is silent for as long as cards lapse.
    async fn serve(mut self, mut stream: UnixStream) -> io::Result<()> {
        loop {
            let line = tokio::time::timeout(self.custodian.lapse(), read_line(&mut stream)).await;
            let Ok(line) = line else {
                return self.say_lapsed(&mut stream).await;
            };
            let Some(line) = line? else { return Ok(()) };
            let response;
            (self, response) = self.answer_line(line).await?;
            tokio::time::timeout(WRITE, write_line(&mut stream, &response)).await??;
        }
    }

    /// Silence for as long as cards lapse is an end.
    async fn say_lapsed(self, stream: &mut UnixStream) -> io::Result<()> {
        let had_one = self.ceremony.is_some();
        drop(self);
        if had_one {
            let why = "the ceremony has lapsed: begin again".to_owned();
            tokio::time::timeout(
                WRITE,
                write_line(stream, &Response::Refused { why, retype: false, certain: true }),
            )
            .await??;
        }
        Ok(())
    }

    /// Answers a request beside the runtime: Argon2id takes its time.
    async fn answer_line(mut self, line: Zeroizing<Vec<u8>>) -> io::Result<(Self, Response)> {
        let answered = tokio::task::spawn_blocking(move || {
            let response = match serde_json::from_slice(&line) {
                Ok(request) => self.answer(request).unwrap_or_else(|error| {
                    let why = chain(&error);
                    tracing::warn!(error = why, "ceremony refused");
                    self.custodian.note_step(CeremonyStep::Refused { why: why.clone() });
                    let retype =
                        matches!(error, CustodyError::Card(CardError::WrongPassphrase { .. }));
                    let certain = !matches!(error, CustodyError::Uncertain(_));
                    Response::Refused { why, retype, certain }
                }),
                Err(error) => Response::Refused {
                    why: format!("not a request: {error}"),
                    retype: false,
                    certain: true,
                },
            };
            (self, response)
        });
        answered.await.map_err(io::Error::other)
    }

    fn answer(&mut self, request: Request) -> Result<Response, CustodyError> {
        if self.ceremony.as_ref().is_some_and(Ceremony::has_lapsed) {
            self.ceremony = None;
        }
        Ok(match request {
            Request::Status => Response::Status(self.custodian.status()?),
            Request::Seal => {
                self.custodian.seal();
                tracing::info!("sealed by an officer");
                self.custodian.note_step(CeremonyStep::Sealed);
                Response::Sealed
            }
            Request::Unseal(card) => self.unseal(&card)?,
            Request::Begin { ceremony } => {
                self.ceremony = Some(self.custodian.begin(ceremony)?);
                tracing::info!(?ceremony, "ceremony begun");
                self.custodian.note_step(CeremonyStep::Begun { ceremony });
                Response::Begun
            }
            Request::Show(card) => self.show(&card)?,
            Request::Make { threshold, pins } => self.make(threshold, pins)?,
            Request::Follow => {
                self.ceremony()?.follow()?;
                Response::Following
            }
            Request::Confirm(card) => self.confirm(&card)?,
            Request::Warrant { statement } => {
                let warrant = self.ceremony()?.warrant(&statement)?;
                tracing::warn!(statement, "a quorum has allowed what no operator could");
                self.custodian.note_step(CeremonyStep::Warranted { statement });
                Response::Warranted(STANDARD.encode(warrant))
            }
            Request::Install => {
                let root = self.ceremony()?.install()?;
                self.ceremony = None;
                self.custodian.note_step(CeremonyStep::Installed { root });
                Response::Installed(root)
            }
        })
    }

    fn ceremony(&mut self) -> Result<&mut Ceremony, CustodyError> {
        self.ceremony
            .as_mut()
            .ok_or(CustodyError::OutOfTurn("no ceremony has begun, or it has lapsed: begin again"))
    }

    fn unseal(&mut self, shown: &PresentedCard) -> Result<Response, CustodyError> {
        let (card, passphrase) = present(shown)?;
        let opened = self.custodian.unseal(&card, &passphrase)?;
        match &opened {
            Opened::Partly(progress) => taken(&card, *progress),
            Opened::Open { root, wrong } => {
                tracing::info!(card = card.number(), %root, "open");
                warn_wrong(wrong);
                let (root, wrong) = (*root, wrong.clone());
                self.custodian.note_step(CeremonyStep::Opened { root, wrong });
            }
        }
        Ok(Response::Unsealed(opened))
    }

    fn show(&mut self, shown: &PresentedCard) -> Result<Response, CustodyError> {
        let (card, passphrase) = present(shown)?;
        let shown = self.ceremony()?.show(&card, &passphrase)?;
        match &shown {
            Shown::Partly(progress) => taken(&card, *progress),
            Shown::Proven { root, set, good, wrong } => {
                tracing::info!(card = card.number(), %root, "a quorum was shown");
                warn_wrong(wrong);
                let (set, good, wrong) = (set.clone(), good.clone(), wrong.clone());
                self.custodian.note_step(CeremonyStep::Shown { set, good, wrong });
            }
        }
        Ok(Response::Shown(shown))
    }

    fn make(
        &mut self,
        threshold: u8,
        pins: Vec<Option<Zeroizing<String>>>,
    ) -> Result<Response, CustodyError> {
        let parse = |pin: Option<Zeroizing<String>>| {
            pin.map(|pin| Passphrase::parse(&pin)).transpose().map_err(|_| CustodyError::Pin)
        };
        let pins = pins.into_iter().map(parse).collect::<Result<_, _>>()?;
        let made = self.ceremony()?.make(threshold, pins)?;
        let cards = u8::try_from(made.len()).unwrap_or(u8::MAX);
        self.custodian.note_step(CeremonyStep::Made { cards, threshold });
        let cards = made.iter().map(|new| ShownCard {
            number: new.card.number(),
            card: STANDARD.encode(new.card.bytes()),
            passphrase: new.passphrase.to_text(),
        });
        Ok(Response::Cards(cards.collect()))
    }

    fn confirm(&mut self, shown: &PresentedCard) -> Result<Response, CustodyError> {
        let (card, passphrase) = present(shown)?;
        let confirmed = self.ceremony()?.confirm(&card, &passphrase)?;
        if let Confirmed::Partly(progress) = confirmed {
            taken(&card, progress);
        }
        Ok(Response::Confirmed(confirmed))
    }
}

fn present(shown: &PresentedCard) -> Result<(Card, Passphrase), CustodyError> {
    let bytes = STANDARD.decode(&shown.card).map_err(|_| CardError::NotACard)?;
    let card = Card::parse(&bytes)?;
    let (number, of) = (card.number(), card.set().cards);
    let passphrase = Passphrase::parse(&shown.passphrase)
        .map_err(|_| CardError::WrongPassphrase { number, of })?;
    Ok((card, passphrase))
}

fn taken(card: &Card, Progress { have, need }: Progress) {
    tracing::info!(card = card.number(), have, need, "card taken");
}

fn warn_wrong(wrong: &[u8]) {
    if !wrong.is_empty() {
        tracing::warn!(cards = ?wrong, "the shares of these cards are wrong");
    }
}
