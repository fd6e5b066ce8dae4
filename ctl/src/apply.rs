//! Puts a task's change into a checkout on this machine.

mod attempts;
pub mod bits;
mod refusal;
mod tell;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use orchestra_repo::{
    Bit, Change, Checkout, Others, OwnBranch, Received, Temporary, branch_here, import_branch,
    import_branch_as, import_others, project_ref, project_ref_without_commit,
};
use orchestra_types::{Artifact, ArtifactKind, TaskId};

use attempts::{Fetched, Other, fetch, others};
use refusal::{called_off, not_branched, not_received, number_of, refusal};

use crate::{
    app::App,
    blocking::{blocking, shown},
    client::Client,
    error::{Error, OrFailed, Result},
    exit::Exit,
    json::task::{Earlier, Project, Task, Workplace},
    repository::OrBroken,
    stored,
    told::{Stored, Told},
    writing::{Begin, Writing},
};

/// How far to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// Into the files of the work tree.
    WorkTree,
    /// Only as the task's branch; no file changes.
    Branch,
    /// Only as a new branch of this name.
    BranchAs(OwnBranch),
}

impl How {
    /// Whether no file changes.
    fn is_branch(&self) -> bool {
        match self {
            Self::WorkTree => false,
            Self::Branch | Self::BranchAs(_) => true,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The task changed no files, and is built on no change.
    Nothing(Beside),
    /// Its change is there.
    Change(Box<Done>),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The checkout.
    pub checkout: PathBuf,
    /// The branch that holds the change; null where the directory is in no repository, and where
    /// something else has its name.
    pub branch: Option<String>,
    /// Why there is no branch although there is a repository.
    pub left_alone: Option<String>,
    /// How many files changed in the work tree; null with `--branch`.
    pub files: Option<u64>,
    /// Whether they all were so before, so that no file changed now.
    pub already: bool,
    /// Some of what was written is in no index, so that `git diff` does not show it.
    pub unknown: bool,
    /// Executable bits that it has and git does not see there.
    pub unseen: Vec<Bit>,
    /// The branch of a later task whose change is there and holds this one.
    pub within: Option<String>,
    /// The attempt that was there, as nobody knew, and whose place it took.
    pub replaced: Option<u32>,
    /// Earlier tasks whose changes came along, because they were not there.
    pub with: Vec<TaskId>,
    /// Earlier tasks whose changes are there and that are not known to be applied.
    pub not_noted: Vec<TaskId>,
    /// Whether something that is not committed keeps git from merging the branch.
    pub unmergeable: bool,
    /// How git can join the branch with what is checked out.
    pub joining: Joining,
    /// Whether git keeps only some of the files in the work tree.
    pub sparse: bool,
    /// What came beside the change.
    pub beside: Beside,
}

/// How git can join a branch with what is checked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joining {
    /// By a merge.
    Merge,
    /// The clone lacks history, so that the branch has none in common with it, and git merges nothing: its
    /// commits after this one can be picked.
    PickAfter(String),
    /// The same, and there are merges among its commits, which cannot be picked.
    Neither,
}

/// Branches of what the agent left beside its result: on branches of its own, and in stashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Those that are in the repository now.
    pub branches: Vec<String>,
    /// Why others are not.
    pub left_alone: Vec<String>,
}

/// A change to put there.
struct Work {
    task: TaskId,
    bundle: Artifact,
    branch: String,
    commit: String,
    /// The commits of all attempts.
    attempts: Vec<String>,
    /// Which attempts these are.
    numbers: Vec<u32>,
    /// The others of them, as they are stored.
    others: Vec<Other>,
    start: String,
    /// Changes of earlier tasks that it builds on.
    earlier: Vec<Earlier>,
    /// Whether it was applied before, by itself or with a later one.
    applied: bool,
    project: Project,
    /// What was told of it.
    told: Stored,
    /// Who made it.
    worker: Option<String>,
}

