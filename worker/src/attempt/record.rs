//! What an attempt has reached, on disk.
//!
//! These files survive the end of the worker at any point. What was reached is a line of its own
//! each time, and the last one counts. They are not synced: a loss of power
//! ends the attempt's CLI too, and what the files say then is checked (see `reboot`).

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    time::Duration,
};

use orchestra_config::durable;
use orchestra_proto::v1;
use orchestra_types::{AttemptId, Exit, Failure, Timestamp, Usage};
use prost::Message;
use serde::{Deserialize, Serialize};

use super::{files::Files, stage::Stage};
use crate::{cli::Kept, clock, process::ExitRecord, room::Full};

/// Version of the file's format.
const FORMAT: u32 = 1;

/// Why a file of an attempt cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read or written.
    #[error("failed to {doing} `{path}`")]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("`{path}` is not what a worker of this version writes")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl Full for Error {
    fn is_full(&self) -> bool {
        match self {
            Self::File { source, .. } => source.is_full(),
            Self::Malformed { .. } => false,
        }
    }
}

/// What was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// The order is on disk.
    Accepted,
    /// The directory to work in is there.
    Prepared,
    /// The CLI was started, or is being started.
    Started(Started),
    /// Its process has ended.
    Ended(Box<Ended>),
    /// The result lies in `results/`, and the outcome in `outcome`.
    Collected,
    /// The final report is in the spool.
    Reported {
        /// Its number.
        seq: u64,
    },
}

impl Phase {
    /// Whether its CLI has ended, or never comes.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        match self {
            Self::Accepted | Self::Prepared | Self::Started(_) => false,
            Self::Ended(_) | Self::Collected | Self::Reported { .. } => true,
        }
    }

    /// As others need to know it.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            Self::Accepted | Self::Prepared => Stage::Preparing,
            Self::Started(started) => started.stage(),
            Self::Ended(_) | Self::Collected | Self::Reported { .. } => Stage::Delivering,
        }
    }
}

/// How far an attempt is that an earlier worker process has left. The head is told before its owner has
/// looked: one that was begun must not be ordered anew.
#[must_use]
pub fn stage(files: &Files) -> Stage {
    match load(files) {
        Ok(Some(found)) => found.phase.stage(),
        Ok(None) => Stage::Preparing,
        // Nobody knows; an agent may run.
        Err(_) => Stage::Running {
            since: clock::since_boot(),
        },
    }
}

/// When a CLI was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// By the wall clock.
    pub at: Timestamp,
    /// Since the machine's start.
    pub since_boot_ms: u64,
}

impl Started {
    /// When it ended, by the wall clock as it was when it was started: whoever sets that makes no run longer
    /// or shorter.
    pub fn ended_at(self, record: &ExitRecord) -> Timestamp {
        let ran = record
            .ended_since_boot_ms
            .map(|ended| ended.saturating_sub(self.since_boot_ms));
        match ran {
            Some(ran) => self.at.plus(Duration::from_millis(ran)),
            None => record.ended_at,
        }
    }

    /// How far its attempt is while it runs.
    pub fn stage(self) -> Stage {
        Stage::Running {
            since: Duration::from_millis(self.since_boot_ms),
        }
    }
}

/// How a CLI ended, and what its adapter says about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When it was started.
    pub started_at: Timestamp,
    /// When its process had ended, which may be long before it was seen; none where nobody saw it, or
    /// an earlier version wrote this.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// How its process ended.
    pub exit: Exit,
    /// Why it is not a success.
    pub failure: Option<Failure>,
    /// The final text.
    pub text: String,
    /// What is kept of that where it is long.
    #[serde(default)]
    pub kept: Kept,
    /// What it used.
    pub usage: Usage,
    /// The CLI's session.
    pub session: String,
    /// The model.
    pub model: String,
}

impl Ended {
    /// For how long the agent ran, as the outcome will say it; none where nobody saw its end.
    #[must_use]
    pub fn ran(&self) -> Option<Duration> {
        let ended = self.ended_at.filter(|ended| *ended >= self.started_at)?;
        Some(ended.since(self.started_at))
    }
}

/// What is on disk of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What was reached.
    pub phase: Phase,
    /// The boot of the machine in which it was; none where an earlier version wrote the file.
    pub boot: Option<String>,
    /// Whether the agent's directory lies in one of the attempt, as this version makes it.
    pub has_area: bool,
}

#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    attempt: AttemptId,
    #[serde(default)]
    boot: Option<String>,
    #[serde(default)]
    has_area: bool,
    #[serde(flatten)]
    phase: Phase,
}

/// Writes down what was reached in this boot of the machine.
pub fn save(files: &Files, attempt: AttemptId, boot: &str, phase: &Phase) -> Result<(), Error> {
    let record = Record {
        format: FORMAT,
        attempt,
        boot: Some(boot.to_owned()),
        has_area: files.has_area(),
        phase: phase.clone(),
    };
    add(files, &record)
}

/// Adds a line.
pub(super) fn add(files: &Files, line: &impl Serialize) -> Result<(), Error> {
    let line = serde_json::to_vec(line).expect("a record is JSON");
    let path = files.record();
    durable::add_line(&path, &line, durable::Access::Private).map_err(not_written(path.clone()))
}

