//! Who does what is being done: every record of a change names them, without each function on the way handing it on.

use sealwire_engine::audit::AuditActor;

use super::ITSELF;
use crate::{Caller, Who};

tokio::task_local! {
    static ACTOR: AuditActor;
}

/// Does something in the name of somebody.
pub(crate) async fn acting<T>(actor: AuditActor, work: impl Future<Output = T>) -> T {
    ACTOR.scope(actor, work).await
}

/// In whose name something is being done: the manager's own, unless somebody has asked for it.
pub(crate) fn by() -> AuditActor {
    ACTOR.try_with(Clone::clone).unwrap_or(ITSELF)
}

/// A caller, as records name them.
pub(crate) fn actor_of(caller: &Caller) -> AuditActor {
    match &caller.who {
        Who::Unclaimed => AuditActor::Socket,
        Who::Operator { id, name, token, .. } => AuditActor::Operator {
            id: id.clone(),
            name: name.clone(),
            token: token.clone(),
            from: caller.source.address(),
        },
    }
}
