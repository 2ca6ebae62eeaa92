//! The JSON API, over a unix socket of mode 0600, and over HTTPS.
//!
//! | module | what it does |
//! |---|---|
//! | [`calls`] | every call, and who may make it |
//! | `authorize` | who calls, and whether they may |
//! | `keys`, `apps`, `operators`, `requests`, `audit`, `root`, `overview` | the calls |
//! | `body`, `answer` | bodies and refusals |
//! | [`openapi`] | what the API is, for programs |
//! | [`https`] | over a network |

mod answer;
mod apps;
mod audit;
mod authorize;
mod body;
pub mod calls;
pub mod https;
mod keys;
pub mod openapi;
mod operators;
mod overview;
mod requests;
mod root;

use std::io;
use std::sync::Arc;

use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::{Extension, Router};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

pub use answer::Refusal;
pub(crate) use answer::status_of;
use answer::{no_such_call, no_such_method};
pub(crate) use authorize::ByPage;
use authorize::authorize;
pub(crate) use body::whole;
use calls::CALLS;
pub(crate) use https::Admitted;

use crate::{Manager, Source};

type Shared = State<Arc<Manager>>;

/// Every call of the API, each refused to those who may not make it. A layer around it must say where a request
/// comes from, as an extension of the type [`Source`]: without it, all are refused.
pub fn routes(manager: &Arc<Manager>) -> Router {
    let mut router = Router::new();
    for call in CALLS {
        let checked = from_fn_with_state((manager.clone(), call), authorize);
        router = router.route(call.path, (call.route)().layer(checked));
    }
    let router = router.fallback(no_such_call).method_not_allowed_fallback(no_such_method);
    router.with_state(manager.clone())
}

/// Serves the API until `stop`. The socket must be one that nobody else may open.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: UnixListener,
    manager: Arc<Manager>,
    stop: CancellationToken,
) -> io::Result<()> {
    let routes = routes(&manager).layer(Extension(Source::Socket));
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}
