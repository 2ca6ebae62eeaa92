//! What an app proves itself with.

use sealwire_protocol::credential;
use zeroize::Zeroizing;

use crate::Error;

/// AppKey and AppSecret. No Debug, no Clone; the secret is zeroized on drop.
pub struct Credentials {
    pub(crate) app_key: String,
    pub(crate) secret: Zeroizing<[u8; credential::APP_SECRET_LEN]>,
}

impl Credentials {
    /// Credentials as `sealwire app create` has shown them.
    ///
    /// # Errors
    /// When either text is not in its form; the secret is not repeated in the error.
    pub fn new(app_key: &str, app_secret: &str) -> Result<Self, Error> {
        if !credential::is_app_key(app_key.as_bytes()) {
            return Err(Error::usage("the AppKey is not one: 1 to 64 letters, digits, `_` or `-`"));
        }
        let secret = credential::decode_app_secret(app_secret.trim()).ok_or_else(|| {
            Error::usage("the AppSecret is not one: it begins with `sws1_` and has 48 characters")
        })?;
        Ok(Self { app_key: app_key.to_owned(), secret })
    }
}
