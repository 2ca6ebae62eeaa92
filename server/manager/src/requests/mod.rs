//! Two persons for what cannot be undone, or opens doors: one asks, another approves.
//!
//! A request is a signed document, bound to what was asked for and to the revision of what it is about. The engine
//! signs none that who has asked has approved.
//!
//! | module | what it does |
//! |---|---|
//! | here | ask, approve, refuse, list |
//! | `act` | what is asked for: when it takes two persons, and how it is done |
//! | `policy` | whether two persons are needed |
//! | `views` | what the API takes and shows |

mod act;
mod policy;
mod views;

use sealwire_engine::Verified;
use sealwire_engine::audit::AuditActor;
use sealwire_engine::document::{
    Act, AppDocument, AppState, DocumentKind, KeyDocument, Op, OperatorDocument, OperatorRole,
    OperatorState, Person, RequestDocument, RequestState, Target,
};
use sealwire_keystore::By;

pub(crate) use act::check_bound;
pub use views::{Outcome, PolicyView, RequestList, RequestView, SetPolicy, Wish};

use crate::access::random_id;
use crate::audit;
use crate::changing::Draft;
use crate::{Caller, Manager, ManagerError, Who};

/// Time within which a request is approved, in seconds.
const LIFETIME: u64 = 24 * 3600;

/// Requests of one operator that may be pending at once: who asks for ever keeps nobody else from asking.
const MOST_OF_ONE: usize = 20;

/// Requests of one app: it deletes many keys at once, and each is looked at.
const MOST_OF_APP: usize = 200;

/// Longest act, in bytes.
const LARGEST: usize = 16 * 1024;

/// Requests that are read at once.
const PAGE: u32 = 200;

/// What has become of something that shows a secret.
enum Claimed {
    /// It is approved: the request, by id.
    Approved(String),
    /// It is asked for.
    Asked(Box<RequestView>),
}

impl Manager {
    /// What was asked for by this caller before, and is approved: then it is done, once. Else it is asked for.
    async fn claim_or_ask(
        &self,
        by: &Caller,
        act: Act,
        target: Option<Target>,
    ) -> Result<Claimed, ManagerError> {
        let (asked, now) = (self.person(by)?, self.now());
        let mine = |known: &&RequestDocument| {
            known.state == RequestState::Approved
                && known.asked.id == asked.id
                && known.act == act
                && known.target == target
        };
        let live = self.live(now).await?;
        match live.iter().find(mine) {
            Some(approved) => Ok(Claimed::Approved(approved.id.clone())),
            None => self.ask(by, act, target).await.map(Claimed::Asked),
        }
    }

    /// Asks for something that another operator must approve.
    pub(crate) async fn ask(
        &self,
        by: &Caller,
        act: Act,
        target: Option<Target>,
    ) -> Result<Box<RequestView>, ManagerError> {
        self.ask_as((self.person(by)?, LIFETIME), act, target).await
    }

    /// The same, in somebody's name, to be approved within so many seconds.
    pub(crate) async fn ask_as(
        &self,
        (asked, lifetime): (Person, u64),
        act: Act,
        target: Option<Target>,
    ) -> Result<Box<RequestView>, ManagerError> {
        let now = self.now();
        let size = serde_json::to_vec(&act).map_or(usize::MAX, |bytes| bytes.len());
        if size > LARGEST {
            return Err(ManagerError::Invalid(format!(
                "what is asked for has {size} bytes; {LARGEST} at most can be read by who approves it"
            )));
        }
        let live = self.live(now).await?;
        let pending = || live.iter().filter(|known| known.state == RequestState::Pending);
        let by_app = is_app(&asked.id);
        let same = |known: &&RequestDocument| {
            // What an app has asked for stays, however the key changes meanwhile.
            let about = |target: &Option<Target>| {
                target
                    .as_ref()
                    .map(|target| (target.id.clone(), if by_app { 0 } else { target.revision }))
            };
            known.act.is_same_as(&act)
                && about(&known.target) == about(&target)
                && known.asked.id == asked.id
        };
        if let Some(same) = pending().find(same) {
            return Ok(Box::new(RequestView::new(same, now)));
        }
        let own = pending().filter(|known| known.asked.id == asked.id).count();
        if own >= if by_app { MOST_OF_APP } else { MOST_OF_ONE } {
            return Err(ManagerError::IllegalChange(format!(
                "{own} requests of yours wait already: have them decided, or take some back"
            )));
        }
        let id = random_id("rq_")?;
        let mut change = self.begin().await?;
        loop {
            let document = RequestDocument {
                kind: DocumentKind::Request,
                id: id.clone(),
                revision: change.revision().await?,
                state: RequestState::Pending,
                act: act.clone(),
                target: target.clone(),
                asked: asked.clone(),
                expires: now.saturating_add(lifetime),
                decided: None,
            };
            let deed = ("request.ask", views::words(&document));
            if let Some(request) = change.commit(Draft::of(document, deed)).await? {
                let view = RequestView::new(&request, now);
                tracing::info!(request = %id, by = %asked.name, "asked: {}", view.what);
                return Ok(Box::new(view));
            }
        }
    }

