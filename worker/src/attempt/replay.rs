//! Brings a fresh adapter into the state of the one that a crash took away.

use std::{fs::File, os::unix::fs::FileExt, path::PathBuf};

use orchestra_types::ArtifactKind;

use super::{files::Files, record, run::Error};
use crate::{
    cli::{Action, Adapter, Stream},
    events::{Cause, Journal},
    process::{Offsets, SetUpOutput, Whose},
};

/// Where the adapter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// What of the raw output has been read.
    pub offsets: Offsets,
    /// Whose the next line of standard error is.
    pub set_up: SetUpOutput,
    /// Whether the agent has said its last word.
    pub turn_ended: bool,
}

/// Feeds the adapter what the journal names, in its order. Nothing is written to the CLI again and
/// no event is made again.
pub fn run(
    files: &Files,
    adapter: &mut dyn Adapter,
    set_up: SetUpOutput,
) -> Result<Replayed, Error> {
    let mut causes = Vec::new();
    Journal::open(&files.events(), |step| causes.push(step.cause()))?;
    let stdout = Raw::new(files.artifact(ArtifactKind::Log));
    let stderr = Raw::new(files.artifact(ArtifactKind::Stderr));
    let mut replayed = Replayed {
        offsets: Offsets::default(),
        set_up,
        turn_ended: false,
    };
    for cause in causes {
        let actions = match cause {
            Cause::Own | Cause::Finish => Vec::new(),
            Cause::Cancel => adapter.cancel(),
            Cause::Stdout {
                offset,
                length,
                next,
            } => {
                replayed.offsets.stdout = next;
                replayed.set_up.begins();
                adapter.on_line(Stream::Stdout, &stdout.read(offset, length)?)
            }
            Cause::Stderr {
                offset,
                length,
                next,
            } => {
                replayed.offsets.stderr = next;
                let line = stderr.read(offset, length)?;
                match replayed.set_up.takes(&line) {
                    Whose::SetUp | Whose::Mark | Whose::LateMark => Vec::new(),
                    Whose::Cli => adapter.on_line(Stream::Stderr, &line),
                }
            }
        };
        replayed.turn_ended |= actions.contains(&Action::TurnEnded);
    }
    Ok(replayed)
}

/// The raw output.
struct Raw {
    path: PathBuf,
    file: std::io::Result<File>,
}

impl Raw {
    fn new(path: PathBuf) -> Self {
        let file = File::open(&path);
        Self { path, file }
    }

    fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let failed = |source| record::Error::File {
            doing: "read",
            path: self.path.clone(),
            source,
        };
        let file = match &self.file {
            Ok(file) => file,
            Err(error) => return Err(failed(error.kind().into()).into()),
        };
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, offset).map_err(failed)?;
        Ok(bytes)
    }
}
