//! The SQL, once for both databases. What sqlx asks of a database is spelled out in types that have no
//! common trait, so this is a macro; its text is that of ordinary functions.
//!
//! The store that it is made for gives connections (`reader`, `follower`, `begin`, `begin_snapshot`),
//! limits the time of a call (`limited`, `promptly`), and says when a transaction is to be tried again
//! (`is_conflict`).

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use sqlx::error::DatabaseError;

use crate::{KeystoreError, Taken};

/// Pauses before transactions that met another one are tried again.
pub(crate) fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(2))
        .with_max_delay(Duration::from_millis(100))
        .with_max_times(10)
        .with_jitter()
        .build()
}

pub(crate) fn number(value: i64) -> Result<u32, KeystoreError> {
    u32::try_from(value).map_err(|_| KeystoreError::Broken(format!("number {value}")))
}

pub(crate) fn unsigned(value: i64) -> Result<u64, KeystoreError> {
    u64::try_from(value).map_err(|_| KeystoreError::Broken(format!("number {value}")))
}

pub(crate) fn signed(value: u64) -> Result<i64, KeystoreError> {
    i64::try_from(value).map_err(|_| KeystoreError::Broken(format!("number {value}")))
}

/// A violated constraint, by what it protects; `None` for other errors.
pub(crate) fn taken(error: &dyn DatabaseError) -> Option<Taken> {
    if !error.is_unique_violation() {
        return None;
    }
    // SQLite names the columns, MySQL the key, behind the value, which may be any text.
    let message = error.message();
    let key = message.rsplit_once("for key").map_or(message, |(_, key)| key);
    Some(match key {
        _ if key.contains("document.name") || key.contains("document_name") => Taken::Name,
        _ if key.contains("document.number") || key.contains("document_number") => Taken::Number,
        _ => Taken::Id,
    })
}

