//! Puts an attempt's result in place: the shared context, the branch in the user's repository, the
//! change in the user's checkout. Then the core hears `Input::Closed`.
//!
//! Doing it twice does no harm: after a restart the core orders every close again that it has not
//! heard of. What fails costs a warning or a conflict, never the result.

use std::{io, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use orchestra_config::StateDir;
use orchestra_core::Input;
use orchestra_repo::{
    Applied, ApplyError, Change, Checkout, Error as RepoError, Others, Received, Told, not_noted,
};
use orchestra_types::{
    ApplyResult, Artifact, ArtifactKind, AttemptId, MachineId, Manifest, ManifestEntry, Outcome,
    Place, ProjectRef, TaskId, TaskSpec, TaskStatus, Timestamp,
};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    blobs::Blobs,
    context, earlier,
    engine::{Close, Handle, ReadError, View},
    manifest,
    shutdown::Stop,
    store,
    subtask::queued_in,
    traces::{Part, Traces},
};

/// Most attempts that are closed at once: each may run git.
const AT_ONCE: usize = 4;
/// Longest output that is written into the shared context.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// Orders to close that may wait here; the engine keeps the others.
pub const CLOSES_BOUND: usize = 64;

/// Closes attempts.
pub struct Closer {
    /// Where facts come from, and who is told.
    pub engine: Handle,
    /// Bundles and outputs.
    pub blobs: Blobs,
    /// Where what people and later tasks read is written.
    pub context: Arc<context::Store>,
    /// Checkouts on this machine can be changed here.
    pub here: Here,
    /// Where spans go to; none where none are sent.
    pub traces: Option<Traces>,
}

/// This machine, where ctl may have submitted from.
#[derive(Clone)]
pub struct Here {
    /// Its name.
    pub machine: MachineId,
    /// Where ctl keeps what it took of directories that are in no repository.
    pub state: StateDir,
    /// Whose branches are written.
    pub cluster: String,
}

/// What is known of an attempt that is to be closed.
struct Facts {
    spec: TaskSpec,
    created_at: Timestamp,
    outcome: Outcome,
    /// How the task will end; none when another attempt follows.
    status: Option<TaskStatus>,
    /// Whether a person wanted it to end before its agent had.
    cancelled: bool,
    attempt: AttemptId,
    /// The commits that earlier attempts left.
    attempts: Vec<String>,
    /// The changes of earlier tasks that it builds on.
    earlier: Vec<earlier::Earlier>,
    /// What it may be made of besides its snapshot; none where nobody can tell.
    sources: Option<Vec<String>>,
    runner: String,
    /// As people know it.
    worker: String,
}

impl Closer {
    /// Runs until the stop is wished, and then until what was begun is done.
    pub async fn run(self, mut closes: mpsc::Receiver<Close>, stop: Stop) {
        let closer = Arc::new(self);
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                close = closes.recv(), if running.len() < AT_ONCE => match close {
                    Some(close) => {
                        let closer = Arc::clone(&closer);
                        running.spawn(async move { closer.close(close).await });
                    }
                    None => break,
                },
                Some(_) = running.join_next() => {}
                () = stop.wished() => break,
            }
        }
        running.join_all().await;
    }

    async fn close(&self, close: Close) {
        let Close { attempt, status } = close;
        let Put { apply, with } = match self.facts(close).await {
            Ok(Some(facts)) => self.put_in_place(facts).await,
            Ok(None) => {
                tracing::warn!(%attempt, "nothing is known of an attempt that is to be closed");
                ApplyResult::NotRequested.into()
            }
            Err(ReadError::Stopped(_)) => return,
            Err(error) => {
                tracing::error!(%attempt, %error, "an attempt's result cannot be read");
                ApplyResult::NotRequested.into()
            }
        };
        tracing::debug!(%attempt, ?status, ?apply, ?with, "attempt closed");
        for task in with {
            // As `ctl apply` tells it. One that is forgotten by now is nobody's concern.
            let came = ApplyResult::Applied { files: 0 };
            let _ = self.engine.record_apply(task, came).await;
        }
        // A stopped engine orders it again after the next start.
        let _ = self.engine.tell(Input::Closed { attempt, apply }).await;
    }

    async fn facts(&self, close: Close) -> Result<Option<Facts>, ReadError> {
        self.engine.read(move |view| facts(view, close)).await
    }

    /// The span of the task: that of the attempt ends when its result is recorded, before this begins.
    fn traceparent(&self, facts: &Facts) -> String {
        let Some(traces) = &self.traces else {
            return String::new();
        };
        let task = facts.attempt.task;
        let trace = traces.of(task, facts.created_at, &facts.spec.traceparent);
        orchestra_telemetry::write(&trace.context(Part::Task))
    }

    async fn put_in_place(&self, facts: Facts) -> Put {
        let span = tracing::info_span!("task.finish", attempt = %facts.attempt);
        orchestra_telemetry::set_parent(&span, &self.traceparent(&facts));
        let (blobs, here) = (self.blobs.clone(), self.here.clone());
        let context = Arc::clone(&self.context);
        let wants_apply = facts.wants_apply();
        let done = tokio::task::spawn_blocking(move || {
            let _entered = span.enter();
            record(&blobs, &context, &facts);
            put_in_place(&blobs, &here, &facts)
        });
        let failed = "the head failed while it put the change in place, see its log; `ctl apply` tries it again";
        done.await.unwrap_or_else(|_| match wants_apply {
            true => ApplyResult::Conflict {
                message: failed.to_owned(),
            }
            .into(),
            false => ApplyResult::NotRequested.into(),
        })
    }
}

