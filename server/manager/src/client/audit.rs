//! The audit.

use hyper::Method;

use super::{ClientError, ManagerClient, segment};
use crate::audit::{
    AuditChains, AuditPage, AuditQuery, AuditRows, ChainPart, CheckChain, CheckHeads, CheckedHeads,
};

impl ManagerClient {
    /// Records, the newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_audit(&self, query: &AuditQuery) -> Result<AuditPage, ClientError> {
        let mut path = "/v1/audit?".to_owned();
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        for (name, value) in [
            ("from", number(query.from)),
            ("until", number(query.until)),
            ("event", query.event.clone()),
            ("writer", query.writer.clone()),
            ("about", query.about.clone()),
            ("before", query.before.clone()),
            ("limit", number(query.limit.map(u64::from))),
        ] {
            if let Some(value) = value {
                path += &format!("{name}={}&", segment(&value));
            }
        }
        self.call(Method::GET, path.trim_end_matches(['&', '?']), None::<&()>).await
    }

    /// Every chain.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_chains(&self) -> Result<AuditChains, ClientError> {
        self.call(Method::GET, "/v1/audit/chains", None::<&()>).await
    }

    /// Rows of a chain, as they are stored, behind a place.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_rows(&self, writer: &str, after: i64) -> Result<AuditRows, ClientError> {
        let path = format!("/v1/audit/chains/{}?after={after}", segment(writer));
        self.call(Method::GET, &path, None::<&()>).await
    }

    /// Checks a part of a chain.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn check_chain(
        &self,
        writer: &str,
        after: CheckChain,
    ) -> Result<ChainPart, ClientError> {
        let path = format!("/v1/audit/chains/{}/check", segment(writer));
        self.call(Method::POST, &path, Some(&after)).await
    }

    /// Compares heads with the chains.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn check_heads(&self, heads: &CheckHeads) -> Result<CheckedHeads, ClientError> {
        self.call(Method::POST, "/v1/audit/heads/check", Some(heads)).await
    }
}
