//! Following the events of a task's attempts.
//!
//! An attempt's events end when it is no longer held and all that is durable was read: workers
//! have their events acknowledged before they report the end. Those of one that was given up end
//! only when another attempt begins or none does: until then its worker may come back, and it goes
//! on under the same number.

use std::sync::Arc;

use bytes::Bytes;
use orchestra_core::{State, TaskView};
use orchestra_proto::{convert, v1};
use orchestra_types::{AttemptId, FailureCode, TaskId};
use prost::Message;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{
    Services,
    status::{self, Result},
    stream::{self, Answers, Gone, Stream},
    watches::Permit,
    wire,
};
use crate::{
    engine::View,
    events::{Piece, Reader},
    store,
};

pub(super) async fn start(
    services: Arc<Services>,
    request: v1::FollowEventsRequest,
) -> Result<Stream<v1::EventBatch>> {
    let task = convert::task_id("task", request.task).map_err(|e| status::refused(&e))?;
    let permit = services.watches.begin()?;
    let changes = services.engine.changes();
    let first = first_attempt(&services, task, &request).await?;
    let owner = Arc::clone(&services);
    Ok(stream::produce(&owner, move |answers| {
        let follow = Follow {
            services,
            task,
            live: request.follow,
            every: request.attempt == 0 && request.follow,
            changes,
            answers,
            _permit: permit,
        };
        follow.run(first, request.after_seq)
    }))
}

async fn first_attempt(
    services: &Services,
    task: TaskId,
    request: &v1::FollowEventsRequest,
) -> Result<Option<AttemptId>> {
    let (number, follow) = (request.attempt, request.follow);
    let found = services.engine.read(move |view| {
        let Some(found) = view.core.task(task) else {
            return Ok(Err(status::no_task(task)));
        };
        let attempt = wire::meant(&found, number);
        if attempt.number > found.row.attempts {
            return Ok(Err(status::no_attempt(attempt)));
        }
        if attempt.number == 0 && !follow {
            return Ok(Err(status::not_started(task, found.status)));
        }
        Ok(Ok((attempt.number > 0).then_some(attempt)))
    });
    found.await.map_err(status::read)?
}

struct Follow {
    services: Arc<Services>,
    task: TaskId,
    live: bool,
    /// Whether the attempts behind the first one are followed, too.
    every: bool,
    changes: Receiver<TaskId>,
    answers: Answers<v1::EventBatch>,
    _permit: Permit,
}

/// Where a task stands, as far as its events go.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Progress {
    /// The number of its latest attempt.
    attempts: u32,
    /// What may still come of that one.
    latest: Latest,
    /// Whether no attempt will follow.
    ended: bool,
}

/// What may still come of a task's latest attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Latest {
    /// Its worker has it.
    Held,
    /// It was given up, and nobody has had the task since: it may be taken back.
    GivenUp,
    /// As before, but the task waits for a person who raises its budget.
    KeptBack,
    /// Nothing.
    Over,
}

impl Follow {
    async fn run(mut self, first: Option<AttemptId>, after: u64) -> Result<()> {
        let mut number = first.map_or(1, |attempt| attempt.number);
        let mut after = after;
        loop {
            if !self.wait_for(number).await? {
                return Ok(());
            }
            let attempt = AttemptId {
                task: self.task,
                number,
            };
            if self.one(attempt, after).await?.is_err() || !self.every {
                return Ok(());
            }
            (number, after) = (number + 1, 0);
        }
    }

    /// Whether more is waited for of the latest attempt.
    fn awaits(&self, latest: Latest) -> bool {
        match latest {
            Latest::Held => true,
            Latest::GivenUp => self.live,
            // Whoever follows this attempt alone is not kept waiting for a person.
            Latest::KeptBack => self.every,
            Latest::Over => false,
        }
    }

    /// Waits until there is an attempt `number`; false when there will be none.
    async fn wait_for(&mut self, number: u32) -> Result<bool> {
        loop {
            let progress = self.progress().await?;
            if progress.attempts >= number {
                return Ok(true);
            }
            if progress.ended {
                return Ok(false);
            }
            self.changed().await?;
        }
    }

