//! Encrypts one message and decrypts it again. `quickstart --stay` writes the environment.

use std::env::var;

use sealwire_client::{Client, Credentials, MessageAad};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let credentials = Credentials::new(&var("SEALWIRE_APP_KEY")?, &var("SEALWIRE_APP_SECRET")?)?;
    let client = Client::connect(&var("SEALWIRE_ADDR")?, credentials).await?;
    let key = client.key("chat").await?;
    let aad = MessageAad::new("tenant-1", "conversation-7", "42").to_bytes()?;
    let envelope = client.enc(key.index, &aad, "你好 👋".as_bytes()).await?;
    println!("{} bytes sealed under version {}", envelope.len(), key.version);
    let message = client.dec(&aad, &envelope).await?;
    println!("{}", String::from_utf8_lossy(&message));
    Ok(())
}
