//! What is too frequent to be a record each time: it is counted, and the counts of a minute are recorded.

use std::collections::HashMap;
use std::net::IpAddr;

use sealwire_engine::audit::{
    AuditEvent, AuditRefusals, AuditUse, MAX_AUDIT_COUNTS, MAX_AUDIT_TEXT,
};

/// Refused logins of a minute that are recorded at once, each the first one of its kind.
const FIRSTS: usize = 64;

/// Reasons of which each has a first one, of somebody at an address.
const REASONS: usize = 4;

/// Kinds of refused logins that are told apart in a minute.
const REFUSED: usize = 1024;

/// Refused logins in one record: whatever their names are, they fit.
const CHUNK: usize = 64;

/// Apps and keys that are told apart in a minute.
const USED: usize = 65_536;

/// Who was refused, and from where.
type Stranger = (String, Option<IpAddr>);

/// Refused logins of a minute: however many there are, the place that they take is bounded.
#[derive(Default)]
pub(super) struct Refusals {
    minute: u64,
    /// How many, and for which reasons a first one is recorded.
    counts: HashMap<Stranger, (u64, Vec<String>)>,
    firsts: usize,
    others: u64,
}

impl Refusals {
    /// Counts one, and gives what there is to be recorded now.
    pub(super) fn refused(
        &mut self,
        now: u64,
        (who, from): (&str, Option<IpAddr>),
        why: &str,
    ) -> Vec<AuditEvent> {
        let mut events = self.end_minute(now);
        let who = cut(who);
        let stranger = (who, from);
        if self.counts.len() >= REFUSED && !self.counts.contains_key(&stranger) {
            self.others += 1;
            return events;
        }
        let who = stranger.0.clone();
        let (count, reasons) = self.counts.entry(stranger).or_default();
        *count += 1;
        let why = cut(why);
        if self.firsts < FIRSTS && reasons.len() < REASONS && !reasons.contains(&why) {
            self.firsts += 1;
            reasons.push(why.clone());
            events.push(AuditEvent::LoginRefused { who, from, why });
        }
        events
    }

    /// The counts of a minute that is over at this Unix time in milliseconds.
    pub(super) fn end_minute(&mut self, now: u64) -> Vec<AuditEvent> {
        let minute = minute_of(now);
        if minute == self.minute {
            return Vec::new();
        }
        let before = std::mem::replace(self, Self { minute, ..Self::default() });
        let all_recorded = |count: u64, reasons: &Vec<_>| count == reasons.len() as u64;
        let counts = before.counts.into_iter();
        let counts = counts.filter(|(_, (count, reasons))| !all_recorded(*count, reasons));
        let mut counts: Vec<_> =
            counts.map(|((who, from), (count, _))| AuditRefusals { who, from, count }).collect();
        counts.sort_by(|one, other| (&one.who, one.from).cmp(&(&other.who, other.from)));
        let (minute, mut others) = (before.minute, before.others);
        let mut chunks: Vec<_> = counts.chunks(CHUNK).map(<[_]>::to_vec).collect();
        if chunks.is_empty() && others > 0 {
            chunks.push(Vec::new());
        }
        let event = |counts| {
            let others = std::mem::take(&mut others);
            AuditEvent::LoginsRefused { minute, counts, others }
        };
        chunks.into_iter().map(event).collect()
    }
}

/// How often ENC, DEC, REENC and DATAKEY.
pub type Counts = [u64; 4];

/// What apps have done in a minute.
#[derive(Default)]
pub(super) struct Uses {
    minute: u64,
    /// By app and key.
    counts: HashMap<(String, u32), Counts>,
}

impl Uses {
    /// Counts what an app has done, and gives what there is to be recorded now.
    pub(super) fn used(
        &mut self,
        now: u64,
        who: &str,
        uses: impl Iterator<Item = (u32, Counts)>,
    ) -> Vec<AuditEvent> {
        let mut events = self.end_minute(now);
        let who = cut(who);
        for (key, counts) in uses {
            let held = self.counts.entry((who.clone(), key)).or_default();
            for (held, count) in held.iter_mut().zip(counts) {
                *held += count;
            }
        }
        if self.counts.len() >= USED {
            events.extend(self.take());
        }
        events
    }

