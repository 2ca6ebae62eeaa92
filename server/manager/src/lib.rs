//! The management service: it makes and manages keys and apps, signs their documents through the
//! engine, and shows keys only wrapped. It never sees a message or an unwrapped key.
//!
//! | module | what it does |
//! |---|---|
//! | [`Manager`] | the site's keys, and one way to change a document |
//! | `keys` | make, rotate, show, list keys |
//! | `apps` | make and list apps |
//! | `rotation` | move everything that is wrapped under a new root key |
//! | [`api`] | the JSON API over a unix socket of mode 0600 |
//! | [`ManagerClient`] | the other end of that socket |
#![forbid(unsafe_code)]

pub mod api;
mod apps;
mod client;
mod error;
mod keys;
mod manager;
mod pin;
mod rotation;
mod views;

pub use client::{ClientError, ManagerClient};
pub use error::ManagerError;
pub use keys::MadeKey;
pub use manager::{Manager, Settings};
pub use pin::RootPin;
pub use views::{
    AppList, AppView, CreateApp, CreateKey, CreatedApp, KeyPage, KeyView, RotationStage,
    RotationView, VersionView,
};
