//! The bytes of a segment: a magic number, then frames.
//!
//! ```text
//! frame  = length u32 | CRC-32C u32 | header | body            all little endian
//! header = kind u8 | task u64 | attempt u32 | first u64 | last u64 | time_ms u64 | synced u32
//! ```
//! The body of a frame of events is what the wire's `EventBatch` has in its field `events`: it goes
//! from and to the network as it is. A gap has no body. Pure: no file, no clock.

use bytes::Bytes;
use orchestra_proto::v1;
use orchestra_types::{AttemptId, TaskId, Timestamp};
use prost::Message;

use super::GapReason;

/// What each segment begins with; the last byte is the format.
pub(super) const MAGIC: &[u8; 8] = b"ORCHEVS\x01";
/// Length and CRC, which are not counted in the length.
pub(super) const HEAD_BYTES: usize = 8;
const HEADER_BYTES: usize = 41;
/// A frame without a body.
pub(super) const FRAME_BYTES_MIN: u32 = (HEAD_BYTES + HEADER_BYTES) as u32;
/// A frame ends when it has this many bytes of events, so that readers take it in one go.
pub(super) const BODY_BYTES: usize = 64 * 1024;
/// Longest frame: a body that was nearly full, and one event with all its texts at their limits.
pub(super) const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// A frame without an attempt, a seal: everything before it is durable.
const CLOSED: u8 = 0;
const EVENTS: u8 = 1;
const GAP_AGE: u8 = 2;
const GAP_TOTAL: u8 = 3;
const GAP_ATTEMPT: u8 = 4;

/// What a frame tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A seal: everything before it is durable.
    Closed,
    /// Events `first..=last` are in it.
    Events,
    /// Events `first..=last` were dropped.
    Gap(GapReason),
}

/// What stands before the body of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: Kind,
    pub attempt: AttemptId,
    pub first: u64,
    pub last: u64,
    pub time: Timestamp,
    /// So much of the file was durable when this was written.
    pub synced: u32,
}

/// GapReason bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// There are fewer bytes than it should have.
    Short,
    /// Its checksum or its fields are wrong.
    Wrong,
}

impl Header {
    /// A seal.
    pub fn closed(time: Timestamp, synced: u32) -> Self {
        let attempt = AttemptId {
            task: TaskId(0),
            number: 0,
        };
        Self {
            kind: Kind::Closed,
            attempt,
            first: 0,
            last: 0,
            time,
            synced,
        }
    }

    /// Appends a frame to `to`; gives its length.
    pub fn put(&self, events: &[Bytes], to: &mut Vec<u8>) -> usize {
        let start = to.len();
        to.extend([0; HEAD_BYTES]);
        to.push(match self.kind {
            Kind::Closed => CLOSED,
            Kind::Events => EVENTS,
            Kind::Gap(GapReason::Age) => GAP_AGE,
            Kind::Gap(GapReason::Total) => GAP_TOTAL,
            Kind::Gap(GapReason::Attempt | GapReason::Damaged) => GAP_ATTEMPT,
        });
        to.extend(self.attempt.task.0.to_le_bytes());
        to.extend(self.attempt.number.to_le_bytes());
        to.extend(self.first.to_le_bytes());
        to.extend(self.last.to_le_bytes());
        to.extend(self.time.0.to_le_bytes());
        to.extend(self.synced.to_le_bytes());
        prost::encoding::bytes::encode_repeated(v1::EventBatch::EVENTS_TAG, events, to);
        let content = &to[start + HEAD_BYTES..];
        let length = u32::try_from(content.len()).expect("a frame is at most 1 MiB");
        let crc = crc32c::crc32c(content);
        to[start..start + 4].copy_from_slice(&length.to_le_bytes());
        to[start + 4..start + HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
        to.len() - start
    }

    /// The frame at the beginning of `bytes`: its header, its whole length and its body.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize, &[u8]), Broken> {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES).ok_or(Broken::Short)?;
        let (length, crc) = (u32_at(head, 0) as usize, u32_at(head, 4));
        if !(HEADER_BYTES..=FRAME_BYTES_MAX).contains(&length) {
            return Err(Broken::Wrong);
        }
        let content = rest.get(..length).ok_or(Broken::Short)?;
        let header = Self::read(content).ok_or(Broken::Wrong)?;
        if crc32c::crc32c(content) != crc {
            return Err(Broken::Wrong);
        }
        Ok((header, HEAD_BYTES + length, &content[HEADER_BYTES..]))
    }

    fn read(content: &[u8]) -> Option<Self> {
        let kind = match content[0] {
            CLOSED => Kind::Closed,
            EVENTS => Kind::Events,
            GAP_AGE => Kind::Gap(GapReason::Age),
            GAP_TOTAL => Kind::Gap(GapReason::Total),
            GAP_ATTEMPT => Kind::Gap(GapReason::Attempt),
            _ => return None,
        };
        let header = Self {
            kind,
            attempt: AttemptId {
                task: TaskId(u64_at(content, 1)),
                number: u32_at(content, 9),
            },
            first: u64_at(content, 13),
            last: u64_at(content, 21),
            time: Timestamp(u64_at(content, 29)),
            synced: u32_at(content, 37),
        };
        (header.first <= header.last).then_some(header)
    }
}

/// The events of a body, without a copy.
pub(super) fn events(body: Bytes) -> Result<Vec<Bytes>, prost::DecodeError> {
    Ok(v1::EventBatch::decode(body)?.events)
}

/// How many of these events make the next frame: always one, and no more than fill it.
pub(super) fn fill(events: &[Bytes]) -> usize {
    let mut bytes = 0;
    let full = events.iter().position(|event| {
        bytes += event.len();
        bytes > BODY_BYTES
    });
    full.unwrap_or(events.len()).max(1)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
