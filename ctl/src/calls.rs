//! Questions to the head that several commands ask, answered in the words of `json`.

mod gone;

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use orchestra_proto::v1;
use orchestra_types::{Artifact, ArtifactKind, AttemptId, ScheduleId, TaskId};
use tonic::{Code, Status};

use crate::{
    client::{Client, patiently, status_error, until_answered},
    error::{Error, Result},
    exit::Exit,
    json::{
        attempt::Attempt,
        fleet::{self, Worker},
        manifest::{Files, files},
        task::Task,
        time::Time,
    },
    stored::unreadable,
    ui::{Ui, reason::split},
};

/// Questions that are asked at once.
pub const ASKED_AT_ONCE: usize = 32;

/// Asks for each of these, some at once; the answers in the same order, or the first error.
pub async fn each_of<T>(ids: &[TaskId], ask: impl AsyncFn(TaskId) -> Result<T>) -> Result<Vec<T>> {
    let asked = stream::iter(ids).map(|id| ask(*id));
    asked.buffered(ASKED_AT_ONCE).try_collect().await
}

impl Client {
    /// The task with its attempts.
    pub async fn task(&self, id: TaskId) -> Result<Task> {
        let request = v1::GetTaskRequest { id: id.0 };
        let task = patiently(async || self.admin().get_task(request).await).await;
        Task::read(task.map_err(|e| e.about(id))?)
    }

    /// The task with its attempts and the files of its result.
    ///
    /// Where the head's list of them is lost, the task has why: all else of it is as good as it was.
    pub async fn whole_task(&self, id: TaskId) -> Result<Task> {
        let mut task = self.task(id).await?;
        // An attempt that failed early has no manifest.
        let listed = |attempt: &Attempt| attempt.artifact(ArtifactKind::Manifest).is_some();
        if let Some(attempt) = task.of_result().filter(|attempt| listed(attempt)) {
            match self.manifest(id, attempt.number).await {
                Ok(wire) => task.files = Some(files(id, attempt.number, wire)?.files),
                Err(status) if status.code() == Code::DataLoss => {
                    task.files_lost = Some(status.message().to_owned());
                }
                Err(status) => return Err(status_error(&status)),
            }
        } else if task.status.is_ended() {
            task.files = Some(Vec::new());
        }
        // Only lists leave them out.
        task.attempts.get_or_insert_default();
        Ok(task)
    }

    /// A task that was queued a moment ago.
    pub async fn queued(&self, id: TaskId) -> Result<Task> {
        match self.task(id).await {
            Err(error) if error.exit() == Exit::NotFound => Err(gone::forgotten(id)),
            found => found,
        }
    }

    /// The task as it is; as it was last seen if it is gone since.
    pub async fn or_known(&self, known: Task) -> Result<Task> {
        let now = self.task(known.id).await;
        self.unless_gone(now, known).await
    }

    /// When an attempt was given to its worker; none where the task has no such attempt.
    pub async fn when_given(&self, attempt: AttemptId) -> Result<Option<Time>> {
        let task = self.task(attempt.task).await?;
        Ok(task.given(attempt.number))
    }

    /// The same with its attempts and files.
    pub async fn whole_or(&self, known: Task) -> Result<Task> {
        let now = self.whole_task(known.id).await;
        self.unless_gone(now, known).await
    }

    /// Tasks with their attempts, in the order in which they are named.
    pub async fn tasks(&self, ids: &[TaskId]) -> Result<Vec<Task>> {
        each_of(ids, async |id| self.task(id).await).await
    }

    /// Tasks with their attempts and files, in the order in which they are named.
    pub async fn whole_tasks(&self, ids: &[TaskId]) -> Result<Vec<Task>> {
        each_of(ids, async |id| self.whole_task(id).await).await
    }

    /// The files that an attempt changed.
    pub async fn files(&self, task: TaskId, attempt: u32) -> Result<Files> {
        let wire = self.manifest(task, attempt).await;
        files(task, attempt, wire.map_err(|status| status_error(&status))?)
    }

