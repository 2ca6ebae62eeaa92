//! `sealwire quickstart`: the whole way, step by step, through the real sockets.

use std::fs;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sealwire_client::{Client, Credentials, MessageAad};
use sealwire_engine::State;
use sealwire_engine::custody::{CeremonyClient, Opened, Progress};
use sealwire_manager::{CreateApp, CreateKey, CreatedApp, ManagerClient};
use sealwire_protocol::Envelope;
use zeroize::Zeroizing;

use super::steal::{self, Loot};
use super::{print, root, serve};
use crate::cli::Quickstart;
use crate::config::{Config, Part};
use crate::parts::Parts;

const MESSAGE: &str = "你好, Sealwire 👋";
const KEY: &str = "chat";
const DEFAULT_DIR: &str = "sealwire-quickstart";

type Cards = Vec<(PathBuf, Zeroizing<String>)>;

pub(super) async fn run(args: Quickstart) -> Result<()> {
    let temporary = match (&args.dir, args.stay) {
        (None, false) => Some(tempfile::tempdir()?),
        _ => None,
    };
    let dir = match (&args.dir, &temporary) {
        (Some(dir), _) => dir.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => PathBuf::from(DEFAULT_DIR),
    };
    fs::create_dir_all(&dir).with_context(|| format!("folder {}", dir.display()))?;
    let dir = fs::canonicalize(&dir)?;
    let listen = if args.stay { "127.0.0.1:7700" } else { "127.0.0.1:0" };
    let config = Config::demonstration(&dir, listen.parse()?);
    if dir.join("client.env").exists() {
        ensure!(
            args.stay,
            "{} holds a quickstart already: `--stay` serves it again, another --dir makes a new one",
            dir.display()
        );
        return resume(&dir, &config).await;
    }
    let parts = tour(&dir, &config, args.stay).await?;
    if !args.stay {
        parts.stop().await;
        return print("\nThat was all of it. `sealwire quickstart --stay` keeps serving.\n");
    }
    stay(&dir, parts).await
}

/// Serves what an earlier quickstart has made: the chip opens the engine.
/// Where the gateway listens.
fn listen(parts: &Parts) -> Result<SocketAddr> {
    parts.listen.context("the gateway does not run")
}

async fn resume(dir: &Path, config: &Config) -> Result<()> {
    let parts = Parts::start(config, Part::All).await?;
    ensure!(
        parts.opened.by_chip,
        "the software chip did not open the engine; see {}",
        config.data_dir.display()
    );
    step(&format!("found in {}: the chip has opened the engine", dir.display()))?;
    stay(dir, parts).await
}

async fn stay(dir: &Path, parts: Parts) -> Result<()> {
    let env = dir.join("client.env");
    print(&format!(
        "\nServing on {}. In another terminal:\n\n  source {}\n  echo -n 'my message' | sealwire enc --key {KEY} | sealwire dec\n\n\
         (Without an installed sealwire: target/release/sealwire.) Ctrl-C stops.\n",
        listen(&parts)?,
        env.display()
    ))?;
    serve::until_stopped(parts).await
}

