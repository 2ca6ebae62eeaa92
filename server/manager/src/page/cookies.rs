//! What a browser keeps: the session's token, which no script and no other site gets at; a random number before there
//! is a session, for the sign-in form's sake; and how somebody likes the page.

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use cookie::{Cookie, SameSite};

/// What a cookie is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// The token of a session.
    Session,
    /// Who fills in the sign-in form.
    Visit,
    /// That a page that somebody was led to by another site was asked for once more.
    Again,
    /// The language that somebody has chosen.
    Language,
    /// Light or dark.
    Theme,
}

impl Kept {
    /// Over TLS no other host of the same domain can set it (RFC 6265bis, section 4.1.3.2).
    const fn name(self, is_tls: bool) -> &'static str {
        match (self, is_tls) {
            (Self::Session, true) => "__Host-sealwire-session",
            (Self::Session, false) => "sealwire-session",
            (Self::Visit, true) => "__Host-sealwire-visit",
            (Self::Visit, false) => "sealwire-visit",
            (Self::Again, _) => "sealwire-again",
            (Self::Language, _) => "sealwire-language",
            (Self::Theme, _) => "sealwire-theme",
        }
    }

    /// What a browser has kept.
    pub(super) fn read(self, headers: &HeaderMap, is_tls: bool) -> Option<String> {
        let name = self.name(is_tls);
        let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut cookies = lines.flat_map(Cookie::split_parse).filter_map(Result::ok);
        cookies.find(|cookie| cookie.name() == name).map(|cookie| cookie.value().to_owned())
    }

    /// Has a browser keep this: until it is closed, or for a year how somebody likes the page.
    pub(super) fn set(self, value: &str, is_tls: bool) -> String {
        let cookie = Cookie::build((self.name(is_tls), value))
            .path("/")
            .http_only(true)
            .secure(is_tls)
            .same_site(SameSite::Strict);
        match self {
            Self::Session | Self::Visit => cookie.build().to_string(),
            Self::Again => cookie.max_age(cookie::time::Duration::seconds(2)).build().to_string(),
            Self::Language | Self::Theme => {
                cookie.max_age(cookie::time::Duration::days(365)).build().to_string()
            }
        }
    }

    /// Has a browser forget it.
    pub(super) fn forget(self, is_tls: bool) -> String {
        let cookie = Cookie::build((self.name(is_tls), ""))
            .path("/")
            .http_only(true)
            .secure(is_tls)
            .same_site(SameSite::Strict);
        cookie.max_age(cookie::time::Duration::ZERO).build().to_string()
    }
}