/// What came of putting a result in place.
#[derive(Debug, PartialEq, Eq)]
struct Put {
    apply: ApplyResult,
    /// Earlier tasks whose changes are in the checkout with it, and that are not known to be applied.
    with: Vec<TaskId>,
}

impl From<ApplyResult> for Put {
    fn from(apply: ApplyResult) -> Self {
        let with = Vec::new();
        Self { apply, with }
    }
}

impl Facts {
    /// Whether the change is to be put into the checkout. What succeeded although a person had cancelled it
    /// is kept, and nobody wants it there any more.
    fn wants_apply(&self) -> bool {
        self.spec.apply && !self.cancelled && self.status == Some(TaskStatus::Succeeded)
    }

    /// Whether there is something to put in place. What the task only passes on is in the branches of those
    /// that made it, and comes when it is to be applied.
    fn has_change(&self) -> bool {
        let outcome = &self.outcome;
        outcome.has_own_change() || self.wants_apply() && outcome.result_bundle().is_some()
    }
}

fn facts(view: &View<'_>, close: Close) -> store::Result<Option<Facts>> {
    let spec = view.store.spec(close.attempt.task)?;
    let end = view.store.outcome(close.attempt)?;
    let outcome = end.and_then(|end| end.result.ok());
    let attempt = view.store.attempt(close.attempt)?;
    let (Some(spec), Some(outcome), Some(attempt)) = (spec, outcome, attempt) else {
        return Ok(None);
    };
    let row = view.core.task(attempt.id.task).map(|view| view.row);
    let created_at = row.map(|row| row.created_at).unwrap_or_default();
    let cancelled = row.is_some_and(|row| row.cancel_requested);
    let task = attempt.id.task;
    let mut attempts = Vec::new();
    for number in 1..attempt.id.number {
        let end = view.store.outcome(AttemptId { task, number })?;
        attempts.extend(
            end.and_then(|end| end.result.ok())
                .map(|outcome| outcome.commit),
        );
    }
    let mut workers = view.core.workers();
    let worker = workers.find(|worker| worker.info.id == attempt.worker);
    let earlier = earlier::below(view, &spec, &outcome.built_on)?;
    let sources = earlier::sources(view, &spec, &outcome.built_on, &earlier);
    Ok(Some(Facts {
        spec,
        created_at,
        outcome: *outcome,
        status: close.status,
        cancelled,
        attempt: attempt.id,
        attempts,
        sources,
        earlier,
        runner: attempt.runner.to_string(),
        worker: worker.map_or_else(|| attempt.worker.to_string(), |w| w.info.name.clone()),
    }))
}

/// Writes a task that ends into the shared context of its project.
fn record(blobs: &Blobs, context: &context::Store, facts: &Facts) {
    let Some(status) = facts.status else {
        return;
    };
    let outcome = &facts.outcome;
    let task = context::ClosingTask {
        id: facts.attempt.task,
        attempt: facts.attempt.number,
        spec: facts.spec.clone(),
        status,
        failure: outcome.failure.clone(),
        runner: facts.runner.clone(),
        worker: facts.worker.clone(),
        started_at: Some(outcome.started_at),
        finished_at: outcome.finished_at,
        files: files(blobs, outcome),
        text: text(blobs, outcome),
    };
    if let Err(error) = context.record(&task) {
        let error = format!("{:#}", anyhow::Error::from(error));
        tracing::warn!(task = %task.id, error, "not written into the shared context");
    }
}

