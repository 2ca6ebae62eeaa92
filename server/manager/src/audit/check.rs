//! Records are shown, and chains and heads are checked.

use std::collections::HashSet;

use sealwire_engine::Site;
use sealwire_engine::audit::{
    AuditHash, AuditHead, AuditProof, AuditRecord, AuditWriter, MAX_AUDIT_BATCH,
};
use sealwire_keystore::audit::SignedHead;
use sealwire_keystore::{AuditChain, AuditFilter, AuditPlace, AuditRow};

use super::follower::{Follower, read};
use super::views::{plain, words};
use super::{
    AuditChains, AuditPage, AuditQuery, AuditRecordView, AuditRows, BadRecord, ChainPart,
    ChainView, CheckChain, CheckHeads, CheckedHeads, RowView,
};
use crate::{Manager, ManagerError};

/// Records of a page, unless another number is asked for, and at most.
const PAGE: u32 = 100;
const MAX_PAGE: u32 = 1000;

/// Records that are looked through for a text before the page is given, however few were found.
const LOOKED_THROUGH: u32 = 20_000;

/// Records that are looked at for a text at once.
const LOOKED_AT_ONCE: u32 = 500;

/// Rows that are looked at where there should be none.
const FEW: u32 = 64;

/// Foreign records that one process puts on record.
const MOST_FOREIGN: usize = 256;

/// Records of a part of a chain.
const PART: u32 = 2000;

/// Heads that are compared at once.
const MAX_HEADS: usize = 100_000;

impl Manager {
    /// Records, the newest first.
    ///
    /// # Errors
    /// [`ManagerError::Invalid`], [`ManagerError`].
    pub async fn list_audit(&self, query: &AuditQuery) -> Result<AuditPage, ManagerError> {
        let limit = query.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let bound = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
        let filter = AuditFilter {
            from: query.from.map_or(i64::MIN, bound),
            until: query.until.map_or(i64::MAX, |until| bound(until).saturating_sub(1)),
            events: query
                .event
                .iter()
                .flat_map(|list| list.split(','))
                .map(str::to_owned)
                .collect(),
            writer: query.writer.clone(),
        };
        let about = query.about.as_ref().map(|about| about.to_lowercase());
        let mut before = query.before.as_deref().map(parse_place).transpose()?;
        let site = self.site().await?;
        let (mut records, mut looked) = (Vec::new(), 0);
        loop {
            // For a text, many are looked through for few.
            let at_once = if about.is_some() { limit.max(LOOKED_AT_ONCE) } else { limit };
            let rows = self.keystore.newest_first(&filter, before.as_ref(), at_once).await?;
            let full = rows.len() >= usize::try_from(at_once).unwrap_or(usize::MAX);
            looked += at_once;
            for (row, signed) in self.judge(&site, rows).await? {
                before = Some(place_of(&row));
                if about.as_ref().is_none_or(|about| speaks_of(&row, about)) {
                    records.push(view(&row, signed && read(&row).is_ok()));
                }
                if records.len() == wanted {
                    break;
                }
            }
            let next = before
                .as_ref()
                .map(|place| format!("{}/{}/{}", place.at, place.writer, place.sequence));
            if records.len() == wanted || (full && looked >= LOOKED_THROUGH) {
                return Ok(AuditPage { records, next });
            }
            if !full {
                return Ok(AuditPage { records, next: None });
            }
        }
    }

    /// Rows, each with whether the engine has signed it. What is no record it is not asked about; and behind one that
    /// it has not signed, only about few at once: however many there are, each is asked about once.
    pub(crate) async fn judge(
        &self,
        site: &Site,
        rows: Vec<AuditRow>,
    ) -> Result<Vec<(AuditRow, bool)>, ManagerError> {
        let mut judged: Vec<_> = rows.into_iter().map(|row| (row, false)).collect();
        let is_record = |row: &AuditRow| AuditRecord::decode(&row.body).is_ok();
        let mut asked: Vec<_> = judged.iter_mut().filter(|(row, _)| is_record(row)).collect();
        let (mut rest, mut at_once) = (asked.as_mut_slice(), MAX_AUDIT_BATCH);
        while !rest.is_empty() {
            let batch = &rest[..at_once.min(rest.len())];
            let proofs = batch.iter().map(|(row, _)| AuditProof {
                is_head: false,
                body: &row.body,
                mac: row.mac,
            });
            let proofs: Vec<_> = proofs.collect();
            let bad = self.engine.check_audit(site, &proofs).await?;
            let good = bad.unwrap_or(proofs.len());
            rest[..good].iter_mut().for_each(|(_, signed)| *signed = true);
            let looked_at = good + usize::from(bad.is_some());
            at_once = if bad.is_some() { 1 } else { (at_once * 2).min(MAX_AUDIT_BATCH) };
            rest = &mut rest[looked_at..];
        }
        Ok(judged)
    }

