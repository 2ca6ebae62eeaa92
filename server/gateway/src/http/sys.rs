//! What a server tells of itself. It is unsealed by its key cards alone, never from here.

use hyper::StatusCode;
use sealwire_engine::State;
use sealwire_engine::host::process::now;
use serde_json::{Value, json};

use super::Shared;
use super::answer::{self, Answer, Problem, RequestId};
use crate::Condition;

/// The version of the server. Clients take it for that of what they were made for, and only show it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Whether there is a site, and whether it is open. A stranger has nothing looked up: before the keystore has said that
/// there is no site, there may be one.
fn condition(shared: &Shared) -> (bool, bool) {
    let directory = &shared.gateway.directory;
    let open = matches!(shared.gateway.engine.state(), State::Open { .. });
    let silent = directory.health().condition != Condition::Up;
    (open || silent || directory.knows_site(), open)
}

/// The status codes may be chosen, so that a load balancer's check takes them for what it likes.
pub(super) fn health(shared: &Shared, query: Option<&str>) -> Result<Answer, Problem> {
    let (mut active, mut sealed, mut uninitialized) = (200, 503, 501);
    for pair in query.unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let code = match name {
            "activecode" => &mut active,
            "sealedcode" => &mut sealed,
            "uninitcode" => &mut uninitialized,
            _ => continue,
        };
        let wish = value.parse().ok().filter(|code| (200..600).contains(code));
        *code = wish.ok_or_else(|| Problem::bad(""))?;
    }
    let (initialized, open) = condition(shared);
    let status = match (initialized, open) {
        (false, _) => uninitialized,
        (true, false) => sealed,
        // Everything is refused: what is kept is too old.
        (true, true) if !shared.gateway.directory.is_trusted() => 503,
        (true, true) => active,
    };
    let body = json!({
        "initialized": initialized,
        "sealed": !open,
        "standby": false,
        "performance_standby": false,
        "replication_performance_mode": "disabled",
        "replication_dr_mode": "disabled",
        "server_time_utc": now(),
        "version": VERSION,
    });
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    // These have no body (RFC 9110, section 6.4.1).
    if matches!(status.as_u16(), 204 | 205 | 304) {
        return Ok(answer::empty(status));
    }
    Ok(answer::plain(status, &body))
}

pub(super) fn seal_status(shared: &Shared) -> Answer {
    let (initialized, open) = condition(shared);
    let body = json!({
        "type": "shamir",
        "initialized": initialized,
        "sealed": !open,
        // The cards' own numbers are told where cards are shown.
        "t": 0,
        "n": 0,
        "progress": 0,
        "nonce": "",
        "version": VERSION,
        "build_date": "",
        "migration": false,
        "recovery_seal": false,
        "storage_type": "",
    });
    answer::plain(StatusCode::OK, &body)
}

pub(super) fn leader() -> Answer {
    // Every gateway does everything.
    let body = json!({
        "ha_enabled": false,
        "is_self": false,
        "active_time": "0001-01-01T00:00:00Z",
        "leader_address": "",
        "leader_cluster_address": "",
        "performance_standby": false,
        "performance_standby_last_remote_wal": 0,
    });
    answer::plain(StatusCode::OK, &body)
}

pub(super) fn init(shared: &Shared) -> Answer {
    let (initialized, _) = condition(shared);
    answer::plain(StatusCode::OK, &json!({ "initialized": initialized }))
}

fn mount(kind: &str, description: &str) -> Value {
    json!({
        "type": kind,
        "description": description,
        "accessor": format!("{kind}_sealwire"),
        "config": { "default_lease_ttl": 0, "max_lease_ttl": 0, "force_no_cache": false },
        "external_entropy_access": false,
        "local": false,
        "options": null,
        "seal_wrap": false,
        "uuid": "",
    })
}

pub(super) fn mounts(id: RequestId) -> Answer {
    let mounts = json!({
        "sys/": mount("system", "what the server tells of itself"),
        "transit/": mount("transit", "encryption as a service"),
    });
    let mut data = Vec::new();
    answer::push_json(&mut data, &mounts);
    let envelope = answer::envelope(id, &data, &[]);
    // Some clients look for them beside `data`, too.
    let mut whole: Value = serde_json::from_slice(&envelope).expect("the envelope is JSON");
    if let (Some(whole), Value::Object(mounts)) = (whole.as_object_mut(), mounts) {
        whole.extend(mounts);
    }
    answer::plain(StatusCode::OK, &whole)
}
