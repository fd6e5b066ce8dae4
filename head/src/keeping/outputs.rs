//! Outputs in the shared context of projects: those that are too many or too old go once their task is
//! forgotten, a few at a time. Until then somebody may look for them, and the head's other data of the task is
//! there too.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use orchestra_core::Doubt;
use orchestra_types::{ProjectId, TaskId};

use super::{Keeper, Mode};
use crate::context::{Due, Gone, Keep};

/// Most outputs that go while nobody else may touch the project. Each time the note of their copies is written
/// whole, so that they are not few.
const BATCH_MAX: usize = 1024;
/// Most bytes of them, unless one alone has more: all are read.
const BATCH_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How often in one sweep outputs go and then their copies; what is due then goes with the next sweep.
const ROUNDS_MAX: usize = 8;

/// How long, and how many, outputs of forgotten tasks are kept.
#[derive(Clone, Copy, Debug)]
pub struct OutputLimits {
    /// For how long.
    pub kept_for: Duration,
    /// How many of each project.
    pub max: u64,
}

/// What was removed, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweptOutputs {
    /// How many.
    pub outputs: u64,
    /// Bytes of the head's own files.
    pub bytes: u64,
}

/// What one look at outputs has removed, or would.
#[derive(Default)]
struct Looked {
    swept: SweptOutputs,
    /// Where some stay until there is room for a note of their copies.
    full: bool,
}

impl SweptOutputs {
    fn add(&mut self, more: Self) {
        self.outputs += more.outputs;
        self.bytes += more.bytes;
    }
}

impl Keeper {
    /// Looks at the outputs of all projects. One project that cannot be looked at costs a warning.
    ///
    /// Copies that an earlier sweep has left are tried before outputs go, so that none is given up whose mirror is in
    /// order by now. Where some cannot be removed, no more are tried in this sweep: git may take long.
    pub async fn sweep_outputs(&self, mode: Mode) -> anyhow::Result<SweptOutputs> {
        let mut projects = self.projects().await?;
        let mut clean = self.sweep_copies(&projects, mode).await?;
        let mut swept = SweptOutputs::default();
        for _ in 0..ROUNDS_MAX {
            let (removed, full) = {
                let _gate = self.gate.lock().await;
                self.look_at_outputs(&projects, mode).await?
            };
            swept.add(removed);
            clean = self.sweep_copies(&clean, mode).await?;
            projects = clean.clone();
            projects.retain(|project| full.contains(project));
            if projects.is_empty() {
                break;
            }
        }
        Ok(swept)
    }

