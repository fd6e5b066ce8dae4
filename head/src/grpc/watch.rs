//! Watching tasks: first the state as it is, then every change.
//!
//! Changes are taken down while the reader is busy, and put together: a slow reader sees the
//! newest state of each task, not each one before it, and misses the last state of none.

use std::{collections::BTreeSet, sync::Arc};

use orchestra_proto::{convert, v1};
use orchestra_types::TaskId;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{
    Services,
    dirty::Dirty,
    status::{self, Result},
    stream::{self, Answers, Stream},
    watches::Permit,
    wire,
};

/// Most tasks in one answer.
const BATCH_TASKS_MAX: usize = 256;

pub(super) async fn start(
    services: Arc<Services>,
    request: v1::WatchTasksRequest,
) -> Result<Stream<v1::WatchResponse>> {
    let ids = request.ids.into_iter();
    let ids = ids.map(|id| convert::task_id("ids", id));
    let ids: BTreeSet<TaskId> = ids
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| status::refused(&e))?;
    let permit = services.watches.begin()?;
    // Before the first look: a change in between is seen twice rather than not at all.
    let changes = services.engine.changes();
    let owner = Arc::clone(&services);
    Ok(stream::produce(&owner, move |answers| {
        let watch = Watch {
            services,
            only: (!ids.is_empty()).then_some(ids),
            snapshot: Vec::new(),
            dirty: Dirty::default(),
            highest: TaskId(0),
            answers,
            _permit: permit,
        };
        watch.run(changes)
    }))
}

struct Watch {
    services: Arc<Services>,
    /// Only these; all when none.
    only: Option<BTreeSet<TaskId>>,
    /// What is still to be shown as it was at the start, the first last.
    snapshot: Vec<TaskId>,
    /// What has changed since it was shown.
    dirty: Dirty,
    /// The highest id that was heard of.
    highest: TaskId,
    answers: Answers<v1::WatchResponse>,
    _permit: Permit,
}

/// Some tasks as they are.
#[derive(Default)]
struct Seen {
    tasks: Vec<v1::Task>,
    /// Those that were asked for by name and are not there.
    forgotten: Vec<u64>,
}

/// Whether the reader knows that it has seen the state at the start.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Shown,
    Told,
}

impl Watch {
    async fn run(mut self, mut changes: Receiver<TaskId>) -> Result<()> {
        self.snapshot = self.all().await?.into_iter().rev().collect();
        let mut start = Start::Shown;
        loop {
            let idle = start == Start::Told && self.dirty.is_empty();
            tokio::select! {
                changed = changes.recv() => match changed {
                    Ok(id) => self.note(id),
                    Err(RecvError::Lagged(missed)) => self.note_all(missed),
                    Err(RecvError::Closed) => return Err(status::stopping()),
                },
                room = self.answers.sender().reserve_owned(), if !idle => {
                    let Ok(room) = room else { return Ok(()) };
                    let next = self.next().await?;
                    let snapshot_done = next.is_none() && start == Start::Shown;
                    if snapshot_done {
                        start = Start::Told;
                    }
                    let Seen { tasks, forgotten } = next.unwrap_or_default();
                    if snapshot_done || !tasks.is_empty() || !forgotten.is_empty() {
                        room.send(Ok(v1::WatchResponse { tasks, snapshot_done, forgotten }));
                    }
                }
            }
        }
    }

    fn note(&mut self, id: TaskId) {
        self.highest = self.highest.max(id);
        if self.only.as_ref().is_none_or(|only| only.contains(&id)) {
            self.dirty.add(id);
        }
    }

    /// So many changes were missed: any task may have changed, and as many may be new.
    fn note_all(&mut self, missed: u64) {
        match &self.only {
            Some(only) => only.iter().for_each(|id| self.dirty.add(*id)),
            None => {
                self.highest = TaskId(self.highest.0.saturating_add(missed));
                self.dirty.add_all(self.highest);
            }
        }
    }

    /// What there is at the start.
    async fn all(&mut self) -> Result<BTreeSet<TaskId>> {
        if let Some(only) = &self.only {
            return Ok(only.clone());
        }
        let open = self
            .services
            .engine
            .read(|view| Ok(view.core.open_tasks().collect()));
        let open: BTreeSet<TaskId> = open.await.map_err(status::read)?;
        self.highest = open.last().copied().unwrap_or(TaskId(0));
        Ok(open)
    }

    /// The next tasks to show; none when there are no more for now.
    async fn next(&mut self) -> Result<Option<Seen>> {
        let ids = match self.snapshot.len() {
            0 => self.dirty.take(BATCH_TASKS_MAX),
            left => {
                let part = self
                    .snapshot
                    .split_off(left.saturating_sub(BATCH_TASKS_MAX));
                part.into_iter().rev().collect()
            }
        };
        if ids.is_empty() {
            return Ok(None);
        }
        let asked: Vec<TaskId> = ids.clone();
        let read = self.services.engine.read(|view| wire::summaries(view, ids));
        let tasks = read.await.map_err(status::read)?;
        let found: BTreeSet<u64> = tasks.iter().map(|task| task.id).collect();
        let is_wanted = |id: &u64| self.only.is_some() && !found.contains(id);
        Ok(Some(Seen {
            forgotten: asked.iter().map(|id| id.0).filter(is_wanted).collect(),
            tasks,
        }))
    }
}