fn files(blobs: &Blobs, outcome: &Outcome) -> Vec<ManifestEntry> {
    let manifest = listed(blobs, outcome).inspect_err(|error| {
        tracing::warn!(%error, "the list of changed files cannot be read");
    });
    manifest.unwrap_or_default().entries
}

/// The list of changed files; where there is none, nothing was to be listed.
fn listed(blobs: &Blobs, outcome: &Outcome) -> Result<Manifest, manifest::Error> {
    match artifact(outcome, ArtifactKind::Manifest) {
        Some(artifact) => manifest::read(blobs, &artifact.digest),
        None => Ok(Manifest::default()),
    }
}

/// The artifact has the whole text, the outcome only its beginning.
fn text(blobs: &Blobs, outcome: &Outcome) -> String {
    let whole = artifact(outcome, ArtifactKind::Output);
    let whole = whole.and_then(|artifact| {
        let text = blobs.read_text(&artifact.digest, OUTPUT_BYTES_MAX);
        text.inspect_err(|error| tracing::warn!(%error, "an output cannot be read"))
            .ok()
    });
    whole.unwrap_or_else(|| outcome.text.clone())
}

fn put_in_place(blobs: &Blobs, here: &Here, facts: &Facts) -> Put {
    let is_here = |project: &&ProjectRef| project.machine == here.machine;
    let project = facts.spec.project.as_ref().filter(is_here);
    let (Some(project), Place::Repository { commit: start, .. }) = (project, &facts.spec.place)
    else {
        return ApplyResult::NotRequested.into();
    };
    let bundle = artifact(&facts.outcome, ArtifactKind::Bundle);
    let path = bundle.map(|bundle| blobs.path(&bundle.digest));
    if let Some(bundle) = &path {
        put_others(here, project, bundle, facts.attempt.task);
    }
    // Of an attempt that is tried again the change stays an artifact.
    if facts.status.is_none() {
        return ApplyResult::NotRequested.into();
    }
    let wants_apply = facts.wants_apply();
    let Some(path) = path.filter(|_| facts.has_change()) else {
        return match wants_apply {
            true => ApplyResult::Applied { files: 0 }.into(),
            false => ApplyResult::NotRequested.into(),
        };
    };
    let listed = match listed(blobs, &facts.outcome) {
        Ok(listed) => listed,
        Err(error) => return not_put(facts, format!("{:#}", anyhow::Error::from(error))).into(),
    };
    let patch = artifact(&facts.outcome, ArtifactKind::Patch);
    let patch = patch.map(|patch| blobs.path(&patch.digest));
    let (tasks, earlier): (Vec<_>, Vec<_>) = facts
        .earlier
        .iter()
        .map(|earlier| (earlier.task, earlier.change.clone()))
        .unzip();
    let change = Change {
        bundle: &path,
        branch: &facts.outcome.branch,
        commit: &facts.outcome.commit,
        start,
        earlier: &earlier,
        attempts: &facts.attempts,
        attended: false,
        applied: false,
        told: Told {
            base: facts.outcome.built_on.base(start),
            sources: facts.sources.as_deref(),
            manifest: &listed,
            patch: patch.as_deref(),
        },
    };
    match into_repository(here, project, facts.attempt.task, &change, wants_apply) {
        Ok(Some(applied)) => Put {
            with: not_noted(&tasks, &earlier),
            apply: ApplyResult::Applied {
                files: applied.files,
            },
        },
        Ok(None) => ApplyResult::NotRequested.into(),
        Err(why) => not_put(facts, is_gone(facts, project).unwrap_or(why)).into(),
    }
}

/// That the directory is gone which the task was queued for, if it is.
fn is_gone(facts: &Facts, project: &ProjectRef) -> Option<String> {
    let looked = project.dir.symlink_metadata();
    if !looked.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return None;
    }
    let (dir, task) = (project.dir.display(), facts.attempt.task);
    Some(match queued_in(&facts.spec, project) {
        Some(attempt) => format!(
            "`{dir}` is gone, since {attempt}, whose agent queued the task there, has ended; \
             `ctl apply {task}` in the project brings the change"
        ),
        None if project.id.is_of_place() => {
            format!(
                "`{dir}` is gone; make it again, then `ctl apply {task}` there brings the change"
            )
        }
        None => format!(
            "`{dir}` is gone; `ctl apply {task}` in another checkout of the project brings the change"
        ),
    })
}

