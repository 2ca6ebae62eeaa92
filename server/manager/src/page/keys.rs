//! Keys: the list, one of them, a new one, and what it is set to.

use std::cmp::Reverse;

use askama::Template;
use axum::extract::{Path as Segment, Query};
use axum::response::{IntoResponse, Redirect, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sealwire_engine::document::{AppState, Grant, Grants, Op, VersionState};
use sealwire_protocol::{ErrorCode, Suite};
use serde::Deserialize;

use super::trouble::Trouble;
use super::visit::{Fields, Frame, Visitor};
use super::{render, text};
use crate::{AppView, ChangeKey, ClientError, CreateKey, KeyView, ManagerClient, VersionView};

/// Keys of a page, and keys that are looked through for a part of a name.
const PAGE: u32 = 50;
const LOOKED_THROUGH: u32 = 1000;

/// Where a key's page is: by its index, as browsers make another path of some names.
pub(super) fn place(key: &KeyView) -> String {
    format!("/keys/{}", key.index)
}

/// A part of a path.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[derive(Default)]
struct Found {
    keys: Vec<KeyView>,
    unverified: Vec<String>,
    /// The name to go on behind.
    next: Option<String>,
    /// Whether there may be others, whose names contain the text and do not begin with it.
    more: bool,
}

/// Keys whose name begins with a text, and those of the first thousand whose name contains it.
async fn search(api: &ManagerClient, text: &str) -> Result<Found, ClientError> {
    let begins = api.list_page(text, PAGE).await?;
    let mut keys: Vec<_> =
        begins.keys.into_iter().filter(|key| key.name.starts_with(text)).collect();
    // The list is what is behind a name, and not the name itself.
    if let Ok(exact) = api.show_key(text).await
        && keys.iter().all(|key| key.uid != exact.uid)
    {
        keys.insert(0, exact);
    }
    let all = api.list_page("", LOOKED_THROUGH).await?;
    let lower = text.to_lowercase();
    for key in all.keys {
        let known = keys.iter().any(|known| known.uid == key.uid);
        if !known && key.name.to_lowercase().contains(&lower) {
            keys.push(key);
        }
    }
    let more = all.next.is_some() || keys.len() > PAGE as usize;
    keys.truncate(PAGE as usize);
    Ok(Found { keys, unverified: all.unverified, next: None, more })
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    search: String,
    #[serde(default)]
    after: String,
}

#[derive(Template)]
#[template(path = "keys.html")]
struct ListPage<'a> {
    f: &'a Frame,
    search: &'a str,
    after: &'a str,
    found: Found,
}

impl ListPage<'_> {
    /// The version that seals, if one does.
    fn active<'k>(&self, key: &'k KeyView) -> Option<&'k VersionView> {
        let sealing = key.versions.iter().rev();
        let mut sealing = sealing.filter(|version| version.version >= key.min_enc);
        sealing.find(|version| version.state == VersionState::Active)
    }
}

pub(super) async fn list(visitor: Visitor, Query(query): Query<ListQuery>) -> Response {
    let (text, after) = (query.search.trim(), query.after.as_str());
    let found = match text {
        "" => visitor.api.list_page(after, PAGE).await.map(|page| Found {
            keys: page.keys,
            unverified: page.unverified,
            next: page.next,
            more: false,
        }),
        text => search(&visitor.api, text).await,
    };
    match found {
        Ok(found) => render(&ListPage { f: visitor.frame(), search: text, after, found }),
        Err(error) => Trouble::from(error).into_response(),
    }
}

/// An app that may use a key.
pub(super) struct User {
    pub(super) app: AppView,
    /// What it may do with it.
    pub(super) ops: String,
    /// Whether it may open what the key has sealed.
    pub(super) opens: bool,
}

/// The apps that may use a key.
pub(super) async fn users(api: &ManagerClient, key: &str) -> Result<Vec<User>, ClientError> {
    let apps = api.list_apps().await?.apps.into_iter();
    let user = apps.filter(|app| app.state == AppState::Active).filter_map(|app| {
        let grants = Grants(app.grants.clone());
        let mentioned =
            app.grants.iter().filter(|grant| Grants(vec![(*grant).clone()]).mentions(key));
        let ops: Vec<_> = mentioned.map(ToString::to_string).collect();
        let crosses =
            |grant: &Grant| matches!(grant, Grant::Cross { from, .. } if from.matches(key));
        let opens = [Op::Dec, Op::Reenc].iter().any(|op| grants.allows(*op, key))
            || app.grants.iter().any(crosses);
        (!ops.is_empty()).then(|| User { app, ops: ops.join("  "), opens })
    });
    Ok(user.collect())
}

#[derive(Template)]
#[template(path = "key.html")]
struct KeyPage<'a> {
    f: &'a Frame,
    key: KeyView,
    users: Vec<User>,
}