    /// Sends the events of one attempt, to its end when it is followed.
    async fn one(
        &mut self,
        attempt: AttemptId,
        after: u64,
    ) -> Result<std::result::Result<(), Gone>> {
        let opened = self.services.events.read(attempt, after).await;
        let mut reader = opened.map_err(|e| status::events(&e))?;
        let mut latest = None;
        loop {
            // Before reading: what is durable at the end of an attempt is read after it is seen.
            let progress = self.progress().await?;
            let sent = self.send_all(attempt, &mut reader, &mut latest).await?;
            if sent.is_err() {
                return Ok(Err(Gone));
            }
            let may_grow = progress.attempts == attempt.number && self.awaits(progress.latest);
            if !may_grow && !latest.as_ref().is_some_and(is_final) {
                return self.send_lost_end(attempt, &reader).await;
            }
            if !self.live || !may_grow {
                return Ok(Ok(()));
            }
            tokio::select! {
                more = reader.more() => more.map_err(|e| status::events(&e))?,
                changed = self.changed() => changed?,
            }
        }
    }

    async fn send_all(
        &self,
        attempt: AttemptId,
        reader: &mut Reader,
        latest: &mut Option<Bytes>,
    ) -> Result<std::result::Result<(), Gone>> {
        loop {
            let (events, gap) = match reader.next().await.map_err(|e| status::events(&e))? {
                None => return Ok(Ok(())),
                Some(Piece::Events { events, .. }) => {
                    *latest = events.last().cloned();
                    (events, None)
                }
                Some(Piece::Gap(gap)) => (Vec::new(), Some(gap.into())),
            };
            let batch = v1::EventBatch {
                attempt: Some(attempt.into()),
                events,
                gap,
            };
            if stream::send(&self.answers, batch).await.is_err() {
                return Ok(Err(Gone));
            }
        }
    }

    /// Says of an attempt that has ended that its end is lost, if it is: nothing comes behind it that would
    /// show the gap.
    async fn send_lost_end(
        &self,
        attempt: AttemptId,
        reader: &Reader,
    ) -> Result<std::result::Result<(), Gone>> {
        let row = self
            .services
            .engine
            .read(move |view| view.store.attempt(attempt));
        let row = row.await.map_err(status::read)?;
        let began = row.and_then(|row| row.started_at);
        let Some(gap) = began.and_then(|began| reader.lost_end(began)) else {
            return Ok(Ok(()));
        };
        let batch = v1::EventBatch {
            attempt: Some(attempt.into()),
            events: Vec::new(),
            gap: Some(gap.into()),
        };
        let sent = stream::send(&self.answers, batch).await;
        Ok(sent.map_err(|_| Gone))
    }

    async fn progress(&self) -> Result<Progress> {
        let task = self.task;
        let read = self.services.engine.read(move |view| progress(view, task));
        let progress = read.await.map_err(status::read)?;
        progress.ok_or_else(|| status::no_task(task))
    }

    /// Waits for a change of this task, or of so many that it may be among them.
    async fn changed(&mut self) -> Result<()> {
        loop {
            match self.changes.recv().await {
                Ok(id) if id == self.task => return Ok(()),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return Ok(()),
                Err(RecvError::Closed) => return Err(status::stopping()),
            }
        }
    }
}

/// Whether an attempt says no more behind this event.
fn is_final(event: &Bytes) -> bool {
    let event = v1::Event::decode(event.clone());
    event.is_ok_and(|event| matches!(event.kind, Some(v1::event::Kind::Final(_))))
}

fn progress(view: &View<'_>, task: TaskId) -> store::Result<Option<Progress>> {
    let Some(found) = view.core.task(task) else {
        return Ok(None);
    };
    Ok(Some(Progress {
        attempts: found.row.attempts,
        latest: latest(&found),
        ended: found.status.is_ended(),
    }))
}

fn latest(found: &TaskView<'_>) -> Latest {
    match &found.row.state {
        State::Assigned { .. } | State::Running { .. } => Latest::Held,
        State::Queued { .. } if found.row.given_up & 1 != 0 => match waits_for_person(found) {
            true => Latest::KeptBack,
            false => Latest::GivenUp,
        },
        State::Blocked | State::Queued { .. } | State::Closing { .. } | State::Ended { .. } => {
            Latest::Over
        }
    }
}

/// Whether a task stays in the queue until somebody raises its budget.
fn waits_for_person(found: &TaskView<'_>) -> bool {
    let reason = found.reason.as_ref();
    reason.is_some_and(|why| why.code == FailureCode::BudgetExceeded && why.resets_at.is_none())
}
