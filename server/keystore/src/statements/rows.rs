//! The statements, and what becomes of rows. They work on a connection, in a transaction or not.

/// Makes the functions that [`keystore`](super::keystore) is made of.
macro_rules! statements {
    ($database:ty, $for_update:literal) => {
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
            insert_audit(connection, std::slice::from_ref(&change.audit)).await
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

pub(crate) use statements;
