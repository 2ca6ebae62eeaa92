//! `sealwire app …`: over the manager's socket.

use std::time::Duration;

use anyhow::Result;
use sealwire_engine::document::AppState;
use sealwire_manager::{AppView, ChangeApp, CreateApp, CreatedApp, RotateSecret};

use super::identity::manager;
use super::{print, print_json, warn_unverified};
use crate::cli::{App, OneApp};

pub(super) async fn run(command: App) -> Result<()> {
    match command {
        App::Create { name, allow, grant, http, json, socket } => {
            let (deaf, powerless) = (allow.is_empty(), grant.is_empty());
            let request = CreateApp { name, allow, grants: grant, http };
            let made = manager(&socket)?.create_app(&request).await?;
            if deaf {
                eprintln!("sealwire: no --allow: the app may not log in from anywhere");
            }
            if powerless {
                eprintln!("sealwire: no --grant: the app may do nothing");
            }
            secret(&made, json)
        }
        App::Show(OneApp { app, json, socket }) => {
            let app = manager(&socket)?.show_app(&app).await?;
            if json { print_json(&app) } else { print(&table(&[app])) }
        }
        App::Set { app: OneApp { app, json, socket }, allow, grant, no_http } => {
            let wish = ChangeApp {
                allow: Some(allow).filter(|allow| !allow.is_empty()),
                grants: Some(grant).filter(|grant| !grant.is_empty()),
                http: no_http.then_some(false),
            };
            let app = manager(&socket)?.set_app(&app, &wish).await?;
            if json { print_json(&app) } else { print(&table(&[app])) }
        }
        App::Disable(app) => {
            enable(app, false, "may not log in; its sessions end within a second").await
        }
        App::Enable(app) => enable(app, true, "may log in").await,
        App::RotateSecret { app: OneApp { app, json, socket }, overlap, drop_older, http } => {
            let wish = RotateSecret { overlap_seconds: overlap.as_secs(), drop_older, http };
            let made = manager(&socket)?.rotate_app_secret(&app, wish).await?;
            eprintln!(
                "sealwire: the secret of before is taken for {} more",
                humantime::format_duration(Duration::from_secs(overlap.as_secs()))
            );
            secret(&made, json)
        }
        App::List { json, socket } => {
            let list = manager(&socket)?.list_apps().await?;
            warn_unverified("app", &list.unverified);
            if json { print_json(&list.apps) } else { print(&table(&list.apps)) }
        }
    }
}

/// Shows an app with its secret.
fn secret(made: &CreatedApp, json: bool) -> Result<()> {
    if json {
        return print_json(made);
    }
    print(&format!("SEALWIRE_APP_KEY={}\n", made.app.app_key))?;
    if let Some(secret) = &made.app_secret {
        print("SEALWIRE_APP_SECRET=")?;
        print(secret)?;
        print("\n")?;
    }
    if let Some(secret) = &made.http_secret {
        print(&format!("VAULT_ROLE_ID={}\nVAULT_SECRET_ID=", made.app.app_key))?;
        print(secret)?;
        print("\n")?;
    }
    eprintln!("sealwire: what is secret is not shown again");
    Ok(())
}

async fn enable(app: OneApp, enable: bool, done: &str) -> Result<()> {
    let view = manager(&app.socket)?.enable_app(&app.app, enable).await?;
    if app.json { print_json(&view) } else { print(&format!("app {}: {done}\n", view.name)) }
}

fn table(apps: &[AppView]) -> String {
    if apps.is_empty() {
        return "no apps yet: `sealwire app create NAME --allow CIDR --grant enc,dec:KEY` makes one\n".to_owned();
    }
    let mut text = String::new();
    for app in apps {
        let state = match app.state {
            AppState::Active => "active",
            AppState::Disabled => "disabled",
        };
        let http = if app.http { ", also over HTTP" } else { "" };
        text.push_str(&format!("{}  {state}{http}  {}\n", app.app_key, app.name));
        for network in &app.allow {
            text.push_str(&format!("    from {network}\n"));
        }
        for grant in &app.grants {
            text.push_str(&format!("    may  {grant}\n"));
        }
    }
    text
}
