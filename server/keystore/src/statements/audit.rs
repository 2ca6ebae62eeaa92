//! The audit records of a store.

/// Makes the [`AuditLog`](crate::AuditLog) of a store, and the statements that it is made of.
macro_rules! audit_log {
    ($store:ty, $database:ty) => {
        use crate::{AuditFilter, AuditLog, AuditPlace, AuditRow, Taken};

        #[async_trait]
        impl AuditLog for $store {
            async fn append(&self, rows: &[AuditRow]) -> Fallible<()> {
                transact!(self, transaction => insert_audit(&mut transaction, rows).await?)
            }

            async fn chains(&self) -> Fallible<Vec<(String, u64)>> {
                self.unhurried(async {
                    let rows = sqlx::query(
                        "SELECT writer, MAX(sequence) AS newest FROM audit GROUP BY writer ORDER BY writer",
                    )
                    .fetch_all(&mut *self.reader().await?)
                    .await?;
                    let read = |row: &Row| Ok((text(row, "writer")?, unsigned(row.try_get("newest")?)?));
                    rows.iter().map(read).collect()
                })
                .await
            }

            async fn record(&self, writer: &str, sequence: u64) -> Fallible<Option<AuditRow>> {
                self.limited(async {
                    let row = sqlx::query("SELECT * FROM audit WHERE writer = ? AND sequence = ?")
                        .bind(writer)
                        .bind(signed(sequence)?)
                        .fetch_optional(&mut *self.reader().await?)
                        .await?;
                    row.as_ref().map(audit_row).transpose()
                })
                .await
            }

            async fn newest_record(&self, writer: &str) -> Fallible<Option<AuditRow>> {
                self.limited(async {
                    let row = sqlx::query(
                        "SELECT * FROM audit WHERE writer = ? ORDER BY sequence DESC LIMIT 1",
                    )
                    .bind(writer)
                    .fetch_optional(&mut *self.reader().await?)
                    .await?;
                    row.as_ref().map(audit_row).transpose()
                })
                .await
            }

            async fn chain(&self, writer: &str, after: u64, limit: u32) -> Fallible<Vec<AuditRow>> {
                self.limited(async {
                    let rows = sqlx::query(
                        "SELECT * FROM audit WHERE writer = ? AND sequence > ? ORDER BY sequence LIMIT ?",
                    )
                    .bind(writer)
                    .bind(signed(after)?)
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
                let mut query = QueryBuilder::<$database>::new("SELECT * FROM audit WHERE at >= ");
                query.push_bind(signed(filter.from)?);
                query.push(" AND at < ").push_bind(signed(filter.until.min(i64::MAX.unsigned_abs()))?);
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
                    let at = signed(before.at)?;
                    query.push(" AND at <= ").push_bind(at);
                    query.push(" AND (at < ").push_bind(at);
                    query.push(" OR writer < ").push_bind(before.writer.clone());
                    query.push(" OR (writer = ").push_bind(before.writer.clone());
                    query.push(" AND sequence < ").push_bind(signed(before.sequence)?).push("))");
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

        /// Adds records. One that is there already is refused.
        async fn insert_audit(connection: &mut Connection, rows: &[AuditRow]) -> Fallible<()> {
            for row in rows {
                sqlx::query(
                    "INSERT INTO audit (writer, sequence, at, event, body, mac) VALUES (?, ?, ?, ?, ?, ?)",
                )
                .bind(&row.writer)
                .bind(signed(row.sequence)?)
                .bind(signed(row.at)?)
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
            after: Option<(&str, u64)>,
            limit: u32,
        ) -> Fallible<Vec<AuditRow>> {
            let (writer, sequence) = after.unwrap_or(("", 0));
            let rows = sqlx::query(
                "SELECT * FROM audit WHERE writer >= ? AND (writer > ? OR sequence > ?) \
                 ORDER BY writer, sequence LIMIT ?",
            )
            .bind(writer)
            .bind(writer)
            .bind(signed(sequence)?)
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
                sequence: unsigned(row.try_get("sequence")?)?,
                at: unsigned(row.try_get("at")?)?,
                event: shown(row, "event"),
                body: row.try_get("body")?,
                // Of another length it is the MAC of nothing.
                mac: mac.try_into().unwrap_or_default(),
            })
        }
    };
}

pub(crate) use audit_log;