/// The tour. Returns the parts, open.
async fn tour(dir: &Path, config: &Config, keep: bool) -> Result<Parts> {
    print(
        "Sealwire: messages are encrypted before they reach queues, caches and databases,\nand the key is where none of those who run them can get at it.\n",
    )?;
    step("the root key: made inside the engine, split over three key cards")?;
    let parts = Parts::start(config, Part::All).await?;
    let ceremony = CeremonyClient::new(config.ceremony_socket());
    let cards = make_cards(dir, &ceremony).await?;
    print(
        "  (Here the cards are files in folders; in earnest they are sticks in three pockets.)\n",
    )?;

    step(
        "a restart: the chip opens the engine by itself (software chip: handy, and weaker than a token)",
    )?;
    parts.stop().await;
    let parts = Parts::start(config, Part::All).await?;
    ensure!(parts.opened.by_chip, "the chip did not open the engine");
    say("opened by the chip, without a card")?;

    step("sealed, then opened by its three custodians, one after another")?;
    ceremony.seal().await?;
    unseal(&ceremony, &cards).await?;
    ensure!(matches!(parts.state(), State::Open { .. }), "the engine did not open");

    step("a key for messages, made in the engine; the database holds it only wrapped")?;
    let manager = ManagerClient::new(config.manager_socket());
    let key = CreateKey { name: KEY.into(), ..CreateKey::default() };
    let key = manager.create_key(&key).await?;
    let wrapped = manager.show_key(KEY).await?.versions[0].wrapped.clone().unwrap_or_default();
    say(&format!("key `{KEY}`, index {}, wrapped: {}…", key.index, &wrapped[..44]))?;

    step("an app: an IM gateway that may log in from this machine, and use every key")?;
    let app = make_app(&manager).await?;
    say(&format!(
        "AppKey {}; its AppSecret is shown once and never crosses the wire",
        app.app.app_key
    ))?;
    if keep {
        write_env(dir, config, &parts, &app)?;
        say(&format!("written to {}", dir.join("client.env").display()))?;
    }

    let address = format!("sealwire+tcp://{}", listen(&parts)?);
    let credentials = Credentials::new(&app.app.app_key, shown(&app.app_secret)?)?;
    let client = Client::connect(&address, credentials).await?;
    let aad = MessageAad::new("tenant-1", "conversation-7", "42").to_bytes()?;
    let (old, new) = messages(&client, &manager, &aad).await?;

    step("and now, steal it")?;
    let client_secret = shown(&app.app_secret)?;
    let loot = Loot { dir, message: MESSAGE, app_secret: client_secret, cards: &cards };
    steal::from_the_files(&parts, config, &manager, &loot).await?;
    steal::from_another_conversation(&client, &new).await?;
    steal::with_two_cards(&ceremony, &client, &aad, &old, &cards).await?;
    say("the third custodian comes, and the engine is open again")?;
    unseal(&ceremony, &cards[2..]).await?;
    ensure!(client.dec(&aad, &old).await? == MESSAGE.as_bytes(), "the message is not what it was");
    Ok(parts)
}

async fn make_cards(dir: &Path, ceremony: &CeremonyClient) -> Result<Cards> {
    let paths: Vec<PathBuf> =
        (1..=3).map(|number| dir.join("cards").join(format!("stick-{number}"))).collect();
    for path in &paths {
        fs::create_dir_all(path)?;
    }
    root::init_in_files(ceremony, &paths).await
}

async fn unseal(ceremony: &CeremonyClient, cards: &[(PathBuf, Zeroizing<String>)]) -> Result<()> {
    for (path, passphrase) in cards {
        match ceremony.unseal(&fs::read(path)?, passphrase).await? {
            Opened::Partly(Progress { have, need }) => say(&format!("{have} of {need}"))?,
            Opened::Open { root, .. } => say(&format!("open, root key {root}"))?,
        }
    }
    Ok(())
}

async fn make_app(manager: &ManagerClient) -> Result<CreatedApp> {
    let grants = ["enc,dec,reenc,genkey,datakey,manage:*", "reenc:*>*"];
    let request = CreateApp {
        name: "im-gateway".into(),
        allow: vec!["127.0.0.0/8".parse()?, "::1/128".parse()?],
        grants: grants.iter().map(|grant| grant.parse()).collect::<Result<_, _>>()?,
        http: true,
    };
    Ok(manager.create_app(&request).await?)
}

/// A secret that the manager has made.
fn shown(secret: &Option<Zeroizing<String>>) -> Result<&str> {
    secret.as_ref().map(|secret| secret.as_str()).context("the manager has shown no secret")
}

