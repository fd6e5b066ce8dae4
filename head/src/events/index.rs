//! Where in one segment each attempt's frames lie.
//!
//! ```text
//! file  = magic | CRC-32C of the head u32 | length of the head u32 | head | entries
//! head  = segment bytes u32 | newest ms u64 | entries u32 | CRC-32C of the entries u32 | filter
//! entry = task u64 | attempt u32 | kind u32 | first u64 | last u64 | offset u32 | length u32
//! ```
//! The head of the file is kept in memory; the entries are read when somebody asks. The whole file
//! can be made again from its segment, so that it needs no sync: a damaged one is made anew.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use orchestra_config::durable;
use orchestra_types::{AttemptId, TaskId, Timestamp};

use super::{
    GapReason,
    filter::Filter,
    frame::{u32_at, u64_at},
};

const MAGIC: &[u8; 8] = b"ORCHEVX\x01";
const HEAD_FIXED_BYTES: usize = 20;
const ENTRY_BYTES: usize = 40;

/// One frame of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// None for events; the reason where they were dropped.
    pub gap: Option<GapReason>,
    pub first: u64,
    pub last: u64,
    pub offset: u32,
    pub length: u32,
}

/// Where the first frame of events lies that goes on behind this number. Records of dropped events stand between
/// them, each with numbers of long before: only the frames of events are in order.
pub(super) fn first_behind(places: &[Place], seq: u64) -> usize {
    let (mut from, mut to) = (0, places.len());
    while from < to {
        let middle = from + (to - from) / 2;
        let events = places[middle..to].iter().position(|p| p.gap.is_none());
        match events.map(|skipped| middle + skipped) {
            Some(at) if places[at].last <= seq => from = at + 1,
            Some(_) | None => to = middle,
        }
    }
    from
}

/// The frames of a segment, by attempt and in the order of their writing.
pub(super) type Places = BTreeMap<AttemptId, Vec<Place>>;

/// What is kept in memory of a segment that is full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// How long the segment is.
    pub bytes: u32,
    /// When its last frame was written.
    pub newest: Timestamp,
    /// Which attempts it may hold.
    pub filter: Filter,
    entries: u32,
    entries_crc: u32,
}

impl Summary {
    /// Writes the index of a full segment. Without the file the segment is read when it is needed.
    pub fn write(path: &Path, bytes: u32, newest: Timestamp, places: &Places) -> Self {
        let entries = entry_bytes(places);
        let summary = Self {
            bytes,
            newest,
            filter: Filter::of(places.keys().copied()),
            entries: u32::try_from(entries.len() / ENTRY_BYTES).unwrap_or(u32::MAX),
            entries_crc: crc32c::crc32c(&entries),
        };
        let made = durable::create_private(path);
        let written = made.and_then(|mut file| file.write_all(&summary.file(&entries)));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "failed to write an index");
        }
        summary
    }

    fn file(&self, entries: &[u8]) -> Vec<u8> {
        let mut head = Vec::new();
        head.extend(self.bytes.to_le_bytes());
        head.extend(self.newest.0.to_le_bytes());
        head.extend(self.entries.to_le_bytes());
        head.extend(self.entries_crc.to_le_bytes());
        head.extend(self.filter.as_bytes());
        let mut file = MAGIC.to_vec();
        file.extend(crc32c::crc32c(&head).to_le_bytes());
        file.extend(u32::try_from(head.len()).unwrap_or(u32::MAX).to_le_bytes());
        file.extend(head);
        file.extend(entries);
        file
    }

    /// The head of an index; none when it is missing or damaged.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let size = file.metadata()?.len();
        let mut start = [0; 16];
        if size < start.len() as u64 {
            return Ok(None);
        }
        file.read_exact(&mut start)?;
        let length = u32_at(&start, 12) as usize;
        let fits = length >= HEAD_FIXED_BYTES && size >= (start.len() + length) as u64;
        if start[..8] != *MAGIC || !fits {
            return Ok(None);
        }
        let mut head = vec![0; length];
        file.read_exact(&mut head)?;
        if crc32c::crc32c(&head) != u32_at(&start, 8) {
            return Ok(None);
        }
        let filter = head.split_off(HEAD_FIXED_BYTES);
        Ok((!filter.is_empty()).then(|| Self {
            bytes: u32_at(&head, 0),
            newest: Timestamp(u64_at(&head, 4)),
            entries: u32_at(&head, 12),
            entries_crc: u32_at(&head, 16),
            filter: Filter::from_bytes(filter),
        }))
    }

    /// All frames of the segment; none when the entries are missing or damaged.
    pub fn read_places(&self, path: &Path) -> io::Result<Option<Places>> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let head = 16 + HEAD_FIXED_BYTES + self.filter.as_bytes().len();
        file.seek(SeekFrom::Start(head as u64))?;
        let mut entries = Vec::new();
        file.read_to_end(&mut entries)?;
        let whole = entries.len() == self.entries as usize * ENTRY_BYTES;
        if !whole || crc32c::crc32c(&entries) != self.entries_crc {
            return Ok(None);
        }
        let mut places = Places::new();
        for entry in entries.chunks_exact(ENTRY_BYTES) {
            let (attempt, place) = read_entry(entry);
            places.entry(attempt).or_default().push(place);
        }
        Ok(Some(places))
    }
}

