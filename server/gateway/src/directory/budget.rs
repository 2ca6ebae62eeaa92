//! Messages that may still be sealed: under a suite with a short random nonce, all gateways together may
//! seal 2^32 messages with a version of a key. Each gateway reserves blocks of them in the keystore
//! before it uses them, so a crash can only count too many; its connections take a few at a time.
//!
//! Where a suite sets no limit, and the key is to be renewed after so many messages all the same, they are
//! counted afterwards, and nothing is ever refused for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use sealwire_engine::Uid;
use sealwire_engine::document::KeyDocument;
use sealwire_keystore::{Keystore, Reservation};
use sealwire_protocol::{ErrorCode, Suite};
use tokio::sync::{Mutex, Semaphore};

use super::condition::{Condition, away, readable, unavailable};
use crate::Refusal;
use crate::figures::FIGURES;

/// Messages that a connection takes at once, at most.
const CHUNK: u64 = 256;

/// The first block, in messages, and the largest: a thousandth of what a suite allows.
const FIRST_BLOCK: u64 = 1 << 12;
const LARGEST_BLOCK: u64 = 1 << 22;

/// A block that was used up faster than this is followed by one twice as large.
const FAST: Duration = Duration::from_secs(10);

/// Blocks that are reserved at once, of all keys.
const RESERVATIONS: usize = 4;

/// A block is at most this part of the messages after which the key is renewed, and what a connection takes
/// at once a smaller one.
const PARTS: u64 = 16;
const CHUNK_PARTS: u64 = 4096;

/// What is counted: the messages of a version of a key under a suite.
type Counted = (Uid, u32, Suite);

/// The budgets of this gateway.
pub(super) struct Budgets {
    keystore: Arc<dyn Keystore>,
    condition: Arc<AtomicU8>,
    known: Cache<Counted, Arc<Budget>>,
    turns: Arc<Semaphore>,
    renew_at_share: f64,
    engines_are_apart: bool,
}

impl Budgets {
    pub(super) fn new(
        keystore: Arc<dyn Keystore>,
        condition: Arc<AtomicU8>,
        kept: usize,
        renew_at_share: f64,
        engines_are_apart: bool,
    ) -> Self {
        let turns = Arc::new(Semaphore::new(RESERVATIONS));
        let known = Cache::new(kept);
        Self { keystore, condition, known, turns, renew_at_share, engines_are_apart }
    }

    /// Messages that all gateways together may seal. What waits for an engine when that dies is sealed again by
    /// another, under a nonce that nobody counts: for that, a sixteenth is kept back.
    fn limit(&self, suite: Suite) -> Option<u64> {
        let limit = suite.message_limit()?;
        Some(if self.engines_are_apart { limit - limit / 16 } else { limit })
    }

    /// The budget of a version of a key under a suite; `None` when its messages are not counted.
    pub(super) fn of(&self, key: &KeyDocument, version: u32, suite: Suite) -> Option<Arc<Budget>> {
        let (limit, wish) = (self.limit(suite), key.renewal.after_messages);
        let worn_at = [limit.map(|limit| share(limit, self.renew_at_share)), wish];
        let worn_at = worn_at.into_iter().flatten().min()?;
        let counted = (key.uid, version, suite);
        let known = self.known.get_or_insert_with::<_, ()>(&counted, || {
            let (keystore, condition) = (self.keystore.clone(), self.condition.clone());
            Ok(Arc::new(Budget::new(keystore, condition, self.turns.clone(), counted, limit)))
        });
        let budget = known.ok()?;
        // The wish may have changed since the budget was first asked for.
        budget.worn_at.store(worn_at, Ordering::Relaxed);
        Some(budget)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of at most 2^32"
)]
fn share(limit: u64, share: f64) -> u64 {
    (limit as f64 * share) as u64
}

/// The messages that this gateway may still seal with a version of a key under a suite.
pub(crate) struct Budget {
    keystore: Arc<dyn Keystore>,
    condition: Arc<AtomicU8>,
    turns: Arc<Semaphore>,
    counted: Counted,
    limit: Option<u64>,
    worn_at: AtomicU64,
    /// Messages that are reserved and not sealed; without a limit, those that are sealed and not counted.
    open: AtomicU64,
    /// Messages left at which the next block is reserved ahead.
    low: AtomicU64,
    /// Whether all gateways together have used up what the suite allows.
    exhausted: AtomicBool,
    ahead: AtomicBool,
    block: Mutex<Block>,
}

struct Block {
    size: u64,
    reserved: Instant,
    /// When the last try that failed had begun.
    failed: Option<Instant>,
}

impl Budget {
    fn new(
        keystore: Arc<dyn Keystore>,
        condition: Arc<AtomicU8>,
        turns: Arc<Semaphore>,
        counted: Counted,
        limit: Option<u64>,
    ) -> Self {
        Self {
            keystore,
            condition,
            turns,
            counted,
            limit,
            worn_at: AtomicU64::new(u64::MAX),
            open: AtomicU64::new(0),
            low: AtomicU64::new(0),
            exhausted: AtomicBool::new(false),
            ahead: AtomicBool::new(false),
            block: Mutex::new(Block { size: FIRST_BLOCK, reserved: Instant::now(), failed: None }),
        }
    }

