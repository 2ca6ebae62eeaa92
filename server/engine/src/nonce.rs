//! A pool of nonces, a few KiB at a time: a system call for each would cost more than sealing a short
//! message, and the operating system's generator takes longer for 24 bytes than AES for 256.
//!
//! Each pool is the ChaCha20 keystream (RFC 8439) of a fresh seed of 256 bits from the operating system,
//! used for this pool alone. A nonce need not be secret, only never the same twice under one key: two
//! pools agree only if their seeds do.

use std::time::{Duration, Instant};

use rand::rngs::ChaCha20Rng;
use rand::{Rng, SeedableRng};

use crate::{EngineError, Secret};

/// Bytes made at once.
const POOL_LEN: usize = 4096;

/// Age at which what is left is dropped, so that a machine restored from a snapshot soon draws anew.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Random bytes that were drawn and not yet used. Never shared between sessions.
pub(crate) struct NoncePool {
    bytes: Box<[u8]>,
    used: usize,
    drawn: Option<(Instant, u32)>,
}

impl NoncePool {
    /// An empty pool: nothing is drawn before the first nonce is needed.
    pub(crate) fn new() -> Self {
        Self { bytes: Box::default(), used: 0, drawn: None }
    }

    /// Drops what is too old, or was drawn by the process that this one was forked from. Called once
    /// for each batch of requests, since it asks the operating system for the process id.
    pub(crate) fn tick(&mut self, now: Instant) {
        if let Some((at, process)) = self.drawn
            && (now.saturating_duration_since(at) >= MAX_AGE || process != std::process::id())
        {
            self.discard();
        }
    }

    /// The next `length` bytes, used by nobody else. `length` is at most 24.
    #[inline]
    pub(crate) fn next(&mut self, length: usize) -> Result<&[u8], EngineError> {
        if self.bytes.len() - self.used < length {
            self.draw()?;
        }
        let start = self.used;
        self.used += length;
        Ok(&self.bytes[start..self.used])
    }

    #[cold]
    fn draw(&mut self) -> Result<(), EngineError> {
        self.discard();
        if self.bytes.is_empty() {
            self.bytes = vec![0; POOL_LEN].into_boxed_slice();
        }
        self.used = self.bytes.len();
        let seed = Secret::<32>::generate()?;
        ChaCha20Rng::from_seed(*seed.expose()).fill_bytes(&mut self.bytes);
        self.used = 0;
        self.drawn = Some((Instant::now(), std::process::id()));
        Ok(())
    }

    fn discard(&mut self) {
        self.bytes.fill(0);
        self.used = self.bytes.len();
        self.drawn = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_is_given_twice_and_none_is_left_over() {
        let mut pool = NoncePool::new();
        let mut seen = std::collections::HashSet::new();
        for turn in 0..2000 {
            let length = if turn % 3 == 0 { 12 } else { 24 };
            assert!(seen.insert(pool.next(length).expect("random").to_vec()));
        }
    }

    #[test]
    fn an_old_pool_is_dropped() {
        let mut pool = NoncePool::new();
        pool.next(12).expect("random");
        let left = pool.bytes[pool.used..].to_vec();
        pool.tick(Instant::now() + MAX_AGE);
        assert_eq!(pool.used, POOL_LEN);
        pool.next(12).expect("random");
        assert!(!left.starts_with(&pool.bytes[..12]));
    }
}
