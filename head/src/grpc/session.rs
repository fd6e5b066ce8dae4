//! A worker's session: from its Hello to the end of its stream.
//!
//! ```text
//! Hello ─► attach ─► reader: reports, heartbeats ─► engine
//!                    writer: engine's outbox ─► orders made complete ─► stream
//! ```
//!
//! Either half ends the session, and the engine is told in every case.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::future::OptionFuture;
use orchestra_core::{ConnectionId, Held, Input, Meter, Reading, Report, ReportBody};
use orchestra_proto::{
    Refused, convert,
    v1::{self, head_message, report, worker_message},
};
use orchestra_types::{
    AttemptId, Exit, Failure, FailureCode, Limited, Manifest, Outcome, Timestamp, Usage, WorkerId,
    limits, runner::WorkerInfo,
};
use prost::Message;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tonic::Streaming;

use super::{
    Services,
    capacity::{self, Capacities},
    fleet::Peer,
    garbage,
    outgoing::{self, message},
    status::{self, Result},
    stream::Answers,
    twins::Attached,
};
use crate::{engine::Attachment, security};

/// How long a new stream may take to say who it is.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Most attempts that a worker can say it holds.
const HELD_MAX: usize = 100_000;

/// Runs until the stream ends.
pub(super) async fn run(
    services: Arc<Services>,
    peer: Box<Peer>,
    mut inbound: Streaming<v1::WorkerMessage>,
    answers: Answers<v1::HeadMessage>,
) -> Result<()> {
    // Boxed: a session that waits needs no room for how it began.
    let begun = Box::pin(begin(&services, &peer, &mut inbound)).await?;
    let Begun {
        worker,
        installation,
        hostname,
        said,
        collects_garbage,
        attachment: Attachment { connection, outbox },
    } = begun;
    // From here on the engine is told of the end, even when this future is dropped.
    let guard = Detach {
        services: Arc::clone(&services),
        connection,
        worker: worker.clone(),
    };
    services.addresses.note(worker.clone(), peer.address);
    services.security.note_certificate(&worker, peer.until);
    drop(peer);
    let now = Instant::now();
    let attached = Attached {
        connection,
        installation,
        hostname,
        since: now,
        heard: now,
        asked_for: 0,
    };
    services.twins.attached(&worker, attached);
    let mut reader = Reader {
        said,
        services: &services,
        connection,
        worker: &worker,
        answers: &answers,
    };
    // Not before: the welcome is the first message down.
    let welcomed = || {
        let session = garbage::Session::new(connection, answers.clone(), collects_garbage);
        services.sessions.attached(&worker, session);
    };
    let ended = tokio::select! {
        ended = reader.run(&mut inbound) => ended,
        ended = outgoing::write(&services, &worker, outbox, &answers, welcomed) => ended,
    };
    drop(guard);
    ended
}

/// A session that the engine knows.
struct Begun {
    worker: WorkerId,
    installation: String,
    hostname: String,
    said: Box<Capacities>,
    collects_garbage: bool,
    attachment: Attachment,
}

async fn begin(
    services: &Services,
    peer: &Peer,
    inbound: &mut Streaming<v1::WorkerMessage>,
) -> Result<Begun> {
    let hello = hello(peer, inbound).await?;
    admit(services, &hello).await?;
    let Hello {
        info,
        held,
        first_unacked,
        collects_garbage,
    } = hello;
    let (worker, installation) = (info.id.clone(), info.installation.clone());
    let (hostname, held_count) = (info.hostname.clone(), held.len());
    let said = Box::new(Capacities::after(&info));
    let attaching = services.engine.attach(info, held, first_unacked);
    let attachment = attaching.await.map_err(status::stopped)?;
    let connection = attachment.connection.0;
    tracing::info!(%worker, connection, held = held_count, "worker attached");
    Ok(Begun {
        worker,
        installation,
        hostname,
        said,
        collects_garbage,
        attachment,
    })
}

/// Refuses a copy of a worker that is there.
async fn admit(services: &Services, hello: &Hello) -> Result<()> {
    let worker = &hello.info.id;
    let admitted = services.twins.admit(worker, &hello.info.installation).await;
    admitted.map_err(|twin| {
        let (refused, attached) = (&hello.info.hostname, &twin.hostname);
        tracing::warn!(%worker, refused, attached, "a copy of a worker was refused");
        status::twin(&twin)
    })
}

