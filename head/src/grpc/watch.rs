//! Watching tasks: first the state as it is, then every change.
//!
//! Changes that come while the reader is busy are put together: a slow reader sees the newest
//! state, not each one before it. One that falls far behind is shown everything anew.

use std::{collections::BTreeSet, sync::Arc};

use orchestra_proto::{convert, v1};
use orchestra_types::TaskId;
use tokio::sync::broadcast::{
    Receiver,
    error::{RecvError, TryRecvError},
};

use super::{
    Services,
    status::{self, Result},
    stream::{self, Answers, Stream},
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
    refuse_unknown(&services, ids.clone()).await?;
    // Before the first look: a change in between is seen twice rather than not at all.
    let changes = services.engine.changes();
    let owner = Arc::clone(&services);
    Ok(stream::produce(&owner, move |answers| {
        let watch = Watch {
            services,
            only: (!ids.is_empty()).then_some(ids),
            shown_open: BTreeSet::new(),
            answers,
        };
        watch.run(changes)
    }))
}

async fn refuse_unknown(services: &Services, ids: BTreeSet<TaskId>) -> Result<()> {
    let unknown = services.engine.read(move |view| {
        let unknown = ids.into_iter().find(|id| view.core.task(*id).is_none());
        Ok(unknown)
    });
    match unknown.await.map_err(status::read)? {
        Some(id) => Err(status::no_task(id)),
        None => Ok(()),
    }
}

struct Watch {
    services: Arc<Services>,
    /// Only these; all when none.
    only: Option<BTreeSet<TaskId>>,
    /// Tasks that the reader has seen and that had not ended.
    shown_open: BTreeSet<TaskId>,
    answers: Answers<v1::WatchResponse>,
}

impl Watch {
    async fn run(mut self, mut changes: Receiver<TaskId>) -> Result<()> {
        self.show_all().await?;
        let done = v1::WatchResponse {
            tasks: Vec::new(),
            snapshot_done: true,
        };
        if stream::send(&self.answers, done).await.is_err() {
            return Ok(());
        }
        loop {
            match changed(&mut changes).await {
                Changed::Tasks(ids) => self.show(self.wanted(ids)).await?,
                Changed::TooMany => self.show_all().await?,
                Changed::Closed => return Err(status::stopping()),
            }
        }
    }

    fn wanted(&self, ids: BTreeSet<TaskId>) -> BTreeSet<TaskId> {
        match &self.only {
            Some(only) => ids.intersection(only).copied().collect(),
            None => ids,
        }
    }

    /// Everything that is watched, and what the reader believes to be open.
    async fn show_all(&mut self) -> Result<()> {
        let mut ids = match &self.only {
            Some(only) => only.clone(),
            None => {
                let open = self
                    .services
                    .engine
                    .read(|view| Ok(view.core.open_tasks().collect()));
                open.await.map_err(status::read)?
            }
        };
        ids.extend(&self.shown_open);
        self.show(ids).await
    }

    async fn show(&mut self, ids: BTreeSet<TaskId>) -> Result<()> {
        let ids: Vec<TaskId> = ids.into_iter().collect();
        for part in ids.chunks(BATCH_TASKS_MAX) {
            let part = part.to_vec();
            let read = self
                .services
                .engine
                .read(|view| wire::summaries(view, part));
            let tasks = read.await.map_err(status::read)?;
            self.note_open(&tasks);
            let answer = v1::WatchResponse {
                tasks,
                snapshot_done: false,
            };
            // A reader that is gone ends the stream by itself.
            let _ = stream::send(&self.answers, answer).await;
        }
        Ok(())
    }

    fn note_open(&mut self, tasks: &[v1::Task]) {
        for task in tasks {
            let status = convert::task_status("status", task.status);
            if status.is_ok_and(|status| status.is_ended()) {
                self.shown_open.remove(&TaskId(task.id));
            } else {
                self.shown_open.insert(TaskId(task.id));
            }
        }
    }
}

enum Changed {
    Tasks(BTreeSet<TaskId>),
    TooMany,
    Closed,
}

/// Waits for a change, and takes what else has changed by then.
async fn changed(changes: &mut Receiver<TaskId>) -> Changed {
    let first = match changes.recv().await {
        Ok(first) => first,
        Err(RecvError::Lagged(_)) => return Changed::TooMany,
        Err(RecvError::Closed) => return Changed::Closed,
    };
    let mut ids = BTreeSet::from([first]);
    while ids.len() < BATCH_TASKS_MAX {
        match changes.try_recv() {
            Ok(id) => ids.insert(id),
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            Err(TryRecvError::Lagged(_)) => return Changed::TooMany,
        };
    }
    Changed::Tasks(ids)
}
