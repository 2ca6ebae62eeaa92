//! Tokens: what an app gets for its HTTP secret. A token is random, and known here by its hash alone. The keystore
//! holds what it stands for, signed by an engine, so that every gateway of the site takes it; a copy is kept here, and
//! believed for a second after its row was last seen.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use quick_cache::sync::Cache;
use sealwire_engine::host::process::now;
use sealwire_engine::{TokenHash, TokenRecord};
use sealwire_keystore::{KeystoreError, TokenRow};
use sealwire_protocol::{ErrorCode, credential};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::HttpLimits;
use super::token::{ShownSecret, ShownToken, Token, hash_of};
use crate::directory::unavailable;
use crate::{Gateway, Refusal};

/// Every token's text begins so.
const PREFIX: &str = "swt1_";

/// Tokens that are kept here; beyond, those that were not used for longest are read again.
const KEPT: usize = 65_536;

/// Tokens that were revoked here, and are remembered.
const REVOKED: usize = 4096;

/// Time for a look at a row for somebody who waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// Time for which a token is believed after its row was last seen, and between two looks at the rows of those in use.
const FRESH: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(400);

/// What a look that has failed counts for, in milliseconds before it: the next one follows half a second later.
const MISSED: u64 = 500;

/// Time between two sweeps of rows whose time is over.
const SWEEP: Duration = Duration::from_secs(60);

/// Rows that are looked at at once, and those that are read at once for who has none here.
const BATCH: usize = 256;
const READS: usize = 16;

/// See the module.
pub(super) struct Tokens {
    gateway: Arc<Gateway>,
    limits: HttpLimits,
    kept: Cache<TokenHash, Arc<Token>>,
    /// Those that were revoked here lately.
    revoked: Cache<TokenHash, ()>,
    reads: Semaphore,
    born: Instant,
}

