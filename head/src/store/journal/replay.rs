//! Reading the journal at the start: which commits are whole, and whether anything is missing.
//!
//! A commit is written only after the one before it is durable. So after a crash at most the last
//! commit is torn, and it was never acknowledged. A frame of a later commit, or a seal, behind one
//! that does not read proves that durable bytes were changed: that is damage, and is refused. So does
//! an end before what the store's mark says to be durable.

use std::path::Path;

use super::{
    Journal,
    frame::{self, Header, Kind},
    segment::{self, Segment},
};
use crate::store::{
    Error, Result,
    error::io_error,
    mark,
    table::{Place, Table},
};

/// From where on the journal is needed: the database has what was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The number of the last frame that the database has.
    pub number: u64,
    /// The first segment that is still needed.
    pub segment: u64,
}

struct Replay {
    /// The last frame of the last whole commit, and the place behind it.
    committed: u64,
    end: (u64, u64),
    /// Frames of a commit whose last one has not come yet.
    pending: Vec<(Header, Vec<Row>)>,
    /// Whether there are frames behind the last whole commit.
    torn: bool,
    /// The newest value of each row.
    table: Table,
}

type Row = (sled::IVec, Option<Place>);

impl Journal {
    /// Reads the journal in `dir` from `from` on. Gives the newest value of each row in it. It must
    /// have the frame `durable`.
    pub fn open(dir: &Path, from: Position, durable: u64) -> Result<(Self, Table)> {
        let numbers = segment::list(dir).map_err(|source| io_error("read", dir, source))?;
        let mut replay = Replay {
            committed: from.number,
            end: (from.segment, segment::FIRST_FRAME),
            pending: Vec::new(),
            torn: false,
            table: Table::default(),
        };
        let mut segments = Vec::new();
        for number in numbers {
            if number < from.segment {
                remove(&segment::path(dir, number))?;
                continue;
            }
            let expected = from.segment + segments.len() as u64;
            if number != expected {
                return Err(missing(dir, expected));
            }
            let (segment, bytes) = Segment::open(dir, number)?;
            replay.segment(&segment, &bytes)?;
            segments.push(segment);
        }
        if segments.is_empty() {
            return Err(missing(dir, from.segment));
        }
        // IMPORTANT: looked at before a torn end is cut off, so that nothing of what is left goes.
        if replay.committed < durable {
            return Err(mark::ends_early(dir, replay.committed, durable));
        }
        replay.into_journal(dir, segments)
    }
}

impl Replay {
    fn segment(&mut self, segment: &Segment, bytes: &[u8]) -> Result<()> {
        let mut at = segment::FIRST_FRAME as usize;
        while at + frame::HEADER_BYTES <= bytes.len() {
            match frame::read(bytes, at, segment.salt) {
                Some((header, range)) => {
                    at = range.end.next_multiple_of(frame::ALIGNMENT);
                    self.frame(segment, bytes, header, range, at as u64)?;
                }
                None => at += frame::ALIGNMENT,
            }
        }
        Ok(())
    }

    fn frame(
        &mut self,
        segment: &Segment,
        bytes: &[u8],
        header: Header,
        range: std::ops::Range<usize>,
        end: u64,
    ) -> Result<()> {
        let begin = range.start - frame::HEADER_BYTES;
        let damaged = |why: &str| Error::Damaged {
            path: segment.path.clone(),
            why: format!("{why} before byte {begin}"),
        };
        if header.kind == Kind::Seal {
            return match header.number <= self.committed {
                true => Ok(()),
                false => Err(damaged("a commit that was durable is not whole")),
            };
        }
        if header.number <= self.committed {
            // The database has it, so only its end counts.
            self.end = (segment.number, end);
            return Ok(());
        }
        if header.number.wrapping_sub(u64::from(header.place)) != self.committed + 1 {
            return Err(damaged("a commit is missing"));
        }
        self.torn = true;
        let rows = frame::operations(bytes, range)
            .ok_or_else(|| damaged("operations do not read"))?
            .into_iter()
            .map(|operation| {
                let place = operation
                    .value
                    .map(|value| Place::of(segment.number, &value));
                (operation.key, place)
            })
            .collect();
        self.pending.push((header, rows));
        let whole = header.kind == Kind::Last && self.pending.len() == header.place as usize + 1;
        if whole {
            for (_, rows) in self.pending.drain(..) {
                for (key, place) in rows {
                    self.table.insert(key, place);
                }
            }
            self.committed = header.number;
            self.end = (segment.number, end);
            self.torn = false;
        }
        Ok(())
    }

    fn into_journal(self, dir: &Path, mut segments: Vec<Segment>) -> Result<(Journal, Table)> {
        let (number, end) = self.end;
        let active = (number - segments[0].number) as usize;
        if self.torn {
            // What is torn must never be read again: its numbers are given anew. Nobody was told
            // of it.
            tracing::warn!(dir = %dir.display(), "an unfinished commit is dropped");
            for segment in segments.drain(active + 1..).rev() {
                remove(&segment.path)?;
            }
            let active = &segments[active];
            let zeros = vec![0; segment::BYTES.saturating_sub(end) as usize];
            active.write(&zeros, end)?;
            active.sync()?;
        }
        segment::sync_dir(dir).map_err(|source| io_error("sync", dir, source))?;
        // What a killed head wrote last may be in the page cache only, and who asks again is told
        // that it is done.
        segments[active].sync()?;
        segments[active].end = end;
        // Behind the active one there is at most one that was made ahead of its use.
        let ahead = segments.drain(active + 1..).next();
        let mut journal = Journal::new(dir, segments, ahead, self.committed);
        journal.seal()?;
        Ok((journal, self.table))
    }
}

fn missing(dir: &Path, number: u64) -> Error {
    Error::Damaged {
        path: segment::path(dir, number),
        why: "it is missing".to_owned(),
    }
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).map_err(|source| io_error("remove", path, source))
}