impl KeyPage<'_> {
    fn place(&self) -> String {
        place(&self.key)
    }

    fn limit(&self, suite: &str) -> u64 {
        suite.parse::<Suite>().ok().and_then(Suite::message_limit).unwrap_or(0)
    }

    fn renew_days(&self) -> String {
        self.key.renew_after_seconds.map(text::days).unwrap_or_default()
    }
}

pub(super) async fn show(visitor: Visitor, Segment(key): Segment<String>) -> Response {
    match shown(&visitor, &key).await {
        Ok(page) => render(&page),
        Err(error) => Trouble::from(error).into_response(),
    }
}

async fn shown<'a>(visitor: &'a Visitor, key: &str) -> Result<KeyPage<'a>, ClientError> {
    let mut key = visitor.api.show_key(key).await?;
    key.versions.sort_by_key(|version| Reverse(version.version));
    let users = users(&visitor.api, &key.name).await?;
    Ok(KeyPage { f: visitor.frame(), key, users })
}

#[derive(Default, Deserialize)]
pub(super) struct NewKey {
    #[serde(default)]
    name: String,
    #[serde(default)]
    suites: Vec<String>,
    #[serde(default)]
    sensitive: bool,
    #[serde(default)]
    context_required: bool,
}

#[derive(Template)]
#[template(path = "key_new.html")]
struct NewPage<'a> {
    f: &'a Frame,
    form: &'a NewKey,
    trouble: Option<Trouble>,
}

impl NewPage<'_> {
    fn suites(&self) -> Vec<&'static str> {
        Suite::ALL.iter().map(|suite| suite.name()).collect()
    }

    fn has(&self, suite: &str) -> bool {
        self.form.suites.iter().any(|held| held == suite)
    }
}

pub(super) async fn new(visitor: Visitor) -> Response {
    render(&NewPage { f: visitor.frame(), form: &NewKey::default(), trouble: None })
}

pub(super) async fn create(visitor: Visitor, Fields(form): Fields<NewKey>) -> Response {
    let wish = CreateKey {
        name: form.name.trim().to_owned(),
        index: None,
        suites: form.suites.iter().filter(|suite| !suite.is_empty()).cloned().collect(),
        sensitive: form.sensitive,
        context_required: form.context_required,
    };
    // One that is there would be taken for it, and changed.
    let made = match visitor.api.show_key(&wish.name).await {
        Ok(_) => Err(Trouble::taken(visitor.words().key_was_there)),
        Err(error) => match Trouble::from(error) {
            none if none.is(ErrorCode::KEY_NOT_FOUND) => {
                visitor.api.create_key(&wish).await.map_err(Trouble::from)
            }
            trouble => Err(trouble),
        },
    };
    match made {
        Ok(key) if !key.created => {
            visitor.back_to(&place(&key), Ok(()), visitor.words().key_was_there)
        }
        Ok(key) => visitor.back_to(&place(&key), Ok(()), visitor.words().key_made),
        Err(trouble) => {
            let status = trouble.status;
            let page = NewPage { f: visitor.frame(), form: &form, trouble: Some(trouble) };
            (status, render(&page)).into_response()
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Settings {
    #[serde(default)]
    sensitive: bool,
    #[serde(default)]
    deletion_allowed: bool,
    /// The document's revision that the form was made for.
    revision: u64,
    min_enc: u32,
    min_dec: u32,
    #[serde(default)]
    renew_days: String,
    /// The name, typed, to raise what opens: what is below opens no more.
    #[serde(default)]
    name: String,
}

pub(super) async fn set(
    visitor: Visitor,
    Segment(key): Segment<String>,
    Fields(form): Fields<Settings>,
) -> Response {
    let words = visitor.words();
    let before = match visitor.api.show_key(&key).await {
        Ok(key) => key,
        Err(error) => return visitor.back_to("/keys", Err::<(), _>(error), ""),
    };
    if form.revision != before.revision {
        return Trouble::invalid(words.changed_meanwhile).into_response();
    }
    let renewal = text::seconds_of_days(&form.renew_days, before.renew_after_seconds);
    let Some(renewal) = renewal else {
        return Trouble::invalid(words.days_are_a_number).into_response();
    };
    if form.min_dec > before.min_dec && form.name.trim() != before.name {
        return Trouble::invalid(words.name_differs).into_response();
    }
    // Only what is to change: the rest may take a second person.
    let renew_before = before.renew_after_seconds.unwrap_or(0);
    let wish = ChangeKey {
        suites: None,
        min_enc: (form.min_enc != before.min_enc).then_some(form.min_enc),
        min_dec: (form.min_dec != before.min_dec).then_some(form.min_dec),
        sensitive: (form.sensitive != before.sensitive).then_some(form.sensitive),
        deletion_allowed: (form.deletion_allowed != before.deletion_allowed)
            .then_some(form.deletion_allowed),
        renew_after_seconds: (renewal != renew_before).then_some(renewal),
        renew_after_messages: None,
    };
    if wish == ChangeKey::default() {
        return Redirect::to(&place(&before)).into_response();
    }
    let done = visitor.api.set_key(&key, &wish).await;
    visitor.back_to(&place(&before), done, words.key_set)
}
