//! The keystore in `MySQL`, `MariaDB`, or a cluster that speaks their protocol.
//!
//! A node of a cluster may lag behind the one that has acknowledged a commit. Each connection asks its
//! node to have caught up before it reads (`wsrep_sync_wait`, `group_replication_consistency`), so that
//! what was acknowledged on one node is seen on every other.

mod options;
mod schema;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use sqlx::mysql::{MySql, MySqlConnectOptions, MySqlDatabaseError, MySqlPool, MySqlPoolOptions};
use sqlx::pool::PoolConnection;

use crate::statements::keystore;

pub use options::MysqlOptions;

const WRITERS: u32 = 4;

/// Time for a connection, of the time for a call.
const CONNECT_SHARE: u32 = 2;

/// Time for a call that follows the keystore, and for closing connections.
const PROMPT: Duration = Duration::from_millis(1500);

/// How many times longer than others a call takes that looks at every row.
const UNHURRIED: u32 = 60;

/// Connections that were not used for so long are closed.
const IDLE: Duration = Duration::from_secs(600);

/// Error numbers of `MySQL` and `MariaDB`.
mod number {
    pub(super) const NO_SUCH_TABLE: u16 = 1146;
    /// Two transactions met: deadlock, lock wait, a row that changed since it was read; in a cluster, a
    /// transaction of another node.
    pub(super) const CONFLICTS: [u16; 4] = [1213, 1205, 1020, 3101];
    /// The node cannot serve now: shutting down, not part of the cluster's majority, read only, full.
    pub(super) const NODE: [u16; 8] = [1040, 1047, 1053, 1129, 1203, 1290, 1836, 1927];
}

/// A keystore in `MySQL`.
pub struct MysqlKeystore {
    nodes: Vec<MySqlConnectOptions>,
    options: MysqlOptions,
    current: RwLock<Arc<Pools>>,
    committed: Arc<Committed>,
}

/// The connections to a node.
struct Pools {
    /// Its place among the nodes.
    node: usize,
    made: Instant,
    writers: MySqlPool,
    readers: MySqlPool,
    /// Asks for changes and for root rotations, on a connection of its own: however many keys are being
    /// loaded, a revocation is seen in time.
    follower: MySqlPool,
}

impl Pools {
    fn new(node: usize, options: &MysqlOptions, connect: &MySqlConnectOptions) -> Self {
        let pool = |connections, patience: Duration| {
            MySqlPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(patience / CONNECT_SHARE)
                .idle_timeout(IDLE)
                .after_connect(|connection, _| Box::pin(prepare(connection)))
                .connect_lazy_with(connect.clone())
        };
        Self {
            node,
            made: Instant::now(),
            writers: pool(WRITERS, options.patience),
            readers: pool(options.connections, options.patience),
            follower: pool(1, options.patience.min(PROMPT)),
        }
    }

    async fn close(&self) {
        self.follower.close().await;
        self.readers.close().await;
        self.writers.close().await;
    }
}

/// Sets what correctness rests on, whatever the server's defaults are, and has the node wait, before each
/// statement, until it has what other nodes have acknowledged.
async fn prepare(connection: &mut Connection) -> Result<(), sqlx::Error> {
    for statement in [
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET SESSION autocommit = 1",
        "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",
    ] {
        sqlx::query(statement).execute(&mut *connection).await?;
    }
    let rows = sqlx::query(
        "SHOW SESSION VARIABLES WHERE Variable_name IN ('wsrep_on', 'group_replication_consistency')",
    )
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        let statement = match (row.try_get::<&str, _>(0)?, row.try_get::<&str, _>(1)?) {
            ("wsrep_on", "ON") => "SET SESSION wsrep_sync_wait = 7",
            ("group_replication_consistency", _) => {
                "SET SESSION group_replication_consistency = 'BEFORE'"
            }
            _ => continue,
        };
        sqlx::query(statement).execute(&mut *connection).await?;
    }
    Ok(())
}

impl MysqlKeystore {
    /// Opens a keystore whose schema is this program's.
    ///
    /// # Errors
    /// [`KeystoreError::Options`]; [`KeystoreError::Outdated`] before [`MysqlKeystore::migrate`];
    /// [`KeystoreError::Schema`] when a newer program has written it; [`KeystoreError::Slow`],
    /// [`KeystoreError::Database`].
    pub async fn open(options: MysqlOptions) -> Result<Self, KeystoreError> {
        let nodes = options.nodes()?;
        let first = RwLock::new(Arc::new(Pools::new(0, &options, &nodes[0])));
        let keystore = Self { nodes, options, current: first, committed: Arc::default() };
        keystore.try_each_node().await?;
        keystore.look_at_durability().await?;
        keystore.committed.found(keystore.revision().await?);
        Ok(keystore)
    }

    /// Finds a node that answers, and checks the schema there.
    async fn try_each_node(&self) -> Result<(), KeystoreError> {
        let mut tries = self.nodes.len();
        loop {
            tries -= 1;
            let checked =
                self.limited(async { schema::check(&mut *self.reader().await?).await }).await;
            match checked {
                Err(error) if error.is_away() && tries > 0 => {}
                checked => return checked,
            }
        }
    }

