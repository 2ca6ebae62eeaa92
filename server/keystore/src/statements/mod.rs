//! The SQL, once for both databases. What sqlx asks of a database is spelled out in types that have no
//! common trait, so this is a macro; its text is that of ordinary functions.
//!
//! `calls` has the [`Keystore`](crate::Keystore) of a store, `rows` the statements that it is made of. The store
//! gives connections (`reader`, `follower`, `begin`, `begin_snapshot`),
//! limits the time of a call (`limited`, `promptly`), and says when a transaction is to be tried again
//! (`is_conflict`).

mod audit;
mod calls;
mod rows;
mod tokens;

pub(crate) use audit::audit_log;
pub(crate) use calls::keystore;
pub(crate) use rows::statements;
pub(crate) use tokens::token_store;

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use sqlx::error::DatabaseError;

use crate::{KeystoreError, Taken};

/// Pauses before transactions that met another one are tried again.
pub(crate) fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(2))
        .with_max_delay(Duration::from_millis(100))
        .with_max_times(10)
        .with_jitter()
        .build()
}

pub(crate) fn number(value: i64) -> Result<u32, KeystoreError> {
    u32::try_from(value).map_err(|_| KeystoreError::Broken(format!("number {value}")))
}

pub(crate) fn unsigned(value: i64) -> Result<u64, KeystoreError> {
    u64::try_from(value).map_err(|_| KeystoreError::Broken(format!("number {value}")))
}

pub(crate) fn signed(value: u64) -> Result<i64, KeystoreError> {
    i64::try_from(value).map_err(|_| KeystoreError::Broken(format!("number {value}")))
}

/// A violated constraint, by what it protects; `None` for other errors.
pub(crate) fn taken(error: &dyn DatabaseError) -> Option<Taken> {
    if !error.is_unique_violation() {
        return None;
    }
    // SQLite names the columns, MySQL the key, behind the value, which may be any text.
    let message = error.message();
    let key = message.rsplit_once("for key").map_or(message, |(_, key)| key);
    Some(match key {
        _ if key.contains("document.name") || key.contains("document_name") => Taken::Name,
        _ if key.contains("document.number") || key.contains("document_number") => Taken::Number,
        _ => Taken::Id,
    })
}

/// How many places a list of so many values gets: few lengths, so that few statements are prepared.
/// The last value fills the rest.
pub(crate) fn padded<T: Copy>(values: &[T]) -> impl Iterator<Item = T> + '_ {
    let last = values.last().copied();
    let length = values.len().next_power_of_two();
    values.iter().copied().chain(last.into_iter().cycle()).take(if last.is_some() {
        length
    } else {
        0
    })
}
