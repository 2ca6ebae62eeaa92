//! The quickstart's attempts to steal. Each must be refused, and says why.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealwire_client::{Client, ErrorCode, MessageAad};
use sealwire_engine::custody::{CeremonyClient, Opened, Progress};
use sealwire_engine::{KeyBinding, Purpose, Uid, WrappedKey};
use sealwire_manager::ManagerClient;
use sealwire_protocol::credential;
use zeroize::Zeroizing;

use super::quickstart::say;
use crate::config::Config;
use crate::parts::Parts;

/// What a thief would be glad to find.
pub(super) struct Loot<'a> {
    pub(super) dir: &'a Path,
    pub(super) message: &'a str,
    pub(super) app_secret: &'a str,
    pub(super) cards: &'a [(PathBuf, Zeroizing<String>)],
}

/// Reads every file that the server has written, and looks for the message, the keys and the secret.
pub(super) async fn from_the_files(
    parts: &Parts,
    config: &Config,
    manager: &ManagerClient,
    loot: &Loot<'_>,
) -> Result<()> {
    let keys = wrapped_keys(manager).await?;
    let secret = credential::decode_app_secret(loot.app_secret).context("the app's secret")?;
    let engine = parts.engine().context("the engine is another process")?;
    let (mut files, mut bytes) = (0, 0);
    for file in files_in(&config.data_dir)? {
        let content = fs::read(&file)?;
        let holds = |needle: &[u8]| content.windows(needle.len()).any(|window| window == needle);
        let found = holds(loot.message.as_bytes())
            || holds(loot.app_secret.as_bytes())
            || holds(secret.as_slice())
            || loot.cards.iter().any(|(_, passphrase)| holds(passphrase.as_bytes()))
            || engine.finds_in_clear(&content, &keys)?;
        ensure!(!found, "{} holds a secret in clear", file.display());
        files += 1;
        bytes += content.len();
    }
    ensure!(files > 0, "there were no files in {}", loot.dir.display());
    say(&format!(
        "1. the files: read all {bytes} bytes in {files} files of the data folder, the database among \
         them.\n       Not there: the message, its key in any version, the root key, the AppSecret. Only \
         wrapped forms."
    ))
}

/// Tries to open the envelope as a message of another conversation.
pub(super) async fn from_another_conversation(client: &Client, envelope: &[u8]) -> Result<()> {
    let aad = MessageAad::new("tenant-1", "conversation-8", "42").to_bytes()?;
    match client.dec(&aad, envelope).await {
        Ok(_) => bail!("the envelope has opened in another conversation"),
        Err(error) if error.is_open_failed() => {
            say(&format!("2. another conversation: refused.\n       {error}"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Seals the engine and shows two cards of three.
pub(super) async fn with_two_cards(
    ceremony: &CeremonyClient,
    client: &Client,
    aad: &[u8],
    envelope: &[u8],
    cards: &[(PathBuf, Zeroizing<String>)],
) -> Result<()> {
    ceremony.seal().await?;
    for (path, passphrase) in &cards[..2] {
        match ceremony.unseal(&fs::read(path)?, passphrase).await? {
            Opened::Partly(Progress { .. }) => {}
            Opened::Open { .. } => bail!("two cards have opened the engine"),
        }
    }
    match client.dec(aad, envelope).await {
        Ok(_) => bail!("a sealed engine has opened an envelope"),
        Err(error) if error.code() == Some(ErrorCode::SEALED) => {
            say(&format!("3. two cards of three: refused.\n       {error}"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Every version of every key, as the manager shows it.
async fn wrapped_keys(manager: &ManagerClient) -> Result<Vec<WrappedKey>> {
    let mut keys = Vec::new();
    for key in manager.list_keys().await?.keys {
        let key = manager.show_key(&key.index.to_string()).await?;
        let uid = Uid::try_from(key.uid).map_err(anyhow::Error::msg)?;
        for version in key.versions {
            let blob = STANDARD.decode(version.wrapped.context("a wrapped key is missing")?)?;
            let (purpose, index, name) = (Purpose::BusinessKey, key.index, key.name.clone());
            let binding = KeyBinding { purpose, uid, index, version: version.version, name };
            keys.push(WrappedKey::new(binding, &blob)?);
        }
    }
    Ok(keys)
}

/// Every regular file in a folder.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files.extend(files_in(&entry.path())?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}
