//! `sealwire keystore …`: schema, moving house, and after a restore.

use std::fs::OpenOptions;
use std::io::{BufReader, BufWriter, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use sealwire_keystore::audit::Auditor;
use sealwire_keystore::transfer::{self, Moved};
use sealwire_keystore::{Marks, MysqlKeystore, SqliteKeystore};

use super::print;
use crate::cli::{Account, Keystore};
use crate::config::Config;
use crate::storage::Storage;
use sealwire_engine::host::data_dir;

pub(super) async fn run(command: Keystore) -> Result<()> {
    match command {
        Keystore::Migrate(account) => migrate(&account).await,
        Keystore::Export { account, out } => export(&account, &out).await,
        Keystore::Import { account, file } => import(&account, &file).await,
        Keystore::Restored { account, marks_only } => restored(&account, marks_only).await,
    }
}

/// The keystore that is meant, and the configuration that names it.
fn storage(account: &Account) -> Result<(Config, Storage)> {
    let config = Config::read(&account.config)?;
    let storage = Storage::of(&config, account.url.as_deref())?;
    let of_config = config.keystore.password_file.as_deref().filter(|_| account.url.is_none());
    let storage = storage.with_password(account.password_file.as_deref().or(of_config))?;
    Ok((config, storage))
}

async fn migrate(account: &Account) -> Result<()> {
    let (config, storage) = storage(account)?;
    let steps = match storage {
        Storage::Sqlite(path) => {
            data_dir::make(&config.data_dir)?;
            let _lock = data_dir::lock(&config.data_dir)?;
            SqliteKeystore::open(&path).await?;
            return print("the schema is up to date (SQLite: every start brings it there)\n");
        }
        Storage::Mysql(options) => Box::pin(MysqlKeystore::migrate(&options)).await?,
    };
    match steps {
        0 => print("the schema was up to date\n"),
        steps => print(&format!("the schema is up to date; steps made: {steps}\n")),
    }
}

async fn export(account: &Account, out: &Path) -> Result<()> {
    let (_, storage) = storage(account)?;
    storage.must_exist()?;
    let keystore = storage.open().await?;
    let context = || format!("export to {}", out.display());
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(out);
    let mut file = BufWriter::new(file.with_context(context)?);
    let bar = bar();
    let exported = transfer::export(&*keystore, &mut file, &|rows| bar.set_position(rows)).await;
    let written = match exported {
        Ok(moved) => file
            .flush()
            .and_then(|()| file.get_ref().sync_all())
            .map(|()| moved)
            .map_err(Into::into),
        Err(error) => Err(anyhow::Error::from(error)),
    };
    bar.finish_and_clear();
    keystore.close().await;
    let moved = written.inspect_err(|_| drop(std::fs::remove_file(out))).with_context(context)?;
    print(&format!(
        "exported: {}\nKeys are in there only wrapped: who has the key cards as well has them all.\n",
        words(moved)
    ))
}

async fn import(account: &Account, path: &Path) -> Result<()> {
    let (config, storage) = storage(account)?;
    data_dir::make(&config.data_dir)?;
    let _lock = data_dir::lock(&config.data_dir)?;
    let file = std::fs::File::open(path).with_context(|| format!("{}", path.display()))?;
    let keystore = storage.open().await?;
    let bar = bar();
    let mut input = BufReader::new(file);
    let imported = transfer::import(&*keystore, &mut input, &|rows| bar.set_position(rows)).await;
    bar.finish_and_clear();
    keystore.close().await;
    let moved = imported.with_context(|| format!("import of {}", path.display()))?;
    // By another chain: that of before may go on where it was exported.
    Auditor::begin_anew(&config.data_dir, "keystore.import", words(moved)).await?;
    print(&format!(
        "imported: {}\nKey versions are closed to suites with short nonces; such a key gets a new version \
         when it is next used so.\n",
        words(moved)
    ))
}

/// Lets a keystore that was put back from a backup be trusted again.
async fn restored(account: &Account, marks_only: bool) -> Result<()> {
    let (config, storage) = storage(account)?;
    data_dir::make(&config.data_dir)?;
    let _lock = data_dir::lock(&config.data_dir)?;
    storage.must_exist()?;
    let keystore = storage.open().await?;
    if !marks_only {
        keystore.close_counted().await?;
    }
    let revision = keystore.revision().await?;
    keystore.close().await;
    Marks::forget(&config.marks())?;
    // What was recorded since the backup is gone; the chains that are written from now on are others.
    Auditor::begin_anew(&config.data_dir, "keystore.restored", format!("revision {revision}"))
        .await?;
    print(&format!(
        "the keystore is trusted on this machine as it is, at revision {revision}; changes made after that are gone.\n"
    ))?;
    if marks_only {
        return Ok(());
    }
    print(
        "Key versions are closed to suites with short nonces: nobody knows what was counted since the backup.\n\
         Run this with --marks-only on every other machine with a gateway or a manager of this site.\n",
    )
}

fn words(moved: Moved) -> String {
    let Moved { documents, wrapped, usage, audit } = moved;
    format!(
        "{documents} documents, {wrapped} wrapped keys, {usage} counters, {audit} audit records"
    )
}

fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    let style = "{spinner} {pos} rows, {per_sec}, {elapsed}";
    bar.set_style(ProgressStyle::with_template(style).expect("a template"));
    bar
}
