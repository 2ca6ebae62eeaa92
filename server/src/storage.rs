//! The keystore that a configuration names.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sealwire_keystore::{Keystore, Marks, MysqlKeystore, MysqlOptions, SqliteKeystore};
use zeroize::Zeroizing;

use crate::config::Config;

/// The variable that holds the password of the keystore's account.
const PASSWORD: &str = "SEALWIRE_KEYSTORE_PASSWORD";

/// Where a keystore is.
pub(crate) enum Storage {
    /// In a file.
    Sqlite(PathBuf),
    /// In a database server.
    Mysql(Box<MysqlOptions>),
}

impl Storage {
    /// The keystore that a configuration names; `url` stands in for the configuration's, for an account
    /// with other rights.
    pub(crate) fn of(config: &Config, url: Option<&str>) -> Result<Self> {
        let settings = &config.keystore;
        let Some(url) = url.or(settings.url.as_deref()) else {
            return Ok(Self::Sqlite(config.data_dir.join("keystore.db")));
        };
        if let Some(path) = url.strip_prefix("sqlite:") {
            ensure!(!path.is_empty(), "keystore: `{url}` names no file: write sqlite:PATH");
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        ensure!(
            url.starts_with("mysql://"),
            "keystore: url must be sqlite:PATH or mysql://USER@HOST/DATABASE"
        );
        let options = MysqlOptions {
            url: url.to_owned(),
            password: None,
            tls_ca: settings.tls_ca.clone(),
            connections: settings.connections,
            patience: Duration::from_secs(settings.timeout_seconds),
        };
        options.check()?;
        Ok(Self::Mysql(Box::new(options)))
    }

    /// Reads the password of the account: from the file, or else from the environment.
    pub(crate) fn with_password(self, file: Option<&Path>) -> Result<Self> {
        let Self::Mysql(mut options) = self else { return Ok(self) };
        options.password = match file {
            Some(file) => Some(read_password(file)?),
            None => std::env::var(PASSWORD).ok().map(Zeroizing::new),
        };
        Ok(Self::Mysql(options))
    }

    /// Whether it is there: opening an SQLite keystore would make it.
    pub(crate) fn must_exist(&self) -> Result<()> {
        match self {
            Self::Sqlite(path) => {
                ensure!(path.is_file(), "keystore {} is not there", path.display());
                Ok(())
            }
            Self::Mysql(_) => Ok(()),
        }
    }

    /// Opens it.
    pub(crate) async fn open(self) -> Result<Arc<dyn Keystore>> {
        match self {
            Self::Sqlite(path) => {
                let opened = SqliteKeystore::open(&path).await;
                Ok(Arc::new(opened.with_context(|| format!("keystore {}", path.display()))?))
            }
            Self::Mysql(options) => {
                let url = options.url.clone();
                let opened = Box::pin(MysqlKeystore::open(*options)).await;
                Ok(Arc::new(opened.with_context(|| format!("keystore {url}"))?))
            }
        }
    }
}

/// Opens the keystore of a configuration, with the account that is named there.
pub(crate) async fn open(config: &Config) -> Result<Arc<dyn Keystore>> {
    let password_file = config.keystore.password_file.as_deref();
    Storage::of(config, None)?.with_password(password_file)?.open().await
}

/// Opens the marks of a configuration's data folder.
pub(crate) async fn open_marks(config: &Config) -> Result<Arc<Marks>> {
    Ok(Arc::new(Marks::open(&config.marks()).await?))
}

fn read_password(file: &Path) -> Result<Zeroizing<String>> {
    let context = || format!("keystore: password_file {}", file.display());
    let mode = std::fs::metadata(file).with_context(context)?.permissions().mode();
    ensure!(
        mode & 0o077 == 0,
        "keystore: password_file {} is open to others (mode {:o}): chmod 600",
        file.display(),
        mode & 0o777
    );
    let text = Zeroizing::new(std::fs::read_to_string(file).with_context(context)?);
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}
