//! `sealwire key …`: over the manager's socket.

use std::time::Duration;

use anyhow::Result;
use sealwire_engine::document::VersionState;
use sealwire_manager::{ChangeKey, CreateKey, DestroyKey, KeyView, ManagerClient, Versions};

use super::identity::manager;
use super::{print, print_json, time, warn_unverified};
use crate::cli::{Key, OneKey, SomeVersions, Switch};

/// Keys that are asked for at once.
const PAGE: u32 = 500;

pub(super) async fn run(command: Key) -> Result<()> {
    match command {
        Key::Create { name, index, suites, sensitive, context_required, json, socket } => {
            let suites = suites.iter().map(|suite| suite.name().to_owned()).collect();
            let request = CreateKey { name, index, suites, sensitive, context_required };
            let key = manager(&socket)?.create_key(&request).await?;
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
            let manager = manager(&socket)?;
            if json {
                let list = manager.list_keys().await?;
                warn_unverified("key", &list.unverified);
                return print_json(&list.keys);
            }
            list(&manager).await
        }
        Key::Show { key, json, socket } => {
            let key = manager(&socket)?.show_key(&key).await?;
            if json { print_json(&key) } else { print(&details(&key)) }
        }
        Key::Rotate(OneKey { key, json, socket }) => {
            let key = manager(&socket)?.rotate_key(&key).await?;
            let newest = key.versions.len();
            let done = format!("version {newest} seals from now on; older ones still open");
            told(&key, json, &done)
        }
        Key::Close(wish) => {
            change(wish, "close", "seals no more; what is sealed still opens").await
        }
        Key::Disable(wish) => change(wish, "disable", "is disabled within a second").await,
        Key::Enable(wish) => change(wish, "enable", "is enabled").await,
        Key::CancelDestroy(wish) => {
            change(wish, "cancel-destroy", "is not destroyed, but disabled: `key enable` opens it")
                .await
        }
        Key::Destroy { versions, after } => destroy(versions, after).await,
        Key::Set {
            key,
            suites,
            min_enc,
            min_dec,
            renew_after,
            sensitive,
            deletion_allowed,
            renew_after_messages,
        } => {
            let names = suites.iter().map(|suite| suite.name().to_owned()).collect::<Vec<_>>();
            let wish = ChangeKey {
                suites: (!names.is_empty()).then_some(names),
                min_enc,
                min_dec,
                sensitive: sensitive.map(Switch::is_on),
                deletion_allowed: deletion_allowed.map(Switch::is_on),
                renew_after_seconds: renew_after,
                renew_after_messages,
            };
            let view = manager(&key.socket)?.set_key(&key.key, &wish).await?;
            if key.json { print_json(&view) } else { print(&details(&view)) }
        }
    }
}

async fn change(wish: SomeVersions, change: &str, done: &str) -> Result<()> {
    let SomeVersions { key, version } = wish;
    let manager = manager(&key.socket)?;
    let view = manager.change_key(&key.key, change, Versions { version }).await?;
    told(&view, key.json, &format!("{} {done}", which(version)))
}

async fn destroy(wish: SomeVersions, after: Option<Duration>) -> Result<()> {
    let SomeVersions { key, version } = wish;
    let wish = DestroyKey { version, after_seconds: after.map(|after| after.as_secs()) };
    let view = manager(&key.socket)?.destroy_key(&key.key, wish).await?;
    let meant = view.versions.iter().filter(|held| version.is_none_or(|one| one == held.version));
    let at = meant.filter_map(|version| version.destroy_at).max();
    told(
        &view,
        key.json,
        &format!(
            "{} opens nothing from now on, and is destroyed at {}.\nUntil then `sealwire key cancel-destroy` calls it \
             off. Afterwards it may still be in {}.",
            which(version),
            at.map(time).unwrap_or_default(),
            view.remains.as_deref().unwrap_or_default()
        ),
    )
}

fn which(version: Option<u32>) -> String {
    version.map_or_else(|| "it".to_owned(), |version| format!("version {version}"))
}

fn told(key: &KeyView, json: bool, done: &str) -> Result<()> {
    if json { print_json(key) } else { print(&format!("key {}: {done}\n", key.name)) }
}

/// Prints every key, page by page.
async fn list(manager: &ManagerClient) -> Result<()> {
    let mut after = String::new();
    loop {
        let page = manager.list_page(&after, PAGE).await?;
        warn_unverified("key", &page.unverified);
        if after.is_empty() {
            if page.keys.is_empty() && page.next.is_none() {
                return print("no keys yet: `sealwire key create NAME` makes one\n");
            }
            print(&format!("{:>10}  {:>8}  {:<18}  name\n", "index", "versions", "default suite"))?;
        }
        print(&table(&page.keys))?;
        match page.next {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

fn table(keys: &[KeyView]) -> String {
    let mut text = String::new();
    for key in keys {
        let (index, versions, suite) = (key.index, key.versions.len(), &key.suites[0]);
        text.push_str(&format!("{index:>10}  {versions:>8}  {suite:<18}  {}\n", key.name));
    }
    text
}

fn details(key: &KeyView) -> String {
    let mut text = format!(
        "name      {}\nindex     {}\nuid       {}\nsuites    {}\nlowest    {} for ENC, {} for DEC\nrenewed   \
         {}\nrevision  {}\n",
        key.name,
        key.index,
        key.uid,
        key.suites.join(", "),
        key.min_enc,
        key.min_dec,
        renewed(key),
        key.revision
    );
    if key.sensitive {
        text.push_str("sensitive granting DEC on it takes two persons\n");
    }
    if key.context_required {
        text.push_str("context   required: without one, nothing is sealed\n");
    }
    if key.deletion_allowed {
        text.push_str(
            "deletion  allowed to apps with the grant `manage`, once an operator approves\n",
        );
    }
    for version in &key.versions {
        let mut state = version.state.name().to_owned();
        if let Some(at) = version.destroy_at {
            state.push_str(&format!(", destroyed at {}", time(at)));
        }
        for (suite, count) in &version.reserved {
            state.push_str(&format!(", {count} messages reserved under {suite}"));
        }
        let wrapped = match version.state {
            VersionState::Destroyed => "erased",
            _ => version.wrapped.as_deref().unwrap_or("missing"),
        };
        text.push_str(&format!("version {}: {state}, wrapped {wrapped}\n", version.version));
    }
    text
}

fn renewed(key: &KeyView) -> String {
    let age = key.renew_after_seconds.map(|seconds| {
        format!("after {}", humantime::format_duration(Duration::from_secs(seconds)))
    });
    let messages = key.renew_after_messages.map(|count| format!("after {count} messages"));
    let wishes: Vec<_> = age.into_iter().chain(messages).collect();
    if wishes.is_empty() {
        "by hand, and before a suite's limit".to_owned()
    } else {
        wishes.join(", ")
    }
}
