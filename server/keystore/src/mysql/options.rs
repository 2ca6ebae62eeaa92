//! Where a MySQL keystore is, and how it is reached.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use zeroize::Zeroizing;

use crate::KeystoreError;

const SCHEME: &str = "mysql://";

/// How a `MySQL` keystore is reached.
#[derive(Clone)]
pub struct MysqlOptions {
    /// `mysql://USER@HOST[:PORT][,HOST[:PORT]…]/DATABASE[?socket=PATH]`. Several hosts are nodes of one
    /// cluster: the first that answers is used, and the next one when it does not any more.
    pub url: String,
    /// The account's password.
    pub password: Option<Zeroizing<String>>,
    /// The certificate authority of the database, PEM, besides those that Mozilla trusts. Needed off
    /// loopback, where only TLS with a verified name is spoken.
    pub tls_ca: Option<PathBuf>,
    /// Most connections for reading; five more are for writing and for following changes.
    pub connections: u32,
    /// Time for a call.
    pub patience: Duration,
}

impl MysqlOptions {
    /// Checks what can be checked without the database.
    ///
    /// # Errors
    /// [`KeystoreError::Options`].
    pub fn check(&self) -> Result<(), KeystoreError> {
        self.nodes().map(drop)
    }

    /// How each node is reached.
    pub(super) fn nodes(&self) -> Result<Vec<MySqlConnectOptions>, KeystoreError> {
        // The URL is not repeated: somebody may have put a password into it.
        let wrong = |what: &str| KeystoreError::Options(format!("keystore: url: {what}"));
        let rest =
            self.url.strip_prefix(SCHEME).ok_or_else(|| wrong("it must begin with mysql://"))?;
        let (authority, path) = rest
            .split_once('/')
            .ok_or_else(|| wrong("it names no database: mysql://USER@HOST/DATABASE"))?;
        let (user, hosts) = authority
            .rsplit_once('@')
            .ok_or_else(|| wrong("it names no user: mysql://USER@HOST/DATABASE"))?;
        if user.contains(':') {
            return Err(wrong(
                "it holds a password: name password_file instead, or set SEALWIRE_KEYSTORE_PASSWORD",
            ));
        }
        let (database, query) = path.split_once('?').map_or((path, None), |(a, b)| (a, Some(b)));
        if user.is_empty() || database.is_empty() {
            return Err(wrong("user and database must be named: mysql://USER@HOST/DATABASE"));
        }
        if query.is_some_and(|query| !query.starts_with("socket=") || query.contains('&')) {
            return Err(wrong("behind `?` only socket=PATH may stand; TLS is set by tls_ca"));
        }
        hosts
            .split(',')
            .map(|host| {
                let url = format!("{SCHEME}{user}@{host}/{path}");
                let node = MySqlConnectOptions::from_str(&url)
                    .map_err(|error| wrong(&format!("`{host}`: {error}")))?;
                self.secured(node).map_err(|what| wrong(&what))
            })
            .collect()
    }

    fn secured(&self, node: MySqlConnectOptions) -> Result<MySqlConnectOptions, String> {
        let node = match &self.password {
            Some(password) => node.password(password),
            None => node,
        };
        if let Some(authority) = &self.tls_ca {
            return Ok(node.ssl_mode(MySqlSslMode::VerifyIdentity).ssl_ca(authority));
        }
        let host = node.get_host().trim_matches(['[', ']']);
        let near = node.get_socket().is_some()
            || host == "localhost"
            || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
        if near {
            return Ok(node.ssl_mode(MySqlSslMode::Disabled));
        }
        Err(format!("{host} is not loopback: name tls_ca, the authority of its certificate"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> MysqlOptions {
        let patience = Duration::from_secs(1);
        MysqlOptions { url: url.into(), password: None, tls_ca: None, connections: 1, patience }
    }

    fn refused(url: &str) -> String {
        options(url).check().expect_err(url).to_string()
    }

    #[test]
    fn every_node_of_a_cluster_is_read() {
        let nodes = options("mysql://sw@127.0.0.1:3301,127.0.0.2:3302,[::1]:3303,localhost/keys");
        let nodes = nodes.nodes().expect("four nodes");
        let ports: Vec<_> = nodes.iter().map(MySqlConnectOptions::get_port).collect();
        assert_eq!(ports, [3301, 3302, 3303, 3306]);
        assert!(nodes.iter().all(|node| node.get_database() == Some("keys")));
        assert!(nodes.iter().all(|node| matches!(node.get_ssl_mode(), MySqlSslMode::Disabled)));
        let socket = options("mysql://sw@localhost/keys?socket=/run/mysqld.sock");
        assert!(socket.nodes().expect("a node")[0].get_socket().is_some());
    }

    #[test]
    fn off_loopback_only_tls_with_a_verified_name_is_spoken() {
        assert!(refused("mysql://sw@db.example/keys").contains("name tls_ca"));
        assert!(refused("mysql://sw@127.0.0.1,10.0.0.1/keys").contains("10.0.0.1 is not loopback"));
        let mut far = options("mysql://sw@db.example/keys");
        far.tls_ca = Some("/etc/ca.pem".into());
        let node = far.nodes().expect("a node").remove(0);
        assert!(matches!(node.get_ssl_mode(), MySqlSslMode::VerifyIdentity));
        assert!(refused("mysql://sw@db.example/keys?ssl-mode=DISABLED").contains("set by tls_ca"));
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        let said = refused("mysql://sw:hunter2@127.0.0.1/keys");
        assert!(said.contains("password_file") && !said.contains("hunter2"), "{said}");
        for url in [
            "mysql://sw:hunter2@127.0.0.1",
            "mysql://sw:hun/ter2@127.0.0.1/keys",
            "mysql://sw@127.0.0.1/keys?password=hunter2",
            "mysql://sw@127.0.0.1/keys?socket=/s&password=hunter2",
        ] {
            let said = refused(url);
            assert!(!said.contains("ter2"), "{said}");
        }
        for (url, what) in [
            ("mysql://127.0.0.1/keys", "no user"),
            ("mysql://sw@127.0.0.1", "no database"),
            ("mysql://sw@127.0.0.1/", "must be named"),
            ("postgres://sw@127.0.0.1/keys", "begin with mysql://"),
            ("mysql://sw@127.0.0.1:port/keys", "port"),
        ] {
            assert!(refused(url).contains(what), "{url}: {}", refused(url));
        }
    }
}
