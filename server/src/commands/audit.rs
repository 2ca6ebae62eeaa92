//! `sealwire audit …`: who did what, and whether that is the whole truth.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sealwire_engine::audit::AuditWriter;
use sealwire_keystore::audit::SignedHead;
use sealwire_manager::ManagerClient;
use sealwire_manager::audit::verify::{self, Report};
use sealwire_manager::audit::{AuditQuery, AuditRecordView, plain};

use super::identity::manager;
use super::{print, print_json, written};
use crate::cli::{Audit, AuditList};

/// Heads that are compared of each chain: one that somebody has made up does not hide the others.
const OF_EACH: usize = 8;

/// The furthest heads of each chain, by their place and MAC.
type Furthest = BTreeMap<String, BTreeMap<(u64, [u8; 32]), SignedHead>>;

pub(super) async fn run(command: Audit) -> Result<()> {
    match command {
        Audit::List(args) => list(args).await,
        Audit::Verify { heads, json, socket } => verify(&manager(&socket)?, &heads, json).await,
        Audit::Export { socket } => export(&manager(&socket)?).await,
    }
}

async fn list(args: AuditList) -> Result<()> {
    let manager = manager(&args.socket)?;
    let mut query = AuditQuery {
        from: args.since.as_deref().map(|text| time(text, "--since")).transpose()?,
        until: args.until.as_deref().map(|text| time(text, "--until")).transpose()?,
        event: args.event,
        writer: args.writer,
        about: args.about,
        before: None,
        limit: None,
    };
    let (mut found, limit) = (Vec::new(), usize::try_from(args.limit).unwrap_or(usize::MAX));
    while found.len() < limit {
        query.limit = Some(u32::try_from(limit - found.len()).unwrap_or(u32::MAX));
        let page = manager.list_audit(&query).await?;
        found.extend(page.records);
        match page.next {
            Some(next) => query.before = Some(next),
            None => break,
        }
    }
    if args.json {
        return print_json(&found);
    }
    print(&found.iter().map(text).collect::<String>())
}

/// A record in a line. What strangers have sent stands in it: nothing of that moves the cursor.
fn text(record: &AuditRecordView) -> String {
    let AuditRecordView { writer, sequence, at, genuine, text, .. } = record;
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(*at).unwrap_or(0)));
    let at = at.map_or_else(String::new, |at| humantime::format_rfc3339_millis(at).to_string());
    let forged = if *genuine { "" } else { "FORGED: the engine has not signed this. " };
    format!("{at}  {}/{sequence}  {forged}{}\n", plain(writer), plain(text))
}

/// Unix time in milliseconds, of a time or of how long ago it was.
fn time(text: &str, option: &str) -> Result<u64> {
    let time = match humantime::parse_duration(text) {
        Ok(ago) => SystemTime::now().checked_sub(ago),
        Err(_) => humantime::parse_rfc3339_weak(text).ok(),
    };
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let since = since.with_context(|| {
        format!(
            "{option}: `{text}` is neither a time (2026-11-26T12:00:00Z) nor how long ago (90m)"
        )
    })?;
    Ok(u64::try_from(since.as_millis())?)
}

async fn verify(manager: &ManagerClient, files: &[PathBuf], json: bool) -> Result<()> {
    let mut heads = Furthest::new();
    for file in files {
        read_heads(file, &mut heads)?;
    }
    let heads: Vec<SignedHead> = heads.into_values().flat_map(BTreeMap::into_values).collect();
    let bar = bar();
    let progress = |checked, total| {
        bar.set_length(total);
        bar.set_position(checked);
    };
    let report = verify::everything(manager, &heads, &progress).await;
    bar.finish_and_clear();
    let report = report?;
    if json {
        print_json(&report)?;
    } else {
        print(&words(&report))?;
    }
    match report.bad.len() {
        0 => Ok(()),
        1 => bail!("the audit was tampered with, or cut off: see the line above"),
        count => bail!("the audit was tampered with, or cut off, in {count} places: see above"),
    }
}

fn words(report: &Report) -> String {
    let mut text = String::new();
    for (writer, records) in &report.chains {
        text += &format!("{}  {records} records are good\n", plain(writer));
    }
    text += &format!("compared with {} heads, and with {} changes\n", report.heads, report.changes);
    for bad in &report.bad {
        let (writer, why) = (plain(&bad.writer), plain(&bad.why));
        text += &format!("BAD  record {} of {writer}: {why}\n", bad.sequence);
    }
    text
}

/// The furthest heads of each chain in a file: the chain leads to them through the others. A line that is none, as
/// one that was cut off, is told and passed over.
fn read_heads(file: &Path, heads: &mut Furthest) -> Result<()> {
    let named = || format!("heads {}", file.display());
    let bytes = std::fs::read(file).with_context(named)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut none = 0;
    for line in text.lines().filter(|line| !line.is_empty()) {
        match serde_json::from_str::<SignedHead>(line) {
            Ok(head) => {
                let held = heads.entry(head.head.writer.to_string()).or_default();
                held.insert((head.head.sequence, head.mac), head);
                if held.len() > OF_EACH {
                    held.pop_first();
                }
            }
            Err(_) => none += 1,
        }
    }
    if none > 0 {
        eprintln!("sealwire: heads {}: {none} lines are no heads", file.display());
    }
    if heads.is_empty() {
        bail!("heads {}: there is none in it", file.display());
    }
    Ok(())
}

async fn export(manager: &ManagerClient) -> Result<()> {
    let mut out = BufWriter::new(io::stdout());
    for chain in manager.audit_chains().await?.chains {
        if chain.writer.parse::<AuditWriter>().is_err() {
            let (writer, records) = (plain(&chain.writer), chain.records);
            eprintln!(
                "sealwire: {records} records of `{writer}`, which writes no chain, are left out"
            );
            continue;
        }
        let mut after = i64::MIN;
        loop {
            let rows = manager.audit_rows(&chain.writer, after).await?.rows;
            let Some(last) = rows.last() else { break };
            after = last.sequence;
            for row in &rows {
                let line = serde_json::to_string(row)?;
                written(out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")))?;
            }
        }
    }
    written(out.flush())
}

fn bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    let style = "{bar:40} {pos} of {len} records, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a template"));
    bar
}