    /// Every chain.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn audit_chains(&self) -> Result<AuditChains, ManagerError> {
        let own = self.auditor.head().await;
        // First: what is changed meanwhile has its record, too.
        let revision = self.keystore.revision().await?;
        let remembered = |writer: &str| (writer == own.writer.to_string()).then_some(own);
        let found = self.keystore.chains().await?;
        let mut chains: Vec<_> = found
            .into_iter()
            .map(|AuditChain { writer, newest, count }| ChainView {
                remembered: remembered(&writer),
                writer,
                newest,
                records: count,
            })
            .collect();
        if own.sequence > 0 && chains.iter().all(|chain| chain.remembered.is_none()) {
            let (writer, remembered) = (own.writer.to_string(), Some(own));
            chains.push(ChainView { writer, newest: 0, records: 0, remembered });
        }
        Ok(AuditChains { chains, revision })
    }

    /// Rows of a chain, as they are stored, behind a place.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn audit_rows(&self, writer: &str, after: i64) -> Result<AuditRows, ManagerError> {
        let rows = self.keystore.chain(writer, after, MAX_PAGE).await?;
        let view = |row: AuditRow| RowView {
            writer: row.writer,
            sequence: row.sequence,
            at: row.at,
            event: row.event,
            body: String::from_utf8_lossy(&row.body).into_owned(),
            mac: hex::encode(row.mac),
        };
        Ok(AuditRows { rows: rows.into_iter().map(view).collect() })
    }

    /// Checks a part of a chain: behind where it was checked before. What is wrong is named, and it goes on behind it.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn check_chain(
        &self,
        writer: &str,
        after: CheckChain,
    ) -> Result<ChainPart, ManagerError> {
        let Ok(named) = writer.parse::<AuditWriter>() else {
            return Err(ManagerError::Invalid("nobody writes a chain of this name".into()));
        };
        let rows = self.keystore.chain(writer, after.sequence.max(0), PART).await?;
        let done = rows.len() < usize::try_from(PART).unwrap_or(usize::MAX);
        let site = self.site().await?;
        let mut follower = Follower::new(named, after, done);
        if after.sequence <= 0 {
            // Before the first place no record belongs.
            let before = self.keystore.chain(writer, i64::MIN, FEW).await?;
            before.iter().take_while(|row| row.sequence < 1).for_each(|row| follower.stray(row));
        }
        for (row, signed) in self.judge(&site, rows).await? {
            follower.take(&row, signed);
        }
        Ok(follower.part)
    }

    /// Compares heads with the chains.
    ///
    /// # Errors
    /// [`ManagerError::Invalid`] for too many; [`ManagerError`].
    pub async fn check_heads(&self, heads: &CheckHeads) -> Result<CheckedHeads, ManagerError> {
        if heads.signed.len() + heads.known.len() > MAX_HEADS {
            return Err(ManagerError::Invalid(format!("at most {MAX_HEADS} heads at once")));
        }
        let site = self.site().await?;
        let mut bad = Vec::new();
        let mut trusted = heads.known.clone();
        for batch in heads.signed.chunks(MAX_AUDIT_BATCH) {
            let mut batch = batch.to_vec();
            while !batch.is_empty() {
                let forged = self.first_forged_head(&site, &batch).await?;
                let good = forged.unwrap_or(batch.len());
                trusted.extend(batch.drain(..good).map(|signed| signed.head));
                if forged.is_some() {
                    let why = "this head was not signed by this site's engine";
                    bad.push(bad_head(&batch.remove(0).head, why.into()));
                }
            }
        }
        for head in trusted.iter().filter(|head| head.sequence > 0) {
            if let Some(why) = self.is_not_there(head).await? {
                bad.push(bad_head(head, why));
            }
        }
        Ok(CheckedHeads { bad })
    }

    async fn first_forged_head(
        &self,
        site: &Site,
        heads: &[SignedHead],
    ) -> Result<Option<usize>, ManagerError> {
        let bodies: Vec<_> = heads.iter().map(|signed| signed.head.encode()).collect();
        let proofs = heads.iter().zip(&bodies);
        let proofs: Vec<_> = proofs
            .map(|(signed, body)| AuditProof { is_head: true, body, mac: signed.mac })
            .collect();
        Ok(self.engine.check_audit(site, &proofs).await?)
    }

    /// Why a chain does not go through a head.
    async fn is_not_there(&self, head: &AuditHead) -> Result<Option<String>, ManagerError> {
        let writer = head.writer.to_string();
        let sequence = i64::try_from(head.sequence).unwrap_or(i64::MAX);
        if let Some(row) = self.keystore.record(&writer, sequence).await? {
            let same = AuditHash::of(&row.body) == head.hash;
            return Ok((!same).then(|| "another record stands where the head says".into()));
        }
        let newest = self.keystore.newest_records(&writer, 1).await?.pop();
        Ok(Some(match newest {
            None => "the whole chain is missing".into(),
            Some(row) if row.sequence < sequence => format!(
                "the chain was cut off: records {} to {sequence} are missing at its end",
                row.sequence + 1
            ),
            Some(_) => "the record is missing".into(),
        }))
    }

    /// How far every chain goes: its newest genuine record. Those behind it, which somebody else has put there, are put
    /// on record once.
    pub(super) async fn genuine_heads(
        &self,
        foreign: &mut HashSet<(String, i64)>,
    ) -> Result<Vec<AuditHead>, ManagerError> {
        let site = self.site().await?;
        let mut heads = Vec::new();
        for writer in self.keystore.writers().await? {
            if writer.parse::<AuditWriter>().is_err() {
                self.tell_foreign(foreign, (writer, 0)).await?;
                continue;
            }
            let mut rows =
                self.judge(&site, self.keystore.newest_records(&writer, 1).await?).await?;
            if rows.iter().any(|(row, signed)| !signed || read(row).is_err()) {
                rows = self.judge(&site, self.keystore.newest_records(&writer, FEW).await?).await?;
            }
            for (row, signed) in rows {
                match read(&row) {
                    Ok(record) if signed => {
                        heads.push(AuditHead::of(&record, &row.body));
                        break;
                    }
                    _ => self.tell_foreign(foreign, (row.writer, row.sequence)).await?,
                }
            }
        }
        Ok(heads)
    }

    async fn tell_foreign(
        &self,
        foreign: &mut HashSet<(String, i64)>,
        (writer, sequence): (String, i64),
    ) -> Result<(), ManagerError> {
        let shown = plain(&writer);
        if foreign.len() < MOST_FOREIGN && foreign.insert((writer, sequence)) {
            tracing::error!(
                writer = shown,
                sequence,
                "audit: a record that somebody else has put there"
            );
            self.record(("audit.foreign-record", format!("record {sequence} of {shown}"))).await?;
        }
        Ok(())
    }
}

