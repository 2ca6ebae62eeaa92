//! What officers have done at this engine, for the audit: a file in the data folder, from which a manager takes it.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::{CeremonyKind, write_whole};
use crate::RootKeyId;

const FILE: &str = "ceremonies.jsonl";

/// Entries that are kept, taken or not. Beyond, the oldest go.
const KEPT: usize = 4096;

/// Entries that a manager gets at once.
const PAGE: usize = 64;

/// Longest text in an entry, in bytes.
const MAX_TEXT: usize = 1024;

/// Something that an officer has done, or the engine by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CeremonyEntry {
    /// Counted at this engine, from 1.
    pub number: u64,
    /// Unix time in seconds.
    pub at: u64,
    /// What it was.
    pub step: CeremonyStep,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case", deny_unknown_fields)]
pub enum CeremonyStep {
    /// The chip has opened the engine.
    OpenedByChip,
    /// A quorum of cards has opened it.
    Opened {
        /// The root key.
        root: RootKeyId,
        /// Numbers of cards that were shown and whose shares are wrong.
        wrong: Vec<u8>,
    },
    /// An officer has sealed it.
    Sealed,
    /// A ceremony has begun.
    Begun {
        /// Which.
        ceremony: CeremonyKind,
    },
    /// A quorum of the current cards was shown in it.
    Shown {
        /// The cards' set.
        set: String,
        /// Numbers of the cards whose shares are good.
        good: Vec<u8>,
        /// Numbers of those whose shares are wrong.
        wrong: Vec<u8>,
    },
    /// New cards were made.
    Made {
        /// How many.
        cards: u8,
        /// How many of them give the root key.
        threshold: u8,
    },
    /// New cards, or a new root key, are in force.
    Installed {
        /// The root key.
        root: RootKeyId,
    },
    /// A quorum has allowed what no operator could.
    Warranted {
        /// What.
        statement: String,
    },
    /// Something was refused: a wrong PIN, a card of another set, a step out of turn.
    Refused {
        /// Why.
        why: String,
    },
}

impl CeremonyEntry {
    pub(crate) fn check(&self) -> Result<(), String> {
        let texts: &[&String] = match &self.step {
            CeremonyStep::Shown { set, .. } => &[set],
            CeremonyStep::Warranted { statement } => &[statement],
            CeremonyStep::Refused { why } => &[why],
            _ => &[],
        };
        let lists: usize = match &self.step {
            CeremonyStep::Opened { wrong, .. } => wrong.len(),
            CeremonyStep::Shown { good, wrong, .. } => good.len() + wrong.len(),
            _ => 0,
        };
        match lists > 512 || texts.iter().any(|text| text.len() > MAX_TEXT) {
            true => Err("an officer's step with too long a text".into()),
            false => Ok(()),
        }
    }
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    /// The engine's id: the first line.
    Engine(String),
    /// An entry.
    Entry(CeremonyEntry),
    /// Entries up to this number stand in the audit.
    Taken(u64),
}

/// What a manager gets of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ceremonies {
    /// The engine's id.
    pub engine: String,
    /// Entries that no manager has taken, the oldest first.
    pub entries: Vec<CeremonyEntry>,
}

#[derive(Default)]
struct Known {
    engine: String,
    next: u64,
    taken: u64,
    entries: VecDeque<CeremonyEntry>,
    lines: usize,
}

/// See the module.
pub(super) struct Journal {
    folder: PathBuf,
    path: PathBuf,
    known: Mutex<Option<Known>>,
}

