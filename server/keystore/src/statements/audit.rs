//! The audit records of a store.

/// Makes the [`AuditLog`](crate::AuditLog) of a store, and the statements that it is made of.
macro_rules! audit_log {
    ($store:ty, $database:ty) => {
        use crate::{AuditChain, AuditFilter, AuditLog, AuditPlace, AuditRow, Taken};

        #[async_trait]
        impl AuditLog for $store {
            async fn append(&self, rows: &[AuditRow]) -> Fallible<()> {
                transact!(self, transaction => insert_audit(&mut transaction, rows).await?)
            }

            async fn chains(&self) -> Fallible<Vec<AuditChain>> {
                self.unhurried(async {
                    let rows = sqlx::query(
                        "SELECT writer, MAX(sequence) AS newest, COUNT(*) AS count FROM audit \
                         GROUP BY writer ORDER BY writer",
                    )
                    .fetch_all(&mut *self.reader().await?)
                    .await?;
                    let read = |row: &Row| {
                        let (newest, count) = (row.try_get("newest")?, row.try_get("count")?);
                        Ok(AuditChain { writer: shown(row, "writer"), newest, count: unsigned(count)? })
                    };
                    rows.iter().map(read).collect()
                })
                .await
            }

            async fn writers(&self) -> Fallible<Vec<String>> {
                let mut writers: Vec<String> = Vec::new();
                loop {
                    // From one to the next: there are few, and many records of each.
                    let next = self.limited(async {
                        Ok(sqlx::query("SELECT writer FROM audit WHERE writer > ? ORDER BY writer LIMIT 1")
                            .bind(writers.last().map_or("", String::as_str))
                            .fetch_optional(&mut *self.reader().await?)
                            .await?)
                    });
                    match next.await?.as_ref().map(|row| shown(row, "writer")) {
                        Some(writer) if writers.last().is_none_or(|last| *last < writer) => writers.push(writer),
                        _ => return Ok(writers),
                    }
                }
            }

            async fn record(&self, writer: &str, sequence: i64) -> Fallible<Option<AuditRow>> {
                self.limited(async {
                    let row = sqlx::query("SELECT writer, sequence, at, event, substr(body, 1, 49153) AS body, mac FROM audit WHERE writer = ? AND sequence = ?")
                        .bind(writer)
                        .bind(sequence)
                        .fetch_optional(&mut *self.reader().await?)
                        .await?;
                    row.as_ref().map(audit_row).transpose()
                })
                .await
            }

            async fn newest_records(&self, writer: &str, limit: u32) -> Fallible<Vec<AuditRow>> {
                self.limited(async {
                    let rows = sqlx::query(
                        "SELECT writer, sequence, at, event, substr(body, 1, 49153) AS body, mac FROM audit WHERE writer = ? ORDER BY sequence DESC LIMIT ?",
                    )
                    .bind(writer)
                    .bind(i64::from(limit))
                    .fetch_all(&mut *self.reader().await?)
                    .await?;
                    rows.iter().map(audit_row).collect()
                })
                .await
            }

            async fn chain(&self, writer: &str, after: i64, limit: u32) -> Fallible<Vec<AuditRow>> {
                self.limited(async {
                    let rows = sqlx::query(
                        "SELECT writer, sequence, at, event, substr(body, 1, 49153) AS body, mac FROM audit WHERE writer = ? AND sequence > ? ORDER BY sequence LIMIT ?",
                    )
                    .bind(writer)
                    .bind(after)
                    .bind(i64::from(limit))
                    .fetch_all(&mut *self.reader().await?)
                    .await?;
                    rows.iter().map(audit_row).collect()
                })
                .await
            }

            async fn newest_first(
                &self,
                filter: &AuditFilter,
                before: Option<&AuditPlace>,
                limit: u32,
            ) -> Fallible<Vec<AuditRow>> {
                let mut query = QueryBuilder::<$database>::new("SELECT writer, sequence, at, event, substr(body, 1, 49153) AS body, mac FROM audit WHERE at >= ");
                query.push_bind(filter.from);
                query.push(" AND at <= ").push_bind(filter.until);
                if let Some(writer) = &filter.writer {
                    query.push(" AND writer = ").push_bind(writer.clone());
                }
                if !filter.events.is_empty() {
                    query.push(" AND event IN (");
                    let mut list = query.separated(", ");
                    for event in padded(&filter.events.iter().map(String::as_str).collect::<Vec<_>>()) {
                        list.push_bind(event.to_owned());
                    }
                    query.push(")");
                }
                if let Some(before) = before {
                    let at = before.at;
                    query.push(" AND at <= ").push_bind(at);
                    query.push(" AND (at < ").push_bind(at);
                    query.push(" OR writer < ").push_bind(before.writer.clone());
                    query.push(" OR (writer = ").push_bind(before.writer.clone());
                    query.push(" AND sequence < ").push_bind(before.sequence).push("))");
                }
                query.push(" ORDER BY at DESC, writer DESC, sequence DESC LIMIT ");
                query.push_bind(i64::from(limit));
                self.unhurried(async {
                    let rows = query.build().fetch_all(&mut *self.reader().await?).await?;
                    rows.iter().map(audit_row).collect()
                })
                .await
            }
        }

        // A body that is longer than a record may be is read as far as shows that: 49152 bytes, and one.
        const _: () = assert!(sealwire_engine::audit::MAX_AUDIT_RECORD == 49_152);

        /// Adds records. One that is there already is refused.
        async fn insert_audit(connection: &mut Connection, rows: &[AuditRow]) -> Fallible<()> {
            for row in rows {
                sqlx::query(
                    "INSERT INTO audit (writer, sequence, at, event, body, mac) VALUES (?, ?, ?, ?, ?, ?)",
                )
                .bind(&row.writer)
                .bind(row.sequence)
                .bind(row.at)
                .bind(&row.event)
                .bind(&row.body)
                .bind(row.mac.as_slice())
                .execute(&mut *connection)
                .await
                .map_err(|error| match error.as_database_error() {
                    Some(known) if known.is_unique_violation() => KeystoreError::Taken(Taken::Record),
                    _ => error.into(),
                })?;
            }
            Ok(())
        }

        async fn audit_after(
            connection: &mut Connection,
            after: Option<(&str, i64)>,
            limit: u32,
        ) -> Fallible<Vec<AuditRow>> {
            let (writer, sequence) = after.unwrap_or(("", i64::MIN));
            let rows = sqlx::query(
                "SELECT writer, sequence, at, event, substr(body, 1, 49153) AS body, mac FROM audit WHERE writer >= ? AND (writer > ? OR sequence > ?) \
                 ORDER BY writer, sequence LIMIT ?",
            )
            .bind(writer)
            .bind(writer)
            .bind(sequence)
            .bind(i64::from(limit))
            .fetch_all(connection)
            .await?;
            rows.iter().map(audit_row).collect()
        }

        /// Reads a row as it is, whatever is in it: who checks it says what is wrong.
        fn audit_row(row: &Row) -> Fallible<AuditRow> {
            let mac: Vec<u8> = row.try_get("mac")?;
            Ok(AuditRow {
                writer: shown(row, "writer"),
                sequence: row.try_get("sequence")?,
                at: row.try_get("at")?,
                event: shown(row, "event"),
                body: row.try_get("body")?,
                // Of another length it is the MAC of nothing.
                mac: mac.try_into().unwrap_or_default(),
            })
        }
    };
}

pub(crate) use audit_log;