fn bad_head(head: &AuditHead, why: String) -> BadRecord {
    let sequence = i64::try_from(head.sequence).unwrap_or(i64::MAX);
    BadRecord { writer: head.writer.to_string(), sequence, why }
}

fn view(row: &AuditRow, genuine: bool) -> AuditRecordView {
    let record = AuditRecord::decode(&row.body).ok();
    let text = record
        .as_ref()
        .map_or_else(|| "this is no audit record".to_owned(), |record| words(&record.event));
    let (writer, sequence, at) = (row.writer.clone(), row.sequence, row.at);
    AuditRecordView { writer, sequence, at, genuine, text, record }
}

fn speaks_of(row: &AuditRow, about: &str) -> bool {
    String::from_utf8_lossy(&row.body).to_lowercase().contains(about)
}

pub(crate) fn place_of(row: &AuditRow) -> AuditPlace {
    AuditPlace { at: row.at, writer: row.writer.clone(), sequence: row.sequence }
}

fn parse_place(text: &str) -> Result<AuditPlace, ManagerError> {
    let parsed = text.split_once('/').and_then(|(at, rest)| {
        // Whatever a writer is called.
        let (writer, sequence) = rest.rsplit_once('/')?;
        let (at, sequence) = (at.parse().ok()?, sequence.parse().ok()?);
        Some(AuditPlace { at, writer: writer.to_owned(), sequence })
    });
    parsed.ok_or_else(|| ManagerError::Invalid("`before` is `next` of the page before".into()))
}