fn entry_bytes(places: &Places) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (attempt, places) in places {
        for place in places {
            bytes.extend(attempt.task.0.to_le_bytes());
            bytes.extend(attempt.number.to_le_bytes());
            let kind: u32 = match place.gap {
                None => 0,
                Some(GapReason::Age) => 1,
                Some(GapReason::Total) => 2,
                Some(GapReason::Attempt) => 3,
                Some(GapReason::Damaged) => 4,
            };
            bytes.extend(kind.to_le_bytes());
            bytes.extend(place.first.to_le_bytes());
            bytes.extend(place.last.to_le_bytes());
            bytes.extend(place.offset.to_le_bytes());
            bytes.extend(place.length.to_le_bytes());
        }
    }
    bytes
}

fn read_entry(bytes: &[u8]) -> (AttemptId, Place) {
    let attempt = AttemptId {
        task: TaskId(u64_at(bytes, 0)),
        number: u32_at(bytes, 8),
    };
    let gap = match u32_at(bytes, 12) {
        1 => Some(GapReason::Age),
        2 => Some(GapReason::Total),
        3 => Some(GapReason::Attempt),
        4 => Some(GapReason::Damaged),
        _ => None,
    };
    let place = Place {
        gap,
        first: u64_at(bytes, 16),
        last: u64_at(bytes, 24),
        offset: u32_at(bytes, 32),
        length: u32_at(bytes, 36),
    };
    (attempt, place)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn events_are_found_by_number_wherever_records_of_dropped_ones_stand_between_them() {
        let place = |gap, first, last| Place {
            gap,
            first,
            last,
            offset: 0,
            length: 0,
        };
        for gaps in 0_u32..1 << 10 {
            let mut places = Vec::new();
            for number in 0..10 {
                if gaps & (1 << number) != 0 {
                    places.push(place(Some(GapReason::Attempt), 1, number));
                }
                places.push(place(None, number * 5 + 1, number * 5 + 5));
            }
            for seq in 0..55 {
                let behind = |place: &Place| place.gap.is_none() && place.last > seq;
                let wanted = places.iter().find(|place| behind(place));
                let found = places[first_behind(&places, seq)..].iter();
                let found = found.clone().find(|place| place.gap.is_none());
                assert_eq!(found, wanted, "behind {seq}, gaps {gaps:b}");
            }
        }
    }

    #[test]
    fn an_index_comes_back_as_it_was_and_a_flipped_bit_anywhere_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let place = |first| Place {
            gap: (first == 1).then_some(GapReason::Age),
            first,
            last: first + 4,
            offset: 8,
            length: 90,
        };
        let attempt = |task| AttemptId {
            task: TaskId(task),
            number: 2,
        };
        let places = Places::from([
            (attempt(1), vec![place(1), place(6)]),
            (attempt(9), vec![place(2)]),
        ]);
        let written = Summary::write(&path, 700, Timestamp(5), &places);
        let read = Summary::read(&path).unwrap().expect("it is whole");
        assert_eq!(read, written);
        assert_eq!(read.read_places(&path).unwrap(), Some(places));
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            fs::write(&path, flipped).unwrap();
            let seen = match Summary::read(&path).unwrap() {
                None => true,
                Some(summary) => summary.read_places(&path).unwrap().is_none(),
            };
            assert!(seen, "a flipped bit in byte {at}");
        }
    }
}
