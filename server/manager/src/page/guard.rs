//! What goes around every page. A form is taken from a page of this site alone: it carries a token that only pages of
//! the same session have, and what a browser says of its origin must agree. What a browser may do with a page is as
//! little as it needs.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN, REFERRER_POLICY,
    SET_COOKIE, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::trouble::Trouble;
use super::visit::{Front, Visit};
use crate::api::whole;

/// Longest form, in bytes.
const MAX_FORM: usize = 64 * 1024;

/// No script but ours, none within a page, nothing from elsewhere, forms to here alone, and no frame around it
/// (Content Security Policy Level 3).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

#[derive(Deserialize)]
struct Proof {
    #[serde(default)]
    csrf: String,
}

/// Lets a request through to a page, and makes its answer ready for a browser.
pub(super) async fn guard(
    State(front): State<Arc<Front>>,
    request: Request,
    next: Next,
) -> Response {
    let visit = match Visit::new(front.clone(), &request) {
        Ok(visit) => visit,
        Err(error) => return Trouble::from(error).into_response(),
    };
    let mut response = match admit(&visit, request).await {
        Ok(request) => next.run(request).await,
        Err(trouble) => trouble.into_response(),
    };
    if let Some(trouble) = response.extensions_mut().remove::<Trouble>() {
        response = visit.trouble(&trouble);
    }
    if let Some(cookie) = visit.new_cookie() {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    limit(response.headers_mut(), front.is_tls);
    response
}

/// Takes the whole of a form, and only one that comes from here.
async fn admit(visit: &Visit, request: Request) -> Result<Request, Trouble> {
    let (mut parts, body) = request.into_parts();
    let reads = [Method::GET, Method::HEAD].contains(&parts.method);
    let body = whole(body, if reads { 0 } else { MAX_FORM }).await?;
    if !reads {
        let form = parts.headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok());
        let is_form =
            form.is_some_and(|media| media.starts_with("application/x-www-form-urlencoded"));
        if !is_form || !comes_from_here(&parts.headers) {
            return Err(Trouble::foreign_form());
        }
        let proof: Proof =
            serde_html_form::from_bytes(&body).map_err(|_| Trouble::foreign_form())?;
        if !visit.is_own_form(&proof.csrf) {
            return Err(Trouble::foreign_form());
        }
    }
    parts.extensions.insert(visit.clone());
    Ok(Request::from_parts(parts, Body::from(body)))
}

/// Whether a browser says that a form comes from a page of this site. One that says nothing is believed: the token
/// tells.
fn comes_from_here(headers: &HeaderMap) -> bool {
    const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(site) = text(SITE) {
        return site == "same-origin";
    }
    let Some(origin) = text(ORIGIN) else { return true };
    let origin: Option<Uri> = origin.parse().ok();
    let authority = origin.as_ref().and_then(Uri::authority).map(|authority| authority.as_str());
    authority.is_some() && authority == text(HOST)
}

/// Says what a browser may do with an answer.
fn limit(headers: &mut HeaderMap, is_tls: bool) {
    let fixed = HeaderValue::from_static;
    headers.insert(CONTENT_SECURITY_POLICY, fixed(POLICY));
    headers.insert(X_FRAME_OPTIONS, fixed("DENY"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    headers.insert(REFERRER_POLICY, fixed("same-origin"));
    headers.insert(CACHE_CONTROL, fixed("no-store"));
    let name = HeaderName::from_static;
    headers.insert(name("cross-origin-opener-policy"), fixed("same-origin"));
    headers.insert(name("cross-origin-resource-policy"), fixed("same-origin"));
    headers.insert(
        name("permissions-policy"),
        fixed("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    );
    if is_tls {
        headers.insert(STRICT_TRANSPORT_SECURITY, fixed("max-age=31536000"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let name = HeaderName::from_static;
        pairs.iter().map(|(key, value)| (name(key), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_form_of_another_site_is_known_by_what_the_browser_says() {
        let host = ("host", "manager.example.net");
        for (good, more) in [
            (true, &[][..]),
            (true, &[("sec-fetch-site", "same-origin")]),
            (false, &[("sec-fetch-site", "cross-site")]),
            (false, &[("sec-fetch-site", "same-site")]),
            (false, &[("sec-fetch-site", "none")]),
            (true, &[("origin", "https://manager.example.net")]),
            (false, &[("origin", "https://evil.example.net")]),
            (false, &[("origin", "https://manager.example.net:8443")]),
            (false, &[("origin", "null")]),
            (false, &[("sec-fetch-site", "cross-site"), ("origin", "https://manager.example.net")]),
        ] {
            let all: Vec<_> = [host].into_iter().chain(more.iter().copied()).collect();
            assert_eq!(comes_from_here(&headers(&all)), good, "{more:?}");
        }
    }
}
