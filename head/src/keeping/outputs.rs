//! Outputs in the shared context of projects: those that are too many or too old go once their task is
//! forgotten, a few at a time. Until then somebody may look for them, and the head's other data of the task is
//! there too.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use orchestra_core::Doubt;
use orchestra_types::{ProjectId, TaskId};

use super::{Keeper, Mode};
use crate::context::{Due, Keep};

/// Most outputs that go while nobody else may touch the project.
const BATCH_MAX: usize = 64;

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

impl Keeper {
    /// Looks at the outputs of all projects. One project that cannot be looked at costs a warning.
    pub async fn sweep_outputs(&self, mode: Mode) -> anyhow::Result<SweptOutputs> {
        let swept = {
            let _gate = self.gate.lock().await;
            self.look_at_outputs(mode).await?
        };
        self.sweep_copies(mode).await?;
        Ok(swept)
    }

    /// Removes copies in mirrors of outputs that are gone, also those that could not be removed before. Not while
    /// the gate is held: git may take long, and nothing here is in a backup or a check.
    pub(super) async fn sweep_copies(&self, mode: Mode) -> anyhow::Result<()> {
        match mode {
            Mode::Look => return Ok(()),
            Mode::Remove => {}
        }
        for project in self.projects().await? {
            let (context, of) = (Arc::clone(&self.context), project.clone());
            let removed = tokio::task::spawn_blocking(move || context.remove_copies(&of));
            if let Err(error) = removed.await.context("the removal of copies panicked")? {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::warn!(%project, error, "copies of removed outputs stay in its mirrors");
            }
        }
        Ok(())
    }

    async fn projects(&self) -> anyhow::Result<Vec<ProjectId>> {
        let context = Arc::clone(&self.context);
        let projects = tokio::task::spawn_blocking(move || context.projects());
        Ok(projects.await.context("the look at projects panicked")??)
    }

    /// While the gate is held.
    pub(super) async fn look_at_outputs(&self, mode: Mode) -> anyhow::Result<SweptOutputs> {
        let keep = self.keep_outputs().await?;
        let mut swept = SweptOutputs::default();
        for project in self.projects().await? {
            match self.sweep_project(&project, keep, mode).await {
                Ok(done) => {
                    swept.outputs += done.outputs;
                    swept.bytes += done.bytes;
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(%project, error, "old outputs of its context are not removed");
                }
            }
        }
        Ok(swept)
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
    ) -> anyhow::Result<SweptOutputs> {
        let (context, of) = (Arc::clone(&self.context), project.clone());
        let due = tokio::task::spawn_blocking(move || context.due_outputs(&of, &keep));
        let due = due.await.context("the look at outputs panicked")??;
        let mut swept = SweptOutputs::default();
        for some in self.of_forgotten(due).await?.chunks(BATCH_MAX) {
            let tasks: Vec<TaskId> = some.iter().map(|due| due.task).collect();
            let gone = match mode {
                Mode::Look => tasks,
                Mode::Remove => self.remove_outputs(project, tasks).await?,
            };
            let gone = some.iter().filter(|due| gone.contains(&due.task));
            for due in gone {
                swept.outputs += 1;
                swept.bytes += due.bytes;
            }
        }
        Ok(swept)
    }

    async fn remove_outputs(
        &self,
        project: &ProjectId,
        tasks: Vec<TaskId>,
    ) -> anyhow::Result<Vec<TaskId>> {
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
