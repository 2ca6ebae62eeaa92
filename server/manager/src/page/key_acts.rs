//! What is done to a key's versions. What makes messages unreadable says so first, in full, and asks for the key's name.

use askama::Template;
use axum::extract::{Path as Segment, Query};
use axum::response::{IntoResponse, Response};
use sealwire_engine::document::VersionState;
use serde::Deserialize;

use super::keys::{User, place, users};
use super::render;
use super::trouble::Trouble;
use super::visit::{Fields, Frame, Visitor};
use crate::{ClientError, DestroyKey, KeyView, ManagerClient, PolicyView, VersionView, Versions};

/// What can be done to a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyAct {
    Rotate,
    Close,
    Disable,
    Enable,
    Destroy,
    CancelDestroy,
}

impl KeyAct {
    fn named(name: &str) -> Result<Self, Trouble> {
        Ok(match name {
            "rotate" => Self::Rotate,
            "close" => Self::Close,
            "disable" => Self::Disable,
            "enable" => Self::Enable,
            "destroy" => Self::Destroy,
            "cancel-destroy" => Self::CancelDestroy,
            _ => return Err(Trouble::no_such_page()),
        })
    }

    /// Whether something opens, or seals, no more.
    fn is_dangerous(self) -> bool {
        matches!(self, Self::Close | Self::Disable | Self::Destroy)
    }
}

#[derive(Deserialize)]
pub(super) struct Which {
    version: Option<u32>,
}

#[derive(Deserialize)]
pub(super) struct ActForm {
    version: Option<u32>,
    /// The key's name, typed.
    #[serde(default)]
    name: String,
    #[serde(default)]
    wait_days: Option<u64>,
}

#[derive(Template)]
#[template(path = "key_act.html")]
struct Page<'a> {
    f: &'a Frame,
    act: KeyAct,
    name: &'a str,
    version: Option<u32>,
    about: Consequence,
    policy: PolicyView,
}

/// Versions of a key, what they have sealed, and who can open it now.
pub(super) struct Consequence {
    pub(super) key: KeyView,
    pub(super) versions: Vec<VersionView>,
    users: Vec<User>,
}

impl Consequence {
    /// Of one version of a key, or of all that are there.
    pub(super) async fn of(
        api: &ManagerClient,
        key: &str,
        version: Option<u32>,
    ) -> Result<Self, ClientError> {
        let key = api.show_key(key).await?;
        let meant =
            key.versions.iter().filter(|held| version.is_none_or(|one| one == held.version));
        let meant = meant.filter(|held| held.state != VersionState::Destroyed);
        let versions = meant.cloned().collect();
        let users = users(api, &key.name).await?;
        Ok(Self { key, versions, users })
    }

    /// When the version behind one was made: until then this one has sealed.
    pub(super) fn until(&self, version: &VersionView) -> Option<u64> {
        let next = self.key.versions.iter().find(|next| next.version == version.version + 1);
        next.map(|next| next.created)
    }

    pub(super) fn openers(&self) -> Vec<&User> {
        self.users.iter().filter(|user| user.opens).collect()
    }
}

impl Page<'_> {
    fn place(&self) -> String {
        place(&self.about.key)
    }

    fn wait_days(&self) -> u64 {
        self.policy.destroy_wait_seconds.div_ceil(86_400)
    }

    /// Whether it is about what still seals, which cannot be destroyed.
    fn still_seals(&self) -> bool {
        self.about.versions.iter().any(|version| version.state == VersionState::Active)
    }
}

pub(super) async fn confirm(
    visitor: Visitor,
    Segment((key, name)): Segment<(String, String)>,
    Query(Which { version }): Query<Which>,
) -> Response {
    let act = match KeyAct::named(&name) {
        // Closed is one version: the newest, as a rule.
        Ok(KeyAct::Close) if version.is_none() => return Trouble::no_such_page().into_response(),
        Ok(act) if act.is_dangerous() => act,
        Ok(_) => return Trouble::no_such_page().into_response(),
        Err(trouble) => return trouble.into_response(),
    };
    match page(&visitor, (act, &name), &key, version).await {
        Ok(page) if page.about.versions.is_empty() => Trouble::no_such_page().into_response(),
        Ok(page) => render(&page),
        Err(error) => Trouble::from(error).into_response(),
    }
}

async fn page<'a>(
    visitor: &'a Visitor,
    (act, name): (KeyAct, &'a str),
    key: &str,
    version: Option<u32>,
) -> Result<Page<'a>, ClientError> {
    let about = Consequence::of(&visitor.api, key, version).await?;
    let policy = visitor.api.policy().await?;
    Ok(Page { f: visitor.frame(), act, name, version, about, policy })
}

pub(super) async fn act(
    visitor: Visitor,
    Segment((key, name)): Segment<(String, String)>,
    Fields(form): Fields<ActForm>,
) -> Response {
    let (words, api, version) = (visitor.words(), &visitor.api, form.version);
    let act = match KeyAct::named(&name) {
        Ok(act) => act,
        Err(trouble) => return trouble.into_response(),
    };
    let known = match api.show_key(&key).await {
        Ok(known) => known,
        Err(error) => return Trouble::from(error).into_response(),
    };
    if act.is_dangerous() && form.name.trim() != known.name {
        return Trouble::invalid(words.name_differs).into_response();
    }
    let here = place(&known);
    match act {
        KeyAct::Rotate => visitor.back_to(&here, api.rotate_key(&key).await, words.key_rotated),
        KeyAct::Destroy => {
            let after_seconds = form.wait_days.map(|days| days.saturating_mul(86_400));
            let wish = DestroyKey { version, after_seconds };
            let done = api.destroy_key(&key, wish).await;
            visitor.back_to(&here, done, words.destruction_scheduled)
        }
        KeyAct::Close | KeyAct::Disable | KeyAct::Enable | KeyAct::CancelDestroy => {
            let done = api.change_key(&key, &name, Versions { version }).await;
            let said = match act {
                KeyAct::CancelDestroy => words.called_off,
                _ => words.key_changed,
            };
            visitor.back_to(&here, done, said)
        }
    }
}
