//! Records are shown, and chains and heads are checked.

use sealwire_engine::audit::{
    AuditEvent, AuditHash, AuditHead, AuditProof, AuditRecord, AuditWriter, AuditWriterKind,
    MAX_AUDIT_BATCH,
};
use sealwire_engine::{Site, chain as chain_of};
use sealwire_keystore::audit::SignedHead;
use sealwire_keystore::{AuditFilter, AuditPlace, AuditRow};

use super::views::{head_of, words};
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
        let filter = AuditFilter {
            from: query.from.unwrap_or(0),
            until: query.until.unwrap_or(u64::MAX),
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
            let rows = self.keystore.newest_first(&filter, before.as_ref(), limit).await?;
            let full = rows.len() >= wanted;
            looked += limit;
            for (row, genuine) in self.judge(&site, rows).await? {
                before = Some(place_of(&row));
                if about.as_ref().is_none_or(|about| speaks_of(&row, about)) {
                    records.push(view(&row, genuine));
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

    /// Rows, each with whether the engine has signed it and its columns say what it says.
    async fn judge(
        &self,
        site: &Site,
        rows: Vec<AuditRow>,
    ) -> Result<Vec<(AuditRow, bool)>, ManagerError> {
        let mut judged = Vec::with_capacity(rows.len());
        let mut rest = rows.into_iter().peekable();
        while rest.peek().is_some() {
            let mut batch: Vec<_> = rest.by_ref().take(MAX_AUDIT_BATCH).collect();
            while !batch.is_empty() {
                let bad = self.first_forged(site, &batch).await?;
                let good = bad.unwrap_or(batch.len());
                judged.extend(batch.drain(..good).map(|row| {
                    let genuine = read(&row).is_ok();
                    (row, genuine)
                }));
                if bad.is_some() {
                    judged.push((batch.remove(0), false));
                }
            }
        }
        Ok(judged)
    }

    /// The first row that the engine has not signed.
    async fn first_forged(
        &self,
        site: &Site,
        rows: &[AuditRow],
    ) -> Result<Option<usize>, ManagerError> {
        let proof = |row| {
            let AuditRow { body, mac, .. }: &AuditRow = row;
            AuditProof { is_head: false, body, mac: *mac }
        };
        let proofs: Vec<_> = rows.iter().map(proof).collect();
        Ok(self.engine.check_audit(site, &proofs).await?)
    }

    /// Every chain.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn audit_chains(&self) -> Result<AuditChains, ManagerError> {
        let own = self.auditor.head().await;
        let mut chains: Vec<_> = self
            .keystore
            .chains()
            .await?
            .into_iter()
            .map(|(writer, newest)| {
                let remembered = (writer == own.writer.to_string()).then_some(own);
                ChainView { writer, newest, remembered }
            })
            .collect();
        if own.sequence > 0 && chains.iter().all(|chain| chain.remembered.is_none()) {
            let writer = own.writer.to_string();
            chains.push(ChainView { writer, newest: 0, remembered: Some(own) });
        }
        Ok(AuditChains { chains })
    }

    /// Rows of a chain, as they are stored, behind a place.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn audit_rows(&self, writer: &str, after: u64) -> Result<AuditRows, ManagerError> {
        let rows = self.keystore.chain(writer, after, MAX_PAGE).await?;
        let view = |row: AuditRow| RowView {
            writer: row.writer,
            sequence: row.sequence,
            body: String::from_utf8_lossy(&row.body).into_owned(),
            mac: hex::encode(row.mac),
        };
        Ok(AuditRows { rows: rows.into_iter().map(view).collect() })
    }

    /// Checks a part of a chain: behind where it was found good before.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn check_chain(
        &self,
        writer: &str,
        after: CheckChain,
    ) -> Result<ChainPart, ManagerError> {
        let mut part =
            ChainPart { upto: after, records: 0, done: false, bad: None, heads: Vec::new() };
        let bad =
            |sequence, why: String| Some(BadRecord { writer: writer.to_owned(), sequence, why });
        let Ok(named) = writer.parse::<AuditWriter>() else {
            part.bad = bad(after.sequence + 1, "nobody writes a chain of this name".into());
            return Ok(part);
        };
        let rows = self.keystore.chain(writer, after.sequence, PART).await?;
        part.done = rows.len() < usize::try_from(PART).unwrap_or(usize::MAX);
        let site = self.site().await?;
        let mut head = head_of(named, after);
        for batch in rows.chunks(MAX_AUDIT_BATCH) {
            let forged = self.first_forged(&site, batch).await?;
            for (position, row) in batch.iter().enumerate() {
                match follow(&head, row, forged == Some(position)) {
                    Ok(record) => {
                        head = AuditHead::of(&record, &row.body);
                        part.upto = CheckChain { sequence: head.sequence, hash: head.hash };
                        part.records += 1;
                        if let AuditEvent::Heads { heads } = record.event {
                            part.heads.extend(heads);
                        }
                    }
                    Err(why) => {
                        part.bad = bad(head.sequence + 1, why);
                        return Ok(part);
                    }
                }
            }
        }
        Ok(part)
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
                    let AuditHead { writer, sequence, .. } = batch.remove(0).head;
                    let why = "this head was not signed by this site's engine".into();
                    bad.push(BadRecord { writer: writer.to_string(), sequence, why });
                }
            }
        }
        for head in trusted.iter().filter(|head| head.sequence > 0) {
            if let Some(why) = self.is_not_there(head).await? {
                let (writer, sequence) = (head.writer.to_string(), head.sequence);
                bad.push(BadRecord { writer, sequence, why });
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
        if let Some(row) = self.keystore.record(&writer, head.sequence).await? {
            let same = AuditHash::of(&row.body) == head.hash;
            return Ok((!same).then(|| "another record stands where the head says".into()));
        }
        let newest = self.keystore.newest_record(&writer).await?;
        Ok(Some(match newest {
            None => "the whole chain is missing".into(),
            Some(row) if row.sequence < head.sequence => format!(
                "the chain was cut off: records {} to {} are missing at its end",
                row.sequence + 1,
                head.sequence
            ),
            Some(_) => "the record is missing".into(),
        }))
    }

    /// How far every chain goes, as far as its newest record is genuine.
    pub(super) async fn genuine_heads(&self) -> Result<Vec<AuditHead>, ManagerError> {
        let site = self.site().await?;
        let mut heads = Vec::new();
        for (writer, _) in self.keystore.chains().await? {
            let Some(row) = self.keystore.newest_record(&writer).await? else { continue };
            let forged = self.first_forged(&site, std::slice::from_ref(&row)).await?.is_some();
            match read(&row) {
                Ok(record) if !forged => heads.push(AuditHead::of(&record, &row.body)),
                _ => tracing::error!(writer, sequence = row.sequence, "audit: a forged record"),
            }
        }
        // The chains of gateways are many, and end; those of managers are few.
        heads
            .sort_by_key(|head| (head.writer.kind == AuditWriterKind::Gateway, u64::MAX - head.at));
        Ok(heads)
    }
}

