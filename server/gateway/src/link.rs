//! A stream with its buffers, and how it ends.

use std::io;
use std::time::Duration;

use sealwire_engine::wire::ReadBuffer;
use sealwire_protocol::{ErrorCode, Header};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use zeroize::Zeroize;

use crate::Refusal;
use crate::handshake::CONNECTION;

/// Output buffer above which it is given back after a large reply.
const KEEP: usize = 256 * 1024;

/// Time that a peer gets to take part in the end of a connection.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// The peer is gone.
    #[error("closed by the peer")]
    Closed,
    /// The peer does not take what is written, or the network failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A fatal refusal, still to be written.
    #[error("{1}")]
    Refused(Header, Refusal),
    /// A fatal refusal that stands in the output already.
    #[error("a fatal refusal")]
    Written,
}

impl End {
    pub(crate) fn refused(header: Header, refusal: Refusal) -> Self {
        Self::Refused(header, refusal)
    }

    pub(crate) fn connection(code: ErrorCode) -> Self {
        Self::Refused(CONNECTION, code.into())
    }
}

/// A stream with its buffers.
pub(crate) struct Link<S> {
    stream: S,
    pub(crate) input: ReadBuffer,
    pub(crate) output: Vec<u8>,
    write_timeout: Duration,
    /// Bytes received and sent since the last time that they were taken.
    bytes: (u64, u64),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    pub(crate) fn new(stream: S, write_timeout: Duration) -> Self {
        Self { stream, input: ReadBuffer::new(), output: Vec::new(), write_timeout, bytes: (0, 0) }
    }

    /// Bytes received and sent since the last time.
    pub(crate) fn take_bytes(&mut self) -> (u64, u64) {
        std::mem::take(&mut self.bytes)
    }

    /// Reads once; 0 is the end. Safe to cancel.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        let length = self.input.fill(&mut self.stream).await?;
        self.bytes.0 += length as u64;
        Ok(length)
    }

    /// Writes everything that is ready, in one go.
    pub(crate) async fn flush(&mut self) -> Result<(), End> {
        let write = async {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await
        };
        match timeout(self.write_timeout, write).await {
            Ok(done) => done?,
            Err(_) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
        self.bytes.1 += self.output.len() as u64;
        if self.output.capacity() > KEEP {
            self.output.zeroize();
            self.output = Vec::new();
        }
        self.output.clear();
        Ok(())
    }

    /// Says why the connection ends, when there is something to say, and ends it.
    pub(crate) async fn close(mut self, end: End) {
        match end {
            End::Closed | End::Io(_) => {}
            End::Written => drop(self.flush().await),
            End::Refused(header, refusal) => {
                refusal.write(header, &mut self.output);
                drop(self.flush().await);
            }
        }
        // A closing handshake, as far as the peer takes part in it: without it, the last answer may
        // be lost when unread input makes the kernel reset the connection.
        let _ = timeout(self.write_timeout.min(FAREWELL), async {
            self.stream.shutdown().await?;
            self.input.consume(self.input.unread().len());
            while self.fill().await? > 0 {
                self.input.consume(self.input.unread().len());
            }
            io::Result::Ok(())
        })
        .await;
    }
}

impl<S> Drop for Link<S> {
    fn drop(&mut self) {
        self.output.zeroize();
    }
}
