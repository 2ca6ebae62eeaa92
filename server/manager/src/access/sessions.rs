//! Who is signed in: in memory, so that a restart signs everybody out. A session is known by a random token, of
//! which only the hash is kept.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sealwire_engine::EngineError;
use sealwire_engine::document::OperatorDocument;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Source;
use crate::ManagerError;

/// Sessions of one operator, and of all. The one that was not used for longest makes room for a new one of the
/// same operator.
const OF_OPERATOR: usize = 8;
const OF_ALL: usize = 4096;

/// How long a session lasts.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Without a call.
    pub idle: Duration,
    /// In all.
    pub absolute: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { idle: Duration::from_secs(15 * 60), absolute: Duration::from_secs(12 * 3600) }
    }
}

/// What proves that somebody has signed in. Shown once.
pub type SessionToken = Zeroizing<String>;

struct Session {
    holder: Holder,
    source: Source,
    begun: Instant,
    used: Instant,
}

/// Whose a session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    /// The operator, by id.
    pub(super) operator: String,
    /// The salt of the password that they have signed in with: with another one, the session is over.
    pub(super) salt: String,
    /// How often they had been disabled: once more, and the session is over.
    pub(super) epoch: u32,
}

impl Holder {
    pub(super) fn of(operator: &OperatorDocument) -> Self {
        let (id, salt) = (operator.id.clone(), operator.password.salt.clone());
        Self { operator: id, salt, epoch: operator.epoch }
    }
}

/// The sessions of this manager.
pub(crate) struct Sessions {
    limits: SessionLimits,
    open: Mutex<HashMap<[u8; 32], Session>>,
}

impl Sessions {
    pub(crate) fn new(limits: SessionLimits) -> Self {
        Self { limits, open: Mutex::default() }
    }

    /// Opens a session.
    ///
    /// # Errors
    /// [`ManagerError::Busy`] when there are too many.
    pub(super) fn open(
        &self,
        holder: Holder,
        source: Source,
        now: Instant,
    ) -> Result<SessionToken, ManagerError> {
        let (token, digest) = token()?;
        let mut open = self.sessions();
        open.retain(|_, session| self.limits.hold(session, now));
        let own = open.iter().filter(|(_, session)| session.holder.operator == holder.operator);
        let (count, oldest) = own.fold((0, None), |(count, oldest), (digest, session)| {
            let older = oldest.is_none_or(|(_, used)| session.used < used);
            (count + 1, if older { Some((*digest, session.used)) } else { oldest })
        });
        if let Some((oldest, _)) = oldest.filter(|_| count >= OF_OPERATOR) {
            open.remove(&oldest);
        }
        if open.len() >= OF_ALL {
            return Err(ManagerError::Busy);
        }
        open.insert(digest, Session { holder, source, begun: now, used: now });
        Ok(token)
    }

    /// Whose session a token is; it counts as used now.
    pub(super) fn find(&self, token: &str, now: Instant) -> Option<Holder> {
        let digest = digest(token);
        let mut open = self.sessions();
        let session = open.get_mut(&digest)?;
        if !self.limits.hold(session, now) {
            open.remove(&digest);
            return None;
        }
        session.used = now;
        Some(session.holder.clone())
    }

    /// Lets a session go on under another password.
    pub(super) fn carry_over(&self, token: &str, holder: Holder) {
        if let Some(session) = self.sessions().get_mut(&digest(token)) {
            session.holder = holder;
        }
    }

    /// Ends a session.
    pub(crate) fn close(&self, token: &str) {
        self.sessions().remove(&digest(token));
    }

    /// Ends every session of an operator, but for one that is kept.
    pub(crate) fn close_all(&self, operator: &str, kept: Option<&str>) {
        let kept = kept.map(digest);
        self.sessions()
            .retain(|digest, session| session.holder.operator != operator || Some(*digest) == kept);
    }

    /// Open sessions of an operator, and from where they were opened.
    pub(crate) fn of(&self, operator: &str, now: Instant) -> Vec<Source> {
        let open = self.sessions();
        let own = open.values().filter(|session| {
            session.holder.operator == operator && self.limits.hold(session, now)
        });
        own.map(|session| session.source).collect()
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionLimits {
    fn hold(self, session: &Session, now: Instant) -> bool {
        now.saturating_duration_since(session.used) < self.idle
            && now.saturating_duration_since(session.begun) < self.absolute
    }
}

/// A random token, and its hash.
pub(crate) fn token() -> Result<(Zeroizing<String>, [u8; 32]), ManagerError> {
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(random.as_mut()).map_err(EngineError::from)?;
    let token = Zeroizing::new(URL_SAFE_NO_PAD.encode(*random));
    let digest = digest(&token);
    Ok((token, digest))
}

/// What is kept of a token. It has 256 random bits: a fast hash is enough.
pub(crate) fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Source = Source::Socket;

    fn holder(operator: &str) -> Holder {
        Holder { operator: operator.to_owned(), salt: "salt".to_owned(), epoch: 0 }
    }

    fn sessions() -> Sessions {
        let (idle, absolute) = (Duration::from_secs(60), Duration::from_secs(600));
        Sessions::new(SessionLimits { idle, absolute })
    }

    #[test]
    fn a_session_ends_when_it_is_idle_or_old_or_closed() {
        let (sessions, now) = (sessions(), Instant::now());
        let token = sessions.open(holder("op_1"), HERE, now).expect("open");
        let mut at = now;
        for _ in 0..10 {
            at += Duration::from_secs(59);
            assert_eq!(sessions.find(&token, at), Some(holder("op_1")));
        }
        at += Duration::from_secs(59);
        assert_eq!(sessions.find(&token, at), None, "ten minutes are over");
        let token = sessions.open(holder("op_1"), HERE, now).expect("open");
        assert_eq!(sessions.find(&token, now + Duration::from_secs(60)), None, "idle");
        let token = sessions.open(holder("op_1"), HERE, now).expect("open");
        sessions.close(&token);
        assert_eq!(sessions.find(&token, now), None);
        assert_eq!(sessions.find("", now), None);
    }

    #[test]
    fn an_operator_has_few_sessions_and_the_one_unused_for_longest_makes_room() {
        let (sessions, now) = (sessions(), Instant::now());
        let at = |second| now + Duration::from_secs(second);
        let other = sessions.open(holder("op_2"), HERE, now).expect("open");
        let tokens: Vec<_> =
            (0..8).map(|n| sessions.open(holder("op_1"), HERE, at(n)).expect("open")).collect();
        assert!(sessions.find(&tokens[0], at(9)).is_some(), "used since");
        sessions.open(holder("op_1"), HERE, at(10)).expect("open");
        assert!(sessions.find(&tokens[0], at(10)).is_some());
        assert!(sessions.find(&tokens[1], at(10)).is_none());
        assert_eq!(sessions.of("op_1", at(10)).len(), 8);
        sessions.close_all("op_1", Some(&tokens[0]));
        assert_eq!(sessions.of("op_1", at(10)).len(), 1);
        assert!(sessions.find(&tokens[0], at(10)).is_some());
        assert!(sessions.find(&other, at(10)).is_some());
    }
}
