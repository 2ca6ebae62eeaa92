//! Shamir's scheme over a root key, with the checks that the library leaves to its caller.

use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use sharks::Sharks;
use zeroize::Zeroizing;

use super::card::{CardError, CardSet, ClearShare};
use crate::memory::{Clear, Inside};
use crate::root::ClearRoot;

/// Splits a root key into the shares of a set, with randomness of the operating system.
pub(super) fn split<'a>(
    inside: &'a Inside,
    root: &ClearRoot<'a>,
    set: &CardSet,
) -> Vec<ClearShare<'a>> {
    let mut random = UnwrapErr(SysRng);
    let dealer = Sharks(set.threshold).dealer_rng(root.secret().expose(), &mut random);
    dealer
        .take(usize::from(set.cards))
        .map(|share| {
            let bytes = Zeroizing::new(Vec::from(&share));
            let (number, y) = bytes.split_first().expect("a share has its number");
            let y = Clear::copy_from(inside, y).expect("a share has 32 values");
            ClearShare { number: *number, y }
        })
        .collect()
}

/// Gives the root key back from at least the threshold of shares of one set, and compares it with
/// the root key id that the cards name: the library itself would return a wrong secret silently.
pub(super) fn combine<'a>(
    inside: &'a Inside,
    shares: &[ClearShare<'a>],
    set: &CardSet,
) -> Result<ClearRoot<'a>, CardError> {
    let mut dealt = Vec::with_capacity(shares.len());
    for (position, share) in shares.iter().enumerate() {
        if share.number == 0 || share.number > set.cards {
            return Err(CardError::Bounds("number"));
        }
        if shares[..position].iter().any(|other| other.number == share.number) {
            return Err(CardError::Repeated(share.number));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(33));
        bytes.push(share.number);
        bytes.extend_from_slice(share.y.expose());
        dealt.push(sharks::Share::try_from(bytes.as_slice()).map_err(|_| CardError::Mismatch)?);
    }
    let recovered = Sharks(set.threshold).recover(&dealt).map_err(|_| CardError::Mismatch)?;
    let recovered = Zeroizing::new(recovered);
    let root = Clear::copy_from(inside, &recovered).ok_or(CardError::Mismatch)?;
    let root = ClearRoot::new(root);
    if root.id() == set.root { Ok(root) } else { Err(CardError::Mismatch) }
}
