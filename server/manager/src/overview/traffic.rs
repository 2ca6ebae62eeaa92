//! Messages and refusals, minute by minute, as the gateways' records say.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use sealwire_engine::audit::{AuditEvent, AuditRecord};
use sealwire_keystore::AuditFilter;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::audit::{AuditQuery, place_of};
use crate::{Manager, ManagerError};

/// Minutes that are told of, unless another number is asked for, and at most.
const MINUTES: u64 = 60;
const MAX_MINUTES: u64 = 24 * 60;

/// Time for which what was counted is told again.
const KEPT: Duration = Duration::from_secs(5);

/// Records that are read at once, and in all: with more of them, the oldest minutes are left out, and that is said.
const PAGE: u32 = 1000;
const LOOKED_AT: usize = 20_000;

/// Apps that are named.
const APPS: usize = 20;

/// Logins of each kind that are told of.
const LOGINS: u32 = 5;

/// A minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MinuteView {
    /// Unix time in seconds of its beginning.
    pub at: u64,
    /// Messages sealed.
    pub enc: u64,
    /// Messages opened.
    pub dec: u64,
    /// Messages sealed again.
    pub reenc: u64,
    /// Logins refused.
    pub refused: u64,
}

/// What an app has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppTraffic {
    /// The AppKey.
    pub app_key: String,
    /// Messages sealed.
    pub enc: u64,
    /// Messages opened.
    pub dec: u64,
    /// Messages sealed again.
    pub reenc: u64,
}

/// What has gone on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrafficView {
    /// Every minute, the oldest first. Gateways tell of a minute when it is over: the newest ones may be empty yet.
    pub minutes: Vec<MinuteView>,
    /// The busiest apps in that time, the busiest first; at most twenty.
    pub apps: Vec<AppTraffic>,
    /// Whether there were more records than were read.
    pub cut: bool,
}

/// A login that was good, or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginView {
    /// Unix time in milliseconds.
    pub at: i64,
    /// From which address; `None` for the manager's socket.
    #[schema(value_type = Option<String>)]
    pub from: Option<IpAddr>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// When an app was seen, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppLogins {
    /// Its last logins, the newest first.
    pub good: Vec<LoginView>,
    /// The last refused ones, the first of each kind in a minute.
    pub refused: Vec<LoginView>,
    /// Whether there are older records of logins than were looked through.
    pub cut: bool,
    /// The same of refused ones; the counts of a minute do not say why, and are not looked at.
    pub refused_cut: bool,
}

/// In which minute, in whose chain, who, and from where.
type Stranger = (u64, String, String, Option<IpAddr>);

/// Counts, as they are gathered.
#[derive(Default)]
struct Tally {
    minutes: BTreeMap<u64, MinuteView>,
    apps: HashMap<String, AppTraffic>,
    /// Refused logins by minute, chain and source: as single records, and as counted at the minute's end. The count
    /// contains the single ones.
    refused: HashMap<Stranger, (u64, u64)>,
}

impl Tally {
    fn minute(&mut self, at: u64) -> Option<&mut MinuteView> {
        self.minutes.get_mut(&at)
    }

    fn add(&mut self, record: AuditRecord) {
        let writer = record.writer.to_string();
        match record.event {
            AuditEvent::Used { minute, counts } => {
                for one in counts {
                    let Some(view) = self.minute(minute) else { return };
                    view.enc = view.enc.saturating_add(one.enc);
                    view.dec = view.dec.saturating_add(one.dec);
                    view.reenc = view.reenc.saturating_add(one.reenc);
                    let app = self.apps.entry(one.who.clone()).or_default();
                    app.app_key = one.who;
                    app.enc = app.enc.saturating_add(one.enc);
                    app.dec = app.dec.saturating_add(one.dec);
                    app.reenc = app.reenc.saturating_add(one.reenc);
                }
            }
            AuditEvent::LoginRefused { who, from, .. } => {
                let seconds = record.at / 1000;
                let minute = seconds - seconds % 60;
                self.refused.entry((minute, writer, who, from)).or_default().0 += 1;
            }
            AuditEvent::LoginsRefused { minute, counts, others } => {
                for one in counts {
                    let counted = (minute, writer.clone(), one.who, one.from);
                    let held = self.refused.entry(counted).or_default();
                    held.1 = held.1.saturating_add(one.count);
                }
                if let Some(view) = self.minute(minute) {
                    view.refused = view.refused.saturating_add(others);
                }
            }
            _ => {}
        }
    }