/// How many places a list of so many values gets: few lengths, so that few statements are prepared.
/// The last value fills the rest.
pub(crate) fn padded<T: Copy>(values: &[T]) -> impl Iterator<Item = T> + '_ {
    let last = values.last().copied();
    let length = values.len().next_power_of_two();
    values.iter().copied().chain(last.into_iter().cycle()).take(if last.is_some() {
        length
    } else {
        0
    })
}

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

        async fn site(connection: &mut Connection) -> Fallible<Option<(u64, SiteRow)>> {
            let row = sqlx::query("SELECT revision, site_keys, decoy_id, decoy_body, decoy_mac FROM site")
                .fetch_optional(connection)
                .await?;
            let Some(row) = row else { return Ok(None) };
            let decoy = SignedDocument {
                kind: DocumentKind::App,
                id: text(&row, "decoy_id")?,
                revision: 0,
                body: row.try_get("decoy_body")?,
                mac: mac(&row, "decoy_mac")?,
            };
            let revision = unsigned(row.try_get("revision")?)?;
            Ok(Some((revision, SiteRow { keys: row.try_get("site_keys")?, decoy })))
        }

        async fn no_site(connection: &mut Connection) -> Fallible<()> {
            match site(connection).await? {
                Some(_) => Err(KeystoreError::Taken(crate::Taken::Id)),
                None => Ok(()),
            }
        }

        async fn insert_site(connection: &mut Connection, revision: u64, site: &SiteRow) -> Fallible<()> {
            sqlx::query(
                "INSERT INTO site (id, revision, site_keys, decoy_id, decoy_body, decoy_mac) \
                 VALUES (1, ?, ?, ?, ?, ?)",
            )
            .bind(signed(revision)?)
            .bind(&site.keys)
            .bind(&site.decoy.id)
            .bind(&site.decoy.body)
            .bind(site.decoy.mac.as_slice())
            .execute(connection)
            .await
            .map_err(refused)?;
            Ok(())
        }

        /// The site's revision. A row that somebody has put in by hand may have a later one, and keeps
        /// nobody from going on behind it.
        async fn revision(connection: &mut Connection, lock: &'static str) -> Fallible<u64> {
            let statement = match lock {
                "" => {
                    "SELECT revision, (SELECT MAX(revision) FROM document) AS newest FROM site"
                }
                _ => concat!(
                    "SELECT revision, (SELECT MAX(revision) FROM document) AS newest FROM site \
                     WHERE id = 1",
                    $for_update
                ),
            };
            let row = sqlx::query(statement).fetch_optional(connection).await?;
            let Some(row) = row else { return Ok(0) };
            let newest: Option<i64> = row.try_get("newest")?;
            unsigned(row.try_get::<i64, _>("revision")?.max(newest.unwrap_or(0)))
        }

        async fn document(
            connection: &mut Connection,
            kind: DocumentKind,
            by: By<'_>,
        ) -> Fallible<Option<DocumentRow>> {
            let query = match by {
                By::Id(id) => sqlx::query("SELECT * FROM document WHERE kind = ? AND id = ?")
                    .bind(kind.name())
                    .bind(id.to_owned()),
                By::Name(name) => sqlx::query("SELECT * FROM document WHERE kind = ? AND name = ?")
                    .bind(kind.name())
                    .bind(name.to_owned()),
                By::Number(number) => {
                    sqlx::query("SELECT * FROM document WHERE kind = ? AND number = ?")
                        .bind(kind.name())
                        .bind(i64::from(number))
                }
            };
            query.fetch_optional(connection).await?.as_ref().map(document_row).transpose()
        }

        async fn changes(connection: &mut Connection, since: u64, limit: u32) -> Fallible<Vec<Row>> {
            Ok(sqlx::query("SELECT * FROM document WHERE revision >= ? ORDER BY revision LIMIT ?")
                .bind(i64::try_from(since).unwrap_or(i64::MAX))
                .bind(i64::from(limit))
                .fetch_all(connection)
                .await?)
        }

        async fn free_index(connection: &mut Connection, first: u32, last: u32) -> Fallible<Option<u32>> {
            let highest: Option<i64> = sqlx::query_scalar(
                "SELECT MAX(number) FROM document WHERE kind = 'key' AND number BETWEEN ? AND ?",
            )
            .bind(i64::from(first))
            .bind(i64::from(last))
            .fetch_one(&mut *connection)
            .await?;
            match highest.map(number).transpose()? {
                None => return Ok(Some(first)),
                Some(highest) if highest < last => return Ok(Some(highest + 1)),
                Some(_) => {}
            }
            let free: Option<i64> = sqlx::query_scalar(
                "SELECT MIN(free) FROM (SELECT CAST(? AS SIGNED) AS free UNION ALL \
                 SELECT number + 1 FROM document WHERE kind = 'key' AND number BETWEEN ? AND ? - 1) AS candidates \
                 WHERE NOT EXISTS (SELECT 1 FROM document WHERE kind = 'key' AND number = free)",
            )
            .bind(i64::from(first))
            .bind(i64::from(first))
            .bind(i64::from(last))
            .fetch_one(connection)
            .await?;
            free.map(number).transpose()
        }

        /// Writes a change upon the revision that was compared.
        async fn write(connection: &mut Connection, change: &Change) -> Fallible<()> {
            let row = &change.document;
            if change.upon.checked_add(1) != Some(row.signed.revision) {
                return Err(KeystoreError::Broken("a change raises the revision by one".into()));
            }
            sqlx::query("UPDATE site SET revision = ?")
                .bind(signed(row.signed.revision)?)
                .execute(&mut *connection)
                .await?;
            let known = sqlx::query(
                "UPDATE document SET revision = ?, name = ?, number = ?, due = ?, body = ?, mac = ? \
                 WHERE kind = ? AND id = ?",
            )
            .bind(signed(row.signed.revision)?)
            .bind(&row.name)
            .bind(row.number.map(i64::from))
            .bind(row.due.map(signed).transpose()?)
            .bind(&row.signed.body)
            .bind(row.signed.mac.as_slice())
            .bind(row.signed.kind.name())
            .bind(&row.signed.id)
            .execute(&mut *connection)
            .await
            .map_err(refused)?;
            if known.rows_affected() == 0 {
                insert_document(connection, row).await?;
            }
            if let Some(wrapped) = &change.wrapped {
                insert_wrapped(connection, wrapped, false).await?;
            }
            for version in &change.erased {
                erase(connection, &row.signed.id, *version).await?;
            }
            Ok(())
        }

        async fn insert_document(connection: &mut Connection, row: &DocumentRow) -> Fallible<()> {
            sqlx::query(
                "INSERT INTO document (kind, id, revision, name, number, due, body, mac) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(row.signed.kind.name())
            .bind(&row.signed.id)
            .bind(signed(row.signed.revision)?)
            .bind(&row.name)
            .bind(row.number.map(i64::from))
            .bind(row.due.map(signed).transpose()?)
            .bind(&row.signed.body)
            .bind(row.signed.mac.as_slice())
            .execute(connection)
            .await
            .map_err(refused)?;
            Ok(())
        }

        async fn insert_wrapped(connection: &mut Connection, row: &WrappedRow, closed: bool) -> Fallible<()> {
            sqlx::query("INSERT INTO wrapped_key (uid, version, `blob`, closed) VALUES (?, ?, ?, ?)")
                .bind(&row.uid)
                .bind(i64::from(row.version))
                .bind(&row.blob)
                .bind(i64::from(closed))
                .execute(connection)
                .await
                .map_err(refused)?;
            Ok(())
        }

        async fn insert_usage(connection: &mut Connection, row: &UsageRow) -> Fallible<()> {
            sqlx::query(
                "INSERT INTO key_usage (uid, version, suite, reserved, worn) VALUES (?, ?, ?, ?, ?)",
            )
            .bind(&row.uid)
            .bind(i64::from(row.version))
            .bind(i64::from(row.suite))
            .bind(signed(row.reserved)?)
            .bind(i64::from(row.worn))
            .execute(connection)
            .await
            .map_err(refused)?;
            Ok(())
        }

        /// Overwrites a wrapped key where it lies, and removes its row.
        async fn erase(connection: &mut Connection, uid: &str, version: u32) -> Fallible<()> {
            sqlx::query("UPDATE wrapped_key SET `blob` = ? WHERE uid = ? AND version = ?")
                .bind([0; sealwire_engine::WRAPPED_LEN].as_slice())
                .bind(uid)
                .bind(i64::from(version))
                .execute(&mut *connection)
                .await?;
            for statement in [
                "DELETE FROM wrapped_key WHERE uid = ? AND version = ?",
                "DELETE FROM key_usage WHERE uid = ? AND version = ?",
            ] {
                sqlx::query(statement)
                    .bind(uid)
                    .bind(i64::from(version))
                    .execute(&mut *connection)
                    .await?;
            }
            Ok(())
        }

        async fn rotation(connection: &mut Connection) -> Fallible<Option<RotationRow>> {
            let row = sqlx::query("SELECT old_root, new_root, wrapped, done FROM root_rotation")
                .fetch_optional(connection)
                .await?;
            let Some(row) = row else { return Ok(None) };
            let root = |column: &str| -> Fallible<RootKeyId> {
                let parsed = text(&row, column)?.parse();
                parsed.map_err(|error| KeystoreError::Broken(format!("{column}: {error}")))
            };
            let (old, new) = (root("old_root")?, root("new_root")?);
            let done = row.try_get::<i64, _>("done")? != 0;
            Ok(Some(RotationRow { old, new, wrapped: row.try_get("wrapped")?, done }))
        }

        async fn insert_rotation(connection: &mut Connection, note: &RotationRow) -> Fallible<()> {
            sqlx::query(
                "INSERT INTO root_rotation (id, old_root, new_root, wrapped, done) VALUES (1, ?, ?, ?, ?)",
            )
            .bind(note.old.to_string())
            .bind(note.new.to_string())
            .bind(&note.wrapped)
            .bind(i64::from(note.done))
            .execute(connection)
            .await
            .map_err(refused)?;
            Ok(())
        }

        async fn reserve(connection: &mut Connection, block: &Reservation) -> Fallible<u64> {
            let closed: Option<i64> =
                sqlx::query_scalar("SELECT closed FROM wrapped_key WHERE uid = ? AND version = ?")
                    .bind(&block.uid)
                    .bind(i64::from(block.version))
                    .fetch_optional(&mut *connection)
                    .await?;
            let known: Option<i64> = sqlx::query_scalar(concat!(
                "SELECT reserved FROM key_usage WHERE uid = ? AND version = ? AND suite = ?",
                $for_update
            ))
            .bind(&block.uid)
            .bind(i64::from(block.version))
            .bind(i64::from(block.suite))
            .fetch_optional(&mut *connection)
            .await?;
            let before = known.map(unsigned).transpose()?.unwrap_or(0);
            let granted = match (closed, block.limit) {
                (None, _) => 0,
                (Some(_), None) => block.count,
                (Some(0), Some(limit)) => block.count.min(limit.saturating_sub(before)),
                (Some(_), Some(_)) => 0,
            };
            let reserved = before + granted;
            let row = UsageRow {
                uid: block.uid.clone(),
                version: block.version,
                suite: block.suite,
                reserved,
                worn: granted == 0 || reserved >= block.worn_at,
            };
            if known.is_none() {
                insert_usage(connection, &row).await?;
                return Ok(granted);
            }
            sqlx::query(
                "UPDATE key_usage SET reserved = ?, worn = ? WHERE uid = ? AND version = ? AND suite = ?",
            )
            .bind(signed(reserved)?)
            .bind(i64::from(row.worn))
            .bind(&row.uid)
            .bind(i64::from(row.version))
            .bind(i64::from(row.suite))
            .execute(connection)
            .await?;
            Ok(granted)
        }

        /// The rows that have the form of one, and the names of those that do not: they keep nobody from reading
        /// the others.
        fn sound<T>(
            rows: &[Row],
            read: fn(&Row) -> Fallible<T>,
            name: impl Fn(&Row) -> String,
        ) -> (Vec<T>, Vec<String>) {
            let (mut sound, mut broken) = (Vec::with_capacity(rows.len()), Vec::new());
            for row in rows {
                match read(row) {
                    Ok(row) => sound.push(row),
                    Err(error) => {
                        let name = name(row);
                        tracing::error!(%error, "a row of the keystore: {name}");
                        broken.push(name);
                    }
                }
            }
            (sound, broken)
        }

        /// A page of documents.
        fn page<C>(rows: &[Row], limit: u32, cursor: impl Fn(&Row) -> C) -> Page<DocumentRow, C> {
            let full = rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
            let next = rows.last().filter(|_| full).map(cursor);
            let (rows, broken) = sound(rows, document_row, |row| shown(row, "name"));
            Page { rows, broken, next }
        }

        /// A column, whatever is in it.
        fn shown(row: &Row, column: &str) -> String {
            let bytes: Vec<u8> = row.try_get(column).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        }

        fn revision_of(row: &Row) -> u64 {
            row.try_get::<i64, _>("revision").unwrap_or(0).unsigned_abs()
        }

        fn document_row(row: &Row) -> Fallible<DocumentRow> {
            read_document(row).map_err(|error| {
                KeystoreError::Broken(format!("{} `{}`: {error}", shown(row, "kind"), shown(row, "id")))
            })
        }

        fn read_document(row: &Row) -> Fallible<DocumentRow> {
            let name = text(row, "kind")?;
            let kind = DocumentKind::from_name(&name)
                .ok_or_else(|| KeystoreError::Broken(format!("kind `{name}`")))?;
            let signed = SignedDocument {
                kind,
                id: text(row, "id")?,
                revision: unsigned(row.try_get("revision")?)?,
                body: row.try_get("body")?,
                mac: mac(row, "mac")?,
            };
            let number = row.try_get::<Option<i64>, _>("number")?.map(number).transpose()?;
            let due = row.try_get::<Option<i64>, _>("due")?.map(unsigned).transpose()?;
            Ok(DocumentRow { signed, name: text(row, "name")?, number, due })
        }

        fn wrapped_row(row: &Row) -> Fallible<WrappedRow> {
            let version = number(row.try_get("version")?)?;
            Ok(WrappedRow { uid: text(row, "uid")?, version, blob: row.try_get("blob")? })
        }

        fn usage_row(row: &Row) -> Fallible<UsageRow> {
            let suite: i64 = row.try_get("suite")?;
            Ok(UsageRow {
                uid: text(row, "uid")?,
                version: number(row.try_get("version")?)?,
                suite: u8::try_from(suite)
                    .map_err(|_| KeystoreError::Broken(format!("suite {suite}")))?,
                reserved: unsigned(row.try_get("reserved")?)?,
                worn: row.try_get::<i64, _>("worn")? != 0,
            })
        }

        fn text(row: &Row, column: &str) -> Fallible<String> {
            let bytes: Vec<u8> = row.try_get(column)?;
            String::from_utf8(bytes)
                .map_err(|_| KeystoreError::Broken(format!("{column} is not UTF-8")))
        }

        fn mac(row: &Row, column: &str) -> Fallible<[u8; 32]> {
            let bytes: &[u8] = row.try_get(column)?;
            bytes.try_into().map_err(|_| KeystoreError::Broken(format!("{column} has not 32 bytes")))
        }

        fn refused(error: sqlx::Error) -> KeystoreError {
            match error.as_database_error().and_then(taken) {
                Some(taken) => KeystoreError::Taken(taken),
                None => error.into(),
            }
        }
    };
}

pub(crate) use keystore;
