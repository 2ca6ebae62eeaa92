//! The management service: it makes and manages keys and apps, signs their documents through the
//! engine, and shows keys only wrapped. It never sees a message or an unwrapped key.
//!
//! | module | what it does |
//! |---|---|
//! | [`Manager`] | the site's keys, and how documents are read |
//! | `changing` | the one way to change a document |
//! | `keys` | make, rotate, show, list keys |
//! | `lifecycle` | what a version of a key may become, and who may not |
//! | `renewal` | new versions and destruction, when they are due |
//! | `apps` | make, change, list apps |
//! | `requests` | two persons for what cannot be undone |
//! | `access` | operators, who calls, and what they may do |
//! | [`audit`] | what the manager records, and how records are checked |
//! | `overview` | what goes on, at a glance |
//! | `rotation` | move everything that is wrapped under a new root key |
//! | [`api`] | the JSON API over a unix socket of mode 0600 |
//! | `page` | what operators see in a browser: a client of the API |
//! | [`ManagerClient`] | the other end of the API |
#![forbid(unsafe_code)]

mod access;
pub mod api;
mod apps;
pub mod audit;
mod changing;
mod client;
mod error;
mod keys;
mod lifecycle;
mod manager;
mod managing;
pub mod orders;
mod overview;
mod page;
mod pin;
mod renewal;
mod requests;
mod rotation;
mod views;

pub use access::{
    BreakGlass, Caller, CallerView, ChangePassword, CreateOperator, CreateToken, CreatedToken,
    Done, OperatorList, OperatorView, Password, ResetPassword, SessionLimits, SessionToken,
    SetRoles, SignIn, SignedIn, Source, Statement, TokenView, Warranted, Who,
};
pub use client::{ClientError, ManagerClient};
pub use error::ManagerError;
pub use keys::MadeKey;
pub use lifecycle::StateChange;
pub use manager::{Manager, Settings};
pub use overview::{
    AppLogins, AppTraffic, AttentionView, Concern, EngineView, LoginView, MinuteView, Seal,
    SealView, StatusView, TrafficView,
};
pub use pin::RootPin;
pub use requests::{Outcome, PolicyView, RequestList, RequestView, SetPolicy, Wish};
pub use views::{
    AppList, AppView, ChangeApp, ChangeKey, CreateApp, CreateKey, CreatedApp, DestroyKey, KeyPage,
    KeyView, RotateSecret, RotationStage, RotationView, VersionView, Versions,
};