/// Reads what was reached; none where an order was never accepted.
pub fn load(files: &Files) -> Result<Option<Found>, Error> {
    let Some(text) = read(files.record())? else {
        return Ok(None);
    };
    match parse(&text) {
        Some(Record {
            format: FORMAT,
            attempt: _,
            boot,
            has_area,
            phase,
        }) => Ok(Some(Found {
            phase,
            boot,
            has_area,
        })),
        Some(_) | None => Err(Error::Malformed {
            path: files.record(),
        }),
    }
}

/// The last record of a file; an earlier version has written one over several lines, and lines of
/// this one may stand behind it.
fn parse(text: &[u8]) -> Option<Record> {
    let record = |text: &[u8]| serde_json::from_slice(text).ok();
    durable::last_line(text, record).or_else(|| record(text))
}

/// Writes a message of the wire into a file. A record that says so must follow: until then a part of
/// it counts as nothing.
pub fn save_message(path: PathBuf, message: &impl Message) -> Result<(), Error> {
    write(path, &message.encode_to_vec())
}

/// Reads what was asked for.
pub fn load_order(files: &Files) -> Result<v1::Start, Error> {
    load_message(files.order())
}

/// Reads what came of it.
pub fn load_outcome(files: &Files) -> Result<v1::Outcome, Error> {
    load_message(files.outcome())
}

fn load_message<T: Message + Default>(path: PathBuf) -> Result<T, Error> {
    let malformed = Error::Malformed { path: path.clone() };
    match read(path)? {
        Some(bytes) => T::decode(bytes.as_slice()).map_err(|_| malformed),
        None => Err(malformed),
    }
}

fn write(path: PathBuf, bytes: &[u8]) -> Result<(), Error> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.map_err(not_written(path))
}

fn not_written(path: PathBuf) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File {
        doing: "write",
        path,
        source,
    }
}

fn read(path: PathBuf) -> Result<Option<Vec<u8>>, Error> {
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File {
            doing: "read",
            path,
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use orchestra_types::{FailureCode, TaskId};

    use super::*;

    #[test]
    fn a_clock_that_is_set_makes_no_run_longer_or_shorter() {
        let started = Started {
            at: Timestamp(1_000_000),
            since_boot_ms: 5_000,
        };
        let (exit, method) = (Exit::Code(0), crate::process::KillMethod::Subreaper);
        let mut record = ExitRecord::bare(exit, started.at, method);
        for ended_at in [Timestamp(3), Timestamp(900_000_000)] {
            record.ended_at = ended_at;
            record.ended_since_boot_ms = Some(7_000);
            assert_eq!(started.ended_at(&record), Timestamp(1_002_000));
            // As an earlier version wrote it.
            record.ended_since_boot_ms = None;
            assert_eq!(started.ended_at(&record), ended_at);
        }
    }

    #[test]
    fn every_phase_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let attempt = AttemptId {
            task: TaskId(1),
            number: 1,
        };
        let files = Files::new(dir.path(), dir.path(), attempt);
        assert_eq!(load(&files).unwrap(), None);
        assert_eq!(stage(&files), Stage::Preparing);
        std::fs::create_dir(files.dir()).unwrap();
        let phases = [
            (Phase::Accepted, Stage::Preparing),
            (Phase::Prepared, Stage::Preparing),
            (
                Phase::Started(Started {
                    at: Timestamp(5),
                    since_boot_ms: 6,
                }),
                Stage::Running {
                    since: Duration::from_millis(6),
                },
            ),
            (
                Phase::Ended(Box::new(Ended {
                    started_at: Timestamp(5),
                    ended_at: Some(Timestamp(6)),
                    exit: Exit::Code(1),
                    failure: Some(Failure::new(FailureCode::AgentFailed, "no")),
                    text: "text".to_owned(),
                    kept: Kept::default(),
                    usage: Usage::default(),
                    session: String::new(),
                    model: String::new(),
                })),
                Stage::Delivering,
            ),
            (Phase::Collected, Stage::Delivering),
            (Phase::Reported { seq: 7 }, Stage::Delivering),
        ];
        for (phase, reached) in phases {
            save(&files, attempt, "boot", &phase).unwrap();
            assert_eq!(stage(&files), reached);
            let found = Found {
                phase,
                boot: Some("boot".to_owned()),
                has_area: true,
            };
            assert_eq!(load(&files).unwrap(), Some(found));
        }
    }

    #[test]
    fn a_record_of_an_earlier_version_reads_and_can_be_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let attempt = AttemptId {
            task: TaskId(1),
            number: 1,
        };
        let files = Files::new(dir.path(), dir.path(), attempt);
        std::fs::create_dir(files.dir()).unwrap();
        let earlier = Record {
            format: FORMAT,
            attempt,
            boot: None,
            has_area: false,
            phase: Phase::Prepared,
        };
        let text = serde_json::to_vec_pretty(&earlier).unwrap();
        std::fs::write(files.record(), text).unwrap();
        assert_eq!(load(&files).unwrap().unwrap().phase, Phase::Prepared);
        save(&files, attempt, "boot", &Phase::Collected).unwrap();
        assert_eq!(load(&files).unwrap().unwrap().phase, Phase::Collected);
    }
}