    /// Removes copies in mirrors of outputs that are gone, also those that could not be removed before. Not while
    /// the gate is held: git may take long, and nothing here is in a backup or a check. Gives the projects of which
    /// none is left.
    async fn sweep_copies(
        &self,
        projects: &[ProjectId],
        mode: Mode,
    ) -> anyhow::Result<Vec<ProjectId>> {
        let mut clean = Vec::new();
        match mode {
            Mode::Look => return Ok(clean),
            Mode::Remove => {}
        }
        for project in projects {
            let (context, of) = (Arc::clone(&self.context), project.clone());
            let removed = tokio::task::spawn_blocking(move || context.remove_copies(&of));
            match removed.await.context("the removal of copies panicked")? {
                Ok(none_left) => clean.extend(none_left.then(|| project.clone())),
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    tracing::warn!(%project, error, "copies of removed outputs stay in its mirrors");
                }
            }
        }
        Ok(clean)
    }

    async fn projects(&self) -> anyhow::Result<Vec<ProjectId>> {
        let context = Arc::clone(&self.context);
        let projects = tokio::task::spawn_blocking(move || context.projects());
        Ok(projects.await.context("the look at projects panicked")??)
    }

    /// While the gate is held. What is removed, and where there is no room for a note of more.
    async fn look_at_outputs(
        &self,
        projects: &[ProjectId],
        mode: Mode,
    ) -> anyhow::Result<(SweptOutputs, BTreeSet<ProjectId>)> {
        let keep = self.keep_outputs().await?;
        let mut swept = SweptOutputs::default();
        let mut full = BTreeSet::new();
        for project in projects {
            match self.sweep_project(project, keep, mode).await {
                Ok(looked) => {
                    swept.add(looked.swept);
                    full.extend(looked.full.then(|| project.clone()));
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(%project, error, "old outputs of its context are not removed");
                }
            }
        }
        Ok((swept, full))
    }

    /// Nothing goes for its age while the clock is not believed.
    async fn keep_outputs(&self) -> anyhow::Result<Keep> {
        let doubt = self.engine.read(|view| Ok(view.core.doubt())).await?;
        let now = self.engine.now();
        let doubted = |doubt: Option<Doubt>| doubt.is_some_and(|doubt| now < doubt.until);
        let believed = !doubted(doubt) && !doubted(self.events.doubt());
        let now = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(now.0));
        let since = now.and_then(|now| now.checked_sub(self.outputs.kept_for));
        Ok(Keep {
            max: self.outputs.max,
            since: since.filter(|_| believed),
        })
    }

    async fn sweep_project(
        &self,
        project: &ProjectId,
        keep: Keep,
        mode: Mode,
    ) -> anyhow::Result<Looked> {
        let (context, of) = (Arc::clone(&self.context), project.clone());
        let due = tokio::task::spawn_blocking(move || context.due_outputs(&of, &keep));
        let due = due.await.context("the look at outputs panicked")??;
        let mut looked = Looked::default();
        for some in batches(&self.of_forgotten(due).await?) {
            let tasks: Vec<TaskId> = some.iter().map(|due| due.task).collect();
            let gone = match mode {
                Mode::Look => Gone { tasks, full: false },
                Mode::Remove => self.remove_outputs(project, tasks).await?,
            };
            let tasks: BTreeSet<TaskId> = gone.tasks.into_iter().collect();
            for due in some.iter().filter(|due| tasks.contains(&due.task)) {
                looked.swept.outputs += 1;
                looked.swept.bytes += due.bytes;
            }
            if gone.full {
                looked.full = true;
                break;
            }
        }
        Ok(looked)
    }

    async fn remove_outputs(
        &self,
        project: &ProjectId,
        tasks: Vec<TaskId>,
    ) -> anyhow::Result<Gone> {
        let (context, of) = (Arc::clone(&self.context), project.clone());
        let removed = tokio::task::spawn_blocking(move || context.remove_outputs(&of, &tasks));
        Ok(removed.await.context("the removal of outputs panicked")??)
    }

    /// Those whose task nobody knows any more.
    async fn of_forgotten(&self, mut due: Vec<Due>) -> anyhow::Result<Vec<Due>> {
        if due.is_empty() {
            return Ok(due);
        }
        let read = self.engine.read(move |view| {
            due.retain(|due| view.core.task(due.task).is_none());
            Ok(due)
        });
        Ok(read.await?)
    }

    pub(super) async fn sweep_outputs_and_log(&self) {
        match self.sweep_outputs(Mode::Remove).await {
            Ok(SweptOutputs { outputs: 0, .. }) => {}
            Ok(SweptOutputs { outputs, bytes }) => tracing::info!(
                outputs,
                bytes,
                "removed old outputs of forgotten tasks from the shared context"
            ),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "old outputs of forgotten tasks are not removed");
            }
        }
    }
}

/// Parts that are short and small enough to go in one go.
fn batches(due: &[Due]) -> Vec<&[Due]> {
    let mut batches = Vec::new();
    let mut rest = due;
    while !rest.is_empty() {
        let mut bytes = 0_u64;
        let fits = |due: &&Due| {
            bytes = bytes.saturating_add(due.bytes);
            bytes <= BATCH_BYTES_MAX
        };
        let fit = rest.iter().take(BATCH_MAX).take_while(fits).count();
        let (batch, after) = rest.split_at(fit.max(1));
        batches.push(batch);
        rest = after;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_few_bytes_and_every_output_is_in_one() {
        let lengths = |bytes: &[u64]| -> Vec<usize> {
            let due: Vec<Due> = (1..)
                .zip(bytes)
                .map(|(task, bytes)| Due {
                    task: TaskId(task),
                    bytes: *bytes,
                })
                .collect();
            let batches = batches(&due);
            assert_eq!(batches.concat(), due);
            batches.iter().map(|batch| batch.len()).collect()
        };
        let max = BATCH_BYTES_MAX;
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&[1; 2 * BATCH_MAX + 1]), [BATCH_MAX, BATCH_MAX, 1]);
        assert_eq!(lengths(&[max - 1, 1, max + 1, u64::MAX, 1]), [2, 1, 1, 1]);
    }
}
