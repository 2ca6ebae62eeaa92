//! The chain of this process: what comes next in it, and how far it goes when that is not certain.

use sealwire_engine::audit::{
    AuditEvent, AuditHead, AuditRecord, AuditSigned, AuditWriter, MAX_AUDIT_BATCH,
};
use sealwire_engine::{EngineError, Site};
use tokio::sync::MutexGuard;

use super::notes::{Note, Upto};
use super::{AuditError, Auditor, SignedHead, now};
use crate::{AuditRow, KeystoreError, Taken};

/// Records of a chain that are read at once.
const CHAIN_PAGE: u32 = 500;

/// Batches of notes that are recorded before a change.
const BATCHES_BEFORE_A_CHANGE: usize = 4;

/// Records without a head outside the database after which nothing more is managed.
pub(super) const MAX_BEHIND: u64 = 1000;

/// The chain as this process knows it.
pub(super) struct Chain {
    pub(super) head: AuditHead,
    /// Whether the keystore may hold more of it: after a start, and after a commit that may have been done.
    pub(super) doubted: bool,
}

impl Auditor {
    /// Records what is noted, and gives the end of the chain for a record that is written together with a change.
    ///
    /// # Errors
    /// [`AuditError`]: nothing more can be recorded then, and nothing must be done that has to be.
    pub async fn begin<'a>(&'a self, site: &'a Site) -> Result<Appending<'a>, AuditError> {
        let mut chain = self.chain.lock().await;
        if self.heads.behind() > MAX_BEHIND {
            return Err(AuditError::Heads(self.heads_path.clone()));
        }
        // So that records stand in the order of what they tell of. Many notes do not keep a change waiting.
        for _ in 0..BATCHES_BEFORE_A_CHANGE {
            if !self.settle_batch(site, &mut chain).await? {
                break;
            }
        }
        if chain.doubted {
            self.find_end(site, &mut chain).await?;
        }
        Ok(Appending { auditor: self, site, chain, signed: None })
    }

