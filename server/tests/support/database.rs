//! A server's database, as somebody has it in hand who is not the server.

use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use super::Server;
use super::mariadb::Mariadb;

/// The database behind a server.
pub(crate) enum Database {
    Sqlite(PathBuf),
    Mysql(Box<Mariadb>),
}

impl Database {
    /// A server over an SQLite file.
    pub(crate) async fn sqlite(gateway: &str) -> (Self, Server) {
        let server = Server::start_with(gateway).await;
        (Self::Sqlite(server.data().join("keystore.db")), server)
    }

    /// A server over MariaDB.
    pub(crate) async fn mysql(gateway: &str) -> (Self, Server) {
        let database = Mariadb::start();
        let url = database.database("ks");
        let server = Server::on(&url, gateway).await;
        (Self::Mysql(Box::new(database)), server)
    }

    /// Runs SQL that both understand.
    pub(crate) async fn sql(&self, statements: &str) {
        match self {
            Self::Mysql(database) => drop(database.sql(&format!("USE ks; {statements}"))),
            Self::Sqlite(path) => {
                let url = format!("sqlite:{}", path.display());
                let mut database = SqliteConnection::connect(&url).await.expect("opens");
                let statements = AssertSqlSafe(statements.to_owned());
                sqlx::raw_sql(statements).execute(&mut database).await.expect("runs");
                database.close().await.expect("closes");
            }
        }
    }

    /// `column`, in which `from` is replaced by `to`.
    pub(crate) fn replaced(&self, column: &str, from: &str, to: &str) -> String {
        match self {
            Self::Mysql(_) => format!("replace({column}, '{from}', '{to}')"),
            Self::Sqlite(_) => {
                format!("CAST(replace(CAST({column} AS TEXT), '{from}', '{to}') AS BLOB)")
            }
        }
    }

    /// Keeps the whole database as it is now.
    pub(crate) async fn back_up(&self, to: &Path) {
        match self {
            Self::Sqlite(_) => self.sql(&format!("VACUUM INTO '{}'", to.display())).await,
            Self::Mysql(database) => {
                let dump =
                    database.tool("mariadb-dump").args(["--single-transaction", "ks"]).output();
                let dump = dump.expect("runs");
                assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
                std::fs::write(to, dump.stdout).expect("written");
            }
        }
    }

    /// Puts it back.
    pub(crate) fn put_back(&self, from: &Path) {
        match self {
            Self::Sqlite(path) => {
                for suffix in ["-wal", "-shm"] {
                    let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
                }
                std::fs::copy(from, path).expect("copied");
            }
            Self::Mysql(database) => {
                let mut restore: Command = database.tool("mariadb");
                let input = std::fs::File::open(from).expect("opens");
                let done = restore.arg("ks").stdin(input).output().expect("runs");
                assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            }
        }
    }
}
