//! The ceremony socket: a unix socket of mode 0600, on which officers show their cards to the engine
//! and to nobody else. JSON lines, an answer for each request; a ceremony lives as long as its
//! connection.

mod client;
mod server;

pub use client::{CeremonyClient, CeremonyError, CeremonySession};
pub use server::serve;

use std::io;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::BufMut;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use super::{CeremonyKind, Confirmed, Opened, Shown, Status};
use crate::RootKeyId;

/// Longest line in either direction: sixteen cards and their passphrases fit many times.
const MAX_LINE: usize = 64 * 1024;

/// Reads a line into a buffer that is wiped, without its end; `None` at the end of the stream. Nothing
/// follows a line before it was answered, so nothing is read ahead.
async fn read_line(stream: &mut UnixStream) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE));
    loop {
        let room = MAX_LINE - line.len();
        if room == 0 {
            return Err(io::Error::other("a line that is too long"));
        }
        if stream.read_buf(&mut (&mut *line).limit(room)).await? == 0 {
            let cut = || io::Error::other("a line that has no end");
            return if line.is_empty() { Ok(None) } else { Err(cut()) };
        }
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            if end + 1 != line.len() {
                return Err(io::Error::other("a line before the last one was answered"));
            }
            line.truncate(end);
            return Ok(Some(line));
        }
    }
}

/// Writes a value as a line.
async fn write_line(stream: &mut UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE));
    serde_json::to_writer(&mut *line, value)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Request {
    Status,
    Seal,
    Unseal(PresentedCard),
    /// Begins a ceremony on this connection; one that had begun is forgotten.
    Begin {
        ceremony: CeremonyKind,
    },
    /// Shows a current card.
    Show(PresentedCard),
    /// Makes a card for each PIN, or under a generated passphrase where there is none.
    Make {
        threshold: u8,
        pins: Vec<Option<Zeroizing<String>>>,
    },
    /// Goes on with new cards that another engine has made.
    Follow,
    /// Shows a new card.
    Confirm(PresentedCard),
    Install,
    /// Allows what a statement says.
    Warrant {
        statement: String,
    },
}

/// A card and what opens it.
#[derive(Serialize, Deserialize)]
struct PresentedCard {
    /// Base64.
    card: String,
    passphrase: Zeroizing<String>,
}

impl PresentedCard {
    fn new(card: &[u8], passphrase: &str) -> Self {
        Self { card: STANDARD.encode(card), passphrase: Zeroizing::new(passphrase.to_owned()) }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Response {
    Status(Status),
    Sealed,
    Unsealed(Opened),
    Begun,
    Shown(Shown),
    Cards(Vec<ShownCard>),
    Following,
    Confirmed(Confirmed),
    Installed(RootKeyId),
    /// Base64.
    Warranted(String),
    Refused {
        why: String,
        /// Whether another passphrase for the same card may do.
        retype: bool,
        /// Whether it is certain that nothing has changed.
        certain: bool,
    },
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