    /// Says so when a power loss may undo what the database has acknowledged.
    async fn look_at_durability(&self) -> Result<(), KeystoreError> {
        let level: String = self
            .limited(async {
                let row =
                    sqlx::query("SHOW GLOBAL VARIABLES LIKE 'innodb_flush_log_at_trx_commit'")
                        .fetch_optional(&mut *self.reader().await?)
                        .await?;
                Ok(row.map(|row| row.try_get(1)).transpose()?.unwrap_or_default())
            })
            .await?;
        if level != "1" {
            tracing::warn!(
                innodb_flush_log_at_trx_commit = level,
                "a power loss may undo what this database has acknowledged: set it to 1, unless the other nodes of \
                 a cluster keep it"
            );
        }
        Ok(())
    }

    /// Brings the schema up to date, under a lock: a second process waits until the first is done. Takes
    /// an account that may change the schema.
    ///
    /// # Errors
    /// [`KeystoreError::Options`], [`KeystoreError::Schema`], [`KeystoreError::Database`].
    pub async fn migrate(options: &MysqlOptions) -> Result<u32, KeystoreError> {
        schema::migrate(&options.nodes()?[0]).await
    }

    fn pools(&self) -> Arc<Pools> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn reader(&self) -> Result<PoolConnection<MySql>, KeystoreError> {
        Ok(self.pools().readers.acquire().await?)
    }

    async fn follower(&self) -> Result<PoolConnection<MySql>, KeystoreError> {
        Ok(self.pools().follower.acquire().await?)
    }

    async fn begin(&self) -> Result<Transaction<'static, MySql>, KeystoreError> {
        Ok(self.pools().writers.begin().await?)
    }

    async fn begin_snapshot(&self) -> Result<Transaction<'static, MySql>, KeystoreError> {
        let readers = &self.pools().readers;
        Ok(readers.begin_with("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?)
    }

    /// Gives a call its time. When its node is to blame for a failure, the next node is tried from now on.
    async fn limited<T>(
        &self,
        work: impl Future<Output = Result<T, KeystoreError>>,
    ) -> Result<T, KeystoreError> {
        self.limited_to(self.options.patience, work).await
    }

    /// The same for calls that follow the keystore: who waits for them wants to know soon.
    async fn promptly<T>(
        &self,
        work: impl Future<Output = Result<T, KeystoreError>>,
    ) -> Result<T, KeystoreError> {
        self.limited_to(self.options.patience.min(PROMPT), work).await
    }

    /// For calls that look at every row: they take their time, and are no node's fault.
    async fn unhurried<T>(
        &self,
        work: impl Future<Output = Result<T, KeystoreError>>,
    ) -> Result<T, KeystoreError> {
        let done = tokio::time::timeout(self.options.patience * UNHURRIED, work).await;
        done.unwrap_or(Err(KeystoreError::Slow))
    }

    async fn limited_to<T>(
        &self,
        patience: Duration,
        work: impl Future<Output = Result<T, KeystoreError>>,
    ) -> Result<T, KeystoreError> {
        let used = self.pools();
        let done = tokio::time::timeout(patience, work).await;
        let done = done.unwrap_or(Err(KeystoreError::Slow));
        if let Err(error) = &done
            && is_the_node_s(error)
        {
            self.leave(&used);
        }
        done
    }

    /// Goes on with the next node, or, where there is but one, with new connections: those of before may
    /// hang for a long time. Unless another call has just done so.
    fn leave(&self, used: &Arc<Pools>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let fresh = self.nodes.len() == 1 && current.made.elapsed() < PROMPT;
        if !Arc::ptr_eq(&current, used) || fresh {
            return;
        }
        let next = (used.node + 1) % self.nodes.len();
        let connect = &self.nodes[next];
        if next != used.node {
            tracing::warn!(
                node = %format!("{}:{}", connect.get_host(), connect.get_port()),
                "the keystore's node does not answer: going on with another"
            );
        }
        let left =
            std::mem::replace(&mut *current, Arc::new(Pools::new(next, &self.options, connect)));
        tokio::spawn(async move { left.close().await });
    }

    fn is_conflict(error: &sqlx::Error) -> bool {
        error_number(error).is_some_and(|found| number::CONFLICTS.contains(&found))
    }

    /// InnoDB removes an erased row by itself, soon. Nothing here could hurry it.
    async fn erased(&self) {}

    fn erase_later(&self) {}

    /// A connection that hangs is not waited for.
    async fn close_pools(&self) {
        let _ = tokio::time::timeout(PROMPT, self.pools().close()).await;
    }
}

fn error_number(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(error.number())
}

/// Whether the node is to blame, and another one may do better.
fn is_the_node_s(error: &KeystoreError) -> bool {
    match error {
        KeystoreError::Slow => true,
        KeystoreError::Database(error) => match error_number(error) {
            Some(found) => number::NODE.contains(&found),
            None => matches!(
                error,
                sqlx::Error::Io(_)
                    | sqlx::Error::Tls(_)
                    | sqlx::Error::PoolTimedOut
                    | sqlx::Error::PoolClosed
                    | sqlx::Error::Protocol(_)
            ),
        },
        _ => false,
    }
}

keystore!(MysqlKeystore, MySql, " FOR UPDATE");
