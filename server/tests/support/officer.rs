//! Officers with key cards in folders and on real tokens (SoftHSM2), who use the command line.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::cluster::Cluster;
use super::{SEALWIRE, Server};

/// SoftHSM2's library, as Debian installs it.
pub(crate) const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Tokens of SoftHSM2 in a folder of their own. A token's PIN is `pin-` and its label.
pub(crate) struct Tokens {
    folder: TempDir,
}

impl Tokens {
    pub(crate) fn new(labels: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = Self { folder };
        std::fs::create_dir(tokens.store()).expect("made");
        let text = format!("directories.tokendir = {}\n", tokens.store().display());
        std::fs::write(tokens.conf(), text).expect("written");
        for label in labels {
            let made = Command::new("softhsm2-util")
                .args(["--init-token", "--free", "--label", label, "--so-pin", "so-pin"])
                .args(["--pin", &format!("pin-{label}")])
                .env("SOFTHSM2_CONF", tokens.conf())
                .output()
                .expect("softhsm2-util: ./scripts/test installs it");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        tokens
    }

    pub(crate) fn conf(&self) -> PathBuf {
        self.folder.path().join("softhsm2.conf")
    }

    pub(crate) fn env(&self) -> Vec<(&'static str, PathBuf)> {
        vec![("SOFTHSM2_CONF", self.conf())]
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("tokens")
    }

    /// Pulls all tokens out.
    pub(crate) fn unplug(&self) {
        std::fs::rename(self.store(), self.folder.path().join("away")).expect("moved");
        std::fs::create_dir(self.store()).expect("made");
    }

    /// Plugs them in again.
    pub(crate) fn plug_in(&self) {
        std::fs::remove_dir_all(self.store()).expect("removed");
        std::fs::rename(self.folder.path().join("away"), self.store()).expect("moved");
    }
}

/// A card that an officer keeps: where it is, and the file with its passphrase or PIN.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) uri: String,
    pub(crate) pin: PathBuf,
}

/// The officers of a site, with their pockets in a folder.
pub(crate) struct Officers {
    pub(crate) pockets: TempDir,
    pub(crate) tokens: Tokens,
    engine: PathBuf,
    manager: PathBuf,
}

impl Officers {
    pub(crate) fn of(server: &Server, tokens: Tokens) -> Self {
        let pockets = tempfile::tempdir().expect("a folder");
        let (engine, manager) =
            (server.data().join("engine.sock"), server.data().join("manager.sock"));
        Self { pockets, tokens, engine, manager }
    }

    /// Of a site with engines apart: whom no `--engine` names, all of them are meant.
    pub(crate) fn of_cluster(site: &Cluster, tokens: Tokens) -> Self {
        let pockets = tempfile::tempdir().expect("a folder");
        let sockets = site.engines.iter().map(|engine| engine.data().join("engine.sock"));
        let engine = std::env::join_paths(sockets).expect("no colons").into();
        Self { pockets, tokens, engine, manager: site.manager.data().join("manager.sock") }
    }

    /// `sealwire root …`, ready to run.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(SEALWIRE);
        command
            .arg("root")
            .args(args)
            .env("SEALWIRE_CEREMONY_SOCKET", &self.engine)
            .env("SEALWIRE_SOCKET", &self.manager)
            .env("SEALWIRE_PKCS11_MODULE", SOFTHSM)
            .env("SOFTHSM2_CONF", self.tokens.conf())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn root(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("runs")
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.root(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a command that must be refused, and gives why.
    pub(crate) fn refused(&self, args: &[&str]) -> String {
        let output = self.root(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    /// A place for a new card: `f` for a folder, `t` for a token that is called as the place is.
    pub(crate) fn place(&self, name: &str) -> String {
        if name.starts_with('t') {
            return format!("pkcs11:token={name}");
        }
        let folder = self.pockets.path().join(name);
        std::fs::create_dir_all(&folder).expect("made");
        format!("file:{}/", folder.display())
    }

    /// Makes cards at these places by `init`, `reshare` or `rotate`, and puts their passphrases and PINs
    /// into files.
    pub(crate) fn make(
        &self,
        args: &[&str],
        flag: &str,
        pin_flag: &str,
        names: &[&str],
    ) -> Vec<Kept> {
        let (mut command, kept) = self.making(args, flag, pin_flag, names);
        let output = command.output().expect("runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {error}");
        self.keep_passphrases(&String::from_utf8(output.stdout).expect("text"), &kept);
        kept
    }

    /// The command that makes cards at these places, and the cards that there will be.
    pub(crate) fn making(
        &self,
        args: &[&str],
        flag: &str,
        pin_flag: &str,
        names: &[&str],
    ) -> (Command, Vec<Kept>) {
        let mut all: Vec<String> = args.iter().map(ToString::to_string).collect();
        let mut kept = Vec::new();
        for name in names {
            let uri = self.place(name);
            let pin = self.pockets.path().join(format!("{name}.pin"));
            all.extend([flag.to_owned(), uri.clone()]);
            if name.starts_with('t') {
                std::fs::write(&pin, format!("pin-{name}\n")).expect("written");
                all.extend([pin_flag.to_owned(), pin.display().to_string()]);
            }
            kept.push(Kept { uri, pin });
        }
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        (self.command(&all), kept)
    }

    /// Writes the passphrases that a ceremony has shown into the files of the cards.
    pub(crate) fn keep_passphrases(&self, said: &str, kept: &[Kept]) {
        let files = kept.iter().filter(|card| card.uri.starts_with("file:"));
        let shown: Vec<&str> = said
            .lines()
            .filter_map(|line| line.split_once("passphrase ").map(|(_, p)| p))
            .collect();
        let shown = shown.into_iter().filter(|text| text.len() == 29 && !text.contains(' '));
        for (card, passphrase) in files.zip(shown) {
            std::fs::write(&card.pin, passphrase).expect("written");
        }
    }

    pub(crate) fn init(&self, threshold: &str, names: &[&str]) -> Vec<Kept> {
        self.make(&["init", "--threshold", threshold], "--card", "--pin-file", names)
    }

    /// Arguments that show these cards.
    pub(crate) fn show<'a>(&self, cards: &'a [Kept]) -> Vec<&'a str> {
        let pin = |card: &'a Kept| card.pin.to_str().expect("text");
        cards
            .iter()
            .flat_map(|card| ["--card", card.uri.as_str(), "--pin-file", pin(card)])
            .collect()
    }

    pub(crate) fn unseal(&self, cards: &[Kept]) -> String {
        self.ok(&[&["unseal"], self.show(cards).as_slice()].concat())
    }

    pub(crate) fn is_open(&self) -> bool {
        let status = self.ok(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        status["state"]["state"] == "open"
    }
}

/// The bytes of a card in a folder.
pub(crate) fn card_bytes(kept: &Kept) -> Vec<u8> {
    let folder = kept.uri.strip_prefix("file:").expect("a card in a file");
    std::fs::read(Path::new(folder).join("sealwire.card")).expect("a card")
}
