//! The style sheet, the script and the icon. Their addresses name what is in them, so browsers keep them.

use std::sync::LazyLock;

use axum::extract::Path as Segment;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

struct Asset {
    name: &'static str,
    media: &'static str,
    content: &'static str,
}

const STYLE: Asset = Asset {
    name: "page.css",
    media: "text/css; charset=utf-8",
    content: include_str!("../../assets/page.css"),
};
const SCRIPT: Asset = Asset {
    name: "page.js",
    media: "text/javascript; charset=utf-8",
    content: include_str!("../../assets/page.js"),
};
const LOGO: Asset = Asset {
    name: "icon.svg",
    media: "image/svg+xml",
    content: include_str!("../../assets/icon.svg"),
};

/// Where the icon is.
pub(super) const ICON: &str = "/assets/icon.svg";

/// Where the style sheet of this version is.
pub(super) static STYLE_AT: LazyLock<String> = LazyLock::new(|| address(&STYLE));

/// Where the script of this version is.
pub(super) static SCRIPT_AT: LazyLock<String> = LazyLock::new(|| address(&SCRIPT));

fn address(asset: &Asset) -> String {
    let digest = hex::encode(&Sha256::digest(asset.content)[..8]);
    format!("/assets/{digest}-{}", asset.name)
}

pub(super) async fn serve(Segment(file): Segment<String>) -> Response {
    let address = format!("/assets/{file}");
    let (asset, keep) = match address.as_str() {
        ICON => (&LOGO, "max-age=86400"),
        style if style == *STYLE_AT => (&STYLE, "max-age=31536000, immutable"),
        script if script == *SCRIPT_AT => (&SCRIPT, "max-age=31536000, immutable"),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(asset.media)),
        (CACHE_CONTROL, HeaderValue::from_static(keep)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, asset.content).into_response()
}
