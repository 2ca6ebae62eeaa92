//! Who the operator's commands call as: `sealwire sign-in` keeps a session's token for those that follow, and
//! `SEALWIRE_TOKEN` takes precedence.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sealwire_manager::{ManagerClient, SignedIn};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::print;
use super::root::{ask, read_pin};
use crate::cli::{ManagerPlace, ManagerSocket, SignIn};

/// The variable that holds a token: it is never an argument.
const TOKEN: &str = "SEALWIRE_TOKEN";

/// A client of the manager that calls as whoever has signed in.
pub(super) fn manager(socket: &ManagerSocket) -> Result<ManagerClient> {
    client(&socket.place())
}

/// The same, for a place.
pub(super) fn client(place: &ManagerPlace) -> Result<ManagerClient> {
    let client = nobody(place)?;
    if let Ok(token) = std::env::var(TOKEN) {
        return Ok(client.with_token(token.into()));
    }
    Ok(match kept(place)? {
        Some(token) => client.with_token(token),
        None => client,
    })
}

pub(super) async fn sign_in(args: SignIn) -> Result<()> {
    let SignIn { name, password_file, print: shall_print, socket } = args;
    let password = match &password_file {
        Some(file) => read_pin(file)?,
        None => ask(&format!("password of {name}: "))?,
    };
    let signed_in = nobody(&socket.place())?.sign_in(&name, password).await?;
    let SignedIn { token, operator } = signed_in;
    if shall_print {
        print(&token)?;
        return print("\n");
    }
    keep(&socket.place(), &token)?;
    let roles: Vec<_> = operator.roles.iter().map(|role| role.name()).collect();
    print(&format!("signed in as {name}: {}\n", roles.join(", ")))?;
    if operator.must_change_password {
        print(
            "Somebody else has chosen your password: change it first (`sealwire operator change-password`).\n",
        )?;
    }
    Ok(())
}

pub(super) async fn sign_out(socket: &ManagerSocket) -> Result<()> {
    // The session that is kept, whatever SEALWIRE_TOKEN says.
    let client = nobody(&socket.place())?;
    let done = match kept(&socket.place())? {
        Some(token) => client.with_token(token).sign_out().await,
        None => manager(socket)?.sign_out().await,
    };
    // Also when the session is over already.
    match fs::remove_file(file(&socket.place())?) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    done?;
    print("signed out\n")
}

pub(super) async fn who_am_i(socket: &ManagerSocket) -> Result<()> {
    let caller = manager(socket)?.who_am_i().await?;
    let roles: Vec<_> = caller.roles.iter().map(|role| role.name()).collect();
    let name = caller.name.as_deref().unwrap_or("nobody yet: the site has no operators");
    let by = caller.token.map(|token| format!(", by token {token}")).unwrap_or_default();
    print(&format!("{name}: {}{by}\n", roles.join(", ")))
}

/// A client that calls as nobody.
fn nobody(place: &ManagerPlace) -> Result<ManagerClient> {
    match place {
        ManagerPlace::Socket(path) => Ok(ManagerClient::new(path.to_owned())),
        ManagerPlace::Network { url, ca } => {
            let read =
                |ca: &Path| fs::read(ca).with_context(|| format!("CA file {}", ca.display()));
            let ca = ca.as_deref().map(read).transpose()?;
            Ok(ManagerClient::over(url, ca.as_deref())?)
        }
    }
}

/// Where the session of a manager is kept.
fn file(place: &ManagerPlace) -> Result<PathBuf> {
    let folder = match (std::env::var_os("XDG_RUNTIME_DIR"), std::env::var_os("HOME")) {
        (Some(runtime), _) if !runtime.is_empty() => PathBuf::from(runtime),
        (_, Some(home)) if !home.is_empty() => PathBuf::from(home).join(".local/state"),
        _ => anyhow::bail!("neither XDG_RUNTIME_DIR nor HOME says where to keep the session"),
    };
    let digest = match place {
        ManagerPlace::Socket(path) => {
            Sha256::digest(std::path::absolute(path)?.as_os_str().as_encoded_bytes())
        }
        ManagerPlace::Network { url, .. } => Sha256::digest(url.trim_end_matches('/').as_bytes()),
    };
    Ok(folder.join("sealwire").join(format!("session-{}", hex::encode(&digest[..8]))))
}

fn keep(place: &ManagerPlace, token: &str) -> Result<()> {
    let file = file(place)?;
    let named = || format!("session {}", file.display());
    let folder = file.parent().context("the file is in a folder")?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(named)?;
    let mut options = OpenOptions::new();
    let mut kept = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&file)
        .with_context(named)?;
    kept.set_permissions(fs::Permissions::from_mode(0o600)).with_context(named)?;
    kept.write_all(token.as_bytes()).with_context(named)
}

fn kept(place: &ManagerPlace) -> Result<Option<Zeroizing<String>>> {
    let Ok(file) = file(place) else { return Ok(None) };
    let metadata = match fs::metadata(&file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("session {}", file.display())),
    };
    ensure!(
        metadata.permissions().mode() & 0o077 == 0,
        "session {}: open to others: remove it, and sign in again",
        file.display()
    );
    read_pin(&file).map(Some)
}
