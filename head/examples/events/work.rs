//! What is measured: how many attempts, how large their batches are, and who follows them.

use std::time::{Duration, Instant};

use orchestra_proto::{batch::encode, v1};
use orchestra_types::{AttemptId, TaskId};
use prost::Message;

/// One load.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub name: &'static str,
    pub attempts: u64,
    pub batches: u64,
    pub batch: u64,
    /// They follow the first attempts, one each, and begin again at the first when there are more.
    pub followers: u64,
}

pub const SHAPES: &[Shape] = &[
    Shape {
        name: "one_attempt_ten_followers",
        attempts: 1,
        batches: 2000,
        batch: 512,
        followers: 10,
    },
    Shape {
        name: "hundred_attempts_ten_followers",
        attempts: 100,
        batches: 160,
        batch: 64,
        followers: 10,
    },
    Shape {
        name: "ten_thousand_attempts_ten_followers",
        attempts: 10_000,
        batches: 4,
        batch: 16,
        followers: 10,
    },
];

#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub took: Duration,
    pub cpu: Duration,
    pub followed: u64,
}

impl Shape {
    pub fn events(&self) -> u64 {
        self.attempts * self.batches * self.batch
    }

    pub fn events_of_one(&self) -> u64 {
        self.batches * self.batch
    }

    pub fn attempt(&self, number: u64) -> AttemptId {
        AttemptId {
            task: TaskId(number % self.attempts + 1),
            number: 1,
        }
    }
}

/// Events of one batch, numbered on from `first`.
pub fn batch(first: u64, count: u64) -> Vec<v1::Event> {
    (first..first + count).map(event).collect()
}

/// A piece of a message, as most events are.
fn event(seq: u64) -> v1::Event {
    let text = v1::event::Text {
        message_id: "msg_01".to_owned(),
        text: "a few words of what was said".to_owned(),
        delta: true,
    };
    v1::Event {
        seq,
        time_ms: 1_790_000_000_000,
        kind: Some(v1::event::Kind::Message(text)),
        ..v1::Event::default()
    }
}

pub fn event_bytes() -> usize {
    event(1000).encoded_len()
}

/// What this program itself takes to make an event, which is in every figure.
pub fn making_us() -> f64 {
    let began = Instant::now();
    for _ in 0..200 {
        std::hint::black_box(encode(&batch(1, 500)));
    }
    (began.elapsed().as_secs_f64() * 1e3).round() / 100.0
}