/// Puts the task's change into `repo`, or into the checkout that it was made for, and tells the
/// head what became of it.
pub async fn apply(
    app: &App,
    client: &Client,
    task: &Task,
    repo: Option<&Path>,
    how: How,
) -> Result<Applied> {
    let Some(work) = work(task, &how)? else {
        return beside(app, client, task, repo).await.map(Applied::Nothing);
    };
    let checkout = checkout(app, &work.project, &work.start, repo).await?;
    let dir = Temporary::new().or_failed(|| "failed to make a temporary directory".to_owned())?;
    let bundle = dir.path().join("bundle");
    stored::save(client, work.bundle, &bundle).await?;
    let told = work.told.clone().fetch(client, dir.path()).await?;
    let to = Arc::new(To {
        checkout,
        bundle,
        work,
        told,
        how: how.clone(),
        writing: app.writing.clone(),
        cluster: client.cluster().await,
    });
    let done = put_alone_or_with(app, client, &to, dir.path()).await;
    drop(dir);
    let told = tell::tell(client, task.id, &how, &done).await;
    // What became of it is the answer, whether or not the head has heard of it.
    let done = done?;
    if let Err(error) = told {
        let why = error.chain();
        let what = "it was done, and the head could not be told: it does not count it as applied";
        app.ui.warn(format!("{what}: {why}"));
    }
    Ok(Applied::Change(Box::new(done)))
}

/// What is to be done, and where.
struct To {
    checkout: Checkout,
    bundle: PathBuf,
    work: Work,
    told: Told,
    how: How,
    writing: Writing,
    /// Whose branches are written.
    cluster: Option<String>,
}

/// Puts the change there. Only where it does not fit, other attempts are fetched: one of them may be there
/// although nobody knows of it here, as after `ctl diff TASK | git apply`.
async fn put_alone_or_with(app: &App, client: &Client, to: &Arc<To>, dir: &Path) -> Result<Done> {
    let what = format!("applying {}", to.work.task);
    let alone = Arc::clone(to);
    let done = shown(app.ui, &what, move || put(&alone, &[])).await;
    let others = &to.work.others;
    if to.how.is_branch() || others.is_empty() || !is_refused(&done) {
        return done;
    }
    let Ok(fetched) = fetch(client, others, dir).await else {
        return done;
    };
    let with = Arc::clone(to);
    shown(app.ui, what, move || put(&with, &fetched)).await
}

fn is_refused(done: &Result<Done>) -> bool {
    matches!(done, Err(error) if error.exit() == Exit::Refused)
}

/// What there is to apply: its change with those that it is built on, also where it changed nothing itself
/// and only passes those on. None where there is none of both. A branch of nothing is refused:
/// whoever asks for one goes on with it.
fn work(task: &Task, how: &How) -> Result<Option<Work>> {
    let id = task.id;
    let nothing = |why: String| {
        Error::new(
            Exit::NotFound,
            format!("there is nothing to apply of {id}: {why}"),
        )
    };
    let (start, project) = match (&task.place, &task.project) {
        (Workplace::Repository { commit, .. }, Some(project)) => (commit.clone(), project.clone()),
        (Workplace::InPlace { dir, .. }, _) => {
            return Err(nothing(format!("it worked in `{dir}` itself")));
        }
        (_, _) => return Err(nothing("it did not work on a repository".to_owned())),
    };
    if !task.status.is_ended() {
        let why = format!("{id} has not ended yet{}", task.kept_by());
        let hint = task.until_it_ends(|id| format!("`ctl wait {id} && ctl apply {id}`"));
        return Err(Error::new(Exit::Refused, why).hint(hint));
    }
    let attempt = task.attempt_of_result()?;
    let (attempts, numbers) = task.commits();
    match (attempt.artifact(ArtifactKind::Bundle), &attempt.tip) {
        (Some(bundle), Some((branch, commit))) => Ok(Some(Work {
            task: id,
            bundle,
            branch: branch.clone(),
            commit: commit.clone(),
            attempts,
            numbers,
            others: others(task, commit, &start),
            told: Stored::of(task, attempt, &start),
            worker: attempt.worker.clone(),
            start,
            earlier: task.earlier.clone(),
            applied: task.apply.result.as_deref() == Some("applied"),
            project,
        })),
        (_, _) if !attempt.changed_nothing() => Err(nothing("it left no change".to_owned())
            .hint(format!("`ctl show {id}` says how it ended"))),
        (_, _) => match how {
            How::WorkTree => Ok(None),
            How::Branch | How::BranchAs(_) => Err(nothing("it changed no files".to_owned())),
        },
    }
}

/// Looks whether the branch of the task's result is in the repository that `ctl apply` would put it into.
/// Where that cannot be told, nothing is noted.
pub async fn look_for_branch(app: &App, task: &mut Task) {
    let tip = task.of_result().and_then(|attempt| attempt.tip.clone());
    let (Some((branch, commit)), Some(project), Workplace::Repository { commit: start, .. }) =
        (tip, &task.project, &task.place)
    else {
        return;
    };
    let Ok(checkout) = checkout(app, project, start, None).await else {
        return;
    };
    let (attempts, _) = task.commits();
    let look = move || {
        let failed = || format!("failed to look for the branch `{branch}`");
        branch_here(&checkout, &branch, &commit, &attempts).or_failed(failed)
    };
    task.branch_here = blocking(look).await.ok();
}

