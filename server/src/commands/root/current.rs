//! Showing cards that exist: unseal, adopt, verify, and the quorum of a reshare or rotate.

use anyhow::{Context, Result, bail, ensure};
use sealwire_engine::custody::{
    CeremonyClient, CeremonyError, CeremonyKind, Confirmed, Opened, Progress, Shown, Status,
};
use sealwire_engine::{State, chain};

use super::cards::{ReadCard, Readers};
use super::new::install;
use super::transcript::Transcript;
use super::{Part, begin, print};

/// Shows each card to every engine that is still sealed.
pub(super) async fn unseal(
    engines: &[CeremonyClient],
    readers: &mut Readers<'_>,
    transcript: &mut Transcript,
) -> Result<()> {
    let (mut sealed, mut problems) = (Vec::with_capacity(engines.len()), Vec::new());
    for engine in engines {
        let several = engines.len() > 1;
        let status = if several { Some(engine.status().await) } else { None };
        match status {
            Some(Ok(Status { state: State::Open { root }, .. })) => {
                print(&format!("{}open already, root key {root}\n", prefix(engines, engine)))?;
            }
            Some(Err(error)) => problems.push(chain(&error)),
            _ => sealed.push(engine),
        }
    }
    while !sealed.is_empty() {
        let Some(read) = readers.next()? else { break };
        let mut left = Vec::with_capacity(sealed.len());
        for engine in sealed {
            let prefix = prefix(engines, engine);
            let number = read.card.number();
            match engine.unseal(read.card.bytes(), &read.passphrase).await {
                Ok(Opened::Partly(Progress { have, need })) => {
                    print(&format!("{prefix}card {number}: {have} of {need}\n"))?;
                    transcript.note(&format!("{prefix}{}: {have} of {need}", read.describe()))?;
                    left.push(engine);
                }
                Ok(Opened::Open { root, wrong }) => {
                    print(&format!("{prefix}card {number}: open, root key {root}\n"))?;
                    transcript.note(&format!("{prefix}{}: open", read.describe()))?;
                    transcript.note(&format!("{prefix}root key {root}"))?;
                    warn_wrong(&wrong, transcript)?;
                }
                // The other engines get the card all the same, and this one the next card.
                Err(error) => {
                    let problem = format!("{prefix}card {}: {}", read.place, chain(&error));
                    transcript.note(&problem)?;
                    problems.push(problem);
                    left.push(engine);
                }
            }
        }
        sealed = left;
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// Pins engines that have no root key to that of the cards, and opens them.
pub(super) async fn adopt(
    engines: &[CeremonyClient],
    readers: &mut Readers<'_>,
    transcript: &mut Transcript,
) -> Result<()> {
    let mut parts = begin(engines, CeremonyKind::Init).await?;
    for part in &mut parts {
        part.session.follow().await?;
    }
    let (mut need, mut problems) = (None, Vec::new());
    let mut ready = vec![None; parts.len()];
    while let Some(read) = readers.next()? {
        let mut refused = Refused::default();
        for (part, ready) in parts.iter_mut().zip(&mut ready).filter(|(_, ready)| ready.is_none()) {
            match part.session.confirm(read.card.bytes(), &read.passphrase).await {
                Ok(Confirmed::Partly(progress)) => need = Some(progress),
                Ok(Confirmed::Ready { root, wrong }) => {
                    *ready = Some(root);
                    warn_wrong(&wrong, transcript)?;
                }
                Err(error) => refused.note(&read, &part.name, &error),
            }
        }
        if refused.is_none() {
            transcript.note(&read.describe())?;
        } else if readers.ask_again(&refused) {
            continue;
        }
        refused.tell(&mut problems, transcript)?;
        if let Some(Some(root)) = ready.iter().find(|_| ready.iter().all(Option::is_some)) {
            let hint = "try again with those that are left";
            for name in install(parts).await.all_or(hint)? {
                transcript.note(&format!("adopted root key {root}: {name}"))?;
                print(&format!("engine {name}: open, and pinned to root key {root}\n"))?;
            }
            return Ok(());
        }
    }
    bail!("{}; nothing has changed", too_few(need, &problems))
}

/// Shows every card, more than the quorum too, and says which ones are good.
pub(super) async fn verify(
    engines: &[CeremonyClient],
    readers: &mut Readers<'_>,
    transcript: &mut Transcript,
) -> Result<()> {
    let mut parts = begin(engines, CeremonyKind::Verify).await?;
    let (mut need, mut proven, mut problems) = (None, None, Vec::new());
    while let Some(read) = readers.next()? {
        transcript.note(&read.describe())?;
        for part in &mut parts {
            match part.session.show(read.card.bytes(), &read.passphrase).await {
                Ok(Shown::Partly(progress)) => need = Some(progress),
                Ok(Shown::Proven { root, set, good, wrong }) => {
                    proven = Some((root, set, good, wrong));
                }
                // The other cards are looked at all the same.
                Err(CeremonyError::Refused(why) | CeremonyError::WrongPassphrase(why)) => {
                    let problem = format!("card {}: {why}", read.place);
                    eprintln!("sealwire: {problem}");
                    transcript.note(&problem)?;
                    problems.push(problem);
                }
                Err(error) => return Err(error).with_context(|| format!("engine {}", part.name)),
            }
        }
    }
    let Some((root, set, good, wrong)) = proven else {
        match problems.len() {
            0 => bail!("{}; nothing was proven", too_few(need, &[])),
            _ => bail!("nothing was proven, see above"),
        }
    };
    let list = |numbers: &[u8]| numbers.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let text = format!("cards {} of set {set} give root key {root}", list(&good));
    transcript.note(&text)?;
    print(&format!("{text}\n"))?;
    if !wrong.is_empty() {
        bail!(
            "cards {} do not: their shares are wrong; make new cards with `sealwire root reshare`",
            list(&wrong)
        );
    }
    match problems.as_slice() {
        [] => Ok(()),
        _ => bail!("not every card that was named is good, see above"),
    }
}

/// Shows current cards to every engine until each has seen a quorum.
pub(super) async fn prove(
    parts: &mut [Part],
    readers: &mut Readers<'_>,
    transcript: &mut Transcript,
) -> Result<()> {
    let (mut need, mut problems) = (None, Vec::new());
    let mut proven = vec![None; parts.len()];
    while let Some(read) = readers.next()? {
        let number = read.card.number();
        let mut refused = Refused::default();
        for (part, proven) in
            parts.iter_mut().zip(&mut proven).filter(|(_, proven)| proven.is_none())
        {
            match part.session.show(read.card.bytes(), &read.passphrase).await {
                Ok(Shown::Partly(progress)) => need = Some(progress),
                Ok(Shown::Proven { root, set, wrong, .. }) => {
                    *proven = Some((root, set));
                    warn_wrong(&wrong, transcript)?;
                }
                // What was shown before is kept: another card may do.
                Err(error) => refused.note(&read, &part.name, &error),
            }
        }
        if refused.is_none() {
            transcript.note(&format!("current {}", read.describe()))?;
        } else if readers.ask_again(&refused) {
            continue;
        }
        let taken = refused.is_none();
        refused.tell(&mut problems, transcript)?;
        if let Some(Some((root, set))) = proven.iter().find(|_| proven.iter().all(Option::is_some))
        {
            transcript.note(&format!("current root key {root}, card set {set}"))?;
            return print(&format!("card {number}: the quorum of current cards is complete\n"));
        }
        if let Some(Progress { have, need }) = need.filter(|_| taken) {
            print(&format!("card {number}: {have} of {need} current cards\n"))?;
        }
    }
    bail!("{}; nothing has changed", too_few(need, &problems))
}

/// A card that engines have refused.
#[derive(Default)]
pub(super) struct Refused {
    problems: Vec<String>,
    /// Whether another passphrase may do, as all of them say.
    mistyped: bool,
}

impl Refused {
    fn note(&mut self, read: &ReadCard, engine: &str, error: &CeremonyError) {
        let mistyped = matches!(error, CeremonyError::WrongPassphrase(_));
        self.mistyped = mistyped && (self.mistyped || self.is_none());
        let problem = format!("card {}, engine {engine}: {}", read.place, chain(error));
        self.problems.push(problem);
    }

    fn is_none(&self) -> bool {
        self.problems.is_empty()
    }

    /// What is wrong, when another passphrase may do.
    pub(super) fn mistyped(&self) -> Option<&[String]> {
        self.mistyped.then_some(&self.problems)
    }

    /// Says and writes down what is wrong.
    fn tell(self, all: &mut Vec<String>, transcript: &mut Transcript) -> Result<()> {
        for problem in &self.problems {
            eprintln!("sealwire: {problem}");
            transcript.note(&format!("refused: {problem}"))?;
        }
        all.extend(self.problems);
        Ok(())
    }
}

/// Why a quorum was not reached. What is wrong with single cards has been said.
fn too_few(progress: Option<Progress>, problems: &[String]) -> String {
    let refused = match problems.len() {
        0 => "",
        _ => "see above; ",
    };
    match progress {
        Some(Progress { have, need }) => {
            format!("{refused}{have} of {need} cards were shown: name more with --card")
        }
        None => format!("{refused}no card was taken"),
    }
}

fn warn_wrong(wrong: &[u8], transcript: &mut Transcript) -> Result<()> {
    for number in wrong {
        let text = format!(
            "the share of card {number} is wrong: it was changed by whoever knows its passphrase; make new \
             cards with `sealwire root reshare`"
        );
        eprintln!("sealwire: {text}");
        transcript.note(&text)?;
    }
    Ok(())
}

fn prefix(engines: &[CeremonyClient], engine: &CeremonyClient) -> String {
    if engines.len() == 1 { String::new() } else { format!("{}: ", engine.path().display()) }
}