/// A message there and back, before and after a rotation. Returns both envelopes.
async fn messages(
    client: &Client,
    manager: &ManagerClient,
    aad: &[u8],
) -> Result<(Vec<u8>, Vec<u8>)> {
    step("a message, bound to its tenant, conversation and number")?;
    say(&format!("message    {MESSAGE}"))?;
    let key = client.key(KEY).await?;
    let old = client.enc(key.index, aad, MESSAGE.as_bytes()).await?;
    say(&format!("envelope   {} bytes, what queues, caches and databases see:", old.len()))?;
    show(&old)?;
    let opened = client.dec(aad, &old).await?;
    ensure!(opened == MESSAGE.as_bytes(), "the message is not what it was");
    say(&format!("decrypted  {}", String::from_utf8_lossy(&opened)))?;

    step("the key is rotated; the old envelope still opens, and is re-encrypted")?;
    manager.rotate_key(KEY).await?;
    ensure!(client.dec(aad, &old).await? == MESSAGE.as_bytes(), "the old envelope does not open");
    say("decrypted  the old envelope, under version 1")?;
    let new = client.reenc(aad, &old).await?;
    let envelope = Envelope::parse(&new)?;
    ensure!(envelope.header.key_version == 2, "not under the new version");
    say(&format!("re-encrypted under version {}", envelope.header.key_version))?;
    let opened = client.dec(aad, &new).await?;
    ensure!(opened == MESSAGE.as_bytes(), "the message is not what it was");
    say(&format!("decrypted  {}", String::from_utf8_lossy(&opened)))?;
    Ok((old.to_vec(), new.to_vec()))
}

/// An envelope, field by field.
fn show(bytes: &[u8]) -> Result<()> {
    let envelope = Envelope::parse(bytes)?;
    let header = envelope.header;
    let rows = [
        ("format", "f5".to_owned(), "never the first byte of UTF-8 text".to_owned()),
        ("suite", format!("{:02x}", header.suite.id()), header.suite.to_string()),
        ("key index", format!("{:08x}", header.key_index), format!("key `{KEY}`")),
        ("key version", format!("{:08x}", header.key_version), String::new()),
        ("nonce", hex::encode(envelope.nonce), "random, never again".to_owned()),
        ("ciphertext", hex::encode(envelope.ciphertext), "as long as the message".to_owned()),
        ("tag", hex::encode(envelope.tag), "also over tenant, conversation, number".to_owned()),
    ];
    for (name, value, remark) in rows {
        print(&format!("      {name:<12}{value:<50}{remark}\n"))?;
    }
    Ok(())
}

/// What the client commands read, in a form that a shell can source.
fn write_env(dir: &Path, config: &Config, parts: &Parts, app: &CreatedApp) -> Result<()> {
    let listen = listen(parts)?;
    let http = parts.listen_http.context("HTTP is not served")?;
    let path = dir.join("client.env");
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let quote = |path: PathBuf| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    let text = Zeroizing::new(format!(
        "export SEALWIRE_ADDR='sealwire+tcp://{listen}'\nexport SEALWIRE_APP_KEY='{}'\n\
         export SEALWIRE_APP_SECRET='{}'\nexport SEALWIRE_SOCKET={}\n\
         export SEALWIRE_CEREMONY_SOCKET={}\nexport VAULT_ADDR='http://{http}'\n\
         export VAULT_ROLE_ID='{}'\nexport VAULT_SECRET_ID='{}'\n",
        app.app.app_key,
        shown(&app.app_secret)?,
        quote(config.manager_socket()),
        quote(config.ceremony_socket()),
        app.app.app_key,
        shown(&app.http_secret)?,
    ));
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(())
}

pub(super) fn step(text: &str) -> Result<()> {
    let (bold, plain) =
        if std::io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    print(&format!("\n{bold}* {text}{plain}\n"))
}

pub(super) fn say(text: &str) -> Result<()> {
    print(&format!("    {text}\n"))
}
