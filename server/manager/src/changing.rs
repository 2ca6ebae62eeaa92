//! One way to change a document: signed by the engine, written with its record, begun anew when another manager was
//! faster.

use std::sync::Arc;
use std::time::Duration;

use sealwire_engine::Site;
use sealwire_engine::document::Document;
use sealwire_keystore::{Change, DocumentRow, KeystoreError, Taken, WrappedRow};
use tokio::sync::MutexGuard;

use crate::audit::{self, Deed};
use crate::{Manager, ManagerError};

/// Times that a change is made anew when another manager was faster, and the time that each waits longer
/// than the one before.
const TRIES: usize = 16;
const TRY_PAUSE: Duration = Duration::from_millis(3);

/// Time that a change waits for those before it. While the database is away they would pile up.
const PATIENCE: Duration = Duration::from_secs(5);

impl Manager {
    /// Begins a change of a document; other changes in this process wait for its end.
    pub(crate) async fn begin(&self) -> Result<Changing<'_>, ManagerError> {
        let site = self.site().await?;
        let one_at_a_time = tokio::time::timeout(PATIENCE, self.changing.lock()).await;
        let one_at_a_time = one_at_a_time.map_err(|_| KeystoreError::Slow)?;
        Ok(Changing { manager: self, site, upon: 0, tries: 0, _one_at_a_time: one_at_a_time })
    }
}

/// A change of a document on its way: ask for the [revision](Changing::revision), make the document,
/// [commit](Changing::commit) it, and begin anew when another manager was faster.
pub(crate) struct Changing<'a> {
    manager: &'a Manager,
    site: Arc<Site>,
    upon: u64,
    tries: usize,
    _one_at_a_time: MutexGuard<'a, ()>,
}

impl Changing<'_> {
    /// The revision that the document will have.
    pub(crate) async fn revision(&mut self) -> Result<u64, ManagerError> {
        // The mark first: what others write in between makes the keystore newer, never older.
        let seen = self.manager.marks.newest().await?;
        self.upon = self.manager.keystore.revision().await?;
        match seen {
            Some(seen) if seen.revision > self.upon => Err(KeystoreError::RolledBack(format!(
                "the keystore is at revision {}, and was at {} before",
                self.upon, seen.revision
            ))
            .into()),
            _ => Ok(self.upon + 1),
        }
    }

    /// Signs the document and writes it: on disk when this returns it; `None` when another manager
    /// was faster.
    pub(crate) async fn commit<D: Document>(
        &mut self,
        draft: Draft<D>,
    ) -> Result<Option<D>, ManagerError> {
        let Draft { document, wrapped, erased, deed } = draft;
        let signed = self.manager.engine.sign(&self.site, &document).await?;
        let mut appending = self.manager.auditor.begin(&self.site).await?;
        let audit = appending.next(audit::changed(deed, &document, &signed)).await?;
        let document_row = DocumentRow::new(&document, signed);
        let change = Change { upon: self.upon, document: document_row, wrapped, erased, audit };
        self.tries += 1;
        match self.manager.keystore.commit(&change).await {
            Ok(()) => {
                appending.written().await;
                self.manager.mark(&self.site, &change.document.signed).await;
                Ok(Some(document))
            }
            // The chain goes further than was known: what came of an earlier commit was not.
            Err(KeystoreError::Taken(Taken::Record)) if self.tries < TRIES => Ok(None),
            Err(KeystoreError::Moved(_)) if self.tries < TRIES => {
                appending.refused();
                let tries = u32::try_from(self.tries).unwrap_or(u32::MAX);
                tokio::time::sleep(TRY_PAUSE.saturating_mul(tries)).await;
                Ok(None)
            }
            Err(error) if error.is_unclear() => {
                drop(appending);
                self.manager.record_unclear(&change.audit).await;
                Err(ManagerError::Unclear(error))
            }
            // Where it is not certain that nothing was written, the keystore is asked the next time.
            Err(error @ KeystoreError::Taken(Taken::Record)) => Err(error.into()),
            Err(error) if error.is_away() => Err(error.into()),
            Err(error) => {
                appending.refused();
                Err(error.into())
            }
        }
    }
}

/// A document to be signed and written.
pub(crate) struct Draft<D> {
    pub(crate) document: D,
    pub(crate) wrapped: Option<WrappedRow>,
    pub(crate) erased: Vec<u32>,
    /// What the audit says of it.
    pub(crate) deed: Deed,
}

impl<D> Draft<D> {
    /// A change of the document alone.
    pub(crate) fn of(document: D, deed: impl Into<Deed>) -> Self {
        Self { document, wrapped: None, erased: Vec::new(), deed: deed.into() }
    }
}
