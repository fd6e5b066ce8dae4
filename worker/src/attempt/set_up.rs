//! Makes a clone ready as the project says: files that git ignores are put into it, and a command runs
//! before the CLI, where the CLI runs.

use std::{fs::File, io::Read, path::Path};

use orchestra_repo::{Put, Workspace, put_ignored};
use orchestra_types::{ArtifactKind, EventKind, Failure, FailureCode, Place, limits};

use super::{
    prepare::{failed_by, fetch_one},
    run::{Attempt, Error},
};
use crate::{
    blocking::blocking,
    process::{self, NotReady, SetUpOutput},
};

/// Longest line of a set-up command that an event carries; the raw log has all of it.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// How much of a log is searched for the last words of a set-up command.
const LAST_BYTES: u64 = 4096;

impl Attempt {
    /// Puts the files of the set-up into the clone.
    pub async fn put_files(&mut self) -> Result<Result<(), Failure>, Error> {
        let Some(set_up) = self.order.spec.set_up.clone() else {
            return Ok(Ok(()));
        };
        let shared = std::sync::Arc::clone(&self.shared);
        let mut taken = Vec::new();
        for file in set_up.files {
            let fetched = fetch_one(&shared.blobs, &shared.bulk, file.content.digest);
            let from = match self.unless_stopped(fetched).await?.flatten() {
                Ok(from) => from,
                Err(failure) => return Ok(Err(failure)),
            };
            let (dir, path) = (self.directory(), file.path.clone());
            let put = move || put_ignored(&dir, &path, file.executable, from.as_ref());
            let put = blocking(put).await;
            match put {
                Ok(Put::Written) => {}
                Ok(Put::Exists) => taken.push(file.path),
                Err(error) => return Ok(Err(failed_by(&error))),
            }
        }
        let (dir, git, paths) = (self.directory(), self.files.git(), self.secret());
        if !paths.is_empty() {
            let hidden = blocking(move || Workspace::open(&dir, &git)?.hide(&paths)).await;
            if let Err(error) = hidden {
                return Ok(Err(failed_by(&error)));
            }
        }
        if !taken.is_empty() {
            let text = format!("{} is there already, and stays", taken.join(", "));
            self.tell("setup", text)?;
        }
        Ok(Ok(()))
    }

    /// Paths that no result may have.
    pub fn secret(&self) -> Vec<String> {
        let files = self
            .order
            .spec
            .set_up
            .iter()
            .flat_map(|set_up| &set_up.files);
        files.map(|file| file.path.clone()).collect()
    }

    /// The command that comes before the CLI.
    pub fn set_up_command(&self) -> Option<process::SetUp> {
        let set_up = self.order.spec.set_up.as_ref()?;
        let in_clone = match self.order.spec.place {
            Place::Repository { .. } => true,
            Place::InPlace { .. } | Place::Empty => false,
        };
        (in_clone && !set_up.command.trim().is_empty()).then(|| process::SetUp {
            command: set_up.command.clone(),
            timeout: set_up.timeout,
            record: self.files.process().join("set-up.json"),
        })
    }

    /// Whose the first lines of standard error are.
    pub fn set_up_output(&self) -> SetUpOutput {
        match self.set_up_command() {
            Some(_) => SetUpOutput::Pending,
            None => SetUpOutput::Over,
        }
    }

    /// Why the CLI was never started, if it was not.
    pub async fn not_ready(&self) -> Option<Failure> {
        let set_up = self.set_up_command()?;
        let log = self.files.artifact(ArtifactKind::Stderr);
        let found = blocking(move || Some((set_up.not_ready()?, last_line(&log)))).await;
        match found? {
            (NotReady::Failed(why), None) => Some(Failure::new(FailureCode::SetupFailed, why)),
            (NotReady::Failed(why), Some(last)) => {
                let why = format!("{why}: {last}");
                Some(Failure::new(FailureCode::SetupFailed, why))
            }
            (NotReady::NotStarted(why), _) => Some(Failure::new(FailureCode::SpawnFailed, why)),
        }
    }
}

/// A line of a set-up command as an event.
pub fn event_of(line: &[u8]) -> Option<EventKind> {
    let text = String::from_utf8_lossy(line.trim_ascii());
    if text.is_empty() {
        return None;
    }
    Some(EventKind::Status {
        phase: "setup".to_owned(),
        text: limits::cut(&text, LINE_BYTES_MAX),
        fields: Default::default(),
    })
}

/// The last words in a log.
fn last_line(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    let from = std::io::SeekFrom::Start(length.saturating_sub(LAST_BYTES));
    std::io::Seek::seek(&mut file, from).ok()?;
    let mut bytes = Vec::new();
    file.take(LAST_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let last = text
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty());
    last.map(|line| limits::cut(line, 500))
}