    /// Records a batch of notes; whether there may be more.
    pub(super) async fn settle_batch(
        &self,
        site: &Site,
        chain: &mut Chain,
    ) -> Result<bool, AuditError> {
        for last in [false, true] {
            if chain.doubted {
                self.find_end(site, chain).await?;
            }
            let notes = self.notes.oldest(MAX_AUDIT_BATCH).await?;
            let more = notes.len() == MAX_AUDIT_BATCH;
            if notes.is_empty() {
                return Ok(false);
            }
            let upto = notes.last().map(|note| note.number);
            let records = records(&chain.head, notes);
            let (rows, signed) = self.sign(site, &records).await?;
            // From here on, until it is noted here, the keystore may hold more than is known.
            chain.doubted = true;
            match self.keystore.append(&rows).await {
                Ok(()) => {
                    self.settled(chain, &signed, rows.len(), upto).await?;
                    return Ok(more);
                }
                Err(KeystoreError::Taken(Taken::Record)) if !last => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Finds out how far the chain goes. What this process remembers is believed: if the keystore holds less, or
    /// something else, then that was tampered with, and stays visible. If somebody else has written into this chain,
    /// this process goes on with another.
    async fn find_end(&self, site: &Site, chain: &mut Chain) -> Result<(), AuditError> {
        let writer = chain.head.writer.to_string();
        let newest = self.keystore.newest_records(&writer, 1).await?;
        let found = newest.first().map_or(0, |row| row.sequence);
        let known = i64::try_from(chain.head.sequence).unwrap_or(i64::MAX);
        if found < known {
            tracing::error!(
                writer,
                found,
                known,
                "audit: the newest records of this process's chain are missing: the database was cut off, or put back"
            );
        }
        let mut after = known;
        while after < found {
            let rows = self.keystore.chain(&writer, after, CHAIN_PAGE).await?;
            let Some(last) = rows.last() else { break };
            after = last.sequence;
            for row in rows {
                if !self.adopt(site, chain, &row).await? {
                    tracing::error!(
                        writer,
                        sequence = row.sequence,
                        "audit: this record of this process's chain is not its own (somebody else has written it, or a power \
                         loss has taken what this process knew): it goes on with another chain"
                    );
                    return self.begin_another(chain).await;
                }
            }
        }
        chain.doubted = false;
        Ok(())
    }

    /// Takes a record for one's own, if it is: the next one, signed by the engine, and of a note that is this
    /// process's when it is of one.
    async fn adopt(
        &self,
        site: &Site,
        chain: &mut Chain,
        row: &AuditRow,
    ) -> Result<bool, AuditError> {
        let Ok(record) = AuditRecord::decode(&row.body) else { return Ok(false) };
        let same = i64::try_from(record.sequence) == Ok(row.sequence)
            && row.event == record.event.name()
            && record.follows(&chain.head);
        if !same {
            return Ok(false);
        }
        match self.role.sign(site, std::slice::from_ref(&record)).await {
            Ok((_, signed)) if signed.macs == [row.mac] => {}
            Ok(_) | Err(EngineError::Role | EngineError::Document(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        if let Some(number) = record.note {
            let note = self.notes.get(number).await?;
            // One that is not there any more was recorded, too, before this process forgot how far it had come.
            let mine = |note: &Note| (note.at, &note.event) == (record.at, &record.event);
            if note.is_some_and(|note| !mine(&note)) {
                return Ok(false);
            }
        }
        let head = AuditHead::of(&record, &row.body);
        self.notes.settled(&head, record.note.map(Upto::This)).await?;
        chain.head = head;
        Ok(true)
    }

    /// Begins another chain, whose first record says how far the one before went.
    async fn begin_another(&self, chain: &mut Chain) -> Result<(), AuditError> {
        let head = AuditHead::none(AuditWriter::generate(self.role.kind())?);
        let told = AuditEvent::Heads { heads: vec![chain.head] };
        self.notes.begin_chain(&head, (now(), told)).await?;
        *chain = Chain { head, doubted: false };
        Ok(())
    }

    async fn sign(
        &self,
        site: &Site,
        records: &[AuditRecord],
    ) -> Result<(Vec<AuditRow>, AuditSigned), AuditError> {
        let (bodies, signed) = self.role.sign(site, records).await?;
        let number = |value: u64| {
            let too_large = || KeystoreError::Broken(format!("number {value}"));
            i64::try_from(value).map_err(|_| too_large())
        };
        let rows = records.iter().zip(bodies).zip(&signed.macs);
        let rows = rows.map(|((record, body), mac)| {
            Ok(AuditRow {
                writer: record.writer.to_string(),
                sequence: number(record.sequence)?,
                at: number(record.at)?,
                event: record.event.name().to_owned(),
                body,
                mac: *mac,
            })
        });
        Ok((rows.collect::<Result<_, KeystoreError>>()?, signed))
    }

    /// Records are in the keystore. Until that is noted here, it is asked what it holds.
    async fn settled(
        &self,
        chain: &mut Chain,
        signed: &AuditSigned,
        records: usize,
        upto: Option<u64>,
    ) -> Result<(), AuditError> {
        let head = SignedHead { head: signed.head, mac: signed.head_mac };
        self.heads.tell(head, u64::try_from(records).unwrap_or(u64::MAX));
        chain.doubted = true;
        self.notes.settled(&signed.head, upto.map(Upto::All)).await?;
        *chain = Chain { head: signed.head, doubted: false };
        Ok(())
    }
}

/// The end of the chain, for a record that is written together with a change. Nobody else appends meanwhile.
pub struct Appending<'a> {
    auditor: &'a Auditor,
    site: &'a Site,
    chain: MutexGuard<'a, Chain>,
    signed: Option<AuditSigned>,
}

impl Appending<'_> {
    /// The next record.
    ///
    /// # Errors
    /// [`AuditError::Engine`].
    pub async fn next(&mut self, event: AuditEvent) -> Result<AuditRow, AuditError> {
        let record = record(&self.chain.head, now(), None, event);
        let (mut rows, signed) = self.auditor.sign(self.site, &[record]).await?;
        self.signed = Some(signed);
        Ok(rows.pop().expect("one was signed"))
    }

    /// It is in the keystore.
    pub async fn written(mut self) {
        let Some(signed) = self.signed.take() else { return };
        let settled = self.auditor.settled(&mut self.chain, &signed, 1, None).await;
        if let Err(error) = settled {
            tracing::error!(%error, "audit");
        }
    }

    /// It is certainly not there: what it was to be written together with was refused.
    pub fn refused(mut self) {
        self.signed = None;
    }
}

impl Drop for Appending<'_> {
    /// Nobody knows whether it is in the keystore, unless that was said.
    fn drop(&mut self) {
        if self.signed.is_some() {
            self.chain.doubted = true;
        }
    }
}

fn record(head: &AuditHead, at: u64, note: Option<u64>, event: AuditEvent) -> AuditRecord {
    let (writer, sequence, previous) = (head.writer, head.sequence + 1, head.hash);
    AuditRecord { writer, sequence, at, previous, note, event }
}

/// Notes as records behind `head`.
fn records(head: &AuditHead, notes: Vec<Note>) -> Vec<AuditRecord> {
    let mut head = *head;
    let next = |Note { number, at, event }| {
        let record = record(&head, at, Some(number), event);
        let body = record.encode().expect("a note was looked at before it was written down");
        head = AuditHead::of(&record, &body);
        record
    };
    notes.into_iter().map(next).collect()
}
