//! What is served, for programs: OpenAPI 3.1, from one table.

use std::sync::LazyLock;

use hyper::StatusCode;
use hyper::body::Bytes;
use serde_json::{Map, Value, json};

use super::answer::{self, Answer};

/// A field of a request: its name, its type, what it is.
type Field = (&'static str, &'static str, &'static str);

/// A call: method, path, what it does, the fields of its request.
type Row = (&'static str, &'static str, &'static str, &'static [Field]);

const BATCH: Field =
    ("batch_input", "array", "Many messages in one request, each with these fields.");
const PARTIAL: Field =
    ("partial_failure_response_code", "integer", "Status when some items succeed and some do not.");
const CONTEXT: Field = ("context", "string", "Base64. What the message is bound to.");
const AAD: Field = ("associated_data", "string", "Base64. What else the message is bound to.");
const VERSION: Field = ("key_version", "integer", "The newest version, or 0.");
const REFERENCE: Field = ("reference", "string", "Of an item: stands in its result again.");
const PLAINTEXT: Field = ("plaintext", "string", "Base64.");
const CIPHERTEXT: Field = ("ciphertext", "string", "`vault:vN:` and base64.");

/// Every call.
pub(super) const CALLS: &[Row] = &[
    ("get", "/sys/health", "Whether the server is initialized and open.", &[]),
    ("get", "/sys/seal-status", "Whether the engine is sealed.", &[]),
    ("get", "/sys/leader", "Every gateway does everything.", &[]),
    ("get", "/sys/init", "Whether there is a root key.", &[]),
    ("get", "/sys/mounts", "What is served.", &[]),
    ("get", "/sys/internal/specs/openapi", "This document.", &[]),
    (
        "post",
        "/auth/approle/login",
        "Log in.",
        &[("role_id", "string", "The AppKey."), ("secret_id", "string", "The HTTP secret.")],
    ),
    ("get", "/auth/token/lookup-self", "What the token stands for.", &[]),
    (
        "post",
        "/auth/token/renew-self",
        "Have the token be good for longer.",
        &[("increment", "string", "Seconds, or a number with a unit: `2h`.")],
    ),
    ("post", "/auth/token/revoke-self", "End the token, at every gateway.", &[]),
    (
        "post",
        "/transit/encrypt/{name}",
        "Seal a message, or many.",
        &[PLAINTEXT, CONTEXT, AAD, VERSION, BATCH, REFERENCE, PARTIAL],
    ),
    (
        "post",
        "/transit/decrypt/{name}",
        "Open a ciphertext, or many.",
        &[CIPHERTEXT, CONTEXT, AAD, BATCH, REFERENCE, PARTIAL],
    ),
    (
        "post",
        "/transit/rewrap/{name}",
        "Seal under the newest version what an older one has sealed.",
        &[CIPHERTEXT, CONTEXT, AAD, VERSION, BATCH, REFERENCE, PARTIAL],
    ),
    (
        "post",
        "/transit/datakey/plaintext/{name}",
        "Make a data key: in clear and sealed.",
        &[("bits", "integer", "128, 256 or 512."), CONTEXT, AAD, VERSION],
    ),
    (
        "post",
        "/transit/datakey/wrapped/{name}",
        "Make a data key: sealed alone.",
        &[("bits", "integer", "128, 256 or 512."), CONTEXT, AAD, VERSION],
    ),
    ("get", "/transit/keys", "List keys, with `list=true`.", &[]),
    ("get", "/transit/keys/{name}", "Show a key.", &[]),
    (
        "post",
        "/transit/keys/{name}",
        "Make a key.",
        &[
            ("type", "string", "`aes256-gcm96`, `chacha20-poly1305`, or the name of a suite."),
            ("derived", "boolean", "Whether it seals nothing without a context."),
            ("auto_rotate_period", "string", "Seconds or `24h`; 0 for never."),
        ],
    ),
    ("delete", "/transit/keys/{name}", "Disable a key, and ask for its destruction.", &[]),
    (
        "post",
        "/transit/keys/{name}/config",
        "Set a key.",
        &[
            ("min_decryption_version", "integer", "The lowest version that opens."),
            (
                "min_encryption_version",
                "integer",
                "The lowest version that seals; 0 for the newest.",
            ),
            ("deletion_allowed", "boolean", "Whether it may be deleted from here."),
            ("auto_rotate_period", "string", "Seconds or `24h`; 0 for never."),
        ],
    ),
    ("post", "/transit/keys/{name}/rotate", "Add a version.", &[]),
    (
        "post",
        "/transit/keys/{name}/trim",
        "Disable the versions below one, and ask for their destruction.",
        &[("min_available_version", "integer", "The lowest version that stays.")],
    ),
];

/// What is asked for in the query of a path.
const QUERIES: [(&str, &[Field]); 2] = [
    (
        "/sys/health",
        &[
            ("activecode", "integer", "The status when it is open."),
            ("sealedcode", "integer", "The status when it is sealed."),
            ("uninitcode", "integer", "The status when there is no root key."),
        ],
    ),
    (
        "/transit/keys",
        &[
            ("list", "boolean", "true."),
            ("after", "string", "The last name of the list before."),
            ("limit", "integer", "Most names, up to 10,000."),
        ],
    ),
];

/// Calls that are answered with 204, and no body.
const SILENT: [(&str, &str); 2] =
    [("post", "/auth/token/revoke-self"), ("delete", "/transit/keys/{name}")];

/// Calls that are answered to everybody.
const OPEN: [&str; 6] = [
    "/sys/health",
    "/sys/seal-status",
    "/sys/leader",
    "/sys/init",
    "/sys/internal/specs/openapi",
    "/auth/approle/login",
];

/// All answers share it: strangers may ask for it as often as they like.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let mut paths = Map::new();
    for row in CALLS {
        let path = paths.entry(row.1).or_insert_with(|| json!({}));
        path[row.0] = operation(row);
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Sealwire, HTTP",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Compatible with the Transit API. PUT is POST, LIST is GET with `list=true`.",
        },
        "servers": [{ "url": "/v1" }],
        "security": [{ "token": [] }, { "bearer": [] }],
        "components": { "securitySchemes": {
            "token": { "type": "apiKey", "in": "header", "name": "X-Vault-Token" },
            "bearer": { "type": "http", "scheme": "bearer" },
        } },
        "paths": paths,
    });
    let mut text = Vec::new();
    answer::push_json(&mut text, &document);
    text.into()
});

