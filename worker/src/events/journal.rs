//! The journal of one attempt: what was read from the CLI in which order, and the numbered events
//! that came of it.
//!
//! It serves two readers. The pusher takes the events from it, so that a broken connection loses
//! nothing. A worker that comes back after a crash feeds the same causes to a fresh adapter, which
//! is then in the state of the old one, and goes on with the next number. The events themselves
//! are never made twice, so that another version of an adapter cannot change history.
//!
//! Appends survive the process at once. They are not synced one by one: a loss of power also ends
//! the agent, and what the head has acknowledged it keeps.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use orchestra_proto::v1;
use orchestra_types::{Event, EventKind, Timestamp, limits};
use prost::Message;
use tokio::sync::watch;

use crate::{frames, room::Full};

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] frames::Error),
    /// It holds something else.
    #[error("`{path}` is not a journal of events")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl Full for Error {
    fn is_full(&self) -> bool {
        match self {
            Self::File(error) => error.is_full(),
            Self::Malformed { .. } => false,
        }
    }
}

/// What made the adapter act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Orchestra itself says something; the adapter is not involved.
    Own,
    /// A line of standard output, by its place in the raw log.
    Stdout {
        /// Where it begins.
        offset: u64,
        /// Bytes of it that the adapter was given.
        length: u64,
        /// Where the next one begins.
        next: u64,
    },
    /// A line of standard error, by its place in the raw log.
    Stderr {
        /// Where it begins.
        offset: u64,
        /// Bytes of it that the adapter was given.
        length: u64,
        /// Where the next one begins.
        next: u64,
    },
    /// The adapter was asked to stop the CLI.
    Cancel,
    /// The adapter was told how the process ended.
    Finish,
}

/// One step of an attempt.
#[derive(Clone, PartialEq, Message)]
pub struct Step {
    #[prost(uint32, tag = "1")]
    cause: u32,
    #[prost(uint64, tag = "2")]
    offset: u64,
    #[prost(uint64, tag = "3")]
    length: u64,
    #[prost(uint64, tag = "4")]
    next: u64,
    /// What came of it.
    #[prost(message, repeated, tag = "5")]
    pub events: Vec<v1::Event>,
}

impl Step {
    /// What made the adapter act.
    #[must_use]
    pub fn cause(&self) -> Cause {
        let (offset, length, next) = (self.offset, self.length, self.next);
        match self.cause {
            1 => Cause::Stdout {
                offset,
                length,
                next,
            },
            2 => Cause::Stderr {
                offset,
                length,
                next,
            },
            3 => Cause::Cancel,
            4 => Cause::Finish,
            _ => Cause::Own,
        }
    }

    fn new(cause: Cause, events: Vec<v1::Event>) -> Self {
        let (number, offset, length, next) = match cause {
            Cause::Own => (0, 0, 0, 0),
            Cause::Stdout {
                offset,
                length,
                next,
            } => (1, offset, length, next),
            Cause::Stderr {
                offset,
                length,
                next,
            } => (2, offset, length, next),
            Cause::Cancel => (3, 0, 0, 0),
            Cause::Finish => (4, 0, 0, 0),
        };
        Self {
            cause: number,
            offset,
            length,
            next,
            events,
        }
    }
}

/// Numbers events and writes them down. What a full disk does not take waits here for
/// [`Journal::settle`]; whoever records must not go on before that is done.
#[derive(Debug)]
pub struct Journal {
    file: frames::Writer,
    /// The number of the last event, written or not.
    numbered: u64,
    /// Steps that a full disk has not taken.
    waiting: VecDeque<Step>,
    /// The number of the last event that is written.
    last: watch::Sender<u64>,
}

impl Journal {
    /// Opens the journal; every step that it holds goes to `each`.
    pub fn open(path: &Path, mut each: impl FnMut(Step)) -> Result<Self, Error> {
        let mut last = 0;
        let mut whole = true;
        let file = frames::Writer::open(path, |payload| match Step::decode(payload) {
            Ok(step) => {
                last = step.events.last().map_or(last, |event| event.seq);
                each(step);
            }
            Err(_) => whole = false,
        })?;
        if !whole {
            return Err(Error::Malformed {
                path: path.to_owned(),
            });
        }
        let numbered = last;
        let (last, _) = watch::channel(last);
        Ok(Self {
            file,
            numbered,
            waiting: VecDeque::new(),
            last,
        })
    }

    /// Follows the number of the last event.
    #[must_use]
    pub fn last(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// Writes a step down, or keeps it while the disk is full. `raw` is the CLI's own line; it stays
    /// beside the first event of it.
    pub fn record(
        &mut self,
        cause: Cause,
        now: Timestamp,
        raw: &[u8],
        happened: Vec<(String, EventKind)>,
    ) -> Result<(), Error> {
        let mut raw = limits::cut(&String::from_utf8_lossy(raw), limits::EVENT_RAW_BYTES_MAX);
        let first = self.numbered + 1;
        let number = |((agent, kind), seq)| {
            let event = Event {
                seq,
                time: now,
                agent,
                kind,
                raw: std::mem::take(&mut raw),
            };
            acceptable(event.into())
        };
        let events: Vec<_> = happened.into_iter().zip(first..).map(number).collect();
        self.numbered += events.len() as u64;
        self.waiting.push_back(Step::new(cause, events));
        self.settle().map(drop)
    }

    /// Writes down what waits; false while the disk is still full.
    pub fn settle(&mut self) -> Result<bool, Error> {
        while let Some(step) = self.waiting.front() {
            match self.file.append(&step.encode_to_vec()) {
                Err(error) if error.is_full() => return Ok(false),
                done => done?,
            }
            if let Some(event) = step.events.last() {
                self.last.send_replace(event.seq);
            }
            self.waiting.pop_front();
        }
        Ok(true)
    }
}

/// What the head would refuse is told as a refusal: one event must never stop the ones behind it.
fn acceptable(event: v1::Event) -> v1::Event {
    match Event::try_from(event.clone()) {
        Ok(_) => event,
        Err(refused) => v1::Event {
            agent: String::new(),
            kind: Some(v1::event::Kind::Status(v1::event::Status {
                phase: "event_refused".to_owned(),
                text: refused.to_string(),
                fields: Default::default(),
            })),
            ..event
        },
    }
}

/// Reads the events of a journal behind a number, also while it grows.
#[derive(Debug)]
pub struct Reader {
    file: frames::Reader,
    path: PathBuf,
    rest: std::vec::IntoIter<v1::Event>,
    after: u64,
}

impl Reader {
    /// Opens a journal for the events behind `after`, and reads up to there.
    pub fn open(path: &Path, after: u64) -> Result<Self, Error> {
        let mut reader = Self {
            file: frames::Reader::open(path, 0)?,
            path: path.to_owned(),
            rest: Vec::new().into_iter(),
            after,
        };
        reader.skip()?;
        Ok(reader)
    }

