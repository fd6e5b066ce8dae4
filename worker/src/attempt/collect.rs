//! Gathers what an agent has done, whatever ended it: partial results are results.

use std::{
    fs::{Metadata, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use orchestra_config::durable;
use orchestra_proto::v1;
use orchestra_repo::{Collect, Workspace, mirror_paths, mirrored_in, scan};
use orchestra_types::{
    Artifact, ArtifactKind, Failure, FailureCode, Manifest, Outcome, Place, limits,
};
use prost::Message;

use super::{
    aside,
    earlier::Earlier,
    files::Files,
    record::{Ended, Phase},
    run::{Attempt, Error, chain, make_dir},
};
use crate::{blobs, clock, disk};

/// All that the worker's user may do with a directory.
const OWN: u32 = 0o700;

/// What the files tell.
#[derive(Default)]
pub(super) struct Changes {
    manifest: Manifest,
    branch: String,
    commit: String,
    /// Whether there is more in the agent's directory that is to be kept.
    has_more: bool,
}

/// What the files tell, why they do not, and what is there to be sent.
pub(super) type Collected = (Changes, Option<Failure>, Vec<Artifact>);

/// What the collecting thread needs to know.
#[derive(Clone)]
pub(super) struct Job {
    files: Files,
    place: Place,
    directory: PathBuf,
    context: String,
    secret: Vec<String>,
    aside: PathBuf,
    /// The worker's name, for who reads elsewhere where files are.
    worker: String,
    message: String,
    /// The number of the attempt.
    attempt: u32,
}

impl Attempt {
    /// From an ended CLI to an outcome and its artifacts.
    pub async fn collect(&mut self, ended: Ended) -> Result<Phase, Error> {
        self.free_slot();
        if let Some(ran) = ended.ran() {
            self.shared.meters.ran(self.id, ran);
        }
        self.tell("collecting", "gathering the changed files")?;
        let (changes, failure, artifacts) = self.gather(&ended.text).await?;
        // A result that could not be collected is no success; another failure stands above it.
        if let Some(second) = failure.as_ref().filter(|_| ended.failure.is_some()) {
            self.tell("collecting", second.message.as_str())?;
        }
        let failure = ended.failure.or(failure);
        self.tell_end(&changes.manifest, failure.as_ref())?;
        self.store(Outcome {
            exit: ended.exit,
            failure,
            text: ended.kept.of(&ended.text, limits::OUTCOME_TEXT_BYTES_MAX),
            usage: ended.usage,
            session: ended.session,
            model: ended.model,
            files: changes.manifest.summary(),
            branch: changes.branch,
            commit: changes.commit,
            built_on: Earlier::load(&self.files).into(),
            artifacts,
            started_at: ended.started_at,
            finished_at: ended.ended_at.unwrap_or_else(clock::now),
        })
        .await
    }

    /// What a thread needs to know that looks at the agent's files.
    pub(super) fn job(&self) -> Job {
        Job {
            files: self.files.clone(),
            place: self.order.spec.place.clone(),
            directory: self.directory(),
            context: self.context_directory(),
            secret: self.secret(),
            aside: self.shared.aside.clone(),
            worker: self.shared.name.clone(),
            message: message(&self.order.spec.description, self.id),
            attempt: self.id.number,
        }
    }

    fn tell_end(&mut self, manifest: &Manifest, failure: Option<&Failure>) -> Result<(), Error> {
        let files = manifest.entries.len();
        match failure {
            None if files == 1 => self.tell("finished", "1 file changed"),
            None => self.tell("finished", format!("{files} files changed")),
            Some(failure) => self.tell("failed", failure.to_string()),
        }
    }
}

/// The message of the commit that holds what the agent left uncommitted.
fn message(description: &str, attempt: orchestra_types::AttemptId) -> String {
    let first = description.lines().find(|line| !line.trim().is_empty());
    let subject = limits::cut(first.unwrap_or_default().trim(), 72);
    format!("{subject}\n\nOrchestra-Attempt: {attempt}\n")
}

impl Job {
    pub(super) fn collect(&self, text: &str) -> Result<Collected, Error> {
        let (changes, failure) = match self.changes()? {
            Ok(mut changes) => {
                self.was_collected()?;
                if changes.has_more {
                    let place = self.keep_directory("files that are in no result")?;
                    changes.manifest.warnings.push(place);
                }
                (changes, None)
            }
            Err(failure) => (Changes::default(), Some(self.keep(failure)?)),
        };
        self.write(&changes.manifest, text)?;
        Ok(self.sent(changes, failure))
    }

    /// Gives up what no room was found for: the agent's files are kept.
    pub(super) fn leave(&self, text: &str, why: &str) -> Result<Collected, Error> {
        let failure = self.keep(Failure::new(FailureCode::DiskFull, why))?;
        // An earlier try may have had one.
        self.put(ArtifactKind::Manifest, &[])?;
        if let Err(error) = self.put(ArtifactKind::Output, text.as_bytes()) {
            tracing::warn!(
                error = chain(&error),
                "what the agent said is only in its log"
            );
        }
        Ok(self.sent(Changes::default(), Some(failure)))
    }

    fn sent(&self, changes: Changes, failure: Option<Failure>) -> Collected {
        let mut artifacts = self.artifacts();
        if failure.is_some() {
            // They may be halves.
            let is_whole = |kind| !matches!(kind, ArtifactKind::Patch | ArtifactKind::Bundle);
            artifacts.retain(|artifact| is_whole(artifact.kind));
        }
        (changes, failure, artifacts)
    }

    /// Removes what `collect` has made of the agent's files. How many bytes that had.
    pub(super) fn discard(&self) -> orchestra_repo::Result<u64> {
        match &self.place {
            Place::Repository { .. } => self.workspace()?.discard(&self.files.results()),
            Place::InPlace { .. } | Place::Empty => Ok(0),
        }
    }

    fn changes(&self) -> Result<Result<Changes, Failure>, Error> {
        self.open_own();
        if let Err(failure) = self.require_own() {
            return Ok(Err(failure));
        }
        match &self.place {
            Place::Repository { .. } => {
                make_dir(&self.files.results())?;
                Ok(self.repository())
            }
            Place::InPlace { .. } | Place::Empty => Ok(self.scanned()),
        }
    }

    /// What the agent, which runs still, has changed so far.
    pub(super) fn look(&self) -> Result<Manifest, Failure> {
        self.require_own()?;
        match &self.place {
            Place::Repository { .. } => self
                .workspace()
                .and_then(|workspace| {
                    workspace.settle()?;
                    workspace.look(&mirror_paths(&self.context), &self.secret)
                })
                .map_err(|error| failed(chain(&error))),
            Place::InPlace { .. } | Place::Empty => Ok(self.scanned()?.manifest),
        }
    }

    /// Takes back the right to look into its directory, which the agent may have taken from everybody. What
    /// stands in the way is said by who looks.
    fn open_own(&self) {
        if matches!(self.place, Place::InPlace { .. }) {
            return;
        }
        for dir in [self.files.area(), &self.directory] {
            // Never behind a link.
            let Some(meta) = dir.symlink_metadata().ok().filter(Metadata::is_dir) else {
                return;
            };
            let mode = meta.permissions().mode();
            if mode & OWN != OWN {
                let opened = Permissions::from_mode(mode | OWN);
                let _said_by_who_looks = std::fs::set_permissions(dir, opened);
            }
        }
    }

    /// Refuses a directory that the agent has removed, or replaced by a link: what is behind that is none
    /// of its work.
    fn require_own(&self) -> Result<(), Failure> {
        if matches!(self.place, Place::InPlace { .. }) {
            return Ok(());
        }
        for dir in [self.files.area(), &self.directory] {
            let why = match dir.symlink_metadata() {
                Ok(meta) if meta.is_symlink() => {
                    "is a link now: the agent replaced its own directory"
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    "is gone: the agent removed or moved its own directory"
                }
                // What else there is to say is said by who works with it.
                Ok(_) | Err(_) => continue,
            };
            return Err(failed(format!("`{}` {why}", dir.display())));
        }
        Ok(())
    }

    pub(super) fn workspace(&self) -> orchestra_repo::Result<Workspace> {
        Workspace::open(&self.directory, &self.files.git())
    }

    fn repository(&self) -> Result<Changes, Failure> {
        let how = Collect {
            out: &self.files.results(),
            area: self.files.area(),
            message: &self.message,
            attempt: self.attempt,
            exclude: &mirror_paths(&self.context),
            secret: &self.secret,
        };
        let collected = self
            .workspace()
            .and_then(|workspace| workspace.collect(&how))
            .map_err(|error| failed_by(&error))?;
        let result = collected.has_branch.then_some(collected.branch);
        let (branch, commit) =
            result.map_or_else(Default::default, |branch| (branch, collected.commit));
        Ok(Changes {
            manifest: collected.manifest,
            branch,
            commit,
            has_more: collected.only_there,
        })
    }

    /// The agent's directory before it began.
    fn before(&self) -> Result<scan::Snapshot, Failure> {
        if self.place == Place::Empty {
            return Ok(scan::Snapshot::default());
        }
        let path = self.files.before();
        let unreadable =
            |why: String| failed(format!("failed to read `{}`: {why}", path.display()));
        let before = std::fs::read(&path).map_err(|e| unreadable(e.to_string()))?;
        serde_json::from_slice(&before).map_err(|e| unreadable(e.to_string()))
    }

    fn scanned(&self) -> Result<Changes, Failure> {
        let before = self.before()?;
        let manifest = self
            .ours()
            .and_then(|ours| scan::changes_since(&before, &self.directory, &ours))
            .map_err(|error| failed_by(&error))?;
        Ok(Changes {
            manifest,
            ..Changes::default()
        })
    }

    /// What is the context's in the directory itself: the head writes there, too.
    fn ours(&self) -> orchestra_repo::Result<Vec<String>> {
        match &self.place {
            Place::InPlace { .. } => mirrored_in(&self.directory, &self.context),
            Place::Empty | Place::Repository { .. } => Ok(Vec::new()),
        }
    }

    /// An earlier try may have failed, on a full disk.
    fn was_collected(&self) -> Result<(), Error> {
        let path = self.files.uncollected();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(not_written(path)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// What could not be collected is not removed; the failure says where it will be.
    fn keep(&self, failure: Failure) -> Result<Failure, Error> {
        if matches!(self.place, Place::InPlace { .. }) || !self.left_anything() {
            return Ok(failure);
        }
        let place = self.keep_directory(&failure.message)?;
        let message = format!("{}; {place}", failure.message);
        Ok(Failure::new(failure.code, message))
    }

    /// Whether there is its directory, or what it has made of it: it may lie under another name beside it.
    fn left_anything(&self) -> bool {
        let area = self.files.area();
        let is_own = area.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        let has_any = |mut entries: std::fs::ReadDir| entries.next().is_some();
        is_own && std::fs::read_dir(area).map_or(true, has_any)
    }

    /// Has the agent's directory put aside instead of removed. Where it will be, as a sentence.
    fn keep_directory(&self, why: &str) -> Result<String, Error> {
        let path = self.files.uncollected();
        let written = durable::write(&path, why.as_bytes(), durable::Access::Private);
        written.map_err(not_written(path))?;
        let to = aside::workspace_after(&self.files, &self.aside);
        Ok(format!(
            "the agent's files are kept on worker {}, in `{}`",
            self.worker,
            to.display()
        ))
    }

    /// What is not there as a file yet.
    fn write(&self, manifest: &Manifest, text: &str) -> Result<(), Error> {
        let manifest = v1::Manifest::from(manifest.clone()).encode_to_vec();
        self.put(ArtifactKind::Manifest, &manifest)?;
        self.put(ArtifactKind::Output, text.as_bytes())
    }

    /// Nothing is no file: none is sent then.
    fn put(&self, kind: ArtifactKind, bytes: &[u8]) -> Result<(), Error> {
        let path = self.files.artifact(kind);
        if bytes.is_empty() {
            return match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(not_written(path)(error))
                }
                // An earlier try may have had something.
                Ok(()) | Err(_) => Ok(()),
            };
        }
        make_dir(&self.files.results())?;
        let written = durable::replace(&path, bytes, durable::Access::Private);
        written.map_err(not_written(path))
    }

    /// What is there, empty files left out.
    fn artifacts(&self) -> Vec<Artifact> {
        ArtifactKind::ALL
            .into_iter()
            .filter_map(|kind| describe(kind, &self.files.artifact(kind)))
            .filter(|artifact| artifact.size > 0 && artifact.size <= limits::ARTIFACT_BYTES_MAX)
            .collect()
    }
}

pub(super) fn not_written(path: PathBuf) -> impl FnOnce(std::io::Error) -> Error {
    move |source| {
        let error = super::record::Error::File {
            doing: "write",
            path,
            source,
        };
        error.into()
    }
}

fn describe(kind: ArtifactKind, path: &Path) -> Option<Artifact> {
    match blobs::describe(kind, path) {
        Ok(artifact) => Some(artifact),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "an artifact cannot be read");
            None
        }
    }
}

pub(super) fn failed(message: String) -> Failure {
    Failure::new(FailureCode::ResultFailed, message)
}

/// The failure that an error is: of the disk, when that is full.
pub(super) fn failed_by(error: &(dyn std::error::Error + 'static)) -> Failure {
    let code = match disk::is_full(error) {
        true => FailureCode::DiskFull,
        false => FailureCode::ResultFailed,
    };
    Failure::new(code, chain(error))
}

#[cfg(test)]
mod tests {
    use orchestra_types::{AttemptId, TaskId};

    use super::message;

    #[test]
    fn a_commit_says_what_was_asked_for_and_who_did_it() {
        let attempt = AttemptId {
            task: TaskId(3),
            number: 2,
        };
        assert_eq!(
            message("\n  Fix the lexer \nwith care", attempt),
            "Fix the lexer\n\nOrchestra-Attempt: task_003.2\n"
        );
    }
}
