//! Who a certificate belongs to. The role is a DNS name in it (RFC 5280, section 4.2.1.6), so that any
//! authority's tools can make one, and TLS itself checks it.

use rustls::pki_types::{CertificateDer, ServerName};
use sealwire_protocol::Opcode;

use super::word;

/// A part of Sealwire, as its certificate names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// An encryption server.
    Engine,
    /// A crypto service.
    Gateway,
    /// A management service.
    Manager,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Engine, Self::Gateway, Self::Manager];

    /// The name in the certificate.
    #[must_use]
    pub const fn dns_name(self) -> &'static str {
        match self {
            Self::Engine => "engine.sealwire.internal",
            Self::Gateway => "gateway.sealwire.internal",
            Self::Manager => "manager.sealwire.internal",
        }
    }

    /// The name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Gateway => "gateway",
            Self::Manager => "manager",
        }
    }

    /// The role's name as TLS checks it.
    #[must_use]
    pub fn server_name(self) -> ServerName<'static> {
        ServerName::try_from(self.dns_name()).expect("a DNS name")
    }

    /// The one role that a certificate names; `None` when it names none, or several.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
        let named =
            |role: &Self| certificate.verify_is_valid_for_subject_name(&role.server_name()).is_ok();
        let mut roles = Self::ALL.into_iter().filter(named);
        let role = roles.next()?;
        roles.next().is_none().then_some(role)
    }

    /// Whether the role may say a word to an engine. What is not listed is refused.
    #[must_use]
    pub const fn may_say(self, opcode: Opcode) -> bool {
        let both =
            matches!(opcode, Opcode::PING | word::STATUS | word::SITE | word::VERIFY | word::AUDIT);
        let own = match self {
            Self::Engine => return false,
            Self::Gateway => matches!(
                opcode,
                word::SESSION
                    | word::CHALLENGE
                    | word::AUTH_VERIFY
                    | word::ENC
                    | word::DEC
                    | word::REENC
                    | word::DATAKEY
                    | word::LOGIN
                    | word::TOKEN
            ),
            Self::Manager => matches!(
                opcode,
                word::SIGN
                    | word::MAKE_SITE
                    | word::GENKEY
                    | word::MAKE_SECRET
                    | word::REWRAP
                    | word::PREVIOUS
                    | word::ADMIT
                    | word::FORGET
                    | word::PEPPER
                    | word::WARRANT
                    | word::AUDIT_CHECK
                    | word::CEREMONIES
            ),
        };
        both || own
    }
}