    fn finish(mut self, cut: bool) -> TrafficView {
        for ((minute, ..), (single, counted)) in std::mem::take(&mut self.refused) {
            if let Some(view) = self.minute(minute) {
                view.refused = view.refused.saturating_add(single.max(counted));
            }
        }
        let mut apps: Vec<_> = self.apps.into_values().collect();
        apps.sort_by_key(|app| {
            std::cmp::Reverse((app.enc + app.dec + app.reenc, app.app_key.clone()))
        });
        apps.truncate(APPS);
        TrafficView { minutes: self.minutes.into_values().collect(), apps, cut }
    }
}

impl Manager {
    /// What has gone on in the last `minutes`: 60 unless given, a day at most.
    ///
    /// # Errors
    /// [`ManagerError`], while the engine is sealed or the keystore is away.
    pub async fn traffic(&self, minutes: Option<u64>) -> Result<TrafficView, ManagerError> {
        self.must_be_open()?;
        let minutes = minutes.unwrap_or(MINUTES).clamp(1, MAX_MINUTES);
        let mut known = self.glances.traffic.lock().await;
        if let Some((of, at, view)) = &*known
            && *of == minutes
            && at.elapsed() < KEPT
        {
            return Ok(view.clone());
        }
        let view = self.count(minutes).await?;
        *known = Some((minutes, Instant::now(), view.clone()));
        Ok(view)
    }

    async fn count(&self, minutes: u64) -> Result<TrafficView, ManagerError> {
        let now = self.now();
        let last = now - now % 60;
        let first = last.saturating_sub((minutes - 1) * 60);
        let mut tally = Tally::default();
        for at in (first..=last).step_by(60) {
            tally.minutes.insert(at, MinuteView { at, ..MinuteView::default() });
        }
        let filter = AuditFilter {
            from: i64::try_from(first.saturating_mul(1000)).unwrap_or(i64::MAX),
            events: ["used", "login-refused", "logins-refused"].map(str::to_owned).to_vec(),
            ..AuditFilter::default()
        };
        let site = self.site().await?;
        let (mut before, mut looked_at) = (None, 0);
        loop {
            let rows = self.keystore.newest_first(&filter, before.as_ref(), PAGE).await?;
            let (count, last) = (rows.len(), rows.last().map(place_of));
            looked_at += count;
            for (row, genuine) in self.judge(&site, rows).await? {
                if let (true, Ok(record)) = (genuine, AuditRecord::decode(&row.body)) {
                    tally.add(record);
                }
            }
            let full = count >= usize::try_from(PAGE).unwrap_or(usize::MAX);
            if !full || looked_at >= LOOKED_AT {
                return Ok(tally.finish(full));
            }
            before = last;
        }
    }

    /// When an app was seen last, and from where, as far as the newest records say.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchApp`], [`ManagerError`].
    pub async fn app_logins(&self, app: &str) -> Result<AppLogins, ManagerError> {
        let app_key = self.show_app(app).await?.app_key;
        let (good, cut) = self.logins_of(&app_key, "logged-in").await?;
        let (refused, refused_cut) = self.logins_of(&app_key, "login-refused").await?;
        Ok(AppLogins { good, refused, cut, refused_cut })
    }

    /// The newest of an app, and whether there are records that were not looked through.
    async fn logins_of(
        &self,
        app_key: &str,
        event: &str,
    ) -> Result<(Vec<LoginView>, bool), ManagerError> {
        let query = AuditQuery {
            event: Some(event.to_owned()),
            about: Some(app_key.to_owned()),
            limit: Some(LOGINS),
            ..AuditQuery::default()
        };
        let page = self.list_audit(&query).await?;
        let genuine = page.records.into_iter().filter(|view| view.genuine);
        let login = genuine.filter_map(|view| match view.record?.event {
            AuditEvent::LoggedIn { who, from } if who == app_key => {
                Some(LoginView { at: view.at, from, why: None })
            }
            AuditEvent::LoginRefused { who, from, why } if who == app_key => {
                Some(LoginView { at: view.at, from, why: Some(why) })
            }
            _ => None,
        });
        Ok((login.collect(), page.next.is_some()))
    }
}
