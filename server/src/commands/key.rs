//! `sealwire key …`: over the manager's socket.

use anyhow::Result;
use sealwire_engine::document::VersionState;
use sealwire_manager::{CreateKey, KeyView, ManagerClient};

use super::{print, print_json, warn_unverified};
use crate::cli::Key;

pub(super) async fn run(command: Key) -> Result<()> {
    match command {
        Key::Create { name, index, suites, json, socket } => {
            let suites = suites.iter().map(|suite| suite.name().to_owned()).collect();
            let request = CreateKey { name, index, suites };
            let key = ManagerClient::new(socket.path).create_key(&request).await?;
            if json {
                return print_json(&key);
            }
            let what = if key.created { "made" } else { "existed already" };
            print(&format!(
                "key {} {what}: index {}, default suite {}\n",
                key.name, key.index, key.suites[0]
            ))
        }
        Key::List { json, socket } => {
            let list = ManagerClient::new(socket.path).list_keys().await?;
            warn_unverified("key", &list.unverified);
            if json { print_json(&list.keys) } else { print(&table(&list.keys)) }
        }
        Key::Show { key, json, socket } => {
            let key = ManagerClient::new(socket.path).show_key(&key).await?;
            if json { print_json(&key) } else { print(&details(&key)) }
        }
        Key::Rotate { key, json, socket } => {
            let key = ManagerClient::new(socket.path).rotate_key(&key).await?;
            if json {
                return print_json(&key);
            }
            print(&format!(
                "key {}: version {} seals from now on; older ones still open\n",
                key.name,
                key.versions.len()
            ))
        }
    }
}

fn table(keys: &[KeyView]) -> String {
    if keys.is_empty() {
        return "no keys yet: `sealwire key create NAME` makes one\n".to_owned();
    }
    let mut text = format!("{:>10}  {:>8}  {:<18}  name\n", "index", "versions", "default suite");
    for key in keys {
        let (index, versions, suite) = (key.index, key.versions.len(), &key.suites[0]);
        text.push_str(&format!("{index:>10}  {versions:>8}  {suite:<18}  {}\n", key.name));
    }
    text
}

fn details(key: &KeyView) -> String {
    let mut text = format!(
        "name      {}\nindex     {}\nuid       {}\nsuites    {}\nrevision  {}\n",
        key.name,
        key.index,
        key.uid,
        key.suites.join(", "),
        key.revision
    );
    for version in &key.versions {
        let state = match version.state {
            VersionState::Active => "active",
            VersionState::DecryptOnly => "decrypt-only",
            VersionState::Disabled => "disabled",
        };
        let wrapped = version.wrapped.as_deref().unwrap_or("missing");
        text.push_str(&format!("version {}: {state}, wrapped {wrapped}\n", version.version));
    }
    text
}
