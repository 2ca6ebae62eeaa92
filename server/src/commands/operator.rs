//! `sealwire operator …`: over the manager's socket.

use std::path::Path;

use anyhow::{Result, ensure};
use sealwire_engine::document::{OperatorRole, OperatorState};
use sealwire_manager::{
    ChangePassword, CreateOperator, CreateToken, OperatorView, Password, SetRoles,
};

use super::identity::manager;
use super::root::{ask, read_pin};
use super::{print, print_json, time, warn_unverified};
use crate::cli::{OneOperator, Operator};

pub(super) async fn run(command: Operator) -> Result<()> {
    match command {
        Operator::Create { name, roles, password_file, json, socket } => {
            let manager = manager(&socket)?;
            let password = new_password(password_file.as_deref(), &name)?;
            let made = manager.create_operator(&CreateOperator { name, roles, password }).await?;
            show(&made, json)
        }
        Operator::List { json, socket } => {
            let list = manager(&socket)?.list_operators().await?;
            warn_unverified("operator", &list.unverified);
            if json { print_json(&list.operators) } else { print(&table(&list.operators)) }
        }
        Operator::Show(OneOperator { operator, json, socket }) => {
            show(&manager(&socket)?.show_operator(&operator).await?, json)
        }
        Operator::Disable(one) => enable(one, false).await,
        Operator::Enable(one) => enable(one, true).await,
        Operator::SetRoles { operator: OneOperator { operator, json, socket }, roles } => {
            let manager = manager(&socket)?;
            show(&manager.set_operator_roles(&operator, &SetRoles { roles }).await?, json)
        }
        Operator::ResetPassword {
            operator: OneOperator { operator, json, socket },
            password_file,
        } => {
            let manager = manager(&socket)?;
            let password = new_password(password_file.as_deref(), &operator)?;
            show(&manager.reset_operator_password(&operator, password).await?, json)
        }
        Operator::ChangePassword { current_password_file, password_file, socket } => {
            let manager = manager(&socket)?;
            let current = match &current_password_file {
                Some(file) => read_pin(file)?,
                None => ask("current password: ")?,
            };
            let new = new_password(password_file.as_deref(), "yourself")?;
            manager.change_password(&ChangePassword { current, new }).await?;
            print("the password is changed; other sessions of yours have ended\n")
        }
        Operator::CreateToken { name, roles, lifetime, json, socket } => {
            let request = CreateToken { name, roles, lifetime_seconds: lifetime.as_secs() };
            let made = manager(&socket)?.create_token(&request).await?;
            if json {
                return print_json(&made);
            }
            print("SEALWIRE_TOKEN=")?;
            print(&made.token)?;
            print("\n")?;
            eprintln!("sealwire: token {}; it is not shown again", made.view.id);
            Ok(())
        }
        Operator::RevokeToken { token, operator, socket } => {
            manager(&socket)?.revoke_token(operator.as_deref(), &token).await?;
            print(&format!("token {token} is revoked\n"))
        }
    }
}

async fn enable(one: OneOperator, enable: bool) -> Result<()> {
    let OneOperator { operator, json, socket } = one;
    show(&manager(&socket)?.enable_operator(&operator, enable).await?, json)
}

/// A new password: from a file, or typed twice.
pub(super) fn new_password(file: Option<&Path>, whose: &str) -> Result<Password> {
    if let Some(file) = file {
        return read_pin(file);
    }
    let password = ask(&format!("new password of {whose}, 12 characters at least: "))?;
    ensure!(*ask("once more: ")? == *password, "they are not the same");
    Ok(password)
}

fn show(operator: &OperatorView, json: bool) -> Result<()> {
    if json {
        return print_json(operator);
    }
    let mut text = table(std::slice::from_ref(operator));
    for token in &operator.tokens {
        let ends = time(token.expires);
        text.push_str(&format!(
            "  token {} `{}`, {}, until {ends}\n",
            token.id,
            token.name,
            names(&token.roles)
        ));
    }
    for source in &operator.sessions {
        text.push_str(&format!("  signed in from {source}\n"));
    }
    print(&text)
}

fn table(operators: &[OperatorView]) -> String {
    let row = |operator: &OperatorView| {
        let state = match operator.state {
            OperatorState::Active => "active",
            OperatorState::Disabled => "DISABLED",
        };
        format!("{:<24} {state:<9} {}\n", operator.name, names(&operator.roles))
    };
    operators.iter().map(row).collect()
}

fn names(roles: &[OperatorRole]) -> String {
    roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ")
}
