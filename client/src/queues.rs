//! The requests that wait for a connection, as its driver sees them.

use tokio::sync::mpsc;

use crate::command::{Command, Lane};

/// One queue of requests, and whether it has ended.
pub(crate) struct Queue {
    pub(crate) commands: mpsc::Receiver<Command>,
    /// Nobody can put anything into it any more, and it is empty.
    pub(crate) drained: bool,
}

/// The queues, by lane.
pub(crate) struct Queues {
    pub(crate) live: Queue,
    pub(crate) bulk: Queue,
}

impl Queues {
    pub(crate) fn new(live: mpsc::Receiver<Command>, bulk: mpsc::Receiver<Command>) -> Self {
        let queue = |commands| Queue { commands, drained: false };
        Self { live: queue(live), bulk: queue(bulk) }
    }

    pub(crate) fn get(&self, lane: Lane) -> &Queue {
        match lane {
            Lane::Live => &self.live,
            Lane::Bulk => &self.bulk,
        }
    }

    pub(crate) fn get_mut(&mut self, lane: Lane) -> &mut Queue {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Bulk => &mut self.bulk,
        }
    }

    /// Nothing more comes in; what is there is still to be read.
    pub(crate) fn close(&mut self) {
        self.live.commands.close();
        self.bulk.commands.close();
    }

    /// Whether both have ended.
    pub(crate) fn are_drained(&self) -> bool {
        self.live.drained && self.bulk.drained
    }

    /// Gives back what waits now.
    pub(crate) fn give_back_what_is_there(&mut self) {
        for queue in [&mut self.live, &mut self.bulk] {
            while let Ok(command) = queue.commands.try_recv() {
                command.give_back();
            }
        }
    }

    /// Gives back everything, until the queues end. For ones that are closed.
    pub(crate) async fn give_back_all(&mut self) {
        for queue in [&mut self.live, &mut self.bulk] {
            while let Some(command) = queue.commands.recv().await {
                command.give_back();
            }
        }
    }
}