    /// Comes to the first event behind `after`, or to the end.
    fn skip(&mut self) -> Result<(), Error> {
        while self.after > 0 {
            while let Some(event) = self.rest.as_slice().first() {
                if event.seq > self.after {
                    return Ok(());
                }
                self.rest.next();
            }
            if !self.read_step()? {
                break;
            }
        }
        Ok(())
    }

    /// The next events, at most `max` and about `bytes` of them; none when there are no more yet.
    pub fn batch(&mut self, max: usize, bytes: usize) -> Result<Vec<v1::Event>, Error> {
        let mut batch = Vec::new();
        let mut size = 0;
        while batch.len() < max && size < bytes {
            let Some(event) = self.next()? else { break };
            size += event.encoded_len();
            batch.push(event);
        }
        Ok(batch)
    }

    fn next(&mut self) -> Result<Option<v1::Event>, Error> {
        loop {
            if let Some(event) = self.rest.find(|event| event.seq > self.after) {
                return Ok(Some(event));
            }
            if !self.read_step()? {
                return Ok(None);
            }
        }
    }

    /// Takes the next step up; false where there is none yet.
    fn read_step(&mut self) -> Result<bool, Error> {
        let Some(payload) = self.file.next()? else {
            return Ok(false);
        };
        let step = Step::decode(payload.as_slice()).map_err(|_| Error::Malformed {
            path: self.path.clone(),
        })?;
        self.rest = step.events.into_iter();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(text: &str) -> (String, EventKind) {
        let text = text.to_owned();
        (String::new(), EventKind::Plan { text })
    }

    fn line(offset: u64) -> Cause {
        Cause::Stdout {
            offset,
            length: 3,
            next: offset + 4,
        }
    }

    #[test]
    fn numbers_go_on_and_causes_come_back_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let mut journal = Journal::open(&path, |_| {}).unwrap();
        let now = Timestamp(7);
        journal
            .record(line(0), now, b"abc", vec![say("a"), say("b")])
            .unwrap();
        journal.record(line(4), now, b"def", vec![]).unwrap();
        journal
            .record(Cause::Cancel, now, b"", vec![say("c")])
            .unwrap();

        let mut causes = Vec::new();
        let mut again = Journal::open(&path, |step| causes.push(step.cause())).unwrap();
        assert_eq!(causes, [line(0), line(4), Cause::Cancel]);
        again.record(Cause::Own, now, b"", vec![say("d")]).unwrap();

        let mut reader = Reader::open(&path, 1).unwrap();
        let seen: Vec<_> = reader
            .batch(9, 9000)
            .unwrap()
            .iter()
            .map(|e| e.seq)
            .collect();
        assert_eq!(seen, [2, 3, 4]);
    }

    #[test]
    fn the_raw_line_stands_beside_its_first_event_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let mut journal = Journal::open(&path, |_| {}).unwrap();
        journal
            .record(line(0), Timestamp(7), b"a\xff", vec![say("a"), say("b")])
            .unwrap();
        let events = Reader::open(&path, 0).unwrap().batch(9, 9000).unwrap();
        let raw: Vec<_> = events.iter().map(|e| e.raw.as_str()).collect();
        assert_eq!(raw, ["a\u{fffd}", ""]);
    }

    #[test]
    fn an_event_that_the_head_would_refuse_is_told_as_such_and_keeps_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let mut journal = Journal::open(&path, |_| {}).unwrap();
        let long = "x".repeat(limits::EVENT_TEXT_BYTES_MAX + 1);
        let both = vec![say(&long), say("next")];
        journal.record(line(0), Timestamp(7), b"raw", both).unwrap();
        let events = Reader::open(&path, 0).unwrap().batch(9, 9000).unwrap();
        let phases = events.into_iter().map(|e| match e.kind {
            Some(v1::event::Kind::Status(status)) => (e.seq, status.phase),
            _ => (e.seq, String::new()),
        });
        let phases: Vec<_> = phases.collect();
        assert_eq!(
            phases,
            [(1, "event_refused".to_owned()), (2, String::new())]
        );
    }

    #[test]
    fn a_batch_is_bounded_and_the_next_one_follows_without_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let mut journal = Journal::open(&path, |_| {}).unwrap();
        let many = (0..5).map(|_| say("x")).collect();
        journal.record(Cause::Own, Timestamp(7), b"", many).unwrap();
        let mut reader = Reader::open(&path, 0).unwrap();
        let sizes: Vec<_> = (0..4)
            .map(|_| reader.batch(2, 9000).unwrap().len())
            .collect();
        assert_eq!(sizes, [2, 2, 1, 0]);
    }
}
