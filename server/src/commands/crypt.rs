//! `sealwire enc`, `dec`, `reenc`: standard input to standard output.

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use sealwire_client::{Binding, Client, DecRequest, EncRequest, ReencRequest};
use sealwire_protocol::Suite;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};

use super::{client, key_index, written};
use crate::cli::{Dec, Enc, Input, Reenc};

/// Lines in flight at once.
const DEPTH: usize = 512;

/// An operation on one message.
enum Op {
    Enc {
        key_index: u32,
        suite: Option<Suite>,
    },
    Dec,
    /// `bulk`: many of them, behind live traffic.
    Reenc {
        target_index: u32,
        suite: Option<Suite>,
        bulk: bool,
    },
}

pub(super) async fn enc(args: Enc) -> Result<()> {
    let client = client(&args.input.connection).await?;
    let key_index = key_index(&client, &args.key).await?;
    run(client, Op::Enc { key_index, suite: args.suite }, &args.input).await
}

pub(super) async fn dec(args: Dec) -> Result<()> {
    let client = client(&args.input.connection).await?;
    run(client, Op::Dec, &args.input).await
}

pub(super) async fn reenc(args: Reenc) -> Result<()> {
    let client = client(&args.input.connection).await?;
    let target_index = match &args.to {
        Some(key) => key_index(&client, key).await?,
        None => 0,
    };
    let op = Op::Reenc { target_index, suite: args.suite, bulk: args.input.lines };
    run(client, op, &args.input).await
}

impl Op {
    async fn ask(
        &self,
        client: &Client,
        binding: Binding<'_>,
        message: &[u8],
    ) -> Result<Bytes, sealwire_client::Error> {
        match *self {
            Self::Enc { key_index, suite } => {
                client.enc_with(&EncRequest { key_index, suite, binding, message }).await
            }
            Self::Dec => client.dec_with(&DecRequest { binding, envelope: message }).await,
            Self::Reenc { target_index, suite, bulk } => {
                let (new_binding, envelope) = (None, message);
                let request = ReencRequest { target_index, suite, binding, new_binding, envelope };
                match bulk {
                    true => client.reenc_bulk_with(&request).await,
                    false => client.reenc_with(&request).await,
                }
            }
        }
    }

    fn takes_text(&self) -> bool {
        matches!(self, Self::Enc { .. })
    }

    fn gives_text(&self) -> bool {
        matches!(self, Self::Dec)
    }
}

async fn run(client: Client, op: Op, input: &Input) -> Result<()> {
    let binding = Binding { context: input.context.as_bytes(), aad: input.aad.as_bytes() };
    if input.lines {
        return lines(&client, &op, binding).await;
    }
    let mut message = Vec::new();
    tokio::io::stdin().read_to_end(&mut message).await.context("standard input")?;
    let answer = op.ask(&client, binding, &message).await?;
    let mut out = tokio::io::stdout();
    written(out.write_all(&answer).await)?;
    written(out.flush().await)?;
    Ok(())
}

/// One message a line, pipelined, in order. The last line ends as the input's last line ends.
async fn lines(client: &Client, op: &Op, binding: Binding<'_>) -> Result<()> {
    let input = BufReader::with_capacity(256 * 1024, tokio::io::stdin());
    let lines = stream::try_unfold((input, 0_u64), |(mut input, number)| async move {
        let mut line = Vec::new();
        let length = input.read_until(b'\n', &mut line).await.context("standard input")?;
        let number = number + 1;
        Ok::<_, anyhow::Error>((length > 0).then_some(((number, line), (input, number))))
    });
    let answers = lines.map_ok(|(number, line)| async move {
        one_line(client, op, binding, line).await.with_context(|| format!("line {number}"))
    });
    let mut answers = std::pin::pin!(answers.try_buffered(DEPTH));
    let mut out = BufWriter::with_capacity(256 * 1024, tokio::io::stdout());
    let mut result = Ok(());
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(line) => written(out.write_all(&line).await)?,
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    written(out.flush().await)?;
    result
}

async fn one_line(
    client: &Client,
    op: &Op,
    binding: Binding<'_>,
    mut line: Vec<u8>,
) -> Result<Vec<u8>> {
    let ended = line.pop_if(|last| *last == b'\n').is_some();
    let message = if op.takes_text() {
        line
    } else {
        STANDARD.decode(line.trim_ascii()).context("not base64")?
    };
    let answer = op.ask(client, binding, &message).await?;
    let mut line =
        if op.gives_text() { answer.to_vec() } else { STANDARD.encode(&answer).into_bytes() };
    if ended {
        line.push(b'\n');
    }
    Ok(line)
}
