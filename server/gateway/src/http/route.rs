//! Which call a request is. PUT is POST, LIST is GET with `list=true`.

use std::borrow::Cow;

use hyper::{Method, Uri};
use percent_encoding::percent_decode_str;

use super::answer::Problem;

/// A call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Health,
    SealStatus,
    Leader,
    Init,
    Mounts,
    OpenApi,
    Login,
    LookupSelf,
    RenewSelf,
    RevokeSelf,
    Encrypt(Name<'a>),
    Decrypt(Name<'a>),
    Rewrap(Name<'a>),
    Datakey { name: Name<'a>, in_clear: bool },
    ListKeys,
    ReadKey(Name<'a>),
    CreateKey(Name<'a>),
    DeleteKey(Name<'a>),
    ConfigKey(Name<'a>),
    RotateKey(Name<'a>),
    TrimKey(Name<'a>),
}

/// The name of a key, as the path has it.
pub(super) type Name<'a> = Cow<'a, str>;

/// What a method means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Read,
    List,
    Write,
    Delete,
}

impl Verb {
    fn of(method: &Method, uri: &Uri) -> Option<Self> {
        let listed = || {
            let pairs = uri.query().unwrap_or_default().split('&');
            pairs
                .filter_map(|pair| pair.strip_prefix("list="))
                .any(|value| matches!(value, "1" | "t" | "T" | "true" | "True" | "TRUE"))
        };
        match method.as_str() {
            "GET" if listed() => Some(Self::List),
            "GET" => Some(Self::Read),
            "LIST" => Some(Self::List),
            "POST" | "PUT" => Some(Self::Write),
            "DELETE" => Some(Self::Delete),
            _ => None,
        }
    }
}

/// What Transit has elsewhere, and is not had here.
const LEFT_OUT: [&str; 18] = [
    "sign",
    "verify",
    "hmac",
    "hash",
    "random",
    "export",
    "byok-export",
    "backup",
    "restore",
    "wrapping_key",
    "cache-config",
    "config",
    "cmac",
    "derive-key",
    "csr",
    "set-certificate",
    "import",
    "import_version",
];

impl<'a> Route<'a> {
    /// The call that a request is.
    ///
    /// # Errors
    /// 404, 405; 400 for what is left out here.
    pub(super) fn of(method: &Method, uri: &'a Uri) -> Result<Self, Problem> {
        let path = uri.path();
        let unknown = || {
            let text = format!(
                "no handler for route \"{}\". route entry not found.",
                path.trim_start_matches("/v1/")
            );
            Problem::new(hyper::StatusCode::NOT_FOUND, text)
        };
        let rest = path.strip_prefix("/v1/").ok_or_else(unknown)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let verb = Verb::of(method, uri);
        let only = |wanted: Verb, allow: &'static str, route: Self| match verb {
            Some(verb) if verb == wanted => Ok(route),
            _ => Err(Problem::method(allow)),
        };
        let reads = |route| only(Verb::Read, "GET", route);
        let writes = |route| only(Verb::Write, "POST, PUT", route);
        match rest {
            "sys/health" => {
                return match *method == Method::HEAD {
                    true => Ok(Self::Health),
                    false => only(Verb::Read, "GET, HEAD", Self::Health),
                };
            }
            "sys/seal-status" => return reads(Self::SealStatus),
            "sys/leader" => return reads(Self::Leader),
            "sys/init" => return reads(Self::Init),
            "sys/mounts" => return reads(Self::Mounts),
            "sys/internal/specs/openapi" => return reads(Self::OpenApi),
            "auth/approle/login" => return writes(Self::Login),
            "auth/token/lookup-self" => return reads(Self::LookupSelf),
            "auth/token/renew-self" => return writes(Self::RenewSelf),
            "auth/token/revoke-self" => return writes(Self::RevokeSelf),
            _ => {}
        }
        let rest = rest.strip_prefix("transit/").ok_or_else(unknown)?;
        let mut parts = rest.split('/');
        let (first, second, third, more) =
            (parts.next().unwrap_or_default(), parts.next(), parts.next(), parts.next());
        if LEFT_OUT.contains(&first)
            || matches!(
                (first, third),
                ("keys", Some("import" | "import_version" | "csr" | "set-certificate"))
            )
        {
            return Err(Problem::bad(format!(
                "`{first}` is not served here: this server encrypts, decrypts and rewraps"
            )));
        }
        let name = second.map(decode).transpose()?;
        match (first, name, third, more) {
            ("encrypt", Some(name), None, None) => writes(Self::Encrypt(name)),
            ("decrypt", Some(name), None, None) => writes(Self::Decrypt(name)),
            ("rewrap", Some(name), None, None) => writes(Self::Rewrap(name)),
            ("datakey", Some(kind), Some(name), None) => {
                let in_clear = match &*kind {
                    "plaintext" => true,
                    "wrapped" => false,
                    _ => return Err(Problem::bad("a data key is `plaintext` or `wrapped`")),
                };
                writes(Self::Datakey { name: decode(name)?, in_clear })
            }
            ("keys", None, None, None) => only(Verb::List, "LIST", Self::ListKeys),
            ("keys", Some(name), None, None) => match verb {
                Some(Verb::Read) => Ok(Self::ReadKey(name)),
                Some(Verb::Write) => Ok(Self::CreateKey(name)),
                Some(Verb::Delete) => Ok(Self::DeleteKey(name)),
                _ => Err(Problem::method("GET, POST, PUT, DELETE")),
            },
            ("keys", Some(name), Some("config"), None) => writes(Self::ConfigKey(name)),
            ("keys", Some(name), Some("rotate"), None) => writes(Self::RotateKey(name)),
            ("keys", Some(name), Some("trim"), None) => writes(Self::TrimKey(name)),
            _ => Err(unknown()),
        }
    }

    /// Whether its answer has a message in it, or a key.
    pub(super) fn tells(&self) -> bool {
        matches!(self, Self::Encrypt(_) | Self::Decrypt(_) | Self::Rewrap(_) | Self::Datakey { .. })
    }

    /// Whether it changes a key.
    pub(super) fn changes(&self) -> bool {
        matches!(
            self,
            Self::CreateKey(_)
                | Self::DeleteKey(_)
                | Self::ConfigKey(_)
                | Self::RotateKey(_)
                | Self::TrimKey(_)
        )
    }

    /// Whether it is answered to everybody.
    pub(super) fn is_open(&self) -> bool {
        matches!(
            self,
            Self::Health
                | Self::SealStatus
                | Self::Leader
                | Self::Init
                | Self::OpenApi
                | Self::Login
        )
    }
}

fn decode(part: &str) -> Result<Name<'_>, Problem> {
    let name = percent_decode_str(part).decode_utf8();
    let name = name.map_err(|_| Problem::bad("the name of a key is UTF-8"))?;
    sealwire_protocol::credential::key_name(name.as_bytes())
        .map_err(|error| Problem::bad(error.to_string()))?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: &str, path: &str) -> Result<String, u16> {
        let uri: Uri = path.parse().expect(path);
        let method = Method::from_bytes(method.as_bytes()).expect(method);
        let found = Route::of(&method, &uri);
        found.map(|route| format!("{route:?}")).map_err(|problem| problem.status.as_u16())
    }

    #[test]
    fn every_call_is_found_by_its_methods_alone() {
        for (method, path, expected) in [
            ("POST", "/v1/transit/encrypt/chat", r#"Encrypt("chat")"#),
            ("PUT", "/v1/transit/encrypt/%E8%81%8A%E5%A4%A9", r#"Encrypt("聊天")"#),
            ("POST", "/v1/transit/decrypt/a%2Fb", r#"Decrypt("a/b")"#),
            ("POST", "/v1/transit/datakey/wrapped/k", r#"Datakey { name: "k", in_clear: false }"#),
            ("LIST", "/v1/transit/keys", "ListKeys"),
            ("GET", "/v1/transit/keys?list=true", "ListKeys"),
            ("GET", "/v1/transit/keys/?after=x&list=true", "ListKeys"),
            ("GET", "/v1/transit/keys/k", r#"ReadKey("k")"#),
            ("DELETE", "/v1/transit/keys/k", r#"DeleteKey("k")"#),
            ("POST", "/v1/transit/keys/k/rotate", r#"RotateKey("k")"#),
            ("HEAD", "/v1/sys/health?standbyok=true", "Health"),
        ] {
            assert_eq!(route(method, path).as_deref(), Ok(expected), "{method} {path}");
        }
        for (method, path, status) in [
            ("GET", "/v1/transit/encrypt/chat", 405),
            ("PATCH", "/v1/transit/keys/k", 405),
            ("GET", "/v1/transit/keys", 405),
            ("POST", "/v1/transit/sign/k", 400),
            ("GET", "/v1/transit/export/encryption-key/k", 400),
            ("POST", "/v1/transit/keys/k/import", 400),
            ("POST", "/v1/transit/encrypt/%FF", 400),
            ("POST", "/v1/transit/encrypt/", 404),
            ("POST", "/v1/transit/encrypt/a/b", 404),
            ("GET", "/v1/secret/data/x", 404),
            ("GET", "/", 404),
            ("GET", "/v2/sys/health", 404),
            ("POST", "/v1//transit/encrypt/chat", 404),
            ("POST", "/v1/transit/../transit/encrypt/chat", 404),
        ] {
            assert_eq!(route(method, path), Err(status), "{method} {path}");
        }
    }
}
