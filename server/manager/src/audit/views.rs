//! What the API shows of records.

use sealwire_engine::audit::{AuditActor, AuditEvent, AuditHash, AuditHead, AuditRecord};
use sealwire_engine::custody::CeremonyStep;
use sealwire_keystore::audit::SignedHead;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which records are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Unix time in milliseconds, from which on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// And before which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// The name of what they tell of: `changed`, or several with commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Whose chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
    /// A text that stands in them: a name, an id, an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Older than this place: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// At most so many, up to 1000; 100 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of records, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The records.
    pub records: Vec<AuditRecordView>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<String>,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRecordView {
    /// Whose chain it is in.
    pub writer: String,
    /// Its place there.
    pub sequence: i64,
    /// Unix time in milliseconds.
    pub at: i64,
    /// Whether the engine has signed it, and its columns say what it says. Whether it stands where it should, only
    /// the chain tells.
    pub genuine: bool,
    /// What it tells of, in words.
    pub text: String,
    /// The record; `None` when it is not one.
    #[schema(value_type = Option<Object>)]
    pub record: Option<AuditRecord>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChainView {
    /// Whose it is.
    pub writer: String,
    /// The place of its newest record.
    pub newest: i64,
    /// How many records there are.
    pub records: u64,
    /// How far this manager remembers that it went; `None` for the chains of others.
    #[schema(value_type = Option<Object>)]
    pub remembered: Option<AuditHead>,
}

/// Every chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditChains {
    /// The chains, by writer.
    pub chains: Vec<ChainView>,
    /// The site's revision: each change of a document has one, and a record.
    pub revision: u64,
}

/// Up to where a chain was checked, or read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckChain {
    /// The place of the last record that was; 0 for none.
    pub sequence: i64,
    /// That record's hash: as the part before has said.
    #[serde(default)]
    #[schema(value_type = String)]
    pub hash: AuditHash,
}

/// A part of a chain, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChainPart {
    /// Up to where it was checked.
    pub upto: CheckChain,
    /// How many records there were, and how many of them are good.
    pub looked_at: u64,
    /// See above.
    pub good: u64,
    /// Whether the chain ends there.
    pub done: bool,
    /// Those that are not what they should be, the first ones of them.
    pub bad: Vec<BadRecord>,
    /// The revisions of the changes that they tell of.
    pub revisions: Vec<u64>,
    /// How far chains went, as these records say, each one's furthest.
    #[schema(value_type = Vec<Object>)]
    pub heads: Vec<AuditHead>,
}

/// A record that is not what it should be, or is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BadRecord {
    /// In whose chain.
    pub writer: String,
    /// Its place there.
    pub sequence: i64,
    /// What is wrong.
    pub why: String,
}

/// Heads to be compared with the chains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckHeads {
    /// Heads that were kept elsewhere.
    #[schema(value_type = Vec<Object>)]
    pub signed: Vec<SignedHead>,
    /// Heads that genuine records, or this manager's own memory, speak of.
    #[schema(value_type = Vec<Object>)]
    pub known: Vec<AuditHead>,
}

/// Heads, compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckedHeads {
    /// What is wrong; nothing when every chain goes at least as far as its heads say.
    pub bad: Vec<BadRecord>,
}

/// Records as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRows {
    /// The rows, by sequence.
    pub rows: Vec<RowView>,
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RowView {
    /// Whose chain it is in.
    pub writer: String,
    /// Its place there.
    pub sequence: i64,
    /// Unix time in milliseconds, as the column beside it says.
    pub at: i64,
    /// The name of what it tells of, as the column beside it says.
    pub event: String,
    /// The record: JSON, in the bytes that the MAC is over.
    pub body: String,
    /// HMAC-SHA256, hex.
    pub mac: String,
}

