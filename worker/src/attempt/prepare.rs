//! Makes the directory that an agent works in.

use std::path::{Path, PathBuf};

use orchestra_config::durable;
use orchestra_repo::{Cache, Plan, Workspace, mirrored_in, scan, task_branch};
use orchestra_types::{Digest, Failure, FailureCode, Place};
use tokio::time::sleep;

use super::{
    earlier::{self, Earlier},
    order::Resume,
    record::Phase,
    run::{Attempt, Error, chain, make_dir, remove_dir},
};
use crate::{blobs, blocking::blocking, bulk, disk, room};

/// A repository as the order names it.
#[derive(Clone)]
pub(super) struct Source {
    cache: PathBuf,
    pub commit: String,
    head: String,
    pub bundles: Vec<Digest>,
    ignore_rules: String,
    /// The files of an earlier attempt, to go on from.
    resume: Option<Resume>,
    /// Changes that the results of earlier tasks build on.
    below: Vec<orchestra_repo::Earlier>,
}

/// A workspace that was made.
struct Made {
    /// Whether the files of an earlier attempt are in it, if there was one.
    carried: Option<orchestra_repo::Result<()>>,
    is_large: bool,
    earlier: Earlier,
}

/// Why a workspace was not made.
pub(super) struct Unmade {
    failure: Failure,
    /// Whether it may be that what is kept here of the project is damaged.
    may_be_damage: bool,
}

impl From<Failure> for Unmade {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            may_be_damage: false,
        }
    }
}

impl From<orchestra_repo::Error> for Unmade {
    fn from(error: orchestra_repo::Error) -> Self {
        Self {
            failure: failed_by(&error),
            may_be_damage: error.may_be_damage(),
        }
    }
}

impl Attempt {
    /// From an accepted order to a directory.
    pub async fn prepare(&mut self) -> Result<Phase, Error> {
        // Whatever an earlier version has left of it is made anew.
        self.files = self.shared.files(self.id);
        self.tell("preparing", "making the workspace")?;
        let mut is_second = false;
        loop {
            match self.make_place().await? {
                Ok(()) => return Ok(Phase::Prepared),
                Err(_full) if self.lacks_room() => return Err(Error::NoRoom),
                // There is room again. What is larger than the disk fails once more.
                Err(failure) if failure.code == FailureCode::DiskFull && !is_second => {
                    is_second = true;
                    sleep(room::RETRY_AFTER).await;
                }
                Err(failure) => return self.give_up(failure).await,
            }
        }
    }

    async fn make_place(&mut self) -> Result<Result<(), Failure>, Error> {
        match self.order.spec.place.clone() {
            Place::Repository {
                commit,
                head,
                bundles,
                ignore_rules,
                branch: _,
            } => {
                let source = Source {
                    resume: self.order.resume.clone(),
                    below: self.order.below.clone(),
                    cache: self.repository(&bundles),
                    commit,
                    head,
                    bundles,
                    ignore_rules,
                };
                match self.clone_repository(source).await? {
                    Ok(()) => self.put_files().await,
                    Err(failure) => Ok(Err(failure)),
                }
            }
            Place::InPlace { dir, machine } if machine == self.shared.machine => {
                Ok(self.scan_before(dir).await)
            }
            Place::InPlace { dir, machine: _ } => Ok(Err(failed(format!(
                "`{}` is on another machine than this worker",
                dir.display()
            )))),
            Place::Empty => {
                let dir = self.files.workspace().to_owned();
                // A worker that was killed here may have left a part of it.
                let area = self.files.area().to_owned();
                if area.exists() {
                    let left = area.clone();
                    blocking(move || remove_dir(&left)).await?;
                }
                // IMPORTANT: a failure, not an error: a full disk is waited for.
                let made = make_dir(&area).and_then(|()| make_dir(&dir));
                Ok(made.map_err(|error| failed_by(&error)))
            }
        }
    }

    /// The cache of the task's project.
    fn repository(&self, bundles: &[Digest]) -> PathBuf {
        let name = match (&self.order.spec.project, bundles.first()) {
            (Some(project), _) => project.id.to_string(),
            (None, Some(first)) => format!("bundle-{first}"),
            (None, None) => "none".to_owned(),
        };
        self.shared.repositories.join(name)
    }

