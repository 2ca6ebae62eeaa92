//! Every chain, part by part, and every head that is known: over the API, or in the manager's own process.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use sealwire_engine::audit::{AuditHead, AuditWriter};
use sealwire_keystore::audit::SignedHead;
use serde::Serialize;

use super::{AuditChains, BadRecord, ChainPart, CheckChain, CheckHeads, CheckedHeads};
use crate::{ClientError, Manager, ManagerClient, ManagerError};

/// Where chains are checked.
#[async_trait]
pub trait Checks: Sync {
    /// Why it failed.
    type Error;

    /// Every chain.
    async fn chains(&self) -> Result<AuditChains, Self::Error>;

    /// A part of a chain.
    async fn part(&self, writer: &str, after: CheckChain) -> Result<ChainPart, Self::Error>;

    /// Heads, compared with the chains.
    async fn heads(&self, heads: &CheckHeads) -> Result<CheckedHeads, Self::Error>;
}

/// Heads that are compared in one call.
const HEADS_AT_ONCE: usize = 2000;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Records that are good, by chain.
    pub chains: BTreeMap<String, u64>,
    /// Heads that the chains were compared with: those that were given, and those that are known.
    pub heads: usize,
    /// Changes of documents that there are, of those since the first one that is on record.
    pub changes: u64,
    /// What is wrong: the first ones of each part of a chain, and every head that a chain does not go through.
    pub bad: Vec<BadRecord>,
}

/// Checks everything. `progress` is told how many records were checked, and how many there are.
///
/// # Errors
/// When something could not be asked. What is wrong with the chains stands in the report.
pub async fn everything<C: Checks>(
    source: &C,
    signed: &[SignedHead],
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Report, C::Error> {
    let AuditChains { chains, revision } = source.chains().await?;
    let total = chains.iter().map(|chain| chain.records).sum();
    let (mut report, mut known) = (Report::default(), Known::default());
    let mut checked = 0;
    for chain in chains {
        if chain.writer.parse::<AuditWriter>().is_err() {
            let why = "nobody writes a chain of this name: it was added".to_owned();
            report.bad.push(BadRecord { writer: chain.writer, sequence: chain.newest, why });
            continue;
        }
        chain.remembered.into_iter().for_each(|head| known.head(head));
        let (mut upto, mut good, mut looked_at) = (CheckChain::default(), 0, 0);
        loop {
            let part = source.part(&chain.writer, upto).await?;
            part.heads.into_iter().for_each(|head| known.head(head));
            known.revisions.extend(part.revisions);
            good += part.good;
            looked_at += part.looked_at;
            checked += part.looked_at;
            progress(checked, total);
            report.bad.extend(part.bad);
            // What does not go on is no answer.
            if part.done || part.upto.sequence <= upto.sequence {
                break;
            }
            upto = part.upto;
        }
        // Two in one place, where no page shows both.
        if looked_at < chain.records {
            let (writer, records) = (chain.writer.clone(), chain.records);
            let why = format!("there are {records} records, and {looked_at} in their places");
            report.bad.push(BadRecord { writer, sequence: chain.newest, why });
        }
        report.chains.insert(chain.writer, good);
    }
    known.check_revisions(revision, &mut report);
    let heads: Vec<_> = known.heads.into_values().collect();
    report.heads = signed.len() + heads.len();
    for signed in signed.chunks(HEADS_AT_ONCE) {
        let heads = CheckHeads { signed: signed.to_vec(), known: Vec::new() };
        report.bad.extend(source.heads(&heads).await?.bad);
    }
    for known in heads.chunks(HEADS_AT_ONCE) {
        let heads = CheckHeads { signed: Vec::new(), known: known.to_vec() };
        report.bad.extend(source.heads(&heads).await?.bad);
    }
    let mut seen = BTreeSet::new();
    report.bad.retain(|bad| seen.insert((bad.writer.clone(), bad.sequence, bad.why.clone())));
    Ok(report)
}

/// What is known of all chains.
#[derive(Default)]
struct Known {
    /// Of several heads of a chain the furthest says it all: the chain leads to it through the others.
    heads: BTreeMap<AuditWriter, AuditHead>,
    /// The revisions of changes that are on record.
    revisions: BTreeSet<u64>,
}

impl Known {
    fn head(&mut self, head: AuditHead) {
        let held = self.heads.entry(head.writer).or_insert(head);
        if held.sequence < head.sequence {
            *held = head;
        }
    }

    /// Each change has a revision of its own, and they are counted without a gap: one that is on no record was made,
    /// and its record removed. Before the first one that is on record, there was no audit.
    fn check_revisions(&self, newest: u64, report: &mut Report) {
        let Some(first) = self.revisions.first().copied() else { return };
        report.changes = (newest + 1).saturating_sub(first);
        let mut expected = first;
        for revision in self.revisions.iter().copied().chain([newest.saturating_add(1)]) {
            if revision > expected && expected <= newest {
                let last = (revision - 1).min(newest);
                let why = match last == expected {
                    true => format!("the change of revision {expected} is in no record"),
                    false => {
                        format!("the changes of revisions {expected} to {last} are in no record")
                    }
                };
                let sequence = i64::try_from(expected).unwrap_or(i64::MAX);
                report.bad.push(BadRecord { writer: "documents".into(), sequence, why });
            }
            expected = revision.saturating_add(1);
        }
    }
}

#[async_trait]
impl Checks for Manager {
    type Error = ManagerError;

    async fn chains(&self) -> Result<AuditChains, ManagerError> {
        self.audit_chains().await
    }

    async fn part(&self, writer: &str, after: CheckChain) -> Result<ChainPart, ManagerError> {
        self.check_chain(writer, after).await
    }

    async fn heads(&self, heads: &CheckHeads) -> Result<CheckedHeads, ManagerError> {
        self.check_heads(heads).await
    }
}

#[async_trait]
impl Checks for ManagerClient {
    type Error = ClientError;

    async fn chains(&self) -> Result<AuditChains, ClientError> {
        self.audit_chains().await
    }

    async fn part(&self, writer: &str, after: CheckChain) -> Result<ChainPart, ClientError> {
        self.check_chain(writer, after).await
    }

    async fn heads(&self, heads: &CheckHeads) -> Result<CheckedHeads, ClientError> {
        self.check_heads(heads).await
    }
}
