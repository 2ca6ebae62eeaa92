//! What is made of files, and made again when they change.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// A file, read.
pub struct Content {
    /// Where it lies.
    pub path: PathBuf,
    /// What it holds.
    pub bytes: Zeroizing<Vec<u8>>,
    mode: u32,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be read.
    #[error("{path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{path}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl Content {
    /// What is wrong with this file.
    pub fn wrong(&self, problem: impl Into<String>) -> FileError {
        FileError::Content { path: self.path.clone(), problem: problem.into() }
    }

    /// Refuses a file whose mode has one of these bits: 0o077 when it is its owner's alone.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn check_mode(&self, forbidden: u32) -> Result<(), FileError> {
        match self.mode {
            mode if mode & forbidden == 0 => Ok(()),
            mode => Err(self.wrong(format!("open to others (mode {mode:o}): chmod 600"))),
        }
    }
}

/// How files become what they are followed for.
type Make<T, E> = dyn Fn(&[Content]) -> Result<T, E> + Send + Sync;

/// What is made of files, as they are now.
pub struct Followed<T, E> {
    what: &'static str,
    paths: Vec<PathBuf>,
    make: Box<Make<T, E>>,
    current: RwLock<(T, [u8; 32])>,
}

impl<T: Clone, E: std::error::Error + From<FileError>> Followed<T, E> {
    /// Reads the files, and makes of them what they are for.
    ///
    /// # Errors
    /// A [`FileError`], or what `make` says.
    pub fn read(
        what: &'static str,
        paths: Vec<PathBuf>,
        make: impl Fn(&[Content]) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, E> {
        let contents = contents(&paths)?;
        let current = RwLock::new((make(&contents)?, digest(&contents)));
        Ok(Arc::new(Self { what, paths, make: Box::new(make), current }))
    }

    /// What is in use now.
    pub fn current(&self) -> T {
        self.current.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Takes changed files into use, until `stop`: looks every five seconds. Ones that cannot be used are
    /// logged once, and what was made before stays in use.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut seen = self.current.read().unwrap_or_else(PoisonError::into_inner).1;
        let mut away = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
            let contents = match contents(&self.paths) {
                Ok(contents) => contents,
                Err(error) => {
                    if std::mem::replace(&mut away, true) {
                        continue;
                    }
                    let problem = crate::chain(&error);
                    tracing::error!(problem, "{} cannot be read: the old one stays", self.what);
                    continue;
                }
            };
            away = false;
            let digest = digest(&contents);
            if digest == seen {
                continue;
            }
            seen = digest;
            match (self.make)(&contents) {
                Ok(made) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = (made, digest);
                    tracing::info!(files = %self, "{} renewed", self.what);
                }
                Err(error) => {
                    let problem = crate::chain(&error);
                    tracing::error!(problem, "{} not renewed: the old one stays", self.what);
                }
            }
        }
    }
}

impl<T, E> std::fmt::Display for Followed<T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let paths: Vec<_> = self.paths.iter().map(|path| path.display().to_string()).collect();
        f.write_str(&paths.join(", "))
    }
}

fn contents(paths: &[PathBuf]) -> Result<Vec<Content>, FileError> {
    let read = |path: &PathBuf| {
        let bytes = Zeroizing::new(std::fs::read(path)?);
        let mode = std::fs::metadata(path)?.permissions().mode() & 0o777;
        Ok(Content { path: path.clone(), bytes, mode })
    };
    let named = |path: &PathBuf| {
        read(path).map_err(|source| FileError::Unreadable { path: path.clone(), source })
    };
    paths.iter().map(named).collect()
}

fn digest(contents: &[Content]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for content in contents {
        digest.update(content.bytes.len().to_be_bytes());
        digest.update(&*content.bytes);
        // A file that was refused for its mode is looked at again when that is mended.
        digest.update(content.mode.to_be_bytes());
    }
    digest.finalize().into()
}
