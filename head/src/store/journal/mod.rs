//! The journal in front of the database: what is acknowledged is durable here first.
//!
//! ```text
//! commit ─► frames ─► active segment ─► one fdatasync ─► acknowledged
//!                        │ full: the next segment, made ahead
//!                        ▼
//!              checkpoint (see `checkpoint`): rows move into sled, then segments are used anew
//! ```
//!
//! What must stay true:
//! - A commit is written only after the one before it is durable.
//! - Frames are numbered without gaps. Bytes that change a commit in the middle are named at the
//!   start, and never passed over (see `replay`).
//! - A segment is used anew only when the database has all of it, durably, and says so.

mod frame;
mod replay;
mod segment;
mod window;

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
};

use orchestra_config::durable;

pub(crate) use frame::{Frame, Kind};
pub(crate) use replay::Position;
pub(crate) use segment::BYTES as SEGMENT_BYTES;
pub(crate) use window::Window;

use super::{Error, Result, error::io_error, job::Job, table::Place};
use frame::Header;
use segment::{Fill, Segment};

/// Files of checkpointed segments that wait for a new use; more are removed.
const SPARES_MAX: usize = 5;
/// A segment that is so full wants the next one to be made.
const MAKE_AHEAD_AT: u64 = segment::BYTES / 2;

/// The journal, open for writing.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: PathBuf,
    /// Oldest first; the last one is written to.
    live: VecDeque<Segment>,
    /// The next one, when it has been made already.
    ahead: Option<Segment>,
    making: Option<Job<Segment>>,
    spares: Vec<PathBuf>,
    /// The number of the last frame.
    number: u64,
    /// The last frame of the last commit that is durable.
    durable: u64,
    /// How many frames the open commit has.
    place: u32,
    sealed: bool,
}

impl Journal {
    /// Begins a journal for a database that is new, or that comes from before there were journals.
    pub fn create(dir: &Path) -> Result<Self> {
        durable::create_private_dir(dir).map_err(|source| io_error("make", dir, source))?;
        let numbers = segment::list(dir).map_err(|source| io_error("read", dir, source))?;
        for number in numbers {
            let (begin, segment) = (Position::begin(), number);
            let position = Position { segment, ..begin };
            if Self::open(dir, position, 0).map_or(true, |(journal, _)| journal.number > 0) {
                return Err(Error::Damaged {
                    path: dir.to_owned(),
                    why: "it is not empty, but the database beside it is new".to_owned(),
                });
            }
        }
        let first = Segment::make(dir, Position::begin().segment, None, Fill::Zeros)?;
        Ok(Self::new(dir, vec![first], None, 0))
    }

