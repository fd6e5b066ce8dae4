//! The spool's file and what it says: numbers, what waits, compaction. Synchronous; the thread in
//! `handle` owns it.
//!
//! The first frame is a header with the number up to which reports were acknowledged when the file
//! was made; each further frame is one report.

use std::{
    path::{Path, PathBuf},
    thread,
};

use orchestra_proto::{convert, v1};
use orchestra_types::{AttemptId, Timestamp};
use prost::Message;

use super::Waiting;
use crate::{
    frames,
    room::{self, Full},
};

/// Version of the file's format.
const FORMAT: u32 = 1;
/// A file with fewer bytes of acknowledged reports is not worth a rewrite while others wait: 1 MiB.
const COMPACT_BYTES: u64 = 1024 * 1024;
/// When nothing waits, a rewrite costs little: 64 KiB.
const COMPACT_IDLE_BYTES: u64 = 64 * 1024;

/// How much of the disk is taken beforehand, for some hundred reports: 128 KiB. A worker whose disk is full
/// can say so, give back what it cannot begin, and report what ends.
const RESERVE_BYTES: u64 = 128 * 1024;

/// Why the spool cannot be used. The worker stops then: it may not promise what it cannot keep.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] frames::Error),
    /// The file is not a spool, or of a later version.
    #[error("`{path}` is not a spool of format 1; was it written by a newer version?")]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// The file's reports are not numbered one after the other.
    #[error("`{path}` misses reports: {after} is followed by {found}")]
    Gap {
        /// The file.
        path: PathBuf,
        /// The last good number.
        after: u64,
        /// The number behind it.
        found: u64,
    },
}

/// A report that has no number yet.
#[derive(Clone, Debug, PartialEq)]
pub struct NewReport {
    /// Whose.
    pub attempt: AttemptId,
    /// When.
    pub time: Timestamp,
    /// What.
    pub body: v1::report::Body,
}

impl NewReport {
    /// A report without its number.
    pub(super) fn of(report: v1::Report) -> Option<Self> {
        Some(Self {
            attempt: convert::attempt_id("report", report.attempt).ok()?,
            time: Timestamp(report.time_ms),
            body: report.body?,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint64, tag = "2")]
    acked: u64,
}

/// The reports that the head has not acknowledged, on disk and in memory.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    file: frames::Writer,
    /// Room is taken up to here.
    reserved: u64,
    waiting: Waiting,
    last: u64,
}

