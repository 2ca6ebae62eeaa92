//! The encryption server: it holds the root key, opens and wraps the keys under it, and runs the
//! suites. It knows no database, no HTTP and no row, and keeps nothing but the root key.
//!
//! | module | what it does |
//! |---|---|
//! | [`aead`] | the six suites over plain slices |
//! | [`session`](Session) | ENC, DEC, REENC under a capability: in place on the caller's buffer, or in another process |
//! | [`auth`](GatewayRole::auth_verify) | AUTH_VERIFY: the client's proof against a signed app document |
//! | [`document`] | apps and keys as canonical, signed documents; grants |
//! | [`wrap`](WrappedKey) | keys wrapped under the root key, bound to what they are |
//! | [`custody`] | key cards, the chip, the ceremony socket |
//! | [`host`], [`settings`] | what the process asks of its machine, and of its configuration |
//! | [`wire`] | the engine protocol: words, roles, TLS between the parts |
//! | [`serve`] | the engine as a process of its own |
//! | [`remote`] | engines of other processes, as a gateway or a manager uses them |
//! | [`memory`](Vault) | where the root key lies: shielded, locked, on a stack of its own when clear |
//!
//! Who may ask what stands in the type: a [`GatewayRole`] authenticates, verifies and opens sessions,
//! a [`ManagerRole`] also signs and makes keys. Both are handles on one [`Engine`].
#![deny(unsafe_code)]

pub mod aead;
pub mod audit;
mod auth;
mod capability;
pub mod custody;
pub mod document;
mod engine;
mod error;
pub mod host;
mod kdf;
mod login;
mod make;
mod memory;
mod nonce;
pub mod remote;
mod role;
mod root;
mod secret;
pub mod serve;
mod session;
pub mod settings;
mod sign;
mod warrant;
pub mod wire;
mod wrap;

pub use auth::{AuthAttempt, Authenticated, MAX_LIFETIME};
pub use capability::Capability;
pub use engine::{Engine, EngineConfig, State};
pub use error::{EngineError, chain};
pub use login::{Admitted, TokenHash, TokenRecord};
pub use memory::{Protection, Vault};
pub use role::{EngineStatus, GatewayRole, ManagerRole, RotationRole};
pub use root::{RootKey, RootKeyId};
pub use secret::Secret;
pub use session::{Done, Opened, Session, Tag};
pub use sign::{SignedDocument, Site, Verified};
pub use warrant::{MAX_STATEMENT, Warrant};
pub use wrap::{KeyBinding, Purpose, Uid, WRAPPED_LEN, WrappedKey};
