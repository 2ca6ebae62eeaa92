//! After a rotation: moves a table's envelopes to the newest version of their key, beside live traffic
//! and below it. Rows that still hold plaintext are told from envelopes by their first byte, and
//! sealed.

use std::env::var;
use std::time::Duration;

use sealwire_client::{Client, Credentials, MessageAad, is_envelope};
use tokio::task::JoinSet;

/// Rows in flight. Servers take them one after the other, but need not wait for the next.
const DEPTH: usize = 64;

/// Time for a row: those in flight wait for live traffic, and for each other.
const DEADLINE: Duration = Duration::from_secs(120);

/// A row of the table: the message's id, and its plaintext or envelope.
type Row = (u64, Vec<u8>);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let credentials = Credentials::new(&var("SEALWIRE_APP_KEY")?, &var("SEALWIRE_APP_SECRET")?)?;
    let client = Client::connect(&var("SEALWIRE_ADDR")?, credentials).await?;
    let key = client.key("chat").await?.index;
    let bulk = client.with_deadline(DEADLINE);

    // A table of messages by id: every other one was sealed before.
    let mut table: Vec<Row> = Vec::new();
    for id in 0..1000_u64 {
        let text = format!("message {id}").into_bytes();
        let sealed = id % 2 == 1;
        let body = if sealed { client.enc(key, &aad(id)?, &text).await?.to_vec() } else { text };
        table.push((id, body));
    }

    let mut in_flight = JoinSet::new();
    for row in table.clone() {
        if in_flight.len() == DEPTH
            && let Some(moved) = in_flight.join_next().await
        {
            update(&mut table, moved??);
        }
        in_flight.spawn(move_row(bulk.clone(), key, row));
    }
    while let Some(moved) = in_flight.join_next().await {
        update(&mut table, moved??);
    }

    let opened = client.dec(&aad(999)?, &table[999].1).await?;
    println!("{} rows moved; the last is `{}`", table.len(), String::from_utf8_lossy(&opened));
    Ok(())
}

fn aad(id: u64) -> Result<Vec<u8>, sealwire_client::Error> {
    MessageAad::new("tenant-1", "conversation-7", &id.to_string()).to_bytes()
}

/// What the row is to hold.
async fn move_row(client: Client, key: u32, (id, body): Row) -> anyhow::Result<Row> {
    let aad = aad(id)?;
    let envelope = if is_envelope(&body) {
        client.reenc_bulk(&aad, &body).await?
    } else {
        client.enc(key, &aad, &body).await?
    };
    Ok((id, envelope.to_vec()))
}

/// Stands for the database: where others write too, only if the row still holds what was read.
fn update(table: &mut [Row], (id, envelope): Row) {
    if let Some(row) = table.iter_mut().find(|row| row.0 == id) {
        row.1 = envelope;
    }
}