    /// Makes the workspace; once more, from another cache, where the project's is damaged.
    async fn clone_repository(&mut self, source: Source) -> Result<Result<(), Failure>, Error> {
        let mut is_second = false;
        loop {
            let (dir, commit) = (source.cache.clone(), source.commit.clone());
            let cache = match blocking(move || Cache::open(&dir, &commit)).await {
                Ok(cache) => cache,
                Err(error) => return Ok(Err(failed_by(&error))),
            };
            let Err(unmade) = self.clone_from(&source, cache.clone()).await? else {
                return Ok(Ok(()));
            };
            let may_renew = unmade.may_be_damage && !is_second && !self.lacks_room();
            if !may_renew || !self.renew(cache, &source).await? {
                return Ok(Err(unmade.failure));
            }
            is_second = true;
        }
    }

    async fn clone_from(
        &mut self,
        source: &Source,
        cache: Cache,
    ) -> Result<Result<(), Unmade>, Error> {
        let shared = std::sync::Arc::clone(&self.shared);
        let fetched = fetch(&shared.blobs, &shared.bulk, cache.clone(), source);
        let bundles = match self.unless_stopped(fetched).await? {
            Ok(Ok(bundles)) => bundles,
            Ok(Err(unmade)) => return Ok(Err(unmade)),
            Err(failure) => return Ok(Err(failure.into())),
        };
        let predecessors = self.order.predecessors.clone();
        let before = earlier::fetch(&shared, cache.clone(), predecessors);
        let before = match self.unless_stopped(before).await? {
            Ok(Ok(before)) => before,
            Ok(Err(unmade)) => return Ok(Err(unmade)),
            Err(failure) => return Ok(Err(failure.into())),
        };
        let resume = match &source.resume {
            None => None,
            Some(resume) => {
                let fetched = fetch_one(&shared.blobs, &shared.bulk, resume.bundle);
                match self.unless_stopped(fetched).await?.flatten() {
                    Ok(path) => Some((path, resume.commit.clone())),
                    Err(failure) => {
                        self.tell("resume_failed", failure.to_string())?;
                        None
                    }
                }
            }
        };
        let area = self.files.area().to_owned();
        let (dir, git_dir) = (self.files.workspace().to_owned(), self.files.git());
        let branch = task_branch(self.id.task);
        let (from, source) = (cache.clone(), source.clone());
        let commit = source.commit.clone();
        let made = blocking(move || {
            // A worker that was killed here may have left a part of them.
            remove_dir(&area)?;
            remove_dir(&git_dir)?;
            if let Err(error) = make_dir(&area) {
                return Ok(Err(failed_by(&error).into()));
            }
            let made = clone(&from, &source, &bundles, &before, &branch, &dir, &git_dir);
            // What cannot be gone on from costs its work, never the attempt.
            let made = made.map(|(workspace, earlier)| {
                let carried =
                    resume.map(|(bundle, commit)| carry_on(&from, &workspace, bundle, &commit));
                Made {
                    carried,
                    is_large: workspace.is_large(),
                    earlier,
                }
            });
            Ok::<_, Error>(made.map_err(Unmade::from))
        })
        .await?;
        let made = match made {
            Ok(made) => made,
            Err(unmade) => return Ok(Err(unmade)),
        };
        if made.is_large {
            self.background
                .spawn_blocking(move || make_spare(&cache, &commit));
        }
        Ok(self.tell_of(made)?.map_err(Unmade::from))
    }

    fn tell_of(&mut self, made: Made) -> Result<Result<(), Failure>, Error> {
        if made.earlier != Earlier::default()
            && let Err(failure) = made.earlier.save(&self.files)
        {
            return Ok(Err(failure));
        }
        for (phase, text) in made.earlier.notes() {
            self.tell(phase, text)?;
        }
        match made.carried {
            None => {}
            Some(Ok(())) => {
                self.tell("resumed", "the files of the earlier attempt are in place")?;
            }
            Some(Err(error)) => self.tell("resume_failed", chain(&error))?,
        }
        Ok(Ok(()))
    }

    /// Keeps what an in-place directory holds before the agent works there.
    async fn scan_before(&self, dir: PathBuf) -> Result<(), Failure> {
        let (to, below) = (self.files.before(), self.context_directory());
        blocking(move || {
            let exclude = mirrored_in(&dir, &below);
            let scanned = exclude.and_then(|exclude| scan::Snapshot::take(&dir, &exclude));
            let before = scanned.map_err(|error| failed_by(&error))?;
            let bytes = serde_json::to_vec(&before).expect("a look is JSON");
            durable::replace(&to, &bytes, durable::Access::Private)
                .map_err(|error| not_written(&to, &error))
        })
        .await
    }

