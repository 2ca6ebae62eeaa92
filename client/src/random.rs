//! Random choices that need no secrecy: which server, which connection, how long to wait.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

thread_local! {
    /// Each thread has its own: choosing a connection touches nothing that others touch. The seed
    /// comes from the system's randomness, by way of the standard library; xorshift must not be 0.
    static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0_u8) | 1);
}

/// 64 random bits: xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift
/// generators", 2016).
pub(crate) fn bits() -> u64 {
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        state.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    })
}

/// A random number below `limit`; 0 when there is none.
pub(crate) fn below(limit: usize) -> usize {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX).min(u64::from(u32::MAX));
    // The upper bits are the better ones, and a product needs no division.
    usize::try_from(((bits() >> 32) * limit) >> 32).unwrap_or(0)
}

/// A random time up to `limit`.
pub(crate) fn time(limit: Duration) -> Duration {
    let parts = u32::try_from(below(1 << 20)).unwrap_or(0);
    (limit / (1 << 20)) * parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_below_the_limit_comes_and_no_other() {
        let mut seen = [0; 5];
        for _ in 0..2000 {
            seen[below(5)] += 1;
        }
        assert!(seen.iter().all(|&times| times > 200), "{seen:?}");
        assert_eq!((below(1), below(0)), (0, 0));
    }

    #[test]
    fn a_time_is_anywhere_up_to_the_limit() {
        let limit = Duration::from_secs(1);
        let times: Vec<_> = (0..1000).map(|_| time(limit)).collect();
        assert!(times.iter().all(|time| *time < limit));
        assert!(times.iter().any(|time| *time < limit / 4));
        assert!(times.iter().any(|time| *time > limit / 4 * 3));
    }
}
