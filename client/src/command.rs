//! A request on its way through the pool, and what becomes of it.

use bytes::Bytes;
use sealwire_protocol::{Flags, Opcode};
use tokio::sync::oneshot;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::Error;

/// The body of a request. It holds plaintext, and is kept until it is answered, to be sent again.
pub(crate) type Body = Zeroizing<Vec<u8>>;

/// How urgent a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Somebody waits for it.
    Live,
    /// It may wait: it takes no more than a part of a connection, and the server puts it last.
    Bulk,
}

impl Lane {
    /// The flags of the request's frame.
    pub(crate) fn flags(self) -> Flags {
        match self {
            Self::Live => Flags::REQUEST,
            Self::Bulk => Flags::BULK,
        }
    }
}

/// A request on its way.
pub(crate) struct Command {
    pub(crate) opcode: Opcode,
    pub(crate) lane: Lane,
    pub(crate) body: Body,
    pub(crate) reply: oneshot::Sender<Outcome>,
    pub(crate) deadline: Instant,
}

impl Command {
    /// It was not sent here.
    pub(crate) fn give_back(self) {
        let _ = self.reply.send(Outcome::Elsewhere(self.body));
    }
}

/// What has become of a request.
pub(crate) enum Outcome {
    /// It is answered, for good or ill.
    Done(Result<Bytes, Error>),
    /// This server refuses it for now; later, or elsewhere, it may be answered.
    Refused(Body, Error),
    /// Nobody knows whether it was done: it was sent, and the connection ended.
    Lost(Body, Error),
    /// It is to be sent on another connection: it was not sent here, or the server is silent.
    Elsewhere(Body),
}