    fn new(dir: &Path, live: Vec<Segment>, ahead: Option<Segment>, number: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            live: live.into(),
            ahead,
            making: None,
            spares: Vec::new(),
            number,
            durable: number,
            place: 0,
            sealed: false,
        }
    }

    /// Writes a frame of the open commit. Gives the segment and the offset where it begins.
    /// Nothing is durable before `sync`. Where the disk has no room for another segment, `make_room` is
    /// called once.
    pub fn append(
        &mut self,
        frame: &mut Frame,
        kind: Kind,
        make_room: impl FnOnce(),
    ) -> Result<(u64, u32)> {
        // Behind each frame there is room for a seal.
        let needed = frame.length() + frame::HEADER_BYTES as u64;
        if self.active().end + needed > segment::BYTES {
            self.rotate(make_room)?;
        }
        let header = Header {
            number: self.number + 1,
            place: self.place,
            kind,
        };
        let segment = self.live.back_mut().expect("a segment is always open");
        let (at, bytes) = (segment.end, frame.seal(header, segment.salt));
        segment.write(bytes, at)?;
        segment.end += bytes.len() as u64;
        let number = segment.number;
        self.number += 1;
        self.sealed = false;
        self.place = match kind {
            Kind::More => self.place + 1,
            Kind::Last | Kind::Seal => 0,
        };
        let at = u32::try_from(at).expect("a segment is smaller than 4 GiB");
        Ok((number, at))
    }

    /// Makes what was written durable.
    pub fn sync(&mut self) -> Result<()> {
        self.active().sync()?;
        if self.place == 0 {
            self.durable = self.number;
        }
        Ok(())
    }

    /// The number of the last frame of the last commit that is durable.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Says behind the last commit that it is durable, so that damage to it is seen for what it is.
    /// Costs a write into the page cache, and the next commit takes its place.
    pub fn seal(&mut self) -> Result<()> {
        if self.sealed || self.place > 0 {
            return Ok(());
        }
        let header = Header {
            number: self.number,
            place: 0,
            kind: Kind::Seal,
        };
        let active = self.active();
        active.write(&frame::empty(header, active.salt), active.end)?;
        self.sealed = true;
        Ok(())
    }

    /// Reads a value.
    pub fn read(&self, place: Place) -> Result<Vec<u8>> {
        self.segment(place).read(place.offset, place.length)
    }

    /// Reads a value, and what is behind it into the window: for scans, in whose order values often
    /// follow each other.
    pub fn read_near(&self, place: Place, window: &mut Window) -> Result<sled::IVec> {
        window.read(self.segment(place), place)
    }

    fn segment(&self, place: Place) -> &Segment {
        let first = self.live.front().map_or(0, |segment| segment.number);
        let index = place.segment.checked_sub(first).map(|index| index as usize);
        let segment = index.and_then(|index| self.live.get(index));
        segment.expect("rows of segments that are used anew are in the database")
    }

    /// How much the journal has that the database may not have.
    pub fn bytes(&self) -> u64 {
        (self.live.len() as u64 - 1) * segment::BYTES + self.active().end
    }

    /// How much can be written without more of the disk.
    pub fn room(&self) -> u64 {
        let ahead = u64::from(self.ahead.is_some()) * segment::BYTES;
        segment::BYTES - self.active().end + ahead
    }

    /// Where the next commit begins.
    pub fn position(&self) -> Position {
        Position {
            number: self.number,
            segment: self.active().number,
        }
    }

    /// Lets segments before `segment` be used anew: the database has them, durably.
    pub fn retire(&mut self, segment: u64) -> Result<()> {
        while self.live.front().is_some_and(|live| live.number < segment) {
            let old = self.live.pop_front().expect("there is a front");
            if self.spares.len() < SPARES_MAX {
                self.spares.push(old.path);
            } else {
                let removed = fs::remove_file(&old.path);
                removed.map_err(|source| io_error("remove", &old.path, source))?;
            }
        }
        Ok(())
    }

    /// Makes the next segment ahead of its use.
    pub fn make_ahead(&mut self) -> Result<()> {
        if let Some(making) = self.making.take() {
            if making.is_done() {
                match making.finish(&self.dir) {
                    Ok(segment) => self.ahead = Some(segment),
                    // Nothing relies on it yet: made again when there is room.
                    Err(error) if error.is_full() => tracing::warn!("no room for a segment"),
                    Err(error) => return Err(error),
                }
            } else {
                self.making = Some(making);
            }
        } else if self.ahead.is_none() && self.active().end > MAKE_AHEAD_AT {
            let (dir, number) = (self.dir.clone(), self.active().number + 1);
            let old = self.spares.pop();
            let work = move || Segment::make(&dir, number, old, Fill::Zeros);
            self.making = Some(Job::start(&self.dir, work)?);
        }
        Ok(())
    }

    fn active(&self) -> &Segment {
        self.live.back().expect("a segment is always open")
    }

    fn rotate(&mut self, make_room: impl FnOnce()) -> Result<()> {
        if self.place > 0 {
            self.sync()?;
        } else {
            self.seal()?;
        }
        let number = self.active().number + 1;
        let made = match (self.ahead.take(), self.making.take()) {
            (Some(ahead), _) => Ok(ahead),
            (None, Some(making)) => making.finish(&self.dir),
            (None, None) => Segment::make(&self.dir, number, self.spares.pop(), Fill::Reserved),
        };
        let next = match made {
            // Nothing is in it yet: unlike a write, this may be tried again.
            Err(error) if error.is_full() => {
                make_room();
                Segment::make(&self.dir, number, None, Fill::Reserved)?
            }
            made => made?,
        };
        self.live.push_back(next);
        Ok(())
    }
}

impl Position {
    /// Where the first journal begins.
    pub fn begin() -> Self {
        Self {
            number: 0,
            segment: 1,
        }
    }
}