/// The change is not there, for this reason.
fn not_put(facts: &Facts, why: String) -> ApplyResult {
    let branch = &facts.outcome.branch;
    tracing::warn!(attempt = %facts.attempt, worker = facts.worker, branch, why, "not put in place");
    match facts.wants_apply() {
        true => ApplyResult::Conflict { message: why },
        false => ApplyResult::NotRequested,
    }
}

/// What the agent left beside its result, as branches of the user's repository. The manifest names them.
fn put_others(here: &Here, project: &ProjectRef, bundle: &Path, task: TaskId) {
    let put = || {
        if orchestra_repo::others_in(bundle, task)?.is_empty() {
            return Ok(Others::default());
        }
        match Checkout::discover(&project.dir)? {
            Some(checkout) => {
                orchestra_repo::import_others(&checkout, bundle, task, Some(&here.cluster))
            }
            None => Ok(Others::default()),
        }
    };
    match put() {
        Ok(others) => {
            for branch in others.left_alone {
                tracing::warn!(branch, "something else has the name of a branch; it stays");
            }
        }
        Err(error) => {
            let error = format!("{:#}", anyhow::Error::from(error));
            tracing::warn!(%task, error, "what the agent left on other branches is only in the bundle");
        }
    }
}

fn artifact(outcome: &Outcome, kind: ArtifactKind) -> Option<&Artifact> {
    outcome
        .artifacts
        .iter()
        .find(|artifact| artifact.kind == kind)
}

/// Nothing where only the branch was to come.
fn into_repository(
    here: &Here,
    project: &ProjectRef,
    task: TaskId,
    change: &Change<'_>,
    wants_apply: bool,
) -> Result<Option<Applied>, String> {
    let failed = |error: RepoError| match error {
        RepoError::NotAsTold { .. } => error.to_string(),
        error => unless_foreign(&project.dir, hindered(task, error)),
    };
    let checkout = match Checkout::discover(&project.dir).map_err(failed)? {
        Some(checkout) => checkout,
        None if wants_apply => kept(here, project, task)?,
        None => return Ok(None),
    };
    // Before anything of the user's changes.
    let received = Received::take(&checkout, change).map_err(failed)?;
    if checkout.has_own_repository()
        && let Err(error) = orchestra_repo::import_branch(&checkout, &received, Some(&here.cluster))
    {
        // It is the same change: the files can have it all the same.
        tracing::warn!(branch = change.branch, %error, "the branch stays as it is");
    }
    if !wants_apply {
        return Ok(None);
    }
    match orchestra_repo::apply(&checkout, &received) {
        Ok(applied) => Ok(Some(applied)),
        Err(ApplyError::Repo(error)) => Err(failed(error)),
        // Everything else says what in the change or the checkout is the reason, whoever's that is.
        Err(error) => Err(error.to_string()),
    }
}

/// Why nothing can be done in a directory: that it is another user's than the head's, if it is.
fn unless_foreign(dir: &Path, why: String) -> String {
    let foreign = match dir.metadata() {
        Ok(found) => found.uid() != rustix::process::geteuid().as_raw(),
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    };
    match foreign {
        true => format!(
            "`{}` is another user's than the head's, which may not write there: `ctl apply` does it as you",
            dir.display()
        ),
        false => why,
    }
}

/// A directory that is in no repository, as ctl has it on this machine.
fn kept(here: &Here, project: &ProjectRef, task: TaskId) -> Result<Checkout, String> {
    let keep = here.state.directory(project.id.as_str());
    match Checkout::of_kept_directory(&project.dir, &keep) {
        Ok(Some((checkout, _))) => Ok(checkout),
        Ok(None) => Err(format!(
            "`{}` is in no repository; `ctl apply` puts the change there",
            project.dir.display()
        )),
        Err(error) => Err(hindered(task, error)),
    }
}

/// What kept the change from being put there, with all causes. Nothing in the checkout conflicts with it.
fn hindered(task: TaskId, error: RepoError) -> String {
    let why = format!("{:#}", anyhow::Error::from(error));
    format!("{why}; once that is mended, `ctl apply {task}` puts the change there")
}

#[cfg(test)]
mod tests;
