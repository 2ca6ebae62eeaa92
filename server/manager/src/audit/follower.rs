//! Goes along a chain, and says what is wrong with it.

use sealwire_engine::audit::{
    AuditEvent, AuditHash, AuditHead, AuditRecord, AuditWriter, AuditWriterKind,
};
use sealwire_engine::chain as chain_of;
use sealwire_keystore::AuditRow;

use super::{BadRecord, ChainPart, CheckChain};

/// Bad records of a part that are named.
const NAMED: usize = 100;

/// The record of a row, if its columns say what it says.
pub(super) fn read(row: &AuditRow) -> Result<AuditRecord, String> {
    let record = AuditRecord::decode(&row.body).map_err(|error| chain_of(&error))?;
    let number = |value: u64| i64::try_from(value).ok();
    let said = (record.writer.to_string(), number(record.sequence), number(record.at));
    if said != (row.writer.clone(), Some(row.sequence), Some(row.at))
        || record.event.name() != row.event
    {
        return Err(format!(
            "its columns are not what it says: it is record {} of {}",
            record.sequence, record.writer
        ));
    }
    Ok(record)
}

/// Goes along a chain.
pub(super) struct Follower {
    pub(super) part: ChainPart,
    head: AuditHead,
    /// Whether the record before was bad: then nobody knows what its hash was.
    lost: bool,
}

impl Follower {
    pub(super) fn new(writer: AuditWriter, after: CheckChain, done: bool) -> Self {
        let sequence = u64::try_from(after.sequence).unwrap_or(0);
        let part = ChainPart {
            upto: after,
            looked_at: 0,
            good: 0,
            done,
            bad: Vec::new(),
            revisions: Vec::new(),
            heads: Vec::new(),
        };
        let head = AuditHead { sequence, hash: after.hash, ..AuditHead::none(writer) };
        // Behind a record that was bad, which the part before has named.
        let lost = after.hash == AuditHash::default() && sequence > 0;
        Self { part, head, lost }
    }

    fn name(&mut self, sequence: i64, why: String) {
        if self.part.bad.len() < NAMED {
            let writer = self.head.writer.to_string();
            self.part.bad.push(BadRecord { writer, sequence, why });
        }
    }

    /// A row where none belongs.
    pub(super) fn stray(&mut self, row: &AuditRow) {
        self.part.looked_at += 1;
        self.name(row.sequence, "no record belongs there: it was added".into());
    }

    pub(super) fn take(&mut self, row: &AuditRow, signed: bool) {
        let expected = i64::try_from(self.head.sequence).unwrap_or(i64::MAX).saturating_add(1);
        self.part.upto.sequence = row.sequence;
        if row.sequence < expected {
            return self.stray(row);
        }
        self.part.looked_at += 1;
        if row.sequence > expected {
            let why = match row.sequence - 1 {
                last if last == expected => "it is missing".into(),
                last => format!("it is missing, and all up to record {last}"),
            };
            self.name(expected, why);
            self.lost = true;
        }
        let record = match signed {
            true => read(row),
            false => Err("the engine has not signed it: it was changed, or added".into()),
        };
        let sequence = u64::try_from(row.sequence).unwrap_or(0);
        match record {
            Ok(record) if self.lost || record.follows(&self.head) => {
                self.head = AuditHead::of(&record, &row.body);
                self.lost = false;
                self.part.good += 1;
                self.keep(record);
            }
            Ok(record) => {
                self.name(row.sequence, "it does not follow the record before it".into());
                self.head = AuditHead::of(&record, &row.body);
                self.lost = false;
            }
            Err(why) => {
                self.name(row.sequence, why);
                self.head = AuditHead { sequence, hash: AuditHash::default(), ..self.head };
                self.lost = true;
            }
        }
        self.part.upto = CheckChain { sequence: row.sequence, hash: self.head.hash };
    }

    /// Keeps what a good record tells of others.
    fn keep(&mut self, record: AuditRecord) {
        match record.event {
            AuditEvent::Changed { on, .. } => self.part.revisions.push(on.revision),
            AuditEvent::Heads { heads } => {
                for head in heads {
                    // A gateway knows nothing of managers' chains.
                    let may = record.writer.kind == AuditWriterKind::Manager
                        || head.writer.kind == record.writer.kind;
                    let known = &mut self.part.heads;
                    match known.iter_mut().find(|known| known.writer == head.writer) {
                        Some(known) if known.sequence < head.sequence && may => *known = head,
                        None if may => known.push(head),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}
