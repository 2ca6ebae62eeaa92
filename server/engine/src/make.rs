//! Making keys: random, and wrapped before anybody sees them.

use sealwire_protocol::credential;
use zeroize::Zeroizing;

use crate::{Engine, EngineError, KeyBinding, Purpose, Secret, Site, Uid, WrappedKey};

impl Engine {
    pub(crate) fn make_site(&self) -> Result<Site, EngineError> {
        let make = |purpose| {
            let binding = KeyBinding::of_site(purpose, Uid::generate()?);
            self.make(binding).map(|(wrapped, _)| wrapped)
        };
        Ok(Site { document_mac: make(Purpose::DocumentMac)?, audit_mac: make(Purpose::AuditMac)? })
    }

    pub(crate) fn genkey(&self, binding: KeyBinding) -> Result<WrappedKey, EngineError> {
        if binding.purpose != Purpose::BusinessKey || binding.index == 0 || binding.version == 0 {
            return Err(EngineError::Document("not the binding of a business key".into()));
        }
        self.make(binding).map(|(wrapped, _)| wrapped)
    }

    /// A secret of an app, for one of the two purposes that it may have.
    pub(crate) fn make_secret(
        &self,
        purpose: Purpose,
        app: &str,
        version: u32,
    ) -> Result<(WrappedKey, Zeroizing<String>), EngineError> {
        let encode = match purpose {
            Purpose::AppSecret => credential::encode_app_secret,
            Purpose::HttpSecret => credential::encode_http_secret,
            _ => return Err(EngineError::Document("not the purpose of an app's secret".into())),
        };
        let binding = KeyBinding::of_secret(purpose, app, Uid::generate()?, version);
        let (wrapped, secret) = self.make(binding)?;
        Ok((wrapped, encode(secret.expose())))
    }

    fn make(&self, binding: KeyBinding) -> Result<(WrappedKey, Secret<32>), EngineError> {
        let secret = Secret::generate()?;
        let wrapped = self.with_root(|root| root.wrap(binding, &secret))?;
        Ok((wrapped, secret))
    }
}