impl Spool {
    /// Opens the spool, or makes an empty one.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut found = Vec::new();
        let file = frames::Writer::open(path, |payload| found.push(payload.to_vec()))?;
        let Some((header, reports)) = found.split_first() else {
            return Self::create(path);
        };
        let malformed = || Error::Format {
            path: path.to_owned(),
        };
        let header = Header::decode(header.as_slice()).map_err(|_| malformed())?;
        if header.format != FORMAT {
            return Err(malformed());
        }
        let mut spool = Self {
            path: path.to_owned(),
            file,
            reserved: 0,
            waiting: Waiting::after_all(header.acked),
            last: header.acked,
        };
        spool.reserve();
        for report in reports {
            spool.reload(v1::Report::decode(report.as_slice()).map_err(|_| malformed())?)?;
        }
        Ok(spool)
    }

    fn create(path: &Path) -> Result<Self, Error> {
        let header = header(0);
        let mut spool = Self {
            path: path.to_owned(),
            file: frames::replace(path, [header.as_slice()])?,
            reserved: 0,
            waiting: Waiting::default(),
            last: 0,
        };
        spool.reserve();
        Ok(spool)
    }

    /// Takes room anew when half of it is used.
    fn reserve(&mut self) {
        let size = self.file.size();
        if self.reserved < size + RESERVE_BYTES / 2 {
            self.file.reserve(RESERVE_BYTES);
            self.reserved = size + RESERVE_BYTES;
        }
    }

    fn reload(&mut self, report: v1::Report) -> Result<(), Error> {
        if report.seq != self.last + 1 {
            return Err(Error::Gap {
                path: self.path.clone(),
                after: self.last,
                found: report.seq,
            });
        }
        self.keep(report);
        Ok(())
    }

    fn keep(&mut self, report: v1::Report) {
        self.last = report.seq;
        self.waiting.push(report);
    }

    /// Numbers these reports and makes all of them durable at once.
    pub fn append(&mut self, reports: Vec<NewReport>) -> Result<(), Error> {
        let numbered = (self.last + 1..).zip(reports);
        let numbered: Vec<v1::Report> = numbered
            .map(|(seq, report)| v1::Report {
                seq,
                attempt: Some(report.attempt.into()),
                time_ms: report.time.0,
                body: Some(report.body),
            })
            .collect();
        self.append_when_there_is_room(&numbered)?;
        self.file.sync()?;
        self.reserve();
        numbered.into_iter().for_each(|report| self.keep(report));
        Ok(())
    }

    /// A disk that is full is waited for: what has happened cannot be reported otherwise.
    fn append_when_there_is_room(&mut self, reports: &[v1::Report]) -> Result<(), Error> {
        let mut told = false;
        loop {
            let payloads = reports.iter().map(Message::encode_to_vec);
            match self.file.append_all(payloads) {
                Err(error) if error.is_full() => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(path = %self.path.display(), "the disk is full; a report waits for room");
                    }
                    thread::sleep(room::RETRY_AFTER);
                }
                done => return Ok(done?),
            }
        }
    }

    /// Makes the file smaller where it has become worth it, by what was acknowledged meanwhile.
    pub fn tidy(&mut self) -> Result<(), Error> {
        let acked = self.waiting.acked();
        // The head knows more reports than this spool: its file was lost. Their numbers are used
        // up, which must outlive this process.
        let lost = acked > self.last;
        self.last = self.last.max(acked);
        if lost || self.is_worth_compacting() {
            match self.compact() {
                // Only a larger file than need be; the next time tries again.
                Err(Error::File(error)) if error.is_full() && !lost => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// A file that is never without a waiting report must not grow for ever: what a rewrite copies
    /// is at most as much as it drops.
    fn is_worth_compacting(&self) -> bool {
        let waiting = self.waiting.bytes();
        let dropped = self.file.size() - waiting;
        let enough = match self.waiting.is_empty() {
            true => COMPACT_IDLE_BYTES,
            false => COMPACT_BYTES.max(waiting),
        };
        dropped > enough
    }

    fn compact(&mut self) -> Result<(), Error> {
        let (acked, payloads) = self.waiting.payloads();
        // The header names it, and the next report follows that.
        self.last = self.last.max(acked);
        let frames: Vec<Vec<u8>> = std::iter::once(header(acked)).chain(payloads).collect();
        self.file = frames::replace(&self.path, frames.iter().map(Vec::as_slice))?;
        self.reserved = 0;
        self.reserve();
        Ok(())
    }

    /// Reads the waiting ones, from any thread.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        self.waiting.clone()
    }

    /// The number of the last report.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }
}

fn header(acked: u64) -> Vec<u8> {
    let header = Header {
        format: FORMAT,
        acked,
    };
    header.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use orchestra_types::TaskId;

    use super::*;

    fn report(task: u64) -> NewReport {
        NewReport {
            attempt: AttemptId {
                task: TaskId(task),
                number: 1,
            },
            time: Timestamp(5),
            body: v1::report::Body::Accepted(v1::report::Accepted {}),
        }
    }

    fn acknowledge(spool: &mut Spool, up_to: u64) {
        spool.waiting().acknowledge(up_to);
        spool.tidy().unwrap();
    }

    fn numbers(spool: &Spool) -> Vec<u64> {
        spool
            .waiting()
            .after(0, 100)
            .iter()
            .map(|r| r.seq)
            .collect()
    }

    #[test]
    fn what_was_appended_is_there_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut spool = Spool::open(&path).unwrap();
        spool.append(vec![report(1), report(2)]).unwrap();
        // No orderly end: the file is read again while the first owner still has it.
        let again = Spool::open(&path).unwrap();
        assert_eq!(numbers(&again), [1, 2]);
        assert_eq!(again.last(), 2);
    }

    #[test]
    fn a_torn_report_was_never_promised_and_its_number_is_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut spool = Spool::open(&path).unwrap();
        spool.append(vec![report(1), report(2)]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let mut again = Spool::open(&path).unwrap();
        assert_eq!(numbers(&again), [1]);
        again.append(vec![report(3)]).unwrap();
        assert_eq!(numbers(&Spool::open(&path).unwrap()), [1, 2]);
    }

    #[test]
    fn numbers_go_on_after_everything_was_acknowledged_and_compacted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut spool = Spool::open(&path).unwrap();
        let many = COMPACT_IDLE_BYTES / 8;
        spool.append((1..=many).map(report).collect()).unwrap();
        acknowledge(&mut spool, many - 1);
        assert_eq!(numbers(&spool), [many]);
        acknowledge(&mut spool, many);
        assert!(std::fs::metadata(&path).unwrap().len() < 100);
        let mut again = Spool::open(&path).unwrap();
        again.append(vec![report(1)]).unwrap();
        assert_eq!(numbers(&again), [many + 1]);
    }

    #[test]
    fn a_spool_that_is_never_empty_does_not_grow_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut spool = Spool::open(&path).unwrap();
        let batch = 4096;
        for round in 1..=64 {
            let from = (round - 1) * batch;
            spool
                .append((from + 1..=from + batch).map(report).collect())
                .unwrap();
            acknowledge(&mut spool, from + batch - 1);
            assert_eq!(numbers(&spool), [from + batch]);
        }
        let size = std::fs::metadata(&path).unwrap().len();
        assert!(size < COMPACT_BYTES + 2 * batch * 64, "{size}");
        let mut again = Spool::open(&path).unwrap();
        assert_eq!(again.last(), 64 * batch);
        again.append(vec![report(1)]).unwrap();
        assert_eq!(again.last(), 64 * batch + 1);
    }

    #[test]
    fn an_attempt_is_ending_until_its_last_report_is_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut spool = Spool::open(&path).unwrap();
        let given_back = NewReport {
            body: v1::report::Body::GivenBack(v1::report::GivenBack {}),
            ..report(2)
        };
        let ending = given_back.attempt;
        spool.append(vec![report(1), given_back]).unwrap();
        let mut again = Spool::open(&path).unwrap();
        assert_eq!(again.waiting().ending(), [ending]);
        acknowledge(&mut again, 2);
        assert_eq!(again.waiting().ending(), []);
    }

    #[test]
    fn an_acknowledgement_beyond_the_end_moves_the_numbers_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        acknowledge(&mut Spool::open(&path).unwrap(), 41);
        let mut again = Spool::open(&path).unwrap();
        again.append(vec![report(1)]).unwrap();
        assert_eq!(numbers(&again), [42]);
    }

    #[test]
    fn what_is_acknowledged_beside_is_forgotten_at_once_and_the_file_stays_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut spool = Spool::open(&path).unwrap();
        spool.append((1..=3).map(report).collect()).unwrap();
        spool.waiting().acknowledge(2);
        assert_eq!(numbers(&spool), [3], "no thread was asked");
        assert_eq!(numbers(&Spool::open(&path).unwrap()), [1, 2, 3]);
        spool.compact().unwrap();
        let mut again = Spool::open(&path).unwrap();
        assert_eq!((again.waiting().acked(), numbers(&again)), (2, vec![3]));
        // The head is beyond a report that is on its way to the disk.
        again.waiting().acknowledge(9);
        again.append(vec![report(4)]).unwrap();
        assert_eq!(numbers(&again), Vec::<u64>::new());
        again.tidy().unwrap();
        again.append(vec![report(5)]).unwrap();
        assert_eq!(numbers(&Spool::open(&path).unwrap()), [10]);
    }

    #[test]
    fn an_old_acknowledgement_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(&dir.path().join("spool")).unwrap();
        spool.append(vec![report(1), report(2)]).unwrap();
        acknowledge(&mut spool, 2);
        acknowledge(&mut spool, 1);
        assert_eq!((spool.waiting().acked(), numbers(&spool)), (2, vec![]));
    }

    #[test]
    fn another_file_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let other = Header {
            format: 9,
            acked: 0,
        };
        frames::replace(&path, [other.encode_to_vec().as_slice()]).unwrap();
        assert!(matches!(Spool::open(&path), Err(Error::Format { .. })));
    }
}
