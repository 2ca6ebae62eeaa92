//! What was done in a ceremony, without secrets, for the officers to sign.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::cli::{Engines, Shared};

/// Lines to sign on.
const SIGNATURES: usize = 4;

/// A transcript; each line is on the disk before the next step is taken.
pub(super) struct Transcript(Option<File>);

impl Transcript {
    /// Nothing is written down.
    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) fn begin(ceremony: &str, shared: &Shared) -> Result<Self> {
        Self::open(ceremony, shared.transcript.as_deref(), &shared.engines)
    }

    /// Begins a transcript in a new file; an old one is never overwritten.
    pub(super) fn open(ceremony: &str, path: Option<&Path>, engines: &Engines) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::none()) };
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let mut transcript =
            Self(Some(file.with_context(|| {
                format!("transcript {}: it must be a new file", path.display())
            })?));
        transcript.line("Transcript of a Sealwire ceremony")?;
        transcript.line("")?;
        transcript.line(&format!("ceremony   {ceremony}"))?;
        transcript.line(&format!("program    sealwire {}", env!("CARGO_PKG_VERSION")))?;
        for engine in &engines.sockets {
            transcript.line(&format!("engine     {}", engine.display()))?;
        }
        transcript.line("")?;
        transcript.note("begun")?;
        Ok(transcript)
    }

    /// Notes a step, with its time.
    pub(super) fn note(&mut self, step: &str) -> Result<()> {
        let now = humantime::format_rfc3339_seconds(SystemTime::now());
        self.line(&format!("{now}  {step}"))
    }

    /// Notes how it ended, and leaves room for signatures.
    pub(super) fn end(mut self, done: Result<()>) -> Result<()> {
        let signed = self.close(&done);
        done.and(signed)
    }

    fn close(&mut self, done: &Result<()>) -> Result<()> {
        match done {
            Ok(()) => self.note("done")?,
            Err(error) => self.note(&format!("ENDED WITHOUT SUCCESS: {error:#}"))?,
        }
        self.line("\nWe were present, and saw this happen (name, role, date, signature):\n")?;
        for number in 1..=SIGNATURES {
            self.line(&format!("  {number}. {}\n", "_".repeat(70)))?;
        }
        Ok(())
    }

    fn line(&mut self, text: &str) -> Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
        let written = writeln!(file, "{text}").and_then(|()| file.sync_data());
        written.context("the transcript could not be written")
    }
}
