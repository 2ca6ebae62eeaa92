//! The audit: records with filters, and the chains.

use askama::Template;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use sealwire_engine::audit::{AuditActor, AuditEvent, AuditRecord};
use serde::{Deserialize, Serialize};

use super::check::CheckState;
use super::render;
use super::trouble::Trouble;
use super::visit::{Frame, Visitor};
use crate::audit::{AuditChains, AuditPage, AuditQuery, AuditRecordView};

/// Records of a page.
const PAGE: u32 = 50;

/// What records tell of, as one may ask for it.
const EVENTS: [&str; 11] = [
    "changed",
    "done",
    "logged-in",
    "login-refused",
    "logins-refused",
    "opened",
    "used",
    "ceremony",
    "started",
    "lost",
    "heads",
];

/// The filters, as they are filled in. A page is asked for with a query, so it can be kept and sent on.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Filters {
    #[serde(default)]
    event: String,
    #[serde(default)]
    about: String,
    /// A day, `2026-11-27`, UTC.
    #[serde(default)]
    from: String,
    /// The last day.
    #[serde(default)]
    until: String,
    #[serde(default)]
    before: String,
}

impl Filters {
    fn query(&self) -> Result<AuditQuery, Trouble> {
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(AuditQuery {
            from: day(&self.from)?,
            until: day(&self.until)?.map(|start| start + 86_400_000),
            event: given(&self.event),
            about: given(&self.about),
            before: given(&self.before),
            limit: Some(PAGE),
            writer: None,
        })
    }

    /// The query of the page behind a place.
    fn behind(&self, place: &str) -> String {
        let Self { event, about, from, until, .. } = self;
        let query = [
            ("event", event.as_str()),
            ("about", about),
            ("from", from),
            ("until", until),
            ("before", place),
        ];
        serde_html_form::to_string(query).unwrap_or_default()
    }
}

/// When a day begins: Unix time in milliseconds.
fn day(text: &str) -> Result<Option<u64>, Trouble> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let time = humantime::parse_rfc3339_weak(&format!("{text} 00:00:00"));
    let since = time.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let since = since.ok_or_else(|| Trouble::invalid(format!("`{text}`: 2026-11-27")))?;
    Ok(u64::try_from(since.as_millis()).ok())
}

/// A record in columns.
struct Row<'a> {
    view: &'a AuditRecordView,
    event: &'a str,
    who: String,
    from: String,
    /// What was done, and to what.
    act: String,
    detail: String,
}

impl<'a> Row<'a> {
    fn new(view: &'a AuditRecordView) -> Self {
        let row = |event: &'a str| Self {
            view,
            event,
            who: String::new(),
            from: String::new(),
            act: String::new(),
            detail: String::new(),
        };
        let Some(record) = &view.record else {
            return Self { detail: view.text.clone(), ..row("") };
        };
        row(record.event.name()).filled(record)
    }

    fn filled(self, record: &AuditRecord) -> Self {
        let text = self.view.text.clone();
        let place =
            |from: &Option<std::net::IpAddr>| from.map(|from| from.to_string()).unwrap_or_default();
        match &record.event {
            AuditEvent::Changed { by, act, on, detail } => {
                let (who, from) = actor(by);
                let act = format!("{act} {}", crate::audit::plain(&on.name));
                Self { who, from, act, detail: detail.clone().unwrap_or_default(), ..self }
            }
            AuditEvent::Done { by, act, detail } => {
                let (who, from) = actor(by);
                Self {
                    who,
                    from,
                    act: act.clone(),
                    detail: detail.clone().unwrap_or_default(),
                    ..self
                }
            }
            AuditEvent::LoggedIn { who, from } => {
                Self { who: who.clone(), from: place(from), ..self }
            }
            AuditEvent::LoginRefused { who, from, why } => {
                Self { who: who.clone(), from: place(from), detail: why.clone(), ..self }
            }
            AuditEvent::Opened { who, from, key, version, message } => Self {
                who: who.clone(),
                from: from.to_string(),
                act: format!("DEC #{key} v{version}"),
                detail: message.clone(),
                ..self
            },
            AuditEvent::Ceremony { engine, .. } => {
                Self { who: engine.clone(), detail: text, ..self }
            }
            _ => Self { detail: text, ..self },
        }
    }
}

/// Who has done something, and from where.
fn actor(by: &AuditActor) -> (String, String) {
    match by {
        AuditActor::Operator { name, token, from, .. } => {
            let token = token.as_ref().map(|token| format!(" ({token})")).unwrap_or_default();
            let from = from.map_or_else(|| "socket".to_owned(), |from| from.to_string());
            (format!("{}{token}", crate::audit::plain(name)), from)
        }
        AuditActor::Socket => (String::new(), "socket".into()),
        AuditActor::App { id } => (id.clone(), String::new()),
        AuditActor::Quorum => ("quorum".into(), String::new()),
        AuditActor::Manager => ("manager".into(), String::new()),
    }
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Page<'a> {
    f: &'a Frame,
    filters: &'a Filters,
    events: &'static [&'static str],
    page: AuditPage,
    chains: AuditChains,
    check: CheckState,
}

impl Page<'_> {
    fn rows(&self) -> Vec<Row<'_>> {
        self.page.records.iter().map(Row::new).collect()
    }
}

pub(super) async fn list(visitor: Visitor, Query(filters): Query<Filters>) -> Response {
    let query = match filters.query() {
        Ok(query) => query,
        Err(trouble) => return trouble.into_response(),
    };
    let (page, chains) = tokio::join!(visitor.api.list_audit(&query), visitor.api.audit_chains());
    let (page, chains) = match (page, chains) {
        (Ok(page), Ok(chains)) => (page, chains),
        (Err(error), _) | (_, Err(error)) => return Trouble::from(error).into_response(),
    };
    let check = visitor.visit.front.check.state();
    let f = visitor.frame();
    render(&Page { f, filters: &filters, events: &EVENTS, page, chains, check })
}