    /// Where the agent works.
    pub fn directory(&self) -> PathBuf {
        match &self.order.spec.place {
            Place::InPlace { dir, machine: _ } => dir.clone(),
            Place::Repository { .. } | Place::Empty => self.files.workspace().to_owned(),
        }
    }

    /// The directory of the shared context in a project.
    pub fn context_directory(&self) -> String {
        self.shared.config.context.directory.clone()
    }
}

pub(super) fn failed(message: String) -> Failure {
    Failure::new(FailureCode::WorkspaceFailed, message)
}

/// The failure that a file is not written.
pub(super) fn not_written(path: &Path, error: &std::io::Error) -> Failure {
    Failure {
        message: format!("failed to write `{}`: {error}", path.display()),
        ..failed_by(error)
    }
}

/// The failure that an error is: of the disk, when that is full.
pub(super) fn failed_by(error: &(dyn std::error::Error + 'static)) -> Failure {
    let code = match disk::is_full(error) {
        true => FailureCode::DiskFull,
        false => FailureCode::WorkspaceFailed,
    };
    Failure::new(code, chain(error))
}

/// The files of the bundles that the cache has not taken yet; none when it has the commit already. Waits for a head
/// that is away.
async fn fetch(
    blobs: &blobs::Cache,
    bulk: &bulk::Bulk,
    cache: Cache,
    source: &Source,
) -> Result<Vec<blobs::Held>, Unmade> {
    let (commit, bundles) = (source.commit.clone(), source.bundles.clone());
    let wanted = move || {
        let has = cache.has(&commit)?;
        Ok::<_, orchestra_repo::Error>(match has {
            true => Vec::new(),
            false => cache.not_taken(&bundles),
        })
    };
    let mut paths = Vec::new();
    for digest in blocking(wanted).await? {
        paths.push(fetch_one(blobs, bulk, digest).await?);
    }
    Ok(paths)
}

pub(super) async fn fetch_one(
    blobs: &blobs::Cache,
    bulk: &bulk::Bulk,
    digest: Digest,
) -> Result<blobs::Held, Failure> {
    loop {
        match blobs.fetch(bulk, digest).await {
            Ok(path) => return Ok(path),
            Err(error) if error.is_transient() => {
                tracing::debug!(%digest, %error, "a bundle waits for the head");
                tokio::time::sleep(bulk::RETRY_AFTER).await;
            }
            Err(error) => return Err(failed_by(&error)),
        }
    }
}

fn clone(
    cache: &Cache,
    source: &Source,
    bundles: &[blobs::Held],
    before: &earlier::Fetched,
    branch: &str,
    dir: &Path,
    git_dir: &Path,
) -> orchestra_repo::Result<(Workspace, Earlier)> {
    if !cache.has(&source.commit)? {
        cache.fetch_bundles(bundles, &source.commit)?;
        cache.note_taken(&source.bundles)?;
    }
    let earlier = earlier::build(cache, &source.commit, before, &source.below)?;
    let others: Vec<(String, String)> = before
        .iter()
        .map(|(of, _)| (task_branch(of.task), of.change.commit.clone()))
        .collect();
    let plan = Plan {
        cache,
        commit: earlier.base().unwrap_or(&source.commit),
        start: &source.commit,
        head: &source.head,
        branch,
        others: &others,
        ignore_rules: &source.ignore_rules,
        dir,
        git_dir,
    };
    let workspace = Workspace::create(&plan)?;
    Ok((workspace, earlier))
}

/// Puts the files of an earlier attempt in place.
fn carry_on(
    cache: &Cache,
    workspace: &Workspace,
    bundle: blobs::Held,
    commit: &str,
) -> orchestra_repo::Result<()> {
    if !cache.has(commit)? {
        cache.fetch_bundles(&[bundle], commit)?;
    }
    workspace.carry_on(commit)
}

/// Prepares for the next attempt on a large project while the agent of this one works.
fn make_spare(cache: &Cache, commit: &str) {
    if let Err(error) = cache.make_spare(commit) {
        tracing::warn!(
            error = chain(&error),
            "no work tree could be made in advance"
        );
    }
}