    async fn manifest(
        &self,
        task: TaskId,
        attempt: u32,
    ) -> std::result::Result<v1::Manifest, Status> {
        let request = v1::GetManifestRequest {
            task: task.0,
            attempt,
        };
        let answer = until_answered(async || self.admin().get_manifest(request).await).await;
        answer.map_err(|failed| failed.status)
    }

    /// All workers.
    pub async fn workers(&self) -> Result<Vec<Worker>> {
        Ok(self.workers_and_names().await?.0)
    }

    /// The names that people know the workers by, by id; also of those that were removed.
    pub async fn worker_names(&self) -> Result<BTreeMap<String, String>> {
        Ok(self.workers_and_names().await?.1)
    }

    /// Both.
    pub async fn workers_and_names(&self) -> Result<(Vec<Worker>, BTreeMap<String, String>)> {
        let request = v1::ListWorkersRequest {};
        let answer = patiently(async || self.admin().list_workers(request).await).await?;
        let workers = answer.workers.into_iter().map(Worker::read);
        let workers = workers.collect::<Result<Vec<_>>>()?;
        let mut names: BTreeMap<_, _> = answer.removed.into_iter().collect();
        // One that came back may have another name.
        names.extend(names_of(&workers));
        Ok((workers, names))
    }

    /// All schedules, their long texts cut.
    pub async fn schedules(&self) -> Result<Vec<v1::Schedule>> {
        let request = v1::ListSchedulesRequest { id: 0 };
        let answer = patiently(async || self.admin().list_schedules(request).await).await?;
        Ok(answer.schedules)
    }

    /// One schedule, whole; none where there is none of that id.
    pub async fn schedule(&self, id: ScheduleId) -> Result<Option<v1::Schedule>> {
        let request = v1::ListSchedulesRequest { id: id.0 };
        let answer = patiently(async || self.admin().list_schedules(request).await).await?;
        // A head that does not know of one gives all.
        let mut schedules = answer.schedules.into_iter();
        Ok(schedules.find(|schedule| schedule.id == id.0))
    }

    /// The cluster.
    pub async fn status(&self) -> Result<fleet::Status> {
        let request = v1::GetStatusRequest {};
        Ok(fleet::Status::read(
            patiently(async || self.admin().get_status(request).await).await?,
        ))
    }

    /// The id of the cluster; none where the head cannot be asked.
    pub async fn cluster(&self) -> Option<String> {
        let status = self.status().await.ok()?;
        Some(status.cluster).filter(|id| !id.is_empty())
    }

    /// The bytes of an artifact, in chunks.
    pub async fn download(
        &self,
        artifact: Artifact,
    ) -> Result<tonic::Streaming<v1::DownloadChunk>> {
        let bulk = self.bulk().await?;
        let request = v1::DownloadRequest {
            digest: artifact.digest.0.to_vec(),
            offset: 0,
        };
        let answer = until_answered(async || bulk.clone().download(request.clone()).await).await;
        answer.map_err(|failed| unreadable(artifact.kind, &failed.status))
    }
}

impl Task {
    /// The commits that its attempts left, and which attempts these are.
    pub fn commits(&self) -> (Vec<String>, Vec<u32>) {
        let attempts = self.attempts.iter().flatten();
        attempts
            .filter_map(|attempt| Some((attempt.tip.as_ref()?.1.clone(), attempt.number)))
            .unzip()
    }

    /// Whether its result has a change: its own, or those that it is built on.
    pub fn has_change_to_apply(&self) -> bool {
        let result = self.of_result();
        result.is_some_and(|attempt| attempt.tip.is_some())
    }

    /// The attempt that its result is of.
    pub fn attempt_of_result(&self) -> Result<&Attempt> {
        match self.of_result() {
            Some(attempt) => Ok(attempt),
            None => self.attempt(None),
        }
    }

    /// Attempt `number`, or the one that its result is of; says which where that is not the latest.
    pub fn meant(&self, ui: &Ui, number: Option<u32>) -> Result<&Attempt> {
        if number.is_some() {
            return self.attempt(number);
        }
        let attempt = self.attempt_of_result()?;
        let (id, of) = (self.id, attempt.number);
        if let Some(latest) = self.latest().filter(|latest| latest.number != of) {
            let latest = latest.number;
            ui.warn(format!(
                "attempt {latest} of {id} left no change; this is of attempt {of}"
            ));
        }
        Ok(attempt)
    }

