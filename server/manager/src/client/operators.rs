//! Who is signed in, operators, tokens.

use hyper::Method;

use super::{ClientError, ManagerClient, segment};
use crate::{
    BreakGlass, CallerView, ChangePassword, CreateOperator, CreateToken, CreatedToken, Done,
    OperatorList, OperatorView, Password, ResetPassword, SetRoles, SignIn, SignedIn, Statement,
    Warranted,
};

impl ManagerClient {
    /// Signs an operator in.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sign_in(&self, name: &str, password: Password) -> Result<SignedIn, ClientError> {
        let request = SignIn { name: name.to_owned(), password };
        self.call(Method::POST, "/v1/session", Some(&request)).await
    }

    /// What a quorum of key cards must allow, so that a root-officer is made, in words.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask_break_glass(&self, request: &BreakGlass) -> Result<Statement, ClientError> {
        self.call(Method::POST, "/v1/break-glass", Some(request)).await
    }

    /// Makes a root-officer whom a quorum of key cards has allowed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn break_glass(&self, warranted: &Warranted) -> Result<OperatorView, ClientError> {
        self.call(Method::POST, "/v1/break-glass/warrant", Some(warranted)).await
    }

    /// Who the manager takes this for.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn who_am_i(&self) -> Result<CallerView, ClientError> {
        self.call(Method::GET, "/v1/session", None::<&()>).await
    }

    /// Ends the session.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sign_out(&self) -> Result<Done, ClientError> {
        self.call(Method::DELETE, "/v1/session", None::<&()>).await
    }

    /// Changes one's own password.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_password(&self, change: &ChangePassword) -> Result<Done, ClientError> {
        self.call(Method::POST, "/v1/session/password", Some(change)).await
    }

    /// Makes a token for a program. The answer has it, this once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_token(&self, token: &CreateToken) -> Result<CreatedToken, ClientError> {
        self.call(Method::POST, "/v1/session/tokens", Some(token)).await
    }

    /// Revokes a token: one's own, or an operator's.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke_token(
        &self,
        operator: Option<&str>,
        token: &str,
    ) -> Result<Done, ClientError> {
        let path = match operator {
            Some(operator) => {
                format!("/v1/operators/{}/tokens/{}", segment(operator), segment(token))
            }
            None => format!("/v1/session/tokens/{}", segment(token)),
        };
        self.call(Method::DELETE, &path, None::<&()>).await
    }

    /// Makes an operator.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_operator(
        &self,
        operator: &CreateOperator,
    ) -> Result<OperatorView, ClientError> {
        self.call(Method::POST, "/v1/operators", Some(operator)).await
    }

    /// Every operator.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_operators(&self) -> Result<OperatorList, ClientError> {
        self.call(Method::GET, "/v1/operators", None::<&()>).await
    }

    /// An operator, by name or id.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn show_operator(&self, operator: &str) -> Result<OperatorView, ClientError> {
        self.call(Method::GET, &format!("/v1/operators/{}", segment(operator)), None::<&()>).await
    }

    /// Lets an operator sign in, or not.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn enable_operator(
        &self,
        operator: &str,
        enable: bool,
    ) -> Result<OperatorView, ClientError> {
        let change = if enable { "enable" } else { "disable" };
        let path = format!("/v1/operators/{}/{change}", segment(operator));
        self.call(Method::POST, &path, None::<&()>).await
    }

    /// Gives an operator other roles.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_operator_roles(
        &self,
        operator: &str,
        roles: &SetRoles,
    ) -> Result<OperatorView, ClientError> {
        let path = format!("/v1/operators/{}/roles", segment(operator));
        self.call(Method::POST, &path, Some(roles)).await
    }

    /// Gives an operator another password.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn reset_operator_password(
        &self,
        operator: &str,
        password: Password,
    ) -> Result<OperatorView, ClientError> {
        let path = format!("/v1/operators/{}/password", segment(operator));
        self.call(Method::POST, &path, Some(&ResetPassword { password })).await
    }
}