    /// How many messages a connection takes at once.
    pub(crate) fn chunk(&self) -> u64 {
        CHUNK.min(self.worn_at.load(Ordering::Relaxed) / CHUNK_PARTS).max(1)
    }

    /// Takes at most `wanted` messages from what was reserved; 0 when nothing is left. The next block is
    /// reserved in the background when this one comes to its end.
    pub(crate) fn take(self: &Arc<Self>, wanted: u64) -> u64 {
        if self.limit.is_none() {
            let sealed = self.open.fetch_add(wanted, Ordering::AcqRel) + wanted;
            if sealed >= self.worn_at.load(Ordering::Relaxed) / PARTS {
                self.in_background(Self::count);
            }
            return wanted;
        }
        let taken = self
            .open
            .try_update(Ordering::AcqRel, Ordering::Acquire, |left| Some(left - wanted.min(left)));
        let left = taken.unwrap_or_else(|left| left);
        let taken = wanted.min(left);
        if taken > 0 && left - taken < self.low.load(Ordering::Relaxed) {
            self.in_background(Self::reserve_ahead);
        }
        taken
    }

    /// Gives back messages that were taken and not sealed.
    pub(crate) fn give_back(&self, messages: u64) {
        match self.limit {
            Some(_) => drop(self.open.fetch_add(messages, Ordering::AcqRel)),
            // They may have been counted meanwhile.
            None => drop(self.open.try_update(Ordering::AcqRel, Ordering::Acquire, |sealed| {
                Some(sealed.saturating_sub(messages))
            })),
        }
    }

    /// Runs something beside the request, unless it runs already.
    fn in_background<F: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(Arc<Self>) -> F + Send + 'static,
    ) {
        if self.ahead.swap(true, Ordering::AcqRel) {
            return;
        }
        let budget = self.clone();
        tokio::spawn(async move {
            // Also when it panics, which would be a bug of ours.
            let _again = Again(&budget.ahead);
            work(budget.clone()).await;
        });
    }

    async fn reserve_ahead(self: Arc<Self>) {
        let _ = self.reserve(|_| true).await;
    }

    /// Counts what was sealed under a suite that sets no limit.
    async fn count(self: Arc<Self>) {
        if readable(Condition::of(&self.condition)).is_err() {
            return;
        }
        let sealed = self.open.swap(0, Ordering::AcqRel);
        if sealed > 0 && self.keystore.reserve(&self.wish(sealed)).await.is_err() {
            self.open.fetch_add(sealed, Ordering::AcqRel);
        }
    }

    /// Reserves a block, unless somebody has just done it.
    ///
    /// # Errors
    /// `KEY_EXHAUSTED`; `UNAVAILABLE` while the keystore is away.
    pub(crate) async fn refill(&self) -> Result<(), Refusal> {
        if self.limit.is_none() {
            return Ok(());
        }
        self.reserve(|left| left == 0).await
    }

    fn wish(&self, count: u64) -> Reservation {
        let (uid, version, suite) = self.counted;
        Reservation {
            uid: uid.to_string(),
            version,
            suite: suite.id(),
            count,
            limit: self.limit,
            worn_at: self.worn_at.load(Ordering::Relaxed),
        }
    }

    async fn reserve(&self, needed: impl Fn(u64) -> bool) -> Result<(), Refusal> {
        readable(Condition::of(&self.condition))?;
        let asked = Instant::now();
        let mut block = self.block.lock().await;
        if !needed(self.open.load(Ordering::Acquire)) {
            return Ok(());
        }
        if self.exhausted.load(Ordering::Acquire) {
            return Err(ErrorCode::KEY_EXHAUSTED.into());
        }
        if block.failed.is_some_and(|failed| failed > asked) {
            return Err(away());
        }
        let _turn = self.turns.acquire().await;
        readable(Condition::of(&self.condition))?;
        let begun = Instant::now();
        if block.reserved.elapsed() < FAST && self.low.load(Ordering::Relaxed) > 0 {
            block.size = (block.size * 2).min(LARGEST_BLOCK);
        }
        let count = block.size.min(self.worn_at.load(Ordering::Relaxed) / PARTS).max(1);
        let granted = match self.keystore.reserve(&self.wish(count)).await {
            Ok(granted) => granted,
            Err(error) => {
                block.failed = Some(begun);
                return Err(unavailable(&error));
            }
        };
        FIGURES.message_blocks.inc();
        if granted == 0 {
            let (uid, version, suite) = self.counted;
            self.exhausted.store(true, Ordering::Release);
            tracing::warn!(key = %uid, version, %suite, "no message of this version is left: waiting for a new one");
            return Err(ErrorCode::KEY_EXHAUSTED.into());
        }
        block.reserved = Instant::now();
        self.low.store(granted / 2, Ordering::Relaxed);
        self.open.fetch_add(granted, Ordering::AcqRel);
        Ok(())
    }
}

/// Lets background work run again.
struct Again<'a>(&'a AtomicBool);

impl Drop for Again<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
