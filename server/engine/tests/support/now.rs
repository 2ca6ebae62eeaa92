//! What is asked of an engine in this process is answered at once.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use sealwire_engine::Tag;
use sealwire_protocol::{Flags, Header, Opcode};

/// What a call of an engine in this process makes no use of.
pub fn tag() -> Tag {
    let header = Header { opcode: Opcode::ENC, flags: Flags::REQUEST, request_id: 1 };
    Tag::new(header, Instant::now())
}

pub trait Now: Future + Sized {
    fn now(self) -> Self::Output {
        match pin!(self).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done,
            Poll::Pending => panic!("an engine in this process has something to wait for"),
        }
    }
}

impl<T: Future> Now for T {}
