//! Events from workers. A worker may push only for attempts that it holds or held.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesOrdered};
use orchestra_core::Input;
use orchestra_proto::{Refused, convert, v1};
use orchestra_types::{AttemptId, Event, Timestamp, WorkerId, limits};
use prost::Message;
use tonic::{Request, Streaming};

use super::{
    Services,
    status::{self, Result},
    stream::{self, Answers, Stream},
};
use crate::{
    events::Pending,
    metrics::Metrics,
    security::{self, Identity},
};

/// How many attempts a stream remembers as its worker's own.
const REMEMBERED_MAX: usize = 4096;
/// Uploads of one stream that are on their way to the disk at once.
const UNDER_WAY_MAX: usize = 4;

pub(super) fn start(
    services: Arc<Services>,
    request: Request<Streaming<v1::EventUpload>>,
) -> Result<Stream<v1::EventAck>> {
    let worker = match security::caller(&request)? {
        Identity::Worker(worker) => worker.clone(),
        Identity::Admin(_) | Identity::Head => return Err(status::not_a_worker()),
    };
    let owner = Arc::clone(&services);
    Ok(stream::produce(&owner, move |answers| {
        let push = Push {
            services,
            worker,
            own: BTreeMap::new(),
            told: BTreeMap::new(),
            answers,
        };
        push.run(request.into_inner())
    }))
}

struct Push {
    services: Arc<Services>,
    worker: WorkerId,
    /// Whether attempts that were asked for are this worker's.
    own: BTreeMap<AttemptId, bool>,
    /// When the engine was told last that an attempt's agent is active.
    told: BTreeMap<AttemptId, Timestamp>,
    answers: Answers<v1::EventAck>,
}

impl Push {
    async fn run(mut self, mut inbound: Streaming<v1::EventUpload>) -> Result<()> {
        let mut under_way = FuturesOrdered::new();
        loop {
            tokio::select! {
                upload = inbound.message(), if under_way.len() < UNDER_WAY_MAX => match upload? {
                    Some(upload) => {
                        let taken = self.take(upload).await?;
                        under_way.push_back(taken.ack(Arc::clone(&self.services.metrics)));
                    }
                    None => break,
                },
                Some(ack) = under_way.next() => {
                    if stream::send(&self.answers, ack?).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
        while let Some(ack) = under_way.next().await {
            if stream::send(&self.answers, ack?).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn take(&mut self, upload: v1::EventUpload) -> Result<Taken> {
        let attempt = convert::attempt_id("attempt", upload.attempt);
        let attempt = attempt.map_err(|e| status::refused(&e))?;
        if !self.is_own(attempt).await? {
            return Ok(Taken::Refused(attempt));
        }
        let first = check(&upload.events)?;
        // Nothing is acknowledged meanwhile, and the worker keeps what it has.
        self.services.disk.until_room().await;
        let pending = self.services.events.append(attempt, first, upload.events);
        let pending = pending.await.map_err(|e| status::events(&e))?;
        self.note_active(attempt).await?;
        Ok(Taken::Pending(attempt, pending))
    }

    /// Tells the engine that an agent is active, now and then: each event would be too much.
    async fn note_active(&mut self, attempt: AttemptId) -> Result<()> {
        let now = self.services.engine.now();
        let told = self.told.get(&attempt);
        if told.is_some_and(|told| now.since(*told) < limits::ACTIVITY_EVERY) {
            return Ok(());
        }
        if self.told.len() >= REMEMBERED_MAX {
            self.told.clear();
        }
        self.told.insert(attempt, now);
        let active = Input::Active { attempt };
        let told = self.services.engine.tell(active).await;
        told.map_err(status::stopped)
    }

    async fn is_own(&mut self, attempt: AttemptId) -> Result<bool> {
        if let Some(own) = self.own.get(&attempt) {
            return Ok(*own);
        }
        let row = self
            .services
            .engine
            .read(move |view| view.store.attempt(attempt));
        let row = row.await.map_err(status::read)?;
        let own = row.is_some_and(|row| row.worker == self.worker);
        if self.own.len() >= REMEMBERED_MAX {
            self.own.clear();
        }
        self.own.insert(attempt, own);
        Ok(own)
    }
}

/// What became of one upload.
enum Taken {
    Refused(AttemptId),
    Pending(AttemptId, Pending),
}

impl Taken {
    /// The answer, when it is known. What was durable before, and was sent again, is not counted again.
    async fn ack(self, metrics: Arc<Metrics>) -> Result<v1::EventAck> {
        let (attempt, up_to, refused) = match self {
            Self::Refused(attempt) => (attempt, 0, true),
            Self::Pending(attempt, pending) => {
                let stored = pending.durable().await.map_err(|e| status::events(&e))?;
                metrics.events_received(stored.new);
                (attempt, stored.up_to, false)
            }
        };
        Ok(v1::EventAck {
            attempt: Some(attempt.into()),
            up_to,
            refused,
        })
    }
}

/// Events pass the one place where wire is checked, and are stored as they came. Gives the number
/// of the first; those behind it follow each other.
fn check(events: &[Bytes]) -> Result<u64> {
    let refused = |why: String| status::refused(&Refused::new("events", why));
    if events.len() > limits::EVENT_BATCH_MAX {
        let most = limits::EVENT_BATCH_MAX;
        return Err(refused(format!("more than {most} in one message")));
    }
    let mut first = None;
    for (bytes, place) in events.iter().zip(0..) {
        let event = v1::Event::decode(bytes.clone());
        let event = event.map_err(|e| refused(format!("one cannot be read: {e}")))?;
        let event = Event::try_from(event).map_err(|e| status::refused(&e))?;
        if event.seq != first.get_or_insert(event.seq).saturating_add(place) {
            return Err(refused("their numbers do not follow each other".to_owned()));
        }
    }
    Ok(first.unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        events::{Events, Limits},
        metrics::tests::Shown,
    };

    const ATTEMPT: AttemptId = AttemptId {
        task: orchestra_types::TaskId(1),
        number: 1,
    };

    #[tokio::test]
    async fn events_count_once_they_are_durable_and_once_however_often_they_are_sent() {
        let dir = tempfile::tempdir().unwrap();
        let (events, _owner) =
            Events::start(&dir.path().join("events"), Limits::default()).unwrap();
        let shown = Shown::new();
        let has = |count| {
            let line = format!("orchestra_events_received_total {count}");
            let text = shown.text();
            assert!(text.lines().any(|l| l == line), "{line} not in {text}");
        };
        // The last one lies behind a gap, and nothing of it is taken.
        for (first, count, up_to, counted) in
            [(1, 3, 3, 3), (2, 3, 4, 4), (1, 2, 4, 4), (9, 2, 4, 4)]
        {
            let bodies = vec![Bytes::from_static(b"event"); count];
            let pending = events.append(ATTEMPT, first, bodies).await.unwrap();
            let ack = Taken::Pending(ATTEMPT, pending).ack(Arc::clone(&shown.metrics));
            assert_eq!(ack.await.unwrap().up_to, up_to);
            has(counted);
        }
        let refused = Taken::Refused(ATTEMPT).ack(Arc::clone(&shown.metrics));
        assert!(refused.await.unwrap().refused);
        has(4);
    }
}
