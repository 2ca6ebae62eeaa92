//! After a rotation: moves a table's envelopes to the newest version of their key. Rows that still hold
//! plaintext are told from envelopes by their first byte, and sealed.

use std::env::var;

use sealwire_client::{Client, Credentials, MessageAad, is_envelope};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let credentials = Credentials::new(&var("SEALWIRE_APP_KEY")?, &var("SEALWIRE_APP_SECRET")?)?;
    let client = Client::connect(&var("SEALWIRE_ADDR")?, credentials).await?;
    let key = client.key("chat").await?.index;

    // A table of messages by id: the first was never sealed, the second was.
    let aad = |id: &str| MessageAad::new("tenant-1", "conversation-7", id).to_bytes();
    let sealed = client.enc(key, &aad("2")?, b"sealed before").await?;
    let mut table = vec![("1", b"old plaintext".to_vec()), ("2", sealed.to_vec())];

    for (id, body) in &mut table {
        let aad = aad(id)?;
        *body = if is_envelope(body) {
            client.reenc(&aad, body).await?.to_vec()
        } else {
            client.enc(key, &aad, body).await?.to_vec()
        };
    }
    for (id, body) in &table {
        println!("{id}: {}", String::from_utf8_lossy(&client.dec(&aad(id)?, body).await?));
    }
    Ok(())
}