    /// Attempt `number`, or the latest one.
    pub fn attempt(&self, number: Option<u32>) -> Result<&Attempt> {
        let attempts = self.attempts.as_deref().unwrap_or_default();
        let found = match number {
            Some(number) => attempts.iter().find(|a| a.number == number),
            None => attempts.last(),
        };
        found.ok_or_else(|| match number {
            Some(number) => Error::new(
                Exit::NotFound,
                format!("{} has no attempt {number}", self.id),
            )
            .hint(format!("`ctl show {}` lists its attempts", self.id)),
            None if self.status.is_ended() => Error::new(
                Exit::NotFound,
                format!("{} ended before it was started", self.id),
            )
            .hint(format!("`ctl retry {}` runs it", self.id)),
            None => Error::new(
                Exit::NotFound,
                format!("{} has not been started yet{}", self.id, self.kept_by()),
            )
            .hint(self.until_it_ends(|id| format!("`ctl wait {id}` waits for it"))),
        })
    }

    /// What somebody does who wants more of it than there is yet. To `wait` is no help where it does not
    /// go on by itself.
    pub fn until_it_ends(&self, wait: impl FnOnce(TaskId) -> String) -> String {
        match &self.reason {
            Some(reason) if self.is_stuck() || self.asks_for_more() => reason.advice.clone(),
            Some(_) | None => wait(self.id),
        }
    }

    /// Why it does not go on, for the end of a sentence; nothing where it does.
    pub fn kept_by(&self) -> String {
        match &self.reason {
            Some(reason) if self.is_stuck() || self.asks_for_more() => {
                format!(": {}", split(&reason.message).0)
            }
            Some(_) | None => String::new(),
        }
    }
}

impl Attempt {
    /// What it stored of this kind.
    pub fn artifact(&self, kind: ArtifactKind) -> Option<Artifact> {
        self.artifacts.iter().copied().find(|a| a.kind == kind)
    }

    /// Whether it left a result in which no file is changed. One that failed early left none.
    pub fn changed_nothing(&self) -> bool {
        let is_listed = self.artifact(ArtifactKind::Manifest).is_some();
        let left_result = self.exit.is_some() && (self.reason.is_none() || is_listed);
        left_result && self.changes.is_some_and(|changes| changes.files == 0)
    }
}

/// The names of workers, by their ids.
fn names_of(workers: &[Worker]) -> BTreeMap<String, String> {
    let names = workers.iter();
    names.map(|w| (w.id.to_string(), w.name.clone())).collect()
}

#[cfg(test)]
mod tests {
    use orchestra_types::{Failure, FailureCode, Place, TaskStatus};

    use super::*;
    use crate::{json::task::Reason, ui::again::Again};

    #[test]
    fn of_a_task_that_does_not_go_on_the_way_out_is_named_and_no_wait() {
        let spec = v1::TaskSpec {
            description: "x".into(),
            timeout_ms: 1,
            place: Some(Place::Empty.into()),
            ..Default::default()
        };
        let mut task = Task::read(v1::Task {
            id: 3,
            spec: Some(spec),
            status: v1::TaskStatus::from(TaskStatus::Blocked).into(),
            ..Default::default()
        })
        .unwrap();
        let said = |task: &Task| {
            let error = task.attempt(None).unwrap_err();
            let hint = error.next_step(Again::default()).unwrap().into_owned();
            (error.to_string(), hint)
        };
        let waits = (
            "task_003 has not been started yet".to_owned(),
            "`ctl wait task_003` waits for it".to_owned(),
        );
        assert_eq!(said(&task), waits);
        let why = Failure::new(FailureCode::DependencyFailed, "task_001 ended as failed");
        task.reason = Some(Reason::of(task.id, why));
        let (error, hint) = said(&task);
        assert_eq!(
            error,
            "task_003 has not been started yet: task_001 ended as failed"
        );
        assert!(hint.starts_with("`ctl retry task_001` first"), "{hint}");
    }
}
