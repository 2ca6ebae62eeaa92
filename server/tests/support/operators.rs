//! Operators of a server.

use sealwire_engine::document::OperatorRole;
use sealwire_manager::{ChangePassword, ClientError, CreateOperator, ManagerClient, RequestView};

use super::Server;

/// What an officer has chosen for somebody else.
const FIRST: &str = "copper meadow falcon ridge";

/// The operator that is asked for.
pub(crate) fn operator(name: &str, roles: &[OperatorRole], password: &str) -> CreateOperator {
    let (name, roles) = (name.to_owned(), roles.to_vec());
    CreateOperator { name, roles, password: password.to_owned().into() }
}

/// The first operator, who chooses the password himself.
pub(crate) async fn make_first(
    server: &Server,
    name: &str,
    roles: &[OperatorRole],
    password: &str,
) {
    let first = operator(name, roles, password);
    server.manager().create_operator(&first).await.expect("the first");
}

/// Has an operator made, who then changes the password.
pub(crate) async fn make(
    server: &Server,
    by: &ManagerClient,
    (name, roles, password): (&str, &[OperatorRole], &str),
) {
    by.create_operator(&operator(name, roles, FIRST)).await.expect(name);
    change_first(server, name, FIRST, password).await;
}

/// Changes a password that somebody else has chosen.
pub(crate) async fn change_first(server: &Server, name: &str, first: &str, password: &str) {
    let signed_in = sign_in(server, name, first).await;
    let (current, new) = (first.to_owned().into(), password.to_owned().into());
    signed_in.change_password(&ChangePassword { current, new }).await.expect("changed");
}

pub(crate) async fn sign_in(server: &Server, name: &str, password: &str) -> ManagerClient {
    let signed_in = server.manager().sign_in(name, password.to_owned().into()).await;
    server.manager().with_token(signed_in.expect(name).token)
}

/// The number of a refusal; `None` for what was done.
pub(crate) fn number<T>(result: Result<T, ClientError>) -> Option<u16> {
    match result {
        Ok(_) => None,
        Err(ClientError::Refused { number, .. }) => Some(number),
        Err(error) => panic!("{error}"),
    }
}

/// The request that a call has led to.
pub(crate) fn asked<T>(result: Result<T, ClientError>) -> RequestView {
    match result {
        Err(ClientError::Asked(request)) => *request,
        Err(error) => panic!("not asked for: {error}"),
        Ok(_) => panic!("not asked for: done"),
    }
}