impl Journal {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), path: folder.join(FILE), known: Mutex::default() }
    }

    /// Notes a step. A disk that is full keeps nobody from opening the engine: the log has it then.
    pub(super) fn note(&self, at: u64, step: CeremonyStep) {
        let step = match step {
            CeremonyStep::Refused { why } => CeremonyStep::Refused { why: cut(&why) },
            step => step,
        };
        if let Err(error) = self.try_note(at, &step) {
            tracing::error!(%error, path = %self.path.display(), ?step, "a step of an officer is not in the journal");
        }
    }

    fn try_note(&self, at: u64, step: &CeremonyStep) -> io::Result<()> {
        let mut known = self.known()?;
        let known = known.as_mut().expect("it was read");
        let entry = CeremonyEntry { number: known.next, at, step: step.clone() };
        self.append(known, &Line::Entry(entry.clone()))?;
        known.next += 1;
        known.entries.push_back(entry);
        if known.entries.len() > KEPT
            && let Some(oldest) = known.entries.pop_front()
            && oldest.number > known.taken
        {
            tracing::error!(
                ?oldest,
                "no manager has taken this step of an officer's: it will be in no audit"
            );
        }
        Ok(())
    }

    /// What is not taken yet, after a manager has taken what `taken` says: this engine's id, and a number.
    pub(super) fn take(&self, taken: Option<(&str, u64)>) -> io::Result<Ceremonies> {
        let mut known = self.known()?;
        let known = known.as_mut().expect("it was read");
        let upto = taken.filter(|(engine, _)| *engine == known.engine).map_or(0, |(_, upto)| upto);
        if upto > known.taken && upto < known.next {
            self.append(known, &Line::Taken(upto))?;
            known.taken = upto;
        }
        let rest = known.entries.iter().filter(|entry| entry.number > known.taken);
        let (engine, entries) = (known.engine.clone(), rest.take(PAGE).cloned().collect());
        Ok(Ceremonies { engine, entries })
    }

    fn known(&self) -> io::Result<MutexGuard<'_, Option<Known>>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = Some(self.read()?);
        }
        Ok(known)
    }

    /// Reads the file, or begins it. A line that was cut off by a power loss is none.
    fn read(&self) -> io::Result<Known> {
        // A line that was cut off may end within a letter.
        let text = match std::fs::read(&self.path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let mut known = Known { next: 1, ..Known::default() };
        for line in text.lines() {
            match serde_json::from_str(line) {
                Ok(Line::Engine(id)) => known.engine = id,
                Ok(Line::Taken(upto)) => known.taken = known.taken.max(upto),
                Ok(Line::Entry(entry)) => {
                    known.next = known.next.max(entry.number.saturating_add(1));
                    known.entries.push_back(entry);
                }
                Err(error) => {
                    tracing::warn!(%error, path = %self.path.display(), "a line of the journal");
                }
            }
        }
        known.lines = text.lines().count();
        if known.engine.is_empty() || !text.ends_with('\n') {
            if known.engine.is_empty() {
                let mut id = [0; 8];
                getrandom::fill(&mut id).map_err(io::Error::other)?;
                known.engine = format!("engine-{}", hex::encode(id));
            }
            self.rewrite(&mut known)?;
        }
        Ok(known)
    }

    fn append(&self, known: &mut Known, line: &Line) -> io::Result<()> {
        if known.lines > 2 * KEPT || !self.path.exists() {
            self.rewrite(known)?;
        }
        let mut text = serde_json::to_vec(line).map_err(io::Error::other)?;
        text.push(b'\n');
        let mut file = OpenOptions::new().append(true).mode(0o600).open(&self.path)?;
        let before = file.metadata()?.len();
        let written = file.write_all(&text).and_then(|()| file.sync_data());
        // Half a line would spoil the next one.
        written.inspect_err(|_| drop(file.set_len(before)))?;
        known.lines += 1;
        Ok(())
    }

    fn rewrite(&self, known: &mut Known) -> io::Result<()> {
        while known.entries.len() > KEPT {
            known.entries.pop_front();
        }
        let mut lines = vec![Line::Engine(known.engine.clone()), Line::Taken(known.taken)];
        lines.extend(known.entries.iter().cloned().map(Line::Entry));
        let mut text = Vec::new();
        for line in &lines {
            serde_json::to_writer(&mut text, line).map_err(io::Error::other)?;
            text.push(b'\n');
        }
        write_whole(&self.folder, FILE, &text)?;
        known.lines = lines.len();
        Ok(())
    }
}

fn cut(text: &str) -> String {
    let end = (0..=MAX_TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_not_given_again_and_a_cut_line_is_none() {
        let folder = tempfile::tempdir().expect("folder");
        let journal = Journal::new(folder.path());
        journal.note(1, CeremonyStep::OpenedByChip);
        journal.note(2, CeremonyStep::Sealed);
        let first = journal.take(None).expect("read");
        assert_eq!(first.entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), [1, 2]);
        let rest = journal.take(Some((&first.engine, 1))).expect("read");
        assert_eq!(rest.entries.len(), 1);
        let foreign = journal.take(Some(("engine-another", 2))).expect("read");
        assert_eq!(foreign.entries.len(), 1, "what was taken of another engine says nothing here");
        // A number that was never given takes nothing.
        assert_eq!(journal.take(Some((&first.engine, 99))).expect("read").entries.len(), 1);

        let path = folder.path().join(FILE);
        let mut text = std::fs::read(&path).expect("file");
        text.extend_from_slice(b"{\"entry\":{\"why\":\"\xe8\x81");
        std::fs::write(&path, text).expect("written");
        let again = Journal::new(folder.path());
        again.note(3, CeremonyStep::Refused { why: "ä".repeat(2000) });
        let left = again.take(None).expect("read");
        assert_eq!(left.engine, first.engine);
        assert_eq!(left.entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), [2, 3]);
        assert!(left.entries.iter().all(|entry| entry.check().is_ok()));
    }
}