/// The branches beside the result of a task that changed no files.
async fn beside(app: &App, client: &Client, task: &Task, repo: Option<&Path>) -> Result<Beside> {
    let bundle = task.attempt_of_result()?.artifact(ArtifactKind::Bundle);
    let (Some(artifact), Some(project), Workplace::Repository { commit: start, .. }) =
        (bundle, &task.project, &task.place)
    else {
        return Ok(Beside::default());
    };
    let dir = Temporary::new().or_failed(|| "failed to make a temporary directory".to_owned())?;
    let (bundle, id) = (dir.path().join("bundle"), task.id);
    stored::save(client, artifact, &bundle).await?;
    let others = orchestra_repo::others_in(&bundle, id);
    // It may hold only what the task was built on.
    if others
        .or_failed(|| format!("failed to read the bundle of {id}"))?
        .is_empty()
    {
        return Ok(Beside::default());
    }
    let checkout = checkout(app, project, start, repo).await?;
    let cluster = client.cluster().await;
    let writing = app.writing.clone();
    let put = blocking(move || match writing.begin() {
        Begin::Now => Ok(put_beside(&checkout, &bundle, id, cluster.as_deref())),
        Begin::Never => Err(called_off()),
    })
    .await;
    drop(dir);
    put
}

fn put_beside(checkout: &Checkout, bundle: &Path, task: TaskId, cluster: Option<&str>) -> Beside {
    let others = match checkout.has_own_repository() {
        true => import_others(checkout, bundle, task, cluster),
        false => return outside(checkout, bundle, task),
    };
    match others {
        Ok(Others { made, left_alone }) => Beside {
            branches: made,
            left_alone: left_alone.iter().map(|branch| taken(branch)).collect(),
        },
        Err(error) => Beside {
            branches: Vec::new(),
            left_alone: vec![format!(
                "the branches that the agent left beside its result are not there: {error}"
            )],
        },
    }
}

fn taken(branch: &str) -> String {
    format!("`{branch}` has other commits here; those of the task are not there")
}

/// A directory in no repository can have no branch.
fn outside(checkout: &Checkout, bundle: &Path, task: TaskId) -> Beside {
    let others = orchestra_repo::others_in(bundle, task).unwrap_or_default();
    let dir = checkout.top().display();
    let why = |(branch, _): &(String, String)| {
        format!("there is no branch `{branch}`: `{dir}` is in no git repository; the bundle has it")
    };
    Beside {
        branches: Vec::new(),
        left_alone: others.iter().map(why).collect(),
    }
}