impl Tokens {
    pub(super) fn new(gateway: Arc<Gateway>, limits: HttpLimits) -> Self {
        let (kept, revoked) = (Cache::new(KEPT), Cache::new(REVOKED));
        let (reads, born) = (Semaphore::new(READS), Instant::now());
        Self { gateway, limits, kept, revoked, reads, born }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether a token can be used just now, as far as is known here.
    pub(super) fn is_good(&self, token: &Token) -> bool {
        if !token.used.load(Ordering::Relaxed) {
            token.used.store(true, Ordering::Relaxed);
        }
        token.stands() && self.is_fresh(token)
    }

    /// While the keystore is away, what is kept is trusted as everything else is.
    fn is_fresh(&self, token: &Token) -> bool {
        let age = self.elapsed().saturating_sub(token.seen.load(Ordering::Relaxed));
        u128::from(age) < FRESH.as_millis() || self.gateway.directory.is_trusted_while_away()
    }

    /// Logs an app in: its token's text, and what it stands for.
    ///
    /// # Errors
    /// `AUTH_FAILED`, `TOO_MANY_CONNECTIONS` for a source that guesses, and for an app with too many tokens;
    /// `SEALED`, `UNAVAILABLE`.
    pub(super) async fn login(
        &self,
        from: IpAddr,
        (app_key, secret): (&str, &str),
    ) -> Result<(Zeroizing<String>, Arc<Token>), Refusal> {
        self.take_turn(from).await?;
        if !credential::is_app_key(app_key.as_bytes()) {
            self.refuse(from, "(no AppKey)", "what is no AppKey was shown as one");
            return Err(ErrorCode::AUTH_FAILED.into());
        }
        let mut random = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *random).map_err(|_| Refusal::from(ErrorCode::INTERNAL))?;
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 43));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(*random, &mut text);
        let hash = hash_of(text.as_bytes());
        let lifetime = self.limits.token_ttl.as_secs();
        let shown = ShownSecret { secret, hash: &hash, lifetime };
        let named = (app_key, hash, self.elapsed());
        let token = Token::admit(&self.gateway, from, named, &shown).await?;
        self.gateway.directory.reachable()?;
        let limit = self.limits.max_tokens_per_app;
        let stored = self.gateway.directory.keystore().put_token(&token.row(), now(), limit).await;
        if !stored.map_err(|error| unavailable(&error))? {
            let detail = format!(
                "the app has {limit} tokens: use one for many requests, revoke those that are not needed, or wait"
            );
            return Err(Refusal::new(ErrorCode::TOO_MANY_CONNECTIONS, detail));
        }
        self.kept.insert(hash, token.clone());
        Ok((text, token))
    }

    /// What a token stands for.
    ///
    /// # Errors
    /// `AUTH_FAILED`, `TOO_MANY_CONNECTIONS` for a source that guesses; `SEALED`, `UNAVAILABLE`.
    pub(super) async fn find(&self, from: IpAddr, hash: &TokenHash) -> Result<Arc<Token>, Refusal> {
        if let Some(token) = self.kept.get(hash) {
            if token.stands() && self.has_row(&token).await? {
                return Ok(token);
            }
            self.kept.remove_if(hash, |kept| !kept.stands());
        }
        // However many connections wait for it, it is read once.
        let token = self.kept.get_or_insert_async(hash, self.load(from, hash)).await?;
        self.heed_revoked(&token);
        if token.is_over() { Err(ErrorCode::AUTH_FAILED.into()) } else { Ok(token) }
    }

    /// Whether the row of a token is still there, as far as can be told: while the keystore does not answer, what is
    /// kept is trusted as everything else is.
    async fn has_row(&self, token: &Arc<Token>) -> Result<bool, Refusal> {
        if self.is_fresh(token) {
            return Ok(true);
        }
        let _turn = token.looking.lock().await;
        if self.is_fresh(token) {
            return Ok(true);
        }
        let looked = timeout(PATIENCE, self.look(std::slice::from_ref(token))).await;
        let error = match looked.unwrap_or(Err(KeystoreError::Slow)) {
            Ok(()) => return Ok(!token.is_over()),
            Err(error) => error,
        };
        if !self.gateway.directory.is_trusted() {
            return Err(unavailable(&error));
        }
        // Those that wait behind this one need not find out for themselves.
        token.seen.fetch_max(self.elapsed().saturating_sub(MISSED), Ordering::Relaxed);
        Ok(true)
    }

    /// Reads what a token stands for, and has an engine check it.
    async fn load(&self, from: IpAddr, hash: &TokenHash) -> Result<Arc<Token>, Refusal> {
        self.take_turn(from).await?;
        let seen = self.elapsed();
        let row = self.read(hash).await?;
        let record = row.as_ref().and_then(|row| TokenRecord::from_bytes(&row.record));
        let (Some(row), Some(record)) = (row, record) else {
            self.refuse(from, "(unknown)", "an unknown or revoked token");
            return Err(ErrorCode::AUTH_FAILED.into());
        };
        let shown = ShownToken { record: &record, hash, renew: None };
        Token::admit(&self.gateway, from, (&row.app, *hash, seen), &shown).await
    }

    async fn read(&self, hash: &TokenHash) -> Result<Option<TokenRow>, Refusal> {
        let _turn = self.reads.acquire().await;
        self.gateway.directory.reachable()?;
        let read = self.gateway.directory.keystore().token(hash).await;
        read.map_err(|error| unavailable(&error))
    }

    /// Has a token be good for `increment` from now on, as far as its longest time allows.
    ///
    /// # Errors
    /// As [`Tokens::find`].
    pub(super) async fn renew(
        &self,
        from: IpAddr,
        token: &Token,
        increment: Option<u64>,
    ) -> Result<Arc<Token>, Refusal> {
        let last = token.issued.saturating_add(self.limits.token_max_ttl.as_secs());
        let wish = increment.filter(|wish| *wish > 0).unwrap_or(self.limits.token_ttl.as_secs());
        let left = last.saturating_sub(now());
        if left == 0 {
            let detail = "the token has reached its longest time: log in again";
            return Err(Refusal::new(ErrorCode::MALFORMED_BODY, detail));
        }
        let (renew, seen) = (Some(wish.min(left)), self.elapsed());
        let shown = ShownToken { record: &token.record, hash: &token.hash, renew };
        let named = (token.app.id.as_str(), token.hash, seen);
        let renewed = Token::admit(&self.gateway, from, named, &shown).await?;
        self.gateway.directory.reachable()?;
        let stored = self.gateway.directory.keystore().renew_token(&renewed.row()).await;
        if !stored.map_err(|error| unavailable(&error))? {
            return Err(ErrorCode::AUTH_FAILED.into());
        }
        self.put(&renewed);
        Ok(renewed)
    }

    /// Revokes a token: here at once, at the other gateways within a second.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub(super) async fn revoke(&self, token: &Token) -> Result<(), Refusal> {
        self.gateway.directory.reachable()?;
        let removed = self.gateway.directory.keystore().remove_token(&token.hash).await;
        removed.map_err(|error| unavailable(&error))?;
        // Who has read the row a moment before does not keep it.
        self.revoked.insert(token.hash, ());
        if let Some((_, kept)) = self.kept.remove(&token.hash) {
            kept.end();
        }
        token.end();
        Ok(())
    }

    /// Keeps a token; one of before is not used any more.
    fn put(&self, token: &Arc<Token>) {
        if let Some(before) = self.kept.get(&token.hash) {
            before.end();
        }
        self.kept.insert(token.hash, token.clone());
        self.heed_revoked(token);
    }

    /// One that was revoked while it was read is not kept.
    fn heed_revoked(&self, token: &Token) {
        if self.revoked.get(&token.hash).is_some() {
            token.end();
            self.kept.remove(&token.hash);
        }
    }

    async fn take_turn(&self, from: IpAddr) -> Result<(), Refusal> {
        let crowd = |_| Refusal::new(ErrorCode::TOO_MANY_CONNECTIONS, "too many wrong logins");
        self.gateway.guesses.turn(from).await.map_err(crowd)
    }

    fn refuse(&self, from: IpAddr, who: &str, reason: &str) {
        if self.gateway.guesses.refused(from) {
            tracing::warn!(app = who, reason, "HTTP refused");
        }
        self.gateway.auditor.tell_refused(who, Some(from), reason);
    }

    /// Looks whether the rows of tokens are still there.
    async fn look(&self, tokens: &[Arc<Token>]) -> Result<(), KeystoreError> {
        let asked = self.elapsed();
        let hashes: Vec<TokenHash> = tokens.iter().map(|token| token.hash).collect();
        let left = self.gateway.directory.keystore().tokens_left(&hashes).await?;
        let left: std::collections::HashSet<_> = left.into_iter().collect();
        for token in tokens {
            if left.contains(&token.hash) {
                token.seen.fetch_max(asked, Ordering::Relaxed);
            } else {
                token.end();
                self.kept.remove(&token.hash);
            }
        }
        Ok(())
    }

    /// Looks at the rows of the tokens that are in use, and sweeps those whose time is over, until `stop`.
    pub(super) async fn tend(self: Arc<Self>, stop: CancellationToken) {
        let mut swept = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
            let directory = &self.gateway.directory;
            if directory.reachable().is_err() {
                continue;
            }
            let used = |token: &Arc<Token>| token.used.swap(false, Ordering::Relaxed);
            let used: Vec<_> = self.kept.iter().map(|(_, token)| token).filter(used).collect();
            for tokens in used.chunks(BATCH) {
                let looked = timeout(PATIENCE, self.look(tokens)).await;
                if let Err(error) = looked.unwrap_or(Err(KeystoreError::Slow)) {
                    tracing::debug!(%error, "looking at tokens");
                }
            }
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                let swept = timeout(SWEEP, directory.keystore().sweep_tokens(now()));
                let swept = tokio::select! {
                    swept = swept => swept.unwrap_or(Err(KeystoreError::Slow)),
                    () = stop.cancelled() => return,
                };
                match swept {
                    Ok(0) => {}
                    Ok(tokens) => tracing::debug!(tokens, "tokens whose time is over were removed"),
                    Err(error) => tracing::debug!(%error, "sweeping tokens"),
                }
            }
        }
    }
}
