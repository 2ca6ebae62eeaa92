//! Passwords of operators: Argon2id (RFC 9106, section 4), at most two at once.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealwire_engine::EngineError;
use sealwire_engine::document::PasswordHash;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::ManagerError;

/// What a password costs: the second choice of RFC 9106, section 4, in one lane. A tenth of a second.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;

/// Passwords that are worked on at once, and that wait for it.
const AT_ONCE: usize = 2;
const WAITING: usize = 16;

/// Length of a password, in characters; and in bytes, so that nobody has novels hashed.
const SHORTEST: usize = 12;
const LONGEST: usize = 1024;

/// A password, as somebody has typed it.
pub type Password = Zeroizing<String>;

/// Hashes passwords.
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Passwords {
    pub(super) fn new() -> Self {
        let semaphore = |places| Arc::new(Semaphore::new(places));
        Self { turns: semaphore(AT_ONCE), waiting: semaphore(AT_ONCE + WAITING) }
    }

    /// Hashes a new password of the operator of this name. What is stored, the engine makes of it.
    ///
    /// # Errors
    /// [`ManagerError::Invalid`] when it is too short, too long or guessable; [`ManagerError::Busy`].
    pub(super) async fn hash(
        &self,
        password: Password,
        name: &str,
    ) -> Result<Hashed, ManagerError> {
        if password.chars().count() < SHORTEST || password.len() > LONGEST {
            return Err(ManagerError::Invalid(format!(
                "a password has {SHORTEST} characters at least, and {LONGEST} bytes at most"
            )));
        }
        if is_guessable(&password, name) {
            return Err(ManagerError::Invalid(
                "a password like this is among the first that a program would try: take four or five words that \
                 have nothing to do with each other"
                    .into(),
            ));
        }
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(EngineError::from)?;
        let hash = self.argon2id(cost(), password, salt).await?;
        Ok(Hashed { salt, hash })
    }

    /// Hashes a password as the known one was. Without one, that takes as long.
    ///
    /// # Errors
    /// [`ManagerError::Busy`].
    pub(super) async fn hash_as(
        &self,
        password: Password,
        known: Option<&PasswordHash>,
    ) -> Result<Zeroizing<[u8; 32]>, ManagerError> {
        let usable = known.and_then(|known| {
            let cost = Params::new(known.memory_kib, known.passes, known.lanes, None).ok()?;
            Some((cost, known.salt()?))
        });
        let (cost, salt) = usable.unwrap_or_else(|| (cost(), [0; 16]));
        // Nobody's password is longer; and how long a wrong one is shall not matter.
        let password = if password.len() > LONGEST { Password::default() } else { password };
        self.argon2id(cost, password, salt).await
    }

    async fn argon2id(
        &self,
        cost: Params,
        password: Password,
        salt: [u8; 16],
    ) -> Result<Zeroizing<[u8; 32]>, ManagerError> {
        let place = self.waiting.clone().try_acquire_owned().map_err(|_| ManagerError::Busy)?;
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| ManagerError::Busy)?;
        let hashed = tokio::task::spawn_blocking(move || {
            // Held until it is done, also when nobody waits for it any more.
            let _held = (place, turn);
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, cost);
            let mut hash = Zeroizing::new([0; 32]);
            argon2.hash_password_into(password.as_bytes(), &salt, hash.as_mut())?;
            Ok::<_, argon2::Error>(hash)
        });
        let hashed = hashed.await.map_err(|error| EngineError::Kdf(error.to_string()))?;
        Ok(hashed.map_err(|error| EngineError::Kdf(error.to_string()))?)
    }
}

/// A new password, hashed.
pub(super) struct Hashed {
    salt: [u8; 16],
    /// What is for the engine alone.
    pub(super) hash: Zeroizing<[u8; 32]>,
}

impl Hashed {
    /// What is stored, with what the engine has made of the hash.
    pub(super) fn stored(&self, peppered: &[u8; 32], now: u64) -> PasswordHash {
        PasswordHash {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: STANDARD.encode(self.salt),
            hash: STANDARD.encode(peppered),
            set: now,
            foreign: false,
        }
    }
}

fn cost() -> Params {
    Params::new(MEMORY_KIB, PASSES, LANES, None).expect("within Argon2's bounds")
}

/// Whether a program that knows what people choose would guess it within 10^8 tries.
fn is_guessable(password: &str, name: &str) -> bool {
    // How long it takes to find that out grows with the square of the length.
    let start: String = password.chars().take(64).collect();
    zxcvbn::zxcvbn(&start, &[name, "sealwire"]).score() < zxcvbn::Score::Three
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        text.to_owned().into()
    }

    #[tokio::test]
    async fn the_right_password_has_the_same_hash_and_no_other() {
        let passwords = Passwords::new();
        let right = "correct horse battery";
        let new = passwords.hash(password(right), "alice").await.expect("hashed");
        let stored = new.stored(&[7; 32], 9);
        assert_eq!((stored.hash(), stored.set), (Some([7; 32]), 9));
        let again = passwords.hash_as(password(right), Some(&stored)).await.expect("hashed");
        assert!(*again == *new.hash);
        for wrong in ["correct horse batterY", "", "correct horse battery ", &"x".repeat(5000)] {
            let other = passwords.hash_as(password(wrong), Some(&stored)).await.expect("hashed");
            assert!(*other != *new.hash, "{wrong}");
        }
        let unknown = passwords.hash_as(password(right), None).await.expect("hashed");
        let salted = passwords.hash(password(right), "alice").await.expect("hashed");
        assert!(*unknown != *new.hash && *salted.hash != *new.hash);
    }

    #[tokio::test]
    async fn short_endless_and_guessable_passwords_are_refused() {
        let passwords = Passwords::new();
        let guessed = ["password1234", "aaaaaaaaaaaaaaaa", "alicealicealice", "qwertyuiop12"];
        for bad in ["", "elevenchars", &"x7$".repeat(400)].into_iter().chain(guessed) {
            let refused = passwords.hash(password(bad), "alice").await.map(drop);
            assert!(matches!(refused, Err(ManagerError::Invalid(_))), "{bad}");
        }
        // Characters, in any language.
        passwords
            .hash(password("云龙马海石竹灯书风河岸星"), "alice")
            .await
            .expect("twelve characters");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_finds_the_queue_full_is_told_so() {
        let passwords = Arc::new(Passwords::new());
        let all = (0..AT_ONCE + WAITING + 8).map(|_| {
            let passwords = passwords.clone();
            tokio::spawn(async move { passwords.hash_as(password("a password"), None).await })
        });
        let mut busy = 0;
        for one in all.collect::<Vec<_>>() {
            if let Err(error) = one.await.expect("no panic") {
                assert!(matches!(error, ManagerError::Busy), "{error}");
                busy += 1;
            }
        }
        assert!(busy > 0);
    }
}