/// The checkout: the named one, else the one that the current directory is in if it is of the
/// task's project, else the one that the task came from if that was on this machine. `start` is the
/// snapshot that it started from.
async fn checkout(
    app: &App,
    project: &Project,
    start: &str,
    repo: Option<&Path>,
) -> Result<Checkout> {
    let machine = app.machine()?;
    let keep = app.state.directory(&project.id);
    let (repo, project) = (repo.map(Path::to_owned), project.clone());
    let start = start.to_owned();
    blocking(move || {
        let of = |dir: &Path| -> Result<Option<Checkout>> {
            let failed = || format!("failed to look at `{}`", dir.display());
            let is = project_ref(dir, &machine).or_broken(failed)?.id.as_str() == project.id;
            let was = project_ref_without_commit(dir, &machine).or_failed(failed)?;
            if !is && was.id.as_str() != project.id {
                // A workspace of an attempt, where an agent queued it for the project of its own task.
                let is_place =
                    machine.as_str() == project.machine && was.dir == Path::new(&project.dir);
                return match is_place {
                    true => Checkout::discover(dir).or_failed(failed),
                    false => Ok(None),
                };
            }
            let found = Checkout::discover(dir).or_failed(failed)?;
            if was.id.as_str() != project.id {
                return Ok(found);
            }
            // Where it was no repository then, what the task started from is kept beside it.
            let kept = Checkout::of_kept_directory(dir, &keep).or_failed(failed)?;
            match kept.map(|(checkout, _)| checkout) {
                Some(kept) if found.is_none() || kept.has(&start).or_failed(failed)? => {
                    Ok(Some(kept))
                }
                Some(_) | None => Ok(found),
            }
        };
        if let Some(dir) = repo {
            return of(&dir)?.ok_or_else(|| elsewhere(&project, &format!("`{}`", dir.display())));
        }
        // Whatever is the matter with the current directory, it may be another one.
        let here = match of(Path::new(".")) {
            Ok(Some(here)) => return Ok(here),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        let origin = Path::new(&project.dir);
        let there = if project.machine == machine.as_str() && origin.is_dir() {
            of(origin)?
        } else {
            None
        };
        match there {
            Some(there) => Ok(there),
            None => here.and_then(|()| Err(elsewhere(&project, "the current directory"))),
        }
    })
    .await
}

fn elsewhere(project: &Project, looked_at: &str) -> Error {
    Error::new(
        Exit::NotFound,
        format!(
            "{looked_at} is no checkout of the task's project `{}`",
            project.name
        ),
    )
    .hint("go into a checkout of it, or name one with `--repo DIR`")
}

/// Puts the change there; `others` are attempts that may be there.
fn put(to: &To, others: &[Fetched]) -> Result<Done> {
    let To {
        checkout,
        bundle,
        work,
        told,
        how,
        writing,
        cluster,
    } = to;
    let cluster = cluster.as_deref();
    let earlier: Vec<_> = work.earlier.iter().map(|e| e.change.clone()).collect();
    let tasks: Vec<_> = work.earlier.iter().map(|e| e.task).collect();
    let change = Change {
        bundle,
        branch: &work.branch,
        commit: &work.commit,
        start: &work.start,
        earlier: &earlier,
        attempts: &work.attempts,
        attended: true,
        applied: work.applied,
        told: told.as_told(),
    };
    let has_branches = checkout.has_own_repository();
    if how.is_branch() && !has_branches {
        let dir = checkout.top().display();
        let why = format!("`{dir}` is in no git repository, which could have a branch");
        return Err(Error::new(Exit::Refused, why).hint("leave out --branch"));
    }
    let received =
        Received::take(checkout, &change).map_err(|error| not_received(work, how, error))?;
    for other in others {
        other.look_for(&received, &change);
    }
    let may_write = || writing.begin() == Begin::Now;
    let applied = match how {
        How::WorkTree => Some(
            orchestra_repo::apply_if(checkout, &received, may_write)
                .map_err(|error| refusal(work, error))?,
        ),
        How::Branch | How::BranchAs(_) if may_write() => None,
        How::Branch | How::BranchAs(_) => return Err(called_off()),
    };
    // Only for advice: the branch is made all the same.
    let unmergeable =
        how.is_branch() && orchestra_repo::keeps_from_merging(checkout, &received).unwrap_or(false);
    let (named, imported) = match how {
        How::WorkTree | How::Branch => (
            work.branch.as_str(),
            import_branch(checkout, &received, cluster),
        ),
        How::BranchAs(name) => (
            name.as_str(),
            import_branch_as(checkout, &received, name, cluster),
        ),
    };
    // In a repository of ours it tells only what is there.
    let imported = has_branches.then_some(imported).transpose();
    let beside = put_beside(checkout, bundle, work.task, cluster);
    let (branch, left_alone) = match (imported, how) {
        (Ok(made), _) => (made.map(|()| named.to_owned()), None),
        (Err(error), How::WorkTree) => (None, Some(error.to_string())),
        (Err(error), How::Branch | How::BranchAs(_)) => return Err(not_branched(named, error)),
    };
    Ok(Done {
        checkout: checkout.top().to_owned(),
        branch,
        left_alone,
        files: applied.as_ref().map(|applied| match applied.already {
            true => 0,
            false => applied.files,
        }),
        already: applied.as_ref().is_some_and(|applied| applied.already),
        unknown: applied.as_ref().is_some_and(|applied| applied.unknown),
        unseen: applied
            .as_ref()
            .map_or(Vec::new(), |applied| applied.unseen.clone()),
        within: applied.as_ref().and_then(|applied| applied.within.clone()),
        replaced: applied.as_ref().and_then(|applied| {
            let commit = applied.replaced.as_deref()?;
            Some(number_of(work, commit))
        }),
        not_noted: match how {
            How::WorkTree => orchestra_repo::not_noted(&tasks, &earlier),
            How::Branch | How::BranchAs(_) => Vec::new(),
        },
        with: applied.map_or(Vec::new(), |applied| applied.brought(&tasks)),
        unmergeable,
        joining: match checkout.lacks_history() {
            None => Joining::Merge,
            Some(_) if received.is_linear().unwrap_or(false) => {
                Joining::PickAfter(work.start.clone())
            }
            Some(_) => Joining::Neither,
        },
        sparse: checkout.is_sparse().unwrap_or(false),
        beside,
    })
}
