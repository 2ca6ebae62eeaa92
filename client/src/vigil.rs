//! The watch over a connection's server: whether it is there, and whether it does its work.

use std::time::Duration;

use sealwire_protocol::{ErrorCode, Opcode};
use tokio::time::Instant;

use crate::gauge::{Gauge, State};

/// Time without a byte, while replies are awaited, after which the server is asked by PING whether it
/// is there, and after which, PING being unanswered too, its requests go elsewhere. A gateway answers
/// PING by itself, whatever the engine is busy with: half a second is a thousand times what it takes
/// within a data centre, and twice that is as long as a person's message may hang.
const SILENT: Duration = Duration::from_millis(500);

/// How often silence is looked for. A fifth of [`SILENT`]: what it adds to it does not matter.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Time without a byte before a server is suspected that has as much to do as it may have, or has not
/// taken all that was sent: it may not have come to the PING yet.
const BUSY: Duration = Duration::from_secs(5);

/// Time without a byte, while replies are awaited, after which the connection is given up even when
/// there is no other. Much longer than [`SILENT`]: a server that is merely slow would have to do all
/// of it again.
const STALL: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Vigil {
    last_heard: Instant,
    /// Bytes of a frame that is not whole yet, when they were last looked at.
    buffered: usize,
    /// When the server was asked whether it is there; no byte has come since.
    pinged: Option<Instant>,
    silent: bool,
    refusing: bool,
    served: bool,
    told: State,
}

impl Vigil {
    pub(crate) fn new() -> Self {
        Self {
            last_heard: Instant::now(),
            buffered: 0,
            pinged: None,
            silent: false,
            refusing: false,
            served: false,
            told: State::Fine,
        }
    }

    /// The first request after a time without any: until now there was nothing to answer.
    pub(crate) fn begin(&mut self) {
        self.last_heard = Instant::now();
    }

    /// The server is there.
    pub(crate) fn hear(&mut self) {
        self.last_heard = Instant::now();
        (self.pinged, self.silent) = (None, false);
    }

    /// Half of a large answer is a sign of life.
    pub(crate) fn see_buffer(&mut self, length: usize) {
        if std::mem::replace(&mut self.buffered, length) != length {
            self.hear();
        }
    }

    /// Time since the last sign of life.
    pub(crate) fn silence(&self) -> Duration {
        self.last_heard.elapsed()
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.silence() >= STALL
    }

    pub(crate) fn wants_ping(&self) -> bool {
        self.pinged.is_none() && self.silence() >= SILENT
    }

    pub(crate) fn pinged(&mut self) {
        self.pinged = Some(Instant::now());
    }

    /// Whether PING went unanswered for too long; `busy` as [`BUSY`] has it.
    pub(crate) fn is_suspect(&self, busy: bool) -> bool {
        let unanswered = self.pinged.is_some_and(|when| when.elapsed() >= SILENT);
        unanswered && (!busy || self.silence() >= BUSY)
    }

    pub(crate) fn suspect(&mut self) {
        self.silent = true;
    }

    /// Learns from an answer, or a refusal, whether the server does its work. What it may refuse for
    /// other reasons, or answers without its engine, says nothing about that.
    pub(crate) fn judge(&mut self, opcode: Opcode, refusal: Option<ErrorCode>, gauge: &Gauge) {
        let work = matches!(opcode, Opcode::ENC | Opcode::DEC | Opcode::REENC | Opcode::DATAKEY);
        match refusal {
            None | Some(ErrorCode::OPEN_FAILED) if work => {
                self.refusing = false;
                if !std::mem::replace(&mut self.served, true) {
                    gauge.set_served();
                }
            }
            Some(ErrorCode::SEALED) => self.refusing = true,
            Some(ErrorCode::UNAVAILABLE) if work => self.refusing = true,
            _ => {}
        }
    }

    /// How the connection does, when that has changed since the last call.
    pub(crate) fn news(&mut self) -> Option<State> {
        let state = match (self.silent, self.refusing) {
            (true, _) => State::Suspect,
            (false, true) => State::Refusing,
            (false, false) => State::Fine,
        };
        (std::mem::replace(&mut self.told, state) != state).then_some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_server_is_given_more_time_than_an_idle_one() {
        let Some(past) = Instant::now().checked_sub(2 * SILENT) else { return };
        let mut vigil = Vigil { last_heard: past, ..Vigil::new() };
        assert!(vigil.wants_ping() && !vigil.is_suspect(false), "not asked yet");
        vigil.pinged = Some(past);
        assert!(!vigil.wants_ping() && vigil.is_suspect(false));
        assert!(!vigil.is_suspect(true) && !vigil.is_lost());
        let Some(past) = Instant::now().checked_sub(BUSY) else { return };
        vigil.last_heard = past;
        assert!(vigil.is_suspect(true));
        vigil.hear();
        assert!(!vigil.is_suspect(false) && !vigil.is_suspect(true));
    }

    #[test]
    fn only_what_the_engine_answers_shows_whether_a_server_works() {
        let (mut vigil, gauge) = (Vigil::new(), Gauge::default());
        let mut after = |opcode, refusal| {
            vigil.judge(opcode, refusal, &gauge);
            vigil.news()
        };
        assert_eq!(after(Opcode::GENKEY, Some(ErrorCode::UNAVAILABLE)), None, "the manager's");
        assert_eq!(after(Opcode::ENC, Some(ErrorCode::KEY_EXHAUSTED)), None, "the key's");
        assert_eq!(after(Opcode::ENC, Some(ErrorCode::UNAVAILABLE)), Some(State::Refusing));
        assert_eq!(after(Opcode::PING, None), None);
        assert_eq!(after(Opcode::KEYINFO, None), None);
        assert!(!gauge.has_served());
        assert_eq!(after(Opcode::DEC, Some(ErrorCode::OPEN_FAILED)), Some(State::Fine));
        assert_eq!(after(Opcode::KEYINFO, Some(ErrorCode::SEALED)), Some(State::Refusing));
        assert_eq!(after(Opcode::REENC, None), Some(State::Fine));
        assert!(gauge.has_served());
    }
}
