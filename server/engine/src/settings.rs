//! The engine's part of the configuration, and the certificates of every part.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::custody::{Chip, Custodian, TokenChip, TokenUri};
use crate::host::process::now;
use crate::wire::tls::TlsFiles;
use crate::{Engine, EngineConfig, Protection};

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A value, or how two go together.
    #[error("{0}")]
    Value(String),
    /// A token's URI.
    #[error("engine: chip_token")]
    Token(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The memory for the root key cannot be had.
    #[error(
        "memory for the root key: the kernel must have memfd_secret, or the process must be allowed to lock \
         192 KiB (`ulimit -l`, LimitMEMLOCK= in a systemd unit)"
    )]
    Memory(#[source] std::io::Error),
}

fn wrong(text: impl Into<String>) -> SettingsError {
    SettingsError::Value(text.into())
}

/// What seals the root key for the disk. It must be named: there is no safe default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChipName {
    /// Cards at every start.
    None,
    /// A key file outside the data folder.
    Software,
    /// A key in a token.
    Pkcs11,
}

impl ChipName {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Software => "software",
            Self::Pkcs11 => "pkcs11",
        }
    }
}

/// The section `[engine]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSettings {
    /// What seals the root key for the disk.
    pub chip: ChipName,
    /// The software chip's key file, outside the data folder.
    pub chip_key_file: Option<PathBuf>,
    /// The PKCS#11 chip's token and key: `pkcs11:token=LABEL;object=KEY`.
    pub chip_token: Option<String>,
    /// The library that speaks to the token, unless the URI has module-path.
    pub chip_module: Option<PathBuf>,
    /// The file with the token's PIN, mode 0600, unless the URI has pin-source.
    pub chip_pin_file: Option<PathBuf>,
    /// `memfd-secret`, `mlock` or `unprotected`; the best that the machine has unless set.
    pub memory: Option<Protection>,
    /// Seconds after which the cards shown are forgotten when no other follows.
    #[serde(default = "default_lapse")]
    pub unseal_lapse_seconds: u64,
    /// `DATA_DIR/engine.sock` unless set.
    pub ceremony_socket: Option<PathBuf>,
    /// Expanded ciphers that are kept, about 1 KiB each.
    #[serde(default = "default_ciphers")]
    pub cached_ciphers: usize,
    /// Where an engine that is a process of its own listens for gateways and managers.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
}

fn default_lapse() -> u64 {
    Custodian::LAPSE.as_secs()
}

fn default_ciphers() -> usize {
    EngineConfig::default().cached_ciphers
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7703))
}

impl EngineSettings {
    /// Settings with a chip, and the defaults for everything else.
    #[must_use]
    pub fn new(chip: ChipName) -> Self {
        Self {
            chip,
            chip_key_file: None,
            chip_token: None,
            chip_module: None,
            chip_pin_file: None,
            memory: None,
            unseal_lapse_seconds: default_lapse(),
            ceremony_socket: None,
            cached_ciphers: default_ciphers(),
            listen: default_listen(),
        }
    }

    /// Checks what can be checked without touching anything.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn check(&self, data_dir: &Path) -> Result<(), SettingsError> {
        self.chip(data_dir)?;
        match self.unseal_lapse_seconds {
            0 => Err(wrong("engine: unseal_lapse_seconds must not be 0")),
            _ => Ok(()),
        }
    }

    /// The chip.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn chip(&self, data_dir: &Path) -> Result<Chip, SettingsError> {
        let set = [
            ("chip_key_file", ChipName::Software, self.chip_key_file.is_some()),
            ("chip_token", ChipName::Pkcs11, self.chip_token.is_some()),
            ("chip_module", ChipName::Pkcs11, self.chip_module.is_some()),
            ("chip_pin_file", ChipName::Pkcs11, self.chip_pin_file.is_some()),
        ];
        if let Some((name, chip, _)) = set.iter().find(|(_, chip, set)| *set && *chip != self.chip)
        {
            return Err(wrong(format!("engine: {name} belongs to chip = \"{}\"", chip.name())));
        }
        match self.chip {
            ChipName::None => Ok(Chip::None),
            ChipName::Software => {
                let file = self.chip_key_file.clone();
                let key_file =
                    file.ok_or_else(|| wrong("engine: chip = \"software\" needs chip_key_file"))?;
                if key_file.starts_with(data_dir) {
                    return Err(wrong(
                        "engine: chip_key_file must not lie in data_dir, which it protects",
                    ));
                }
                Ok(Chip::Software { key_file })
            }
            ChipName::Pkcs11 => self.token(),
        }
    }

    fn token(&self) -> Result<Chip, SettingsError> {
        let uri = self.chip_token.as_deref().ok_or_else(|| {
            wrong("engine: chip = \"pkcs11\" needs chip_token, a URI such as pkcs11:token=chip")
        })?;
        let token: TokenUri = uri.parse().map_err(|error| SettingsError::Token(Box::new(error)))?;
        let module = token.module_path.clone().or_else(|| self.chip_module.clone());
        let module = module.ok_or_else(|| {
            wrong("engine: chip = \"pkcs11\" needs chip_module, the token's library")
        })?;
        let pin_file = token.pin_source.clone().or_else(|| self.chip_pin_file.clone());
        let pin_file =
            pin_file.ok_or_else(|| wrong("engine: chip = \"pkcs11\" needs chip_pin_file"))?;
        Ok(Chip::Pkcs11(Box::new(TokenChip { token, module, pin_file })))
    }

    /// The ceremony socket.
    #[must_use]
    pub fn ceremony_socket(&self, data_dir: &Path) -> PathBuf {
        self.ceremony_socket.clone().unwrap_or_else(|| data_dir.join("engine.sock"))
    }

    /// A sealed engine, in memory that is protected as the settings say, and its custodian.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn make(&self, data_dir: &Path) -> Result<Arc<Custodian>, SettingsError> {
        let chip = self.chip(data_dir)?;
        if let Chip::Software { key_file } = &chip {
            let key_file = key_file.display();
            tracing::warn!(%key_file, "software chip: a stolen machine opens itself");
        }
        let (cached_ciphers, protection) = (self.cached_ciphers, self.memory);
        let engine = Engine::new(&EngineConfig { cached_ciphers, protection }, now)
            .map_err(SettingsError::Memory)?;
        match engine.vault().protection() {
            Protection::MemfdSecret => {}
            Protection::Mlock => {
                tracing::info!("the root key lies in locked memory, without memfd_secret");
            }
            Protection::Unprotected => tracing::warn!(
                "engine.memory is `unprotected`: the root key lies in clear; for trying out a search of memory only"
            ),
        }
        let lapse = Duration::from_secs(self.unseal_lapse_seconds);
        Ok(Custodian::new(engine, data_dir.to_owned(), chip, lapse))
    }
}

/// The section `[tls]`: what the parts of a site prove themselves to each other with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The site's own authority, PEM.
    pub authority: PathBuf,
    /// This part's certificate and its chain, PEM.
    pub certificate: PathBuf,
    /// The certificate's key, PEM, mode 0600.
    pub key: PathBuf,
}

impl TlsSettings {
    /// The files.
    #[must_use]
    pub fn files(&self) -> TlsFiles {
        let Self { authority, certificate, key } = self.clone();
        TlsFiles { authority, certificate, key }
    }
}
