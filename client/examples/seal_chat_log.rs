//! A gateway's work, pipelined: seals the text of each line of a JSON-lines chat log, bound to its
//! conversation and sequence number, and opens it again from what a database would hold.
//!
//!     seal_chat_log < chat.jsonl        lines: {"conversation": "...", "seq": 1, "text": "..."}

use std::env::var;
use std::io::BufRead;

use anyhow::{Context, ensure};
use sealwire_client::{Client, Credentials, MessageAad};
use serde::Deserialize;
use tokio::task::JoinSet;

/// Requests in flight.
const DEPTH: usize = 256;

#[derive(Deserialize)]
struct Line {
    conversation: String,
    seq: u64,
    text: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let credentials = Credentials::new(&var("SEALWIRE_APP_KEY")?, &var("SEALWIRE_APP_SECRET")?)?;
    let client = Client::connect(&var("SEALWIRE_ADDR")?, credentials).await?;
    let key = client.key("chat").await?.index;
    let (mut in_flight, mut messages, mut added) = (JoinSet::new(), 0_u64, 0);
    for line in std::io::stdin().lock().lines() {
        let line: Line = serde_json::from_str(&line?).context("a line of JSON")?;
        if in_flight.len() >= DEPTH
            && let Some(sealed) = in_flight.join_next().await
        {
            added += sealed??;
        }
        in_flight.spawn(there_and_back(client.clone(), key, line));
        messages += 1;
    }
    while let Some(sealed) = in_flight.join_next().await {
        added += sealed??;
    }
    println!("{messages} messages sealed and opened, {added} bytes added by sealing");
    Ok(())
}

/// Seals a message, opens its envelope, and gives the bytes that sealing has added.
async fn there_and_back(client: Client, key: u32, line: Line) -> anyhow::Result<usize> {
    let seq = line.seq.to_string();
    let aad = MessageAad::new("", &line.conversation, &seq).to_bytes()?;
    let envelope = client.enc(key, &aad, line.text.as_bytes()).await?;
    let opened = client.dec(&aad, &envelope).await?;
    ensure!(opened == line.text.as_bytes(), "message {seq} is not what it was");
    Ok(envelope.len() - line.text.len())
}
