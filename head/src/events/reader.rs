//! Reads one attempt's events from disk, from any number on, and waits for new ones.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use orchestra_proto::v1;
use orchestra_types::limits;
use prost::Message;
use tokio::sync::watch;

use super::{
    Error, Tail,
    file::{self, FRAME_BYTES, MAGIC},
};

/// A batch ends when it has this many bytes, so that it fits a message with room to spare.
const BATCH_BYTES: u64 = 512 * 1024;

/// A reader's place in an attempt's events.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    tail: watch::Receiver<Tail>,
    place: Place,
}

/// `seq` events have been passed; the next one begins at `offset`.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    seq: u64,
    /// Events up to here are passed over.
    after: u64,
}

impl Reader {
    pub(super) fn new(path: PathBuf, after: u64, tail: watch::Receiver<Tail>) -> Self {
        let place = Place {
            offset: MAGIC.len() as u64,
            seq: 0,
            after,
        };
        Self { path, tail, place }
    }

    /// The next durable events; empty when there are none yet.
    pub async fn next(&mut self) -> Result<Vec<v1::Event>, Error> {
        let tail = *self.tail.borrow_and_update();
        if self.place.offset >= tail.bytes {
            return Ok(Vec::new());
        }
        let (path, place) = (self.path.clone(), self.place);
        let read = tokio::task::spawn_blocking(move || read_batch(&path, place, tail.bytes));
        let (events, place) = read.await.map_err(|_| Error::Stopped)??;
        self.place = place;
        Ok(events)
    }

    /// Waits until there may be more.
    pub async fn more(&mut self) -> Result<(), Error> {
        self.tail.changed().await.map_err(|_| Error::Stopped)
    }
}

fn read_batch(path: &Path, mut place: Place, end: u64) -> Result<(Vec<v1::Event>, Place), Error> {
    let failed = |source| file::io_error("read", path, source);
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    file.seek(SeekFrom::Start(place.offset)).map_err(failed)?;
    skip(&mut file, &mut place, end).map_err(failed)?;
    let mut events = Vec::new();
    let stop = end.min(place.offset + BATCH_BYTES);
    while place.offset < stop && events.len() < limits::EVENT_BATCH_MAX {
        let damaged = || Error::Damaged {
            path: path.to_owned(),
            offset: place.offset,
        };
        let message = file::next_message(&mut file).map_err(failed)?;
        let message = message.ok_or_else(damaged)?;
        let event = v1::Event::decode(message.as_slice()).map_err(|_| damaged())?;
        place.offset += FRAME_BYTES + message.len() as u64;
        place.seq += 1;
        events.push(event);
    }
    Ok((events, place))
}

/// Passes over events without reading their content: an event's number is its place.
fn skip(file: &mut BufReader<File>, place: &mut Place, end: u64) -> io::Result<()> {
    while place.seq < place.after && place.offset < end {
        let mut frame = [0; FRAME_BYTES as usize];
        file.read_exact(&mut frame)?;
        let [a, b, c, d, ..] = frame;
        let length = u32::from_le_bytes([a, b, c, d]);
        file.seek_relative(i64::from(length))?;
        place.offset += FRAME_BYTES + u64::from(length);
        place.seq += 1;
    }
    Ok(())
}
