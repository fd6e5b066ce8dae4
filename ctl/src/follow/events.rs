//! The events of one attempt, in order, without gap or duplicate, over breaks of the connection.

use futures::future::BoxFuture;
use orchestra_proto::batch::decode;
use orchestra_proto::v1;
use orchestra_types::{AttemptId, Event, event::Gap};
use tonic::Streaming;

use super::absence::Absence;
use crate::{
    client::{Client, may_resume, patiently, status_error},
    error::{Error, OrFailed, Result},
    exit::Exit,
    json::time::Time,
    ui::live::Voice,
};

/// What comes next of an attempt's events.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Events that follow each other.
    Events(Vec<Event>),
    /// Events that the head has not any more.
    Gap(Gap),
}

/// The events of one attempt.
pub struct Events {
    client: Client,
    attempt: AttemptId,
    follow: bool,
    seen: u64,
    /// When the attempt was given to its worker, where it is followed: another head may have another one of
    /// that number.
    given: Option<Time>,
    /// Whether the open stream is known to be of that attempt.
    is_its_own: bool,
    /// The question for that, while it is not answered. It outlives the future that waits for it.
    asked: Option<BoxFuture<'static, Result<Option<Time>>>>,
    /// None after a break, until it is open again.
    stream: Option<Streaming<v1::EventBatch>>,
    absence: Absence<Streaming<v1::EventBatch>>,
}

impl Events {
    /// The events of `attempt` behind number `after`. With `follow` they go on until it has ended.
    /// `voice` says it when the head is away; none where [`super::Changes`] do.
    pub async fn open(
        client: &Client,
        attempt: AttemptId,
        follow: bool,
        after: u64,
        voice: Option<Voice>,
    ) -> Result<Self> {
        let request = request(attempt, follow, after);
        let call = async || client.admin().follow_events(request).await;
        let stream = Some(patiently(call).await?);
        let given = match follow {
            true => client.when_given(attempt).await?,
            false => None,
        };
        Ok(Self {
            client: client.clone(),
            attempt,
            follow,
            seen: after,
            given,
            is_its_own: true,
            asked: None,
            stream,
            absence: Absence::new(client, voice),
        })
    }

    /// When the attempt was given to its worker, where it is followed.
    pub fn given(&self) -> Option<Time> {
        self.given
    }

    /// The next events; none after the last one. Where a head that was restored from a backup has another attempt
    /// of that number, they are refused as not found.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            let Some(stream) = &mut self.stream else {
                let request = request(self.attempt, self.follow, self.seen);
                let open = || {
                    let mut admin = self.client.admin();
                    async move { admin.follow_events(request).await }
                };
                self.stream = Some(self.absence.end(open).await?);
                self.is_its_own = !self.follow;
                continue;
            };
            if !self.is_its_own {
                let (client, attempt) = (self.client.clone(), self.attempt);
                let asked = self.asked.get_or_insert_with(|| {
                    Box::pin(async move { client.when_given(attempt).await })
                });
                let given = asked.await;
                self.asked = None;
                match given {
                    Ok(given) if given == self.given => self.is_its_own = true,
                    Ok(_) => return Err(replaced(self.attempt)),
                    Err(error) if error.exit() != Exit::HeadNotRunning => return Err(error),
                    // It went away again.
                    Err(_) => self.stream = None,
                }
                continue;
            }
            match stream.message().await {
                Ok(Some(batch)) => {
                    let piece = self.unseen(batch)?;
                    if piece.is_some() {
                        return Ok(piece);
                    }
                }
                Ok(None) => return Ok(None),
                Err(status) if !may_resume(&status) => return Err(status_error(&status)),
                Err(_) => self.stream = None,
            }
        }
    }

    fn unseen(&mut self, batch: v1::EventBatch) -> Result<Option<Piece>> {
        let attempt = self.attempt;
        let failed = || format!("failed to read the events of {attempt}");
        if let Some(gap) = batch.gap {
            let gap = Gap::try_from(gap).or_failed(failed)?;
            return Ok(self.unseen_gap(gap));
        }
        let mut events = Vec::with_capacity(batch.events.len());
        for wire in decode(&batch.events).or_failed(failed)? {
            let event = Event::try_from(wire).or_failed(failed)?;
            if event.seq > self.seen {
                self.seen = event.seq;
                events.push(event);
            }
        }
        Ok((!events.is_empty()).then_some(Piece::Events(events)))
    }

    fn unseen_gap(&mut self, gap: Gap) -> Option<Piece> {
        if gap.to <= self.seen {
            return None;
        }
        let from = gap.from.max(self.seen + 1);
        self.seen = gap.to;
        Some(Piece::Gap(Gap { from, ..gap }))
    }
}

fn replaced(attempt: AttemptId) -> Error {
    let task = attempt.task;
    Error::new(
        Exit::NotFound,
        format!(
            "{attempt} is another attempt now: the head was restored from a backup of before the one that was followed"
        ),
    )
    .hint(format!("`ctl logs {task} -f` follows the one that has its number now"))
}

fn request(attempt: AttemptId, follow: bool, after_seq: u64) -> v1::FollowEventsRequest {
    v1::FollowEventsRequest {
        task: attempt.task.0,
        attempt: attempt.number,
        after_seq,
        follow,
    }
}