/// Tells the engine of the end of a stream, however it ends.
struct Detach {
    services: Arc<Services>,
    connection: ConnectionId,
    worker: WorkerId,
}

impl Drop for Detach {
    fn drop(&mut self) {
        let (connection, worker) = (self.connection, self.worker.clone());
        tracing::info!(%worker, connection = connection.0, "worker detached");
        self.services.interims.detached(connection);
        self.services.sessions.detached(&worker, connection);
        self.services.twins.detached(&worker, connection);
        let engine = self.services.engine.clone();
        self.services.tracker.spawn(async move {
            // A stopped engine needs not be told.
            let _ = engine.tell(Input::Detached { connection, worker }).await;
        });
    }
}

/// What a worker says of itself.
struct Hello {
    info: WorkerInfo,
    held: Vec<Held>,
    first_unacked: u64,
    collects_garbage: bool,
}

async fn hello(peer: &Peer, inbound: &mut Streaming<v1::WorkerMessage>) -> Result<Hello> {
    let first = timeout(HELLO_WITHIN, inbound.message()).await;
    let first = first.map_err(|_| status::no_hello("nothing came"))??;
    let hello = match first.and_then(|message| message.body) {
        Some(worker_message::Body::Hello(hello)) => hello,
        Some(_) => return Err(status::no_hello("another message came first")),
        None => return Err(status::no_hello("the stream ended")),
    };
    let hello = read_hello(hello).map_err(|e| status::refused(&e))?;
    security::authorise_worker(&peer.identity, &hello.info.id)?;
    Ok(hello)
}

fn read_meter(meter: v1::Meter) -> std::result::Result<(AttemptId, Meter), Refused> {
    let attempt = convert::attempt_id("meters", meter.attempt)?;
    let meter = Meter {
        reading: Reading {
            usage: meter.usage.map(Usage::from).unwrap_or_default(),
            model: limits::cut(&meter.model, limits::NAME_BYTES_MAX),
        },
        ran: meter.ran_ms.map(Duration::from_millis),
        limited: meter.limited.map(Limited::from),
    };
    Ok((attempt, meter))
}

fn read_hello(hello: v1::Hello) -> std::result::Result<Hello, Refused> {
    let info = hello
        .worker
        .ok_or_else(|| Refused::new("worker", "is missing"))?;
    if hello.held.len() > HELD_MAX {
        return Err(Refused::new("held", format!("more than {HELD_MAX}")));
    }
    let held = hello.held.into_iter().map(|held| {
        let attempt = convert::attempt_id("held", held.attempt)?;
        Ok(Held {
            attempt,
            started: held.started,
            running: held.running_ms.map(Duration::from_millis),
        })
    });
    if hello.installation.len() > limits::NAME_BYTES_MAX {
        return Err(Refused::new("installation", "is too long"));
    }
    let mut info = capacity::read(info)?;
    info.installation = hello.installation;
    Ok(Hello {
        info,
        held: held.collect::<std::result::Result<_, _>>()?,
        first_unacked: hello.first_unacked_report,
        collects_garbage: hello.collects_garbage,
    })
}

struct Reader<'a> {
    said: Box<Capacities>,
    services: &'a Services,
    connection: ConnectionId,
    worker: &'a WorkerId,
    answers: &'a Answers<v1::HeadMessage>,
}

