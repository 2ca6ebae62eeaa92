//! What a store does when it is asked, each call with its time limit and its transaction.

/// Makes the statements and the [`Keystore`](crate::Keystore) of a store.
macro_rules! keystore {
    ($store:ty, $database:ty, $for_update:literal) => {
        use async_trait::async_trait;
        use sealwire_engine::document::DocumentKind;
        use sealwire_engine::{RootKeyId, SignedDocument};
        use sqlx::{QueryBuilder, Row as _, Transaction};

        use crate::statements::{number, padded, pauses, signed, taken, unsigned};
        use crate::{
            By, Change, Committed, DocumentRow, Keystore, KeystoreError, Reservation, Rewrapped, RotationRow,
            Page, Rows, SiteRow, Snapshot, UsageRow, WrappedRow,
        };

        type Connection = <$database as sqlx::Database>::Connection;
        type Row = <$database as sqlx::Database>::Row;
        type Fallible<T> = Result<T, KeystoreError>;

        crate::statements::statements!($database, $for_update);

        /// Runs a transaction, and again when it has met another one.
        macro_rules! transact {
            ($this:ident, $transaction:ident => $work:expr) => {{
                let mut pauses = pauses();
                loop {
                    let work = async {
                        let mut $transaction = $this.begin().await?;
                        let done = $work;
                        $transaction.commit().await?;
                        Ok(done)
                    };
                    match $this.limited(work).await {
                        Err(KeystoreError::Database(error)) if <$store>::is_conflict(&error) => {
                            let Some(pause) = pauses.next() else { break Err(error.into()) };
                            tokio::time::sleep(pause).await;
                        }
                        done => break done,
                    }
                }
            }};
        }

        /// Does something to all rows of a table that a condition picks out, in transactions that are short:
        /// each goes on behind the last id of the one before.
        macro_rules! in_steps {
            ($this:ident, $table:literal, $id:literal, $condition:literal, $action:literal) => {{
                let mut after = String::new();
                loop {
                    let upto = transact!($this, transaction => {
                        let upto = sqlx::query(concat!(
                            "SELECT ", $id, " FROM ", $table, " WHERE ", $condition, " AND ", $id,
                            " > ? ORDER BY ", $id, " LIMIT 1 OFFSET 1000"
                        ))
                        .bind(&after)
                        .fetch_optional(&mut *transaction)
                        .await?;
                        let upto = upto.as_ref().map(|row| text(row, $id)).transpose()?;
                        match &upto {
                            Some(upto) => sqlx::query(concat!(
                                $action, " WHERE ", $condition, " AND ", $id, " > ? AND ", $id, " <= ?"
                            ))
                            .bind(&after)
                            .bind(upto),
                            None => sqlx::query(concat!(
                                $action, " WHERE ", $condition, " AND ", $id, " > ?"
                            ))
                            .bind(&after),
                        }
                        .execute(&mut *transaction)
                        .await?;
                        upto
                    });
                    match upto {
                        Ok(Some(upto)) => after = upto,
                        Ok(None) => break Ok(()),
                        Err(error) => break Err(error),
                    }
                }
            }};
        }

        crate::statements::audit_log!($store, $database);
        crate::statements::token_store!($store, $database);

        #[async_trait]
        impl Keystore for $store {
            async fn site(&self) -> Fallible<Option<SiteRow>> {
                let read = async { site(&mut *self.reader().await?).await };
                Ok(self.limited(read).await?.map(|(_, site)| site))
            }

            async fn init_site(&self, new: &SiteRow) -> Fallible<()> {
                transact!(self, transaction => {
                    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM document")
                        .fetch_one(&mut *transaction)
                        .await?;
                    if rows > 0 && site(&mut transaction).await?.is_none() {
                        return Err(KeystoreError::Unfinished);
                    }
                    insert_site(&mut transaction, 0, new).await?
                })
            }

            async fn revision(&self) -> Fallible<u64> {
                self.limited(async { revision(&mut *self.reader().await?, "").await }).await
            }

            async fn document(&self, kind: DocumentKind, by: By<'_>) -> Fallible<Option<DocumentRow>> {
                self.limited(async { document(&mut *self.reader().await?, kind, by).await }).await
            }

            async fn list(
                &self,
                kind: DocumentKind,
                after: &str,
                limit: u32,
            ) -> Fallible<Page<DocumentRow, String>> {
                let statement =
                    "SELECT * FROM document WHERE kind = ? AND name > ? ORDER BY name LIMIT ?";
                self.limited(async {
                    let rows = sqlx::query(statement)
                        .bind(kind.name())
                        .bind(after)
                        .bind(i64::from(limit))
                        .fetch_all(&mut *self.reader().await?)
                        .await?;
                    Ok(page(&rows, limit, |row| shown(row, "name")))
                })
                .await
            }

            async fn changes(&self, since: u64, limit: u32) -> Fallible<Page<DocumentRow, u64>> {
                self.promptly(async {
                    let rows = changes(&mut *self.follower().await?, since, limit).await?;
                    Ok(page(&rows, limit, |row| revision_of(row).saturating_add(1)))
                })
                .await
            }

            async fn newest(&self, limit: u32) -> Fallible<Page<DocumentRow, u64>> {
                self.promptly(async {
                    let rows = sqlx::query("SELECT * FROM document ORDER BY revision DESC LIMIT ?")
                        .bind(i64::from(limit))
                        .fetch_all(&mut *self.follower().await?)
                        .await?;
                    Ok(page(&rows, limit, revision_of))
                })
                .await
            }

            async fn keys(&self, indexes: &[u32]) -> Fallible<Vec<DocumentRow>> {
                if indexes.is_empty() {
                    return Ok(Vec::new());
                }
                self.limited(async {
                    let mut query =
                        QueryBuilder::new("SELECT * FROM document WHERE kind = 'key' AND number IN (");
                    let mut list = query.separated(", ");
                    for index in padded(indexes) {
                        list.push_bind(i64::from(index));
                    }
                    query.push(")");
                    let rows = query.build().fetch_all(&mut *self.reader().await?).await?;
                    Ok(sound(&rows, document_row, |row| shown(row, "id")).0)
                })
                .await
            }

            async fn wrapped(&self, uids: &[&str]) -> Fallible<Vec<WrappedRow>> {
                if uids.is_empty() {
                    return Ok(Vec::new());
                }
                self.limited(async {
                    let mut query = QueryBuilder::new(
                        "SELECT uid, version, `blob` FROM wrapped_key WHERE uid IN (",
                    );
                    let mut list = query.separated(", ");
                    for uid in padded(uids) {
                        list.push_bind(uid.to_owned());
                    }
                    query.push(") ORDER BY uid, version");
                    let rows = query.build().fetch_all(&mut *self.reader().await?).await?;
                    Ok(sound(&rows, wrapped_row, |row| shown(row, "uid")).0)
                })
                .await
            }

            async fn due(
                &self,
                now: u64,
                after: &str,
                limit: u32,
            ) -> Fallible<Page<DocumentRow, String>> {
                self.limited(async {
                    let rows = sqlx::query(
                        "SELECT * FROM document WHERE due <= ? AND id > ? ORDER BY id LIMIT ?",
                    )
                    .bind(signed(now)?)
                    .bind(after)
                    .bind(i64::from(limit))
                    .fetch_all(&mut *self.reader().await?)
                    .await?;
                    Ok(page(&rows, limit, |row| shown(row, "id")))
                })
                .await
            }

            async fn free_index(&self, first: u32, last: u32) -> Fallible<Option<u32>> {
                self.limited(async { free_index(&mut *self.reader().await?, first, last).await }).await
            }

            async fn commit(&self, change: &Change) -> Fallible<()> {
                transact!(self, transaction => {
                    let held = revision(&mut transaction, $for_update).await?;
                    if held != change.upon {
                        return Err(KeystoreError::Moved(held));
                    }
                    write(&mut transaction, change).await?
                })?;
                self.committed.push(&change.document);
                if !change.erased.is_empty() {
                    self.erase_later();
                }
                Ok(())
            }

            async fn reserve(&self, block: &Reservation) -> Fallible<u64> {
                transact!(self, transaction => reserve(&mut transaction, block).await?)
            }

            async fn usage(&self, uid: &str) -> Fallible<Vec<UsageRow>> {
                self.limited(async {
                    let rows = sqlx::query("SELECT * FROM key_usage WHERE uid = ? ORDER BY version, suite")
                        .bind(uid)
                        .fetch_all(&mut *self.reader().await?)
                        .await?;
                    rows.iter().map(usage_row).collect()
                })
                .await
            }

            async fn worn(&self, after: &str, limit: u32) -> Fallible<Page<UsageRow, String>> {
                self.limited(async {
                    let mut reader = self.reader().await?;
                    let uids = sqlx::query(
                        "SELECT DISTINCT uid FROM key_usage WHERE worn = 1 AND uid > ? ORDER BY uid LIMIT ?",
                    )
                    .bind(after)
                    .bind(i64::from(limit))
                    .fetch_all(&mut *reader)
                    .await?;
                    let uids: Vec<String> = uids.iter().map(|row| shown(row, "uid")).collect();
                    let full = uids.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
                    let next = uids.last().filter(|_| full).cloned();
                    let Some(last) = uids.last() else {
                        return Ok(Page { rows: Vec::new(), broken: Vec::new(), next: None });
                    };
                    let rows = sqlx::query(
                        "SELECT * FROM key_usage WHERE worn = 1 AND uid > ? AND uid <= ? ORDER BY uid, version, suite",
                    )
                    .bind(after)
                    .bind(last)
                    .fetch_all(&mut *reader)
                    .await?;
                    let (rows, broken) = sound(&rows, usage_row, |row| shown(row, "uid"));
                    Ok(Page { rows, broken, next })
                })
                .await
            }

            async fn rested(&self, uid: &str, version: u32) -> Fallible<()> {
                transact!(self, transaction => {
                    sqlx::query("UPDATE key_usage SET worn = 0 WHERE uid = ? AND version = ?")
                        .bind(uid)
                        .bind(i64::from(version))
                        .execute(&mut *transaction)
                        .await?;
                })
            }

            async fn close_counted(&self) -> Fallible<()> {
                in_steps!(self, "wrapped_key", "uid", "closed = 0", "UPDATE wrapped_key SET closed = 1")
            }

            async fn replace_site(&self, old: &[u8], new: &SiteRow) -> Fallible<bool> {
                transact!(self, transaction => {
                    let written = sqlx::query(
                        "UPDATE site SET site_keys = ?, decoy_id = ?, decoy_body = ?, decoy_mac = ? \
                         WHERE site_keys = ?",
                    )
                    .bind(&new.keys)
                    .bind(&new.decoy.id)
                    .bind(&new.decoy.body)
                    .bind(new.decoy.mac.as_slice())
                    .bind(old)
                    .execute(&mut *transaction)
                    .await?;
                    written.rows_affected() == 1
                })
            }

            async fn rotation(&self) -> Fallible<Option<RotationRow>> {
                self.promptly(async { rotation(&mut *self.follower().await?).await }).await
            }

            async fn begin_rotation(&self, note: &RotationRow) -> Fallible<()> {
                transact!(self, transaction => {
                    sqlx::query("DELETE FROM root_rotation WHERE done = 1")
                        .execute(&mut *transaction)
                        .await?;
                    insert_rotation(&mut transaction, note).await?
                })
            }

            async fn end_rotation(&self, new: RootKeyId) -> Fallible<()> {
                transact!(self, transaction => {
                    sqlx::query("UPDATE root_rotation SET done = 1, wrapped = ? WHERE new_root = ?")
                        .bind([].as_slice())
                        .bind(new.to_string())
                        .execute(&mut *transaction)
                        .await?;
                })?;
                self.erased().await;
                Ok(())
            }

            async fn wrapped_elsewhere(
                &self,
                root: RootKeyId,
                after: Option<(&str, u32)>,
                limit: u32,
            ) -> Fallible<Vec<WrappedRow>> {
                let (uid, version) = after.unwrap_or(("", 0));
                self.unhurried(async {
                    let rows = sqlx::query(
                        "SELECT uid, version, `blob` FROM wrapped_key \
                         WHERE uid >= ? AND (uid > ? OR version > ?) AND substr(`blob`, 2, 16) <> ? \
                         ORDER BY uid, version LIMIT ?",
                    )
                    .bind(uid)
                    .bind(uid)
                    .bind(i64::from(version))
                    .bind(root.to_bytes().as_slice())
                    .bind(i64::from(limit))
                    .fetch_all(&mut *self.reader().await?)
                    .await?;
                    rows.iter().map(wrapped_row).collect()
                })
                .await
            }

            async fn count_elsewhere(&self, root: RootKeyId) -> Fallible<u64> {
                let statement = "SELECT COUNT(*) FROM wrapped_key WHERE substr(`blob`, 2, 16) <> ?";
                self.unhurried(async {
                    unsigned(
                        sqlx::query_scalar(statement)
                            .bind(root.to_bytes().as_slice())
                            .fetch_one(&mut *self.reader().await?)
                            .await?,
                    )
                })
                .await
            }

            async fn rewrap(&self, moved: &[Rewrapped]) -> Fallible<u64> {
                transact!(self, transaction => {
                    let mut replaced = 0;
                    for row in moved {
                        replaced += sqlx::query(
                            "UPDATE wrapped_key SET `blob` = ? WHERE uid = ? AND version = ? AND `blob` = ?",
                        )
                        .bind(&row.new)
                        .bind(&row.uid)
                        .bind(i64::from(row.version))
                        .bind(&row.old)
                        .execute(&mut *transaction)
                        .await?
                        .rows_affected();
                    }
                    replaced
                })
            }

            async fn snapshot(&self) -> Fallible<Box<dyn Snapshot>> {
                let transaction = self.limited(self.begin_snapshot()).await?;
                Ok(Box::new(Frozen(transaction)))
            }

            async fn begin_import(&self) -> Fallible<()> {
                transact!(self, transaction => {
                    no_site(&mut transaction).await?;
                    sqlx::query("DELETE FROM root_rotation").execute(&mut *transaction).await?;
                })?;
                in_steps!(self, "document", "id", "kind = 'key'", "DELETE FROM document")?;
                in_steps!(self, "document", "id", "kind = 'app'", "DELETE FROM document")?;
                in_steps!(self, "document", "id", "kind = 'operator'", "DELETE FROM document")?;
                in_steps!(self, "document", "id", "kind = 'request'", "DELETE FROM document")?;
                in_steps!(self, "document", "id", "kind = 'policy'", "DELETE FROM document")?;
                in_steps!(self, "audit", "writer", "1 = 1", "DELETE FROM audit")?;
                in_steps!(self, "wrapped_key", "uid", "version > 0", "DELETE FROM wrapped_key")?;
                in_steps!(self, "key_usage", "uid", "version > 0", "DELETE FROM key_usage")
            }

            async fn import(&self, rows: &Rows) -> Fallible<()> {
                transact!(self, transaction => {
                    no_site(&mut transaction).await?;
                    match rows {
                        Rows::Documents(rows) => {
                            for row in rows {
                                insert_document(&mut transaction, row).await?;
                            }
                        }
                        Rows::Wrapped(rows) => {
                            for row in rows {
                                insert_wrapped(&mut transaction, row, true).await?;
                            }
                        }
                        Rows::Audit(rows) => insert_audit(&mut transaction, rows).await?,
                        Rows::Usage(rows) => {
                            for row in rows {
                                insert_usage(&mut transaction, row).await?;
                            }
                        }
                    }
                })
            }

            async fn end_import(
                &self,
                revision: u64,
                site: &SiteRow,
                rotation: Option<&RotationRow>,
            ) -> Fallible<()> {
                transact!(self, transaction => {
                    insert_site(&mut transaction, revision, site).await?;
                    if let Some(rotation) = rotation {
                        insert_rotation(&mut transaction, rotation).await?;
                    }
                })
            }

            fn committed(&self) -> Arc<Committed> {
                self.committed.clone()
            }

            async fn close(&self) {
                self.close_pools().await;
            }
        }

        /// A transaction that sees everything as it was when it began.
        struct Frozen(Transaction<'static, $database>);

        #[async_trait]
        impl Snapshot for Frozen {
            async fn site(&mut self) -> Fallible<Option<(u64, SiteRow)>> {
                site(&mut self.0).await
            }

            async fn rotation(&mut self) -> Fallible<Option<RotationRow>> {
                rotation(&mut self.0).await
            }

            async fn documents(&mut self, since: u64, limit: u32) -> Fallible<Vec<DocumentRow>> {
                changes(&mut self.0, since, limit).await?.iter().map(document_row).collect()
            }

            async fn wrapped(&mut self, after: Option<(&str, u32)>, limit: u32) -> Fallible<Vec<WrappedRow>> {
                let (uid, version) = after.unwrap_or(("", 0));
                let rows = sqlx::query(
                    "SELECT uid, version, `blob` FROM wrapped_key \
                     WHERE uid >= ? AND (uid > ? OR version > ?) ORDER BY uid, version LIMIT ?",
                )
                .bind(uid)
                .bind(uid)
                .bind(i64::from(version))
                .bind(i64::from(limit))
                .fetch_all(&mut *self.0)
                .await?;
                rows.iter().map(wrapped_row).collect()
            }

            async fn audit(
                &mut self,
                after: Option<(&str, i64)>,
                limit: u32,
            ) -> Fallible<Vec<AuditRow>> {
                audit_after(&mut self.0, after, limit).await
            }

            async fn usage(
                &mut self,
                after: Option<(&str, u32, u8)>,
                limit: u32,
            ) -> Fallible<Vec<UsageRow>> {
                let (uid, version, suite) = after.unwrap_or(("", 0, 0));
                let rows = sqlx::query(
                    "SELECT * FROM key_usage WHERE uid >= ? AND (uid > ? OR version > ? OR \
                     (version = ? AND suite > ?)) ORDER BY uid, version, suite LIMIT ?",
                )
                .bind(uid)
                .bind(uid)
                .bind(i64::from(version))
                .bind(i64::from(version))
                .bind(i64::from(suite))
                .bind(i64::from(limit))
                .fetch_all(&mut *self.0)
                .await?;
                rows.iter().map(usage_row).collect()
            }
        }
    };
}

pub(crate) use keystore;
