//! Several connections, and requests that move from one that fails to another.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use sealwire_protocol::{ErrorCode, Opcode};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::command::{Body, Command, Lane, Outcome};
use crate::endpoint::{Endpoints, Unreached};
use crate::keeper::{Keeper, Pace};
use crate::roster::{Delivery, Roster};
use crate::{Error, random};

/// Connections of a client, unless set: one for each machine, but no fewer than two. Two lose nothing
/// to one, and with one of them down the other still works.
const FEWEST: usize = 2;

/// Connections at most, unless set: a large site needs no more of each client.
const MOST: usize = 8;

/// Requests that wait in the connections' queues, all together, before callers have to.
const QUEUE: usize = 1024;

/// Time that the first connection has for itself before the others try as well: where it comes up, or
/// is refused, the server sees one login, not one for each connection.
const HEAD_START: Duration = Duration::from_millis(250);

/// Connections that a request may see break before it is told. One that has broken so many is likelier
/// to be the reason than the victim: no request shall go round and bring all gateways down.
const MAX_LOST: u32 = 5;

/// Delays between two rounds of a request that everyone refuses for now.
const REFUSED: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(250)];

/// Delays that double from the first to the second of the limits. Each is lengthened at random, up to
/// twice as long.
pub(crate) fn delays([least, most]: [Duration; 2]) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(least)
        .with_max_delay(most)
        .with_jitter()
        // Without a seed all clients would have the same jitter: the crate is built without `std`.
        .with_jitter_seed(random::bits())
        .without_max_times()
        .build()
}

/// A request, as the caller asks it.
pub(crate) struct Request {
    pub(crate) opcode: Opcode,
    pub(crate) lane: Lane,
    pub(crate) body: Body,
    pub(crate) deadline: Instant,
    /// Whether a refusal for now is told once everybody was asked, however far the deadline is.
    pub(crate) impatient: bool,
}

/// What has happened to a request so far.
#[derive(Default)]
struct Course {
    /// It is on a connection; if not, it waits for one.
    underway: bool,
    refusal: Option<Error>,
    lost: u32,
}

/// See the module. When it is dropped, its connections finish what is in flight and close.
pub(crate) struct Pool {
    endpoints: Arc<Endpoints>,
    roster: Arc<Roster>,
    /// Keeps the keepers at work.
    _open: watch::Sender<()>,
}

impl Pool {
    /// Returns as soon as one connection stands; the others follow. `connections` `None`: as many as
    /// there are machines, within bounds.
    pub(crate) async fn open(
        endpoints: Endpoints,
        connections: Option<usize>,
        pace: Pace,
    ) -> Result<Self, Error> {
        let (open, closed) = watch::channel(());
        let (endpoints, roster) = (Arc::new(endpoints), Arc::new(Roster::new()));
        let (report, mut reports) = mpsc::channel(1);
        // As far as machines are known, which is not before the first lookup.
        let wanted =
            || connections.unwrap_or_else(|| endpoints.machines().len().clamp(FEWEST, MOST));
        let mut started = 0;
        let mut start = |up_to: usize| {
            while started < up_to {
                let (endpoints, roster) = (endpoints.clone(), roster.clone());
                let queue = QUEUE.div_ceil(wanted());
                let keeper = Keeper { endpoints, roster, queue, pace };
                keeper.start(closed.clone(), report.clone());
                started += 1;
            }
        };
        start(1);
        let first = timeout(HEAD_START, reports.recv()).await.ok().flatten();
        if let Some(Err(Unreached { error, .. })) = first {
            // It has tried every machine: the others would learn nothing new.
            return Err(error);
        }
        let count = wanted();
        start(count);
        if first.is_none() {
            any_good(&mut reports, count).await?;
            start(wanted());
        }
        Ok(Self { endpoints, roster, _open: open })
    }

    /// Sends a request, and sends it again when its connection fails or its server refuses it for now,
    /// until its deadline.
    ///
    /// That is safe for every request there is: all are idempotent (spec.md, section 6).
    pub(crate) async fn ask(&self, request: Request) -> Result<Bytes, Error> {
        let (deadline, mut course) = (request.deadline, Course::default());
        let answer = timeout_at(deadline, self.follow(request, &mut course)).await;
        answer.unwrap_or_else(|_| {
            // What the servers said tells more than that the time is over.
            Err(course.refusal.unwrap_or_else(|| {
                let cause = if course.underway { None } else { self.roster.unreached() };
                Error::deadline(cause)
            }))
        })
    }

    async fn follow(&self, request: Request, course: &mut Course) -> Result<Bytes, Error> {
        let Request { opcode, lane, mut body, deadline, impatient } = request;
        let (mut refused_by, mut pauses) = (Vec::new(), None);
        loop {
            let (reply, outcome) = oneshot::channel();
            let command = Command { opcode, lane, body, reply, deadline };
            let place = match self.roster.deliver(command, &refused_by).await? {
                Delivery::To(place) => place,
                Delivery::NobodyElse(command) => {
                    if let Some(refusal) = &course.refusal
                        && (impatient || self.takes_people(refusal))
                    {
                        return Err(refusal.clone());
                    }
                    body = command.body;
                    refused_by.clear();
                    let pauses = pauses.get_or_insert_with(|| delays(REFUSED));
                    sleep(pauses.next().unwrap_or(REFUSED[1])).await;
                    continue;
                }
            };
            course.underway = true;
            let outcome = outcome.await.map_err(|_| Error::closed())?;
            course.underway = false;
            match outcome {
                Outcome::Done(answer) => return answer,
                Outcome::Elsewhere(back) => body = back,
                Outcome::Lost(back, error) => {
                    course.lost += 1;
                    if course.lost == MAX_LOST {
                        return Err(error);
                    }
                    body = back;
                }
                Outcome::Refused(back, error) => {
                    if error.code() == Some(ErrorCode::SEALED) {
                        self.endpoints.is_sealed(place.endpoint);
                    }
                    refused_by.push(place);
                    course.refusal = Some(error);
                    body = back;
                }
            }
        }
    }

    /// Whether a refusal is worth no second try: everything is sealed, until people come with cards.
    fn takes_people(&self, refusal: &Error) -> bool {
        refusal.code() == Some(ErrorCode::SEALED) && self.endpoints.all_are_sealed()
    }
}

/// Waits for a connection to stand; for the clearest error when none of so many does.
async fn any_good(
    reports: &mut mpsc::Receiver<Result<(), Unreached>>,
    count: usize,
) -> Result<(), Error> {
    let mut clearest: Option<Error> = None;
    for _ in 0..count {
        match reports.recv().await {
            Some(Ok(())) => return Ok(()),
            Some(Err(Unreached { error, hopeless: true })) => return Err(error),
            Some(Err(Unreached { error, .. })) => {
                if clearest.as_ref().is_none_or(|other| other.clarity() < error.clarity()) {
                    clearest = Some(error);
                }
            }
            None => break,
        }
    }
    Err(clearest.unwrap_or_else(Error::closed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_within_their_limits_and_differ() {
        let (least, most) = (Duration::from_millis(20), Duration::from_millis(500));
        let once: Vec<_> = delays([least, most]).take(50).collect();
        assert!(once.iter().all(|delay| (least..=2 * most).contains(delay)), "{once:?}");
        assert!(once[0] <= 2 * least && once[49] >= most);
        assert_ne!(once, delays([least, most]).take(50).collect::<Vec<_>>());
    }
}