impl Reader<'_> {
    async fn run(&mut self, inbound: &mut Streaming<v1::WorkerMessage>) -> Result<()> {
        loop {
            // Boxed: a session that waits needs no room for what may come.
            tokio::select! {
                message = inbound.message() => match message? {
                    Some(message) => Box::pin(self.take(message)).await?,
                    None => return Ok(()),
                },
                Some(()) = self.capacity_due() => Box::pin(self.tell_capacity()).await?,
            }
        }
    }

    /// Ends when there is something to tell, and only then.
    fn capacity_due(&self) -> OptionFuture<Pin<Box<Sleep>>> {
        let due = self.said.due(Instant::now());
        due.map(|due| Box::pin(sleep_until(due))).into()
    }

    async fn take(&mut self, message: v1::WorkerMessage) -> Result<()> {
        self.services.twins.heard(self.worker, self.connection);
        let Some(body) = message.body else {
            // A newer worker may say what we do not know.
            tracing::debug!(worker = %self.worker, "unknown message passed over");
            return Ok(());
        };
        match body {
            worker_message::Body::Hello(_) => Err(status::no_hello("Hello came twice")),
            worker_message::Body::Reports(reports) => self.reports(reports).await,
            worker_message::Body::Heartbeat(heartbeat) => self.heartbeat(heartbeat).await,
            worker_message::Body::Capacity(info) => self.capacity(info),
            worker_message::Body::Meters(meters) => self.meters(meters).await,
            worker_message::Body::Interim(interim) => {
                self.interim(interim).map_err(|e| status::refused(&e))
            }
            worker_message::Body::Garbage(answer) => {
                let sessions = &self.services.sessions;
                sessions.answered(self.worker, self.connection, answer);
                Ok(())
            }
        }
    }

    async fn reports(&self, reports: v1::Reports) -> Result<()> {
        for wire in reports.reports {
            let report = read_report(wire).map_err(|e| status::refused(&e))?;
            let report = self.with_its_bytes(report);
            self.forget_interim(&report);
            self.tell(Input::Reported {
                connection: self.connection,
                worker: self.worker.clone(),
                report: Box::new(report),
                // The engine looks it up where it is needed.
                given_to: None,
            })
            .await?;
        }
        Ok(())
    }

    fn forget_interim(&self, report: &Report) {
        match report.body {
            ReportBody::Finished(_) | ReportBody::Unstored | ReportBody::GivenBack => {
                self.services.interims.end(self.worker, report.attempt);
            }
            ReportBody::Accepted | ReportBody::Started => {}
        }
    }

    async fn heartbeat(&self, heartbeat: v1::Heartbeat) -> Result<()> {
        self.tell(Input::Heartbeat {
            connection: self.connection,
            worker: self.worker.clone(),
        })
        .await?;
        let time_ms = heartbeat.time_ms;
        let ack = head_message::Body::HeartbeatAck(v1::HeartbeatAck { time_ms });
        // A worker that does not read gets the next one.
        let _ = self.answers.try_send(Ok(message(ack)));
        Ok(())
    }

    /// A worker uploads all of a result before it reports it. One whose bytes are not here is of a time
    /// that a restored head does not know, or the worker lies.
    fn with_its_bytes(&self, report: Report) -> Report {
        let ReportBody::Finished(outcome) = &report.body else {
            return report;
        };
        let mut digests = outcome.artifacts.iter().map(|artifact| artifact.digest);
        let Some(missing) = digests.find(|digest| self.services.blobs.lacks(digest)) else {
            return report;
        };
        tracing::warn!(worker = %self.worker, attempt = %report.attempt, %missing, "a result without its bytes counts as lost");
        Report {
            body: ReportBody::Unstored,
            ..report
        }
    }

    async fn meters(&self, meters: v1::Meters) -> Result<()> {
        for wire in meters.meters.into_iter().take(limits::METERS_MAX) {
            let (attempt, meter) = read_meter(wire).map_err(|e| status::refused(&e))?;
            self.tell(Input::Metered {
                connection: self.connection,
                worker: self.worker.clone(),
                attempt,
                meter: Box::new(meter),
            })
            .await?;
        }
        Ok(())
    }

    fn interim(&self, interim: v1::InterimManifest) -> std::result::Result<(), Refused> {
        let attempt = convert::attempt_id("interim", interim.attempt)?;
        let manifest = interim.manifest.unwrap_or_default();
        if manifest.encoded_len() > limits::INTERIM_BYTES_MAX {
            return Err(Refused::new("interim", "is too long"));
        }
        // It is shown as it is, but only when it is sound.
        Manifest::try_from(manifest.clone())?;
        self.services
            .interims
            .note(self.connection, self.worker, attempt, manifest);
        Ok(())
    }

    fn capacity(&mut self, info: v1::WorkerInfo) -> Result<()> {
        let info = capacity::read(info).map_err(|e| status::refused(&e))?;
        security::authorise_worker(&security::Identity::Worker(self.worker.clone()), &info.id)?;
        self.said.offer(Box::new(info));
        Ok(())
    }

    /// Without room on the disk it waits.
    async fn tell_capacity(&mut self) -> Result<()> {
        let now = Instant::now();
        if self.services.disk.room_for_little().is_err() {
            self.said.put_off(now);
            return Ok(());
        }
        let Some(info) = self.said.take(now) else {
            return Ok(());
        };
        self.tell(Input::Capacity {
            connection: self.connection,
            info,
        })
        .await
    }

    async fn tell(&self, input: Input) -> Result<()> {
        self.services
            .engine
            .tell(input)
            .await
            .map_err(status::stopped)
    }
}

