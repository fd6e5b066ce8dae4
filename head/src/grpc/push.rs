//! Events from workers. A worker may push only for attempts that it holds or held.

use std::{collections::BTreeMap, sync::Arc};

use orchestra_proto::{convert, v1};
use orchestra_types::{AttemptId, Event, WorkerId, limits};
use tonic::{Request, Streaming};

use super::{
    Services,
    status::{self, Result},
    stream::{self, Answers, Stream},
};
use crate::security::{self, Identity};

/// How many attempts a stream remembers as its worker's own.
const REMEMBERED_MAX: usize = 4096;

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
    answers: Answers<v1::EventAck>,
}

impl Push {
    async fn run(mut self, mut inbound: Streaming<v1::EventUpload>) -> Result<()> {
        while let Some(upload) = inbound.message().await? {
            let ack = self.take(upload).await?;
            if stream::send(&self.answers, ack).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn take(&mut self, upload: v1::EventUpload) -> Result<v1::EventAck> {
        let attempt = convert::attempt_id("attempt", upload.attempt);
        let attempt = attempt.map_err(|e| status::refused(&e))?;
        if !self.is_own(attempt).await? {
            return Ok(v1::EventAck {
                attempt: Some(attempt.into()),
                up_to: 0,
                refused: true,
            });
        }
        let events = checked(upload.events)?;
        let count = events.len() as u64;
        let appended = self.services.events.append(attempt, events).await;
        self.services.metrics.events_received(count);
        Ok(v1::EventAck {
            attempt: Some(attempt.into()),
            up_to: appended.map_err(|e| status::events(&e))?,
            refused: false,
        })
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

/// Events pass the one place where wire is checked before they are stored as they came.
fn checked(events: Vec<v1::Event>) -> Result<Vec<v1::Event>> {
    if events.len() > limits::EVENT_BATCH_MAX {
        let why = format!("more than {} in one message", limits::EVENT_BATCH_MAX);
        return Err(status::refused(&orchestra_proto::Refused::new(
            "events", why,
        )));
    }
    let events = events
        .into_iter()
        .map(|event| Event::try_from(event).map(Into::into));
    let events: std::result::Result<_, _> = events.collect();
    events.map_err(|e| status::refused(&e))
}
