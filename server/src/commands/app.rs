//! `sealwire app …`: over the manager's socket.

use anyhow::Result;
use sealwire_engine::document::AppState;
use sealwire_manager::{AppView, CreateApp, ManagerClient};

use super::{print, print_json, warn_unverified};
use crate::cli::App;

pub(super) async fn run(command: App) -> Result<()> {
    match command {
        App::Create { name, allow, grant, json, socket } => {
            let (deaf, powerless) = (allow.is_empty(), grant.is_empty());
            let request = CreateApp { name, allow, grants: grant };
            let made = ManagerClient::new(socket.path).create_app(&request).await?;
            if deaf {
                eprintln!("sealwire: no --allow: the app may not log in from anywhere");
            }
            if powerless {
                eprintln!("sealwire: no --grant: the app may do nothing");
            }
            if json {
                return print_json(&made);
            }
            print(&format!("SEALWIRE_APP_KEY={}\nSEALWIRE_APP_SECRET=", made.app.app_key))?;
            print(&made.app_secret)?;
            print("\n")?;
            eprintln!("sealwire: the secret is not shown again");
            Ok(())
        }
        App::List { json, socket } => {
            let list = ManagerClient::new(socket.path).list_apps().await?;
            warn_unverified("app", &list.unverified);
            if json { print_json(&list.apps) } else { print(&table(&list.apps)) }
        }
    }
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
        text.push_str(&format!("{}  {state}  {}\n", app.app_key, app.name));
        for network in &app.allow {
            text.push_str(&format!("    from {network}\n"));
        }
        for grant in &app.grants {
            text.push_str(&format!("    may  {grant}\n"));
        }
    }
    text
}
