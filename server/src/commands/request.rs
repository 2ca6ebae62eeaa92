//! `sealwire request …` and `sealwire policy …`: two persons for what cannot be undone, or opens doors.

use anyhow::Result;
use sealwire_manager::{PolicyView, RequestView, SetPolicy};

use super::identity::manager;
use super::{print, print_json, time, warn_unverified};
use crate::cli::{OneRequest, Policy, Request};

pub(super) async fn run(command: Request) -> Result<()> {
    match command {
        Request::List { all, json, socket } => {
            let list = manager(&socket)?.list_requests().await?;
            warn_unverified("request", &list.unverified);
            let open = ["pending", "approved"];
            let shown = |request: &&RequestView| all || open.contains(&request.state.as_str());
            let requests: Vec<_> = list.requests.iter().filter(shown).collect();
            if json {
                return print_json(&requests);
            }
            print(&requests.into_iter().map(text).collect::<String>())
        }
        Request::Show(OneRequest { request, json, socket }) => {
            show(&manager(&socket)?.show_request(&request).await?, json)
        }
        Request::Approve(OneRequest { request, json, socket }) => {
            show(&manager(&socket)?.decide_request(&request, true).await?, json)
        }
        Request::Refuse(OneRequest { request, json, socket }) => {
            show(&manager(&socket)?.decide_request(&request, false).await?, json)
        }
    }
}

pub(super) async fn policy(command: Policy) -> Result<()> {
    match command {
        Policy::Show { json, socket } => show_policy(&manager(&socket)?.policy().await?, json),
        Policy::Set { two_persons, destroy_wait, json, socket } => {
            let wish = SetPolicy {
                two_persons: two_persons.map(|switch| switch.is_on()),
                destroy_wait_seconds: destroy_wait.map(|wait| wait.as_secs()),
            };
            show_policy(&manager(&socket)?.set_policy(&wish).await?, json)
        }
    }
}

fn show_policy(policy: &PolicyView, json: bool) -> Result<()> {
    if json {
        return print_json(policy);
    }
    let two = if policy.two_persons { "on" } else { "OFF" };
    let wait = std::time::Duration::from_secs(policy.destroy_wait_seconds);
    print(&format!("two persons   {two}\ndestroy wait  {}\n", humantime::format_duration(wait)))
}

fn show(request: &RequestView, json: bool) -> Result<()> {
    if json { print_json(request) } else { print(&text(request)) }
}

fn text(request: &RequestView) -> String {
    let RequestView { id, state, what, asked, expires, decided, .. } = request;
    let end = match decided {
        Some(decided) => format!("{state} by {}, {}", decided.name, time(decided.at)),
        None => format!("{state}, until {}", time(*expires)),
    };
    format!("{id}  {what}\n    asked by {}, {}; {end}\n", asked.name, time(asked.at))
}