/// The record of a row, if its columns say what it says.
fn read(row: &AuditRow) -> Result<AuditRecord, String> {
    let record = AuditRecord::decode(&row.body).map_err(|error| chain_of(&error))?;
    let said = (record.writer.to_string(), record.sequence, record.at, record.event.name());
    if said != (row.writer.clone(), row.sequence, row.at, row.event.as_str()) {
        return Err(format!(
            "its columns are not what it says: it is record {} of {}",
            record.sequence, record.writer
        ));
    }
    Ok(record)
}

/// The record of a row, if it is the next one.
fn follow(head: &AuditHead, row: &AuditRow, forged: bool) -> Result<AuditRecord, String> {
    if row.sequence != head.sequence + 1 {
        return Err(match row.sequence == head.sequence + 2 {
            true => "it is missing".into(),
            false => format!("it is missing, and all up to record {}", row.sequence - 1),
        });
    }
    if forged {
        return Err("the engine has not signed it: it was changed, or added".into());
    }
    let record = read(row)?;
    match record.follows(head) {
        true => Ok(record),
        false => Err("it does not follow the record before it".into()),
    }
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

fn place_of(row: &AuditRow) -> AuditPlace {
    AuditPlace { at: row.at, writer: row.writer.clone(), sequence: row.sequence }
}

fn parse_place(text: &str) -> Result<AuditPlace, ManagerError> {
    let mut parts = text.splitn(3, '/');
    let parsed = (|| {
        let (at, writer, sequence) = (parts.next()?, parts.next()?, parts.next()?);
        let (at, sequence) = (at.parse().ok()?, sequence.parse().ok()?);
        Some(AuditPlace { at, writer: writer.to_owned(), sequence })
    })();
    parsed.ok_or_else(|| ManagerError::Invalid("`before` is `next` of the page before".into()))
}