fn read_report(wire: v1::Report) -> std::result::Result<Report, Refused> {
    if wire.seq == 0 {
        return Err(Refused::new("reports", "reports count from 1"));
    }
    let body = wire
        .body
        .ok_or_else(|| Refused::new("reports", "has no body"))?;
    let attempt = convert::attempt_id("reports", wire.attempt)?;
    Ok(Report {
        seq: wire.seq,
        attempt,
        body: match body {
            report::Body::Accepted(_) => ReportBody::Accepted,
            report::Body::Started(_) => ReportBody::Started,
            report::Body::GivenBack(_) => ReportBody::GivenBack,
            report::Body::Finished(outcome) => {
                let outcome = Outcome::try_from(outcome);
                let outcome = outcome.and_then(|outcome| own_branch(attempt, outcome));
                let outcome = outcome.unwrap_or_else(|why| unreadable(&why, wire.time_ms));
                ReportBody::Finished(Box::new(outcome))
            }
        },
    })
}

/// A result has the branch of its task, or none: it goes into the user's repository, where the others
/// are another's.
fn own_branch(attempt: AttemptId, outcome: Outcome) -> std::result::Result<Outcome, Refused> {
    let own = orchestra_repo::task_branch(attempt.task);
    if outcome.branch.is_empty() || outcome.branch == own {
        return Ok(outcome);
    }
    Err(Refused::new(
        "branch",
        format!("is not `{own}`, the one of the task"),
    ))
}

/// A result that is refused must still end the attempt: the worker would repeat it for ever.
fn unreadable(why: &Refused, time_ms: u64) -> Outcome {
    let message = format!("the worker's result was refused: {why}");
    Outcome {
        failure: Some(Failure::new(FailureCode::ResultFailed, message)),
        ..Outcome::bare(Exit::Unknown, Timestamp(time_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Outgoing;

    /// The size of what an async function of four arguments makes.
    fn future_size<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_meter_says_for_how_long_an_agent_ran_once_that_has_ended() {
        let wire = |ran_ms| v1::Meter {
            attempt: Some(v1::AttemptId { task: 7, number: 1 }),
            ran_ms,
            ..v1::Meter::default()
        };
        let ran = |ran_ms| read_meter(wire(ran_ms)).unwrap().1.ran;
        assert_eq!(ran(None), None);
        assert_eq!(ran(Some(0)), Some(Duration::ZERO));
        assert_eq!(ran(Some(2500)), Some(Duration::from_millis(2500)));
    }

    #[test]
    fn a_result_for_the_branch_of_another_task_is_refused_and_still_ends_its_attempt() {
        let outcome = |branch: &str| {
            let outcome = unreadable(&Refused::new("x", "y"), 0);
            let outcome = v1::Outcome {
                branch: branch.to_owned(),
                failure: None,
                ..outcome.into()
            };
            let read = read_report(v1::Report {
                seq: 1,
                attempt: Some(v1::AttemptId { task: 7, number: 1 }),
                body: Some(report::Body::Finished(outcome)),
                ..v1::Report::default()
            });
            match read.unwrap().body {
                ReportBody::Finished(outcome) => outcome.failure,
                _ => panic!("not an end"),
            }
        };
        for own in ["", "orchestra/task_007"] {
            assert_eq!(outcome(own), None, "{own}");
        }
        for other in ["orchestra/task_006", "main", "orchestra/task_007-1-x"] {
            let failure = outcome(other).expect("it is refused");
            assert!(
                failure.message.contains("orchestra/task_007"),
                "{failure:?}"
            );
        }
    }

    #[test]
    fn a_session_that_waits_is_small() {
        let session = future_size(run);
        assert!(session <= 2560, "{session} bytes for each worker");
    }

    #[test]
    fn what_channels_have_room_for_is_small() {
        // Each channel takes memory for 32 of them when it is made.
        let outgoing = size_of::<Outgoing>();
        assert!(outgoing <= 24, "{outgoing} bytes, 32 times for each worker");
        let answer = size_of::<Result<v1::HeadMessage>>();
        assert!(answer <= 40, "{answer} bytes, 32 times for each worker");
    }
}
