//! The tokens of apps that come over HTTP.

/// Makes the [`TokenStore`](crate::TokenStore) of a store.
macro_rules! token_store {
    ($store:ty, $database:ty) => {
        use crate::{TokenHash, TokenRow, TokenStore};

        #[async_trait]
        impl TokenStore for $store {
            async fn put_token(&self, row: &TokenRow, now: u64, limit: u32) -> Fallible<bool> {
                transact!(self, transaction => {
                    let held: i64 = sqlx::query_scalar(
                        "SELECT COUNT(*) FROM token WHERE app = ? AND expires > ?",
                    )
                    .bind(row.app.as_bytes())
                    .bind(signed(now)?)
                    .fetch_one(&mut *transaction)
                    .await?;
                    let room = held < i64::from(limit);
                    if room {
                        sqlx::query(
                            "INSERT INTO token (hash, app, record, expires) VALUES (?, ?, ?, ?)",
                        )
                        .bind(&row.hash[..])
                        .bind(row.app.as_bytes())
                        .bind(&row.record)
                        .bind(signed(row.expires)?)
                        .execute(&mut *transaction)
                        .await?;
                    }
                    room
                })
            }

            async fn token(&self, hash: &TokenHash) -> Fallible<Option<TokenRow>> {
                self.limited(async {
                    let row = sqlx::query(
                        "SELECT app, substr(record, 1, 2049) AS record, expires FROM token WHERE hash = ?",
                    )
                    .bind(&hash[..])
                    .fetch_optional(&mut *self.reader().await?)
                    .await?;
                    let Some(row) = row else { return Ok(None) };
                    let (app, record) = (row.try_get("app")?, row.try_get("record")?);
                    let app = String::from_utf8(app).map_err(|_| KeystoreError::Broken("a token's app".into()))?;
                    let expires = unsigned(row.try_get("expires")?)?;
                    Ok(Some(TokenRow { hash: *hash, app, record, expires }))
                })
                .await
            }

            async fn tokens_left(&self, hashes: &[TokenHash]) -> Fallible<Vec<TokenHash>> {
                if hashes.is_empty() {
                    return Ok(Vec::new());
                }
                let mut query = QueryBuilder::<$database>::new("SELECT hash FROM token WHERE hash IN (");
                let mut list = query.separated(", ");
                for hash in padded(hashes) {
                    list.push_bind(hash.to_vec());
                }
                query.push(")");
                self.limited(async {
                    let rows = query.build().fetch_all(&mut *self.reader().await?).await?;
                    let read = |row: &Row| {
                        let hash: Vec<u8> = row.try_get("hash")?;
                        hash.try_into().map_err(|_| KeystoreError::Broken("a token's hash".into()))
                    };
                    rows.iter().map(read).collect()
                })
                .await
            }

            async fn renew_token(&self, row: &TokenRow) -> Fallible<bool> {
                transact!(self, transaction => {
                    let written = sqlx::query("UPDATE token SET record = ?, expires = ? WHERE hash = ?")
                        .bind(&row.record)
                        .bind(signed(row.expires)?)
                        .bind(&row.hash[..])
                        .execute(&mut *transaction)
                        .await?;
                    written.rows_affected() > 0
                })
            }

            async fn remove_token(&self, hash: &TokenHash) -> Fallible<()> {
                transact!(self, transaction => {
                    sqlx::query("DELETE FROM token WHERE hash = ?")
                        .bind(&hash[..])
                        .execute(&mut *transaction)
                        .await?;
                })
            }

            async fn sweep_tokens(&self, now: u64) -> Fallible<u64> {
                transact!(self, transaction => {
                    sqlx::query("DELETE FROM token WHERE expires <= ?")
                        .bind(signed(now)?)
                        .execute(&mut *transaction)
                        .await?
                        .rows_affected()
                })
            }
        }
    };
}

pub(crate) use token_store;