/// Text that strangers have had a hand in, as it may be shown: nothing of it moves a cursor, or hides what follows.
/// Joiners (U+200C, U+200D) stay: Persian, Indic scripts and emoji are written with them, and they turn nothing.
#[must_use]
pub fn plain(text: &str) -> String {
    let turns = |letter: char| matches!(letter, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let plain = |letter: char| {
        if turns(letter) || letter.is_control() { '\u{fffd}' } else { letter }
    };
    text.chars().map(plain).collect()
}

/// A record in words.
pub(crate) fn words(event: &AuditEvent) -> String {
    match event {
        AuditEvent::Started { version } => format!("started, version {version}"),
        AuditEvent::Lost { notes: 1 } => "1 event was lost: there was no room for it".into(),
        AuditEvent::Lost { notes } => {
            format!("{notes} events were lost: there was no room for them")
        }
        AuditEvent::LoggedIn { who, from } => format!("{who} logged in from {}", place(from)),
        AuditEvent::LoginRefused { who, from, why } => {
            format!("a login as {who} from {} was refused: {why}", place(from))
        }
        AuditEvent::LoginsRefused { counts, others, .. } => {
            let counted = counts.iter().map(|one| one.count).sum::<u64>();
            let mut text = format!("{} logins were refused in a minute", counted + others);
            for one in counts.iter().take(3) {
                text += &format!("; {} of {} from {}", one.count, one.who, place(&one.from));
            }
            if counts.len() > 3 || *others > 0 {
                text += "; …";
            }
            text
        }
        AuditEvent::Opened { who, from, key, version, message } => format!(
            "{who} opened message {message} of the sensitive key {key}, version {version}, from {from}"
        ),
        AuditEvent::Used { counts, .. } => {
            let mut text = Vec::new();
            for one in counts.iter().take(3) {
                let (who, key) = (&one.who, one.key);
                let done = [
                    (one.enc, "ENC"),
                    (one.dec, "DEC"),
                    (one.reenc, "REENC"),
                    (one.datakey, "DATAKEY"),
                ];
                let done = done.iter().filter(|(count, _)| *count > 0);
                let done: Vec<_> = done.map(|(count, op)| format!("{count} {op}")).collect();
                text.push(format!("{who} with key {key}: {}", done.join(", ")));
            }
            if counts.len() > 3 {
                text.push(format!("and {} more", counts.len() - 3));
            }
            format!("in a minute: {}", text.join("; "))
        }
        AuditEvent::Changed { by, act, on, detail } => {
            let detail = detail.as_ref().filter(|detail| !detail.is_empty());
            let detail = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
            format!("{}: {act} `{}`{detail}", actor(by), on.name)
        }
        AuditEvent::Done { by, act, detail } => {
            let detail = detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
            format!("{}: {act}{detail}", actor(by))
        }
        AuditEvent::Ceremony { engine, entry } => format!("{engine}: {}", step(&entry.step)),
        AuditEvent::Heads { heads } => format!("how far {} chains went", heads.len()),
    }
}

fn place(from: &Option<std::net::IpAddr>) -> String {
    from.map_or_else(|| "the manager's socket".to_owned(), |from| from.to_string())
}

fn actor(by: &AuditActor) -> String {
    match by {
        AuditActor::Operator { name, token: None, from, .. } => {
            format!("{name}, from {}", place(from))
        }
        AuditActor::Operator { name, token: Some(token), from, .. } => {
            format!("{name}, by token {token}, from {}", place(from))
        }
        AuditActor::Socket => "whoever may open the manager's socket".into(),
        AuditActor::App { id } => format!("app {id}"),
        AuditActor::Quorum => "a quorum of key cards".into(),
        AuditActor::Manager => "the manager by itself".into(),
    }
}

fn step(step: &CeremonyStep) -> String {
    let numbers = |cards: &[u8]| {
        let cards: Vec<_> = cards.iter().map(ToString::to_string).collect();
        cards.join(", ")
    };
    match step {
        CeremonyStep::OpenedByChip => "opened by the chip".into(),
        CeremonyStep::Opened { root, .. } => {
            format!("opened by a quorum of cards, root key {root}")
        }
        CeremonyStep::Sealed => "sealed by an officer".into(),
        CeremonyStep::Begun { ceremony } => {
            format!("ceremony {} begun", format!("{ceremony:?}").to_lowercase())
        }
        CeremonyStep::Shown { set, good, .. } => {
            format!("a quorum was shown: cards {} of set {set}", numbers(good))
        }
        CeremonyStep::Made { cards, threshold } => {
            format!("{cards} new cards were made, any {threshold} of which give the root key")
        }
        CeremonyStep::Installed { root } => format!("new cards are in force, root key {root}"),
        CeremonyStep::Warranted { statement } => {
            format!("a quorum has allowed: {}", statement.trim_end())
        }
        CeremonyStep::Refused { why } => format!("refused: {why}"),
    }
}