fn operation((method, path, summary, fields): &Row) -> Value {
    let done = if SILENT.contains(&(method, path)) { "204" } else { "200" };
    let mut operation = json!({
        "summary": summary,
        "responses": {
            (done): { "description": "Done." },
            "400": { "description": "The request is wrong: `errors` says what." },
            "403": { "description": "No token, or no grant." },
            "503": { "description": "Sealed, or cut off from what it needs." },
        },
    });
    if OPEN.contains(path) {
        operation["security"] = json!([]);
    }
    if path.contains("{name}") {
        operation["parameters"] = json!([{
            "name": "name", "in": "path", "required": true, "schema": { "type": "string" },
        }]);
    }
    if let Some((_, query)) = QUERIES.iter().find(|(of, _)| of == path) {
        let parameter = |(name, kind, what): &Field| json!({ "name": name, "in": "query", "description": what, "schema": { "type": kind } });
        operation["parameters"] = query.iter().map(parameter).collect();
    }
    if !fields.is_empty() {
        let fields: Map<String, Value> = fields
            .iter()
            .map(|(name, kind, what)| {
                let mut field = json!({ "type": kind, "description": what });
                if *kind == "array" {
                    field["items"] = json!({ "type": "object" });
                }
                ((*name).to_owned(), field)
            })
            .collect();
        let schema = json!({ "type": "object", "properties": fields });
        operation["requestBody"] =
            json!({ "content": { "application/json": { "schema": schema } } });
    }
    operation
}

/// The document.
pub(super) fn answer() -> Answer {
    answer::of_json(StatusCode::OK, DOCUMENT.clone())
}

#[cfg(test)]
mod tests {
    use hyper::{Method, Uri};

    use super::super::route::Route;
    use super::*;

    #[test]
    fn every_call_of_the_table_is_routed() {
        let mut seen = Vec::new();
        for (method, path, ..) in CALLS {
            let listed = if *path == "/transit/keys" { "?list=true" } else { "" };
            let uri: Uri =
                format!("/v1{}{listed}", path.replace("{name}", "chat")).parse().expect(path);
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect(method);
            let route =
                Route::of(&method, &uri).unwrap_or_else(|problem| panic!("{path}: {problem:?}"));
            assert_eq!(route.is_open(), OPEN.contains(path), "{path}");
            let route = format!("{route:?}");
            assert!(!seen.contains(&route), "{route} twice");
            seen.push(route);
        }
        // A data key is one route of two paths.
        assert_eq!(seen.len(), 22);
        assert!(serde_json::from_slice::<Value>(&DOCUMENT).expect("JSON")["paths"].is_object());
    }
}