    /// Refuses what apps have asked for of versions that an operator has brought back, in the operator's name: it is
    /// not to be approved when they are disabled again one day.
    pub(crate) async fn withdraw_deletions(&self, key: &KeyDocument) -> Result<(), ManagerError> {
        let now = self.now();
        let AuditActor::Operator { id, name, .. } = audit::by() else { return Ok(()) };
        let (uid, decided) = (key.uid.to_string(), Person { id, name, at: now });
        let is_back = |request: &&RequestDocument| {
            let of_key = request.target.as_ref().is_some_and(|target| target.id == uid);
            let below = request.act.below();
            let mut versions = key.versions.iter().filter(|version| version.version < below);
            request.state == RequestState::Pending
                && is_app(&request.asked.id)
                && of_key
                && versions.any(|version| version.state.is_usable())
        };
        for request in self.live(now).await?.iter().filter(is_back) {
            match self.decide(&request.id, RequestState::Refused, &decided).await {
                Ok(_) => tracing::info!(request = %request.id, "withdrawn: the key is back"),
                // Somebody else has decided it meanwhile.
                Err(ManagerError::IllegalChange(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether an app may ask for more.
    ///
    /// # Errors
    /// [`ManagerError::IllegalChange`].
    pub(crate) async fn check_room(&self, app: &str) -> Result<(), ManagerError> {
        let live = self.live(self.now()).await?;
        let own = live
            .iter()
            .filter(|known| known.state == RequestState::Pending && known.asked.id == app);
        match own.count() {
            own if own < MOST_OF_APP => Ok(()),
            own => Err(ManagerError::IllegalChange(format!(
                "{own} destructions that the app has asked for wait for an operator already"
            ))),
        }
    }

    /// Requests that can still be approved, or done.
    async fn live(&self, now: u64) -> Result<Vec<RequestDocument>, ManagerError> {
        let (all, _) = self.all_requests().await?;
        let live = |request: &RequestDocument| {
            matches!(request.state, RequestState::Pending | RequestState::Approved)
                && now < request.expires
        };
        Ok(all.into_iter().filter(live).collect())
    }

    async fn all_requests(&self) -> Result<(Vec<RequestDocument>, Vec<String>), ManagerError> {
        let (mut all, mut unverified, mut after) = (Vec::new(), Vec::new(), String::new());
        loop {
            let page = self.read_page::<RequestDocument>(&after, PAGE).await?;
            all.extend(page.documents.into_iter().map(Verified::into_inner));
            unverified.extend(page.unverified);
            match page.next {
                Some(next) => after = next,
                None => return Ok((all, unverified)),
            }
        }
    }

    /// Every request, the newest first.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn list_requests(&self) -> Result<RequestList, ManagerError> {
        let (mut all, unverified) = self.all_requests().await?;
        all.sort_by_key(|request| std::cmp::Reverse(request.asked.at));
        let now = self.now();
        let requests = all.iter().map(|request| RequestView::new(request, now)).collect();
        Ok(RequestList { requests, unverified })
    }

    /// How many requests wait for a second person.
    pub(crate) async fn pending_requests(&self) -> Result<u64, ManagerError> {
        let (all, now) = (self.all_requests().await?.0, self.now());
        let pending = all
            .iter()
            .filter(|request| request.state == RequestState::Pending && now < request.expires);
        Ok(pending.count() as u64)
    }

    /// A request.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchRequest`].
    pub async fn show_request(&self, id: &str) -> Result<RequestView, ManagerError> {
        Ok(RequestView::new(&*self.find_request(id).await?, self.now()))
    }

    async fn find_request(&self, id: &str) -> Result<Verified<RequestDocument>, ManagerError> {
        let found = self.read(By::Id(id)).await?;
        found.ok_or_else(|| ManagerError::NoSuchRequest(id.to_owned()))
    }

    /// Approves a request, and does what it asks for. One that was approved and not done, because the server died
    /// between, is done now.
    ///
    /// # Errors
    /// [`ManagerError::SecondPerson`] from who has asked; [`ManagerError::RoleNeeded`];
    /// [`ManagerError::IllegalChange`] when its time is over, it was decided, or what it is about has changed.
    pub async fn approve_request(
        &self,
        id: &str,
        by: &Caller,
    ) -> Result<RequestView, ManagerError> {
        let request = self.find_request(id).await?.into_inner();
        let decided = self.person(by)?;
        if decided.id == request.asked.id {
            return Err(ManagerError::SecondPerson);
        }
        let role = request.act.role();
        if !by.has(&[role, OperatorRole::RootOfficer]) {
            return Err(ManagerError::RoleNeeded(format!("{role} or root-officer")));
        }
        let now = self.now();
        let refused = |why: &str| ManagerError::IllegalChange(format!("request `{id}` {why}"));
        match request.state {
            RequestState::Pending | RequestState::Approved if now >= request.expires => {
                return Err(refused("has waited for too long: ask anew"));
            }
            RequestState::Approved if request.act.shows_a_secret() => {
                return Err(refused("is approved already: who has asked for it does it"));
            }
            RequestState::Pending | RequestState::Approved => {}
            RequestState::Done => return Err(refused("is done already")),
            RequestState::Refused => return Err(refused("was refused")),
        }
        self.check_asker(&request).await?;
        self.check_target(&request).await?;
        let approved = match request.state {
            RequestState::Approved => request,
            _ => self.decide(id, RequestState::Approved, &decided).await?,
        };
        let what = views::words(&approved);
        tracing::info!(request = %id, by = by.name(), asked_by = %approved.asked.name, "approved: {what}");
        if approved.act.shows_a_secret() {
            return Ok(RequestView::new(&approved, now));
        }
        self.carry_out(&approved).await?;
        let decided = approved.decided.as_ref().unwrap_or(&decided);
        let done = self.decide(id, RequestState::Done, decided).await?;
        Ok(RequestView::new(&done, now))
    }

    /// Refuses a request, or takes one's own back.
    ///
    /// # Errors
    /// [`ManagerError::RoleNeeded`]; [`ManagerError::IllegalChange`] when it was decided.
    pub async fn refuse_request(&self, id: &str, by: &Caller) -> Result<RequestView, ManagerError> {
        let request = self.find_request(id).await?;
        let decided = self.person(by)?;
        let role = request.act.role();
        if decided.id != request.asked.id && !by.has(&[role, OperatorRole::RootOfficer]) {
            return Err(ManagerError::RoleNeeded(format!("{role} or root-officer")));
        }
        let refused = self.decide(id, RequestState::Refused, &decided).await?;
        tracing::info!(request = %id, by = by.name(), "refused: {}", views::words(&refused));
        Ok(RequestView::new(&refused, self.now()))
    }

    /// Notes that what was approved is done, by who has asked for it.
    async fn note_done(&self, id: &str) -> Result<(), ManagerError> {
        let decided = self.find_request(id).await?.decided.clone();
        let decided = decided.ok_or(ManagerError::SecondPerson)?;
        self.decide(id, RequestState::Done, &decided).await.map(drop)
    }

    /// Whether who has asked may still do so: nobody's wish outlives what he may do.
    async fn check_asker(&self, request: &RequestDocument) -> Result<(), ManagerError> {
        let id = By::Id(&request.asked.id);
        let may = if is_app(&request.asked.id) {
            let key = request.target.as_ref().map_or("", |target| target.name.as_str());
            self.read::<AppDocument>(id).await?.is_some_and(|asker| {
                asker.state == AppState::Active && asker.grants.allows(Op::Manage, key)
            })
        } else {
            self.read::<OperatorDocument>(id).await?.is_some_and(|asker| {
                asker.state == OperatorState::Active && asker.roles.contains(&request.act.role())
            })
        };
        if may {
            return Ok(());
        }
        let name = &request.asked.name;
        Err(ManagerError::IllegalChange(format!(
            "`{name}`, who has asked, may not do that any more"
        )))
    }

    /// Writes what has become of a request, if that may become of it.
    async fn decide(
        &self,
        id: &str,
        state: RequestState,
        decided: &Person,
    ) -> Result<RequestDocument, ManagerError> {
        let mut change = self.begin().await?;
        loop {
            let revision = change.revision().await?;
            let request = self.find_request(id).await?.into_inner();
            // What waits for who has asked can still be called off.
            let may = match (request.state, state) {
                (RequestState::Pending, RequestState::Approved | RequestState::Refused)
                | (RequestState::Approved, RequestState::Done) => true,
                (RequestState::Approved, RequestState::Refused) => request.act.shows_a_secret(),
                _ => false,
            };
            if !may {
                return Err(ManagerError::IllegalChange(format!(
                    "request `{id}` was decided by somebody else meanwhile"
                )));
            }
            let decided = Some(decided.clone());
            let document = RequestDocument { revision, state, decided, ..request };
            let act = match state {
                RequestState::Approved => "request.approve",
                RequestState::Refused => "request.refuse",
                RequestState::Pending | RequestState::Done => "request.done",
            };
            let deed = (act, views::words(&document));
            if let Some(request) = change.commit(Draft::of(document, deed)).await? {
                return Ok(request);
            }
        }
    }

    /// Who asks or decides: a person, now.
    fn person(&self, by: &Caller) -> Result<Person, ManagerError> {
        match &by.who {
            Who::Operator { id, name, .. } => {
                Ok(Person { id: id.clone(), name: name.clone(), at: self.now() })
            }
            Who::Unclaimed => Err(ManagerError::SignInNeeded),
        }
    }
}

/// Whether an app has asked, by the id that stands for who has.
fn is_app(id: &str) -> bool {
    id.starts_with("ak_")
}
