//! Every chain, part by part, and every head that is known: over the API, or in the manager's own process.

use std::collections::BTreeMap;

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

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Records that are good, by chain.
    pub chains: BTreeMap<String, u64>,
    /// Heads that the chains were compared with: those that were given, and those that are known.
    pub heads: usize,
    /// What is wrong: of each chain the first record, and every head that a chain does not go through.
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
    let chains = source.chains().await?.chains;
    let total = chains.iter().map(|chain| chain.newest).sum();
    let mut report = Report::default();
    // Of several heads of a chain the furthest says it all: the chain leads to it through the others.
    let mut known: BTreeMap<AuditWriter, AuditHead> = BTreeMap::new();
    let mut know = |head: AuditHead| {
        let held = known.entry(head.writer).or_insert(head);
        if held.sequence < head.sequence {
            *held = head;
        }
    };
    let mut checked = 0;
    for chain in chains {
        chain.remembered.into_iter().for_each(&mut know);
        let (mut upto, mut records) = (CheckChain::default(), 0);
        loop {
            let part = source.part(&chain.writer, upto).await?;
            part.heads.into_iter().for_each(&mut know);
            records += part.records;
            checked += part.records;
            upto = part.upto;
            progress(checked, total);
            let over = part.done || part.bad.is_some();
            report.bad.extend(part.bad);
            if over {
                break;
            }
        }
        report.chains.insert(chain.writer, records);
    }
    let known: Vec<_> = known.into_values().collect();
    report.heads = signed.len() + known.len();
    let heads = source.heads(&CheckHeads { signed: signed.to_vec(), known }).await?;
    for bad in heads.bad {
        if !report.bad.contains(&bad) {
            report.bad.push(bad);
        }
    }
    Ok(report)
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
