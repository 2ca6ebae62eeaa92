//! What goes to an engine.

use std::sync::Arc;
use std::time::Instant;

use sealwire_protocol::message::PingRequest;
use sealwire_protocol::{Flags, Header, Opcode, frame};

use super::Connection;
use crate::State;
use crate::remote::batch::{Batch, Ticket, Trace, Work};
use crate::remote::link::Condition;
use crate::remote::ring::Awaited;
use crate::wire::message::push_document;
use crate::wire::{MAX_SESSIONS, word};

impl Connection<'_> {
    /// Puts a frame into the output, under the next id, and gives that.
    fn say(&mut self, opcode: Opcode, awaited: Awaited, encode: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let request_id = self.ring.push(awaited);
        let header = Header { opcode, flags: Flags::REQUEST, request_id };
        let open = frame::begin(&mut self.output, header);
        encode(&mut self.output);
        open.finish(&mut self.output);
        self.unflushed = true;
        request_id
    }

    pub(super) fn ping(&mut self) {
        self.last_ping = Instant::now();
        self.say(Opcode::PING, Awaited::Nothing, |out| PingRequest { echo: b"" }.encode(out));
    }

    pub(super) fn ask_status(&mut self) {
        self.last_status = Instant::now();
        let lane = self.link.lane as u8;
        self.say(word::STATUS, Awaited::Status, |out| out.push(lane));
    }

    fn say_site(&mut self, site: &Arc<[u8]>) {
        if self.said_site.as_ref().is_none_or(|(said, _)| said != site) {
            let id = self.say(word::SITE, Awaited::Nothing, |out| out.extend_from_slice(site));
            self.said_site = Some((site.clone(), id));
        }
    }

    fn say_session(&mut self, ticket: &Ticket) {
        if self.said_sessions.contains_key(&ticket.number) {
            return;
        }
        if self.said_sessions.len() >= MAX_SESSIONS {
            self.said_sessions.clear();
        }
        let awaited = Awaited::Session(ticket.number);
        let id = self.say(word::SESSION, awaited, |out| out.extend_from_slice(&ticket.body));
        self.said_sessions.insert(ticket.number, id);
    }

    /// Has the engine verify a document that only the site's keys verify. Without a site there is nothing
    /// to prove: its keys are yet to be made.
    pub(super) fn prove(&mut self) {
        if !matches!(self.state, Some(State::Open { .. })) {
            return;
        }
        let proof = self.site.borrow_and_update().clone();
        let Some(proof) = proof else { return self.take_up() };
        let known = self.link.condition();
        if !self.is_proven && !matches!(known, Condition::Leaving | Condition::Foreign) {
            self.set(Condition::Unproven);
        }
        self.last_proof = Instant::now();
        self.say_site(&proof.site);
        self.say(word::VERIFY, Awaited::Proof, |out| push_document(out, &proof.decoy));
    }

    /// Work may come.
    pub(super) fn take_up(&mut self) {
        if !matches!(self.link.condition(), Condition::Up | Condition::Leaving) {
            tracing::info!(engine = %self.address(), lane = ?self.link.lane, "an engine takes work");
            self.set(Condition::Up);
        }
    }

    /// Puts requests into the output, behind what they rest on.
    pub(super) fn send(&mut self, work: &Work) {
        self.say_ground(&work.batch);
        for at in work.range.clone() {
            self.send_one(&work.batch, at, (work.trace, false));
        }
    }

    /// Says what the requests of a batch rest on, as far as the engine was not told: the site's keys, and the
    /// session.
    fn say_ground(&mut self, batch: &Batch) {
        let own = || self.site.borrow().as_ref().map(|proof| proof.site.clone());
        if let Some(site) = batch.site.clone().or_else(own) {
            self.say_site(&site);
        }
        if let Some(ticket) = &batch.session {
            self.say_session(ticket);
        }
    }

    fn send_one(&mut self, batch: &Arc<Batch>, at: usize, (trace, again): (Trace, bool)) {
        let id = self.ring.push(Awaited::Request { batch: batch.clone(), at, trace, again });
        let start = self.output.len();
        self.output.extend_from_slice(batch.frame(at));
        self.output[start + 8..start + 16].copy_from_slice(&id.to_be_bytes());
        self.unflushed = true;
    }

    /// Sends a request again, of the id `id`, because the engine has forgotten what it rests on. That is said
    /// again first, unless it was since: many requests are refused together, and it is said once.
    pub(super) fn send_again(&mut self, batch: &Arc<Batch>, at: usize, (trace, id): (Trace, u64)) {
        if self.said_site.as_ref().is_some_and(|(_, said)| *said < id) {
            self.said_site = None;
        }
        if let Some(ticket) = &batch.session
            && self.said_sessions.get(&ticket.number).is_some_and(|said| *said < id)
        {
            self.said_sessions.remove(&ticket.number);
        }
        self.say_ground(batch);
        self.send_one(batch, at, (trace, true));
    }
}