    /// The counts of a minute that is over at this Unix time in milliseconds.
    pub(super) fn end_minute(&mut self, now: u64) -> Vec<AuditEvent> {
        let minute = minute_of(now);
        if minute == self.minute {
            return Vec::new();
        }
        let events = self.take();
        self.minute = minute;
        events
    }

    fn take(&mut self) -> Vec<AuditEvent> {
        let minute = self.minute;
        let counts = std::mem::take(&mut self.counts).into_iter();
        let mut counts: Vec<_> = counts
            .map(|((who, key), [enc, dec, reenc, datakey])| AuditUse {
                who,
                key,
                enc,
                dec,
                reenc,
                datakey,
            })
            .collect();
        counts.sort_by(|one, other| (&one.who, one.key).cmp(&(&other.who, other.key)));
        let chunks = counts.chunks(MAX_AUDIT_COUNTS);
        chunks.map(|counts| AuditEvent::Used { minute, counts: counts.to_vec() }).collect()
    }
}

/// The minute that a Unix time in milliseconds is in, in seconds.
fn minute_of(now: u64) -> u64 {
    now / 60_000 * 60
}

/// Text that a stranger has sent, as it may be in a record: not too long, and without what a terminal obeys.
fn cut(text: &str) -> String {
    let mut cut = String::new();
    for letter in text.chars().map(|letter| if letter.is_control() { '\u{FFFD}' } else { letter }) {
        if cut.len() + letter.len_utf8() > MAX_AUDIT_TEXT {
            break;
        }
        cut.push(letter);
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::super::notes::sound;
    use super::*;

    #[test]
    fn a_flood_from_everywhere_takes_a_bounded_place() {
        let mut refusals = Refusals::default();
        let mut events = Vec::new();
        for number in 0..100_000_u32 {
            let from = IpAddr::from((number % 5000).to_be_bytes());
            let name = ["ü", "\"", "\u{1}", "\\"][number as usize % 4].repeat(200);
            events.extend(refusals.refused(60_000, (&name, Some(from)), "no"));
        }
        assert_eq!(events.len(), FIRSTS, "the first ones");
        let counts = refusals.end_minute(120_000);
        assert_eq!(counts.len(), REFUSED / CHUNK);
        assert!(events.iter().chain(&counts).all(|event| sound(event).is_some()), "each fits");
        let mut sum = 0;
        for event in &counts {
            let AuditEvent::LoginsRefused { minute, counts, others } = event else {
                panic!("{event:?}")
            };
            assert_eq!(*minute, 60);
            sum += counts.iter().map(|count| count.count).sum::<u64>() + others;
        }
        assert_eq!(sum, 100_000, "every one is counted once");
        assert!(refusals.end_minute(180_000).is_empty());
    }

    #[test]
    fn a_single_refusal_is_one_record() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.refused(60_000, ("ak", None), "no").len(), 1);
        assert!(refusals.end_minute(120_000).is_empty());
    }

    #[test]
    fn uses_of_a_minute_are_summed() {
        let mut uses = Uses::default();
        assert!(uses.used(60_000, "a", [(1, [1, 0, 0, 0])].into_iter()).is_empty());
        assert!(
            uses.used(61_000, "a", [(1, [1, 2, 0, 0]), (2, [0, 0, 3, 0])].into_iter()).is_empty()
        );
        let events = uses.end_minute(120_000);
        let AuditEvent::Used { minute: 60, counts } = &events[0] else { panic!("{events:?}") };
        let counts: Vec<_> =
            counts.iter().map(|one| (one.key, one.enc, one.dec, one.reenc)).collect();
        assert_eq!(counts, [(1, 2, 2, 0), (2, 0, 0, 3)]);
    }
}
