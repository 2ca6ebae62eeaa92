//! Messages that may still be sealed: under a suite with a short random nonce, all gateways together may
//! seal 2^32 messages with a version of a key. Each gateway reserves blocks of them in the keystore
//! before it uses them, so a crash can only count too many; its connections take a few at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use sealwire_engine::Uid;
use sealwire_engine::document::KeyDocument;
use sealwire_keystore::{Keystore, Reservation};
use sealwire_protocol::{ErrorCode, Suite};
use tokio::sync::Mutex;

use super::unavailable;
use crate::Refusal;

/// The first block, in messages, and the largest: a thousandth of what a suite allows.
const FIRST_BLOCK: u64 = 1 << 12;
const LARGEST_BLOCK: u64 = 1 << 22;

/// A block that was used up faster than this is followed by one twice as large.
const FAST: Duration = Duration::from_secs(10);

/// A block is at most this part of the messages after which the key is renewed.
const PARTS: u64 = 8;

/// Messages of a key that has a wish for its renewal and a suite that needs none: as many as it likes.
const ENDLESS: u64 = 1 << 62;

/// What is counted: the messages of a version of a key under a suite.
type Counted = (Uid, u32, Suite);

/// The budgets of this gateway.
pub(super) struct Budgets {
    keystore: Arc<dyn Keystore>,
    known: Cache<Counted, Arc<Budget>>,
    renew_at_share: f64,
}

impl Budgets {
    pub(super) fn new(keystore: Arc<dyn Keystore>, kept: usize, renew_at_share: f64) -> Self {
        Self { keystore, known: Cache::new(kept), renew_at_share }
    }

    /// The budget of a version of a key under a suite; `None` when its messages are not counted.
    pub(super) fn of(&self, key: &KeyDocument, version: u32, suite: Suite) -> Option<Arc<Budget>> {
        let (limit, wish) = (suite.message_limit(), key.renewal.after_messages);
        if limit.is_none() && wish.is_none() {
            return None;
        }
        let worn_at = [limit.map(|limit| share(limit, self.renew_at_share)), wish];
        let worn_at = worn_at.into_iter().flatten().min().unwrap_or(ENDLESS);
        let counted = (key.uid, version, suite);
        let known = self.known.get_or_insert_with::<_, ()>(&counted, || {
            Ok(Arc::new(Budget::new(self.keystore.clone(), counted, limit.unwrap_or(ENDLESS))))
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
    counted: Counted,
    limit: u64,
    worn_at: AtomicU64,
    left: AtomicU64,
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
}

impl Budget {
    fn new(keystore: Arc<dyn Keystore>, counted: Counted, limit: u64) -> Self {
        Self {
            keystore,
            counted,
            limit,
            worn_at: AtomicU64::new(limit),
            left: AtomicU64::new(0),
            low: AtomicU64::new(0),
            exhausted: AtomicBool::new(false),
            ahead: AtomicBool::new(false),
            block: Mutex::new(Block { size: FIRST_BLOCK, reserved: Instant::now() }),
        }
    }

    /// Takes at most `wanted` messages from what was reserved; 0 when nothing is left. The next block is
    /// reserved in the background when this one comes to its end.
    pub(crate) fn take(self: &Arc<Self>, wanted: u64) -> u64 {
        let mut left = self.left.load(Ordering::Relaxed);
        let taken = loop {
            let taken = wanted.min(left);
            let rest = left - taken;
            match self.left.compare_exchange_weak(left, rest, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break taken,
                Err(now) => left = now,
            }
        };
        let low = left - taken < self.low.load(Ordering::Relaxed);
        if taken > 0 && low && !self.ahead.swap(true, Ordering::AcqRel) {
            let budget = self.clone();
            tokio::spawn(async move {
                let _ = budget.reserve(|_| true).await;
                budget.ahead.store(false, Ordering::Release);
            });
        }
        taken
    }

    /// Gives back messages that were taken and not sealed.
    pub(crate) fn give_back(&self, messages: u64) {
        self.left.fetch_add(messages, Ordering::AcqRel);
    }

    /// Reserves a block, unless somebody has just done it.
    ///
    /// # Errors
    /// `KEY_EXHAUSTED`; `UNAVAILABLE` while the keystore is away.
    pub(crate) async fn refill(&self) -> Result<(), Refusal> {
        self.reserve(|left| left == 0).await
    }

    async fn reserve(&self, needed: impl Fn(u64) -> bool) -> Result<(), Refusal> {
        let mut block = self.block.lock().await;
        if !needed(self.left.load(Ordering::Acquire)) {
            return Ok(());
        }
        if self.exhausted.load(Ordering::Acquire) {
            return Err(ErrorCode::KEY_EXHAUSTED.into());
        }
        let worn_at = self.worn_at.load(Ordering::Relaxed);
        if block.reserved.elapsed() < FAST && self.low.load(Ordering::Relaxed) > 0 {
            block.size = (block.size * 2).min(LARGEST_BLOCK);
        }
        let count = block.size.min(worn_at / PARTS).max(1);
        let (uid, version, suite) = self.counted;
        let wish = Reservation {
            uid: uid.to_string(),
            version,
            suite: suite.id(),
            count,
            limit: self.limit,
            worn_at,
        };
        let granted = self.keystore.reserve(&wish).await.map_err(|error| unavailable(&error))?;
        metrics::counter!("sealwire_message_blocks_total").increment(1);
        if granted == 0 {
            self.exhausted.store(true, Ordering::Release);
            tracing::warn!(key = %uid, version, %suite, "no message of this version is left: waiting for a new one");
            return Err(ErrorCode::KEY_EXHAUSTED.into());
        }
        block.reserved = Instant::now();
        self.low.store(granted / 2, Ordering::Relaxed);
        self.left.fetch_add(granted, Ordering::AcqRel);
        Ok(())
    }
}
