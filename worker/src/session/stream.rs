//! One control stream, from Hello to its end.

use std::{collections::BTreeSet, pin::pin, time::Duration};

use orchestra_proto::{
    convert,
    v1::{self, fleet_client::FleetClient, head_message, order, worker_message},
};
use orchestra_types::{AttemptId, limits};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::{
    Error, Session,
    absence::{Absence, Over},
    pace::{Pace, UNANSWERED_MAX},
    usurped,
};
use crate::{
    attempt::StopReason,
    clock,
    fleet::{Held, Order},
    lease::Beats,
};

/// Messages that may wait for the network; heartbeats never wait behind more.
const OUTGOING_BOUND: usize = 16;
/// Most reports in one message.
const REPORTS_MAX: usize = 256;

/// The way up. A network that takes nothing is noticed here, not waited for.
struct Outgoing {
    messages: mpsc::Sender<v1::WorkerMessage>,
    within: Duration,
}

type Incoming = tonic::Streaming<v1::HeadMessage>;

/// Runs one stream until it ends; why it ended. The head says how fast it shall be.
pub async fn run(session: &mut Session, pace: &mut Pace, absence: &mut Absence) -> Error {
    match attach(session, pace, absence).await {
        Ok((outgoing, incoming)) => serve(session, *pace, outgoing, incoming).await,
        Err(error) => error,
    }
}

/// Dials, says Hello, and waits for Welcome.
async fn attach(
    session: &mut Session,
    pace: &mut Pace,
    absence: &mut Absence,
) -> Result<(Outgoing, Incoming), Error> {
    let channel = timeout(pace.dial_within, session.target.connect_to_beat()).await;
    let channel = channel.map_err(|_| Error::Silent(pace.dial_within))??;
    let mut client = FleetClient::new(channel).max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    let (sender, messages) = mpsc::channel(OUTGOING_BOUND);
    let mut outgoing = Outgoing {
        messages: sender,
        within: pace.unanswered(),
    };
    let hello = worker_message::Body::Hello(hello(session).await?);
    let sent = clock::since_boot();
    outgoing.send(hello).await?;
    let attach = async {
        let mut incoming = client
            .attach(ReceiverStream::new(messages))
            .await?
            .into_inner();
        let first = incoming.message().await?.and_then(|message| message.body);
        Ok::<_, Error>((first, incoming))
    };
    let attached = timeout(pace.welcome_within, attach).await;
    let (first, incoming) = match attached.map_err(|_| Error::Silent(pace.welcome_within))? {
        Err(Error::Stream(status)) if status.code() == Code::AlreadyExists => {
            return Err(Error::Twin(status.message().to_owned()));
        }
        attached => attached?,
    };
    let Some(head_message::Body::Welcome(welcome)) = first else {
        return Err(Error::Protocol("the first message is not a welcome"));
    };
    session.welcomed = true;
    say_welcomed(&welcome, absence.over());
    session.installation.admit();
    session.found.notify_one();
    *pace = Pace::of(Duration::from_millis(welcome.lease_ms));
    outgoing.within = pace.unanswered();
    on_welcome(session, *welcome).await?;
    // IMPORTANT: after what the welcome says of attempts that are others' now.
    session.fleet.leased(sent + pace.lease).await?;
    Ok((outgoing, incoming))
}

async fn hello(session: &mut Session) -> Result<v1::Hello, Error> {
    let progress = *session.spool.progress().borrow();
    let held = session.fleet.held().await?;
    // IMPORTANT: asked after the fleet, which lets an attempt go only when its last report is here.
    let ending = session.spool.waiting().ending();
    let held = holding(held, ending).into_iter();
    Ok(v1::Hello {
        worker: Some(session.info.borrow_and_update().clone().into()),
        held: held
            .map(|held| v1::HeldAttempt {
                attempt: Some(held.attempt.into()),
                started: held.started,
                running_ms: held.running.map(clock::ms),
            })
            .collect(),
        first_unacked_report: progress.acked + 1,
        collects_garbage: true,
        installation: session.installation.value().to_owned(),
    })
}

/// All that the worker answers for: also what it has only a last report of. A head that did not hear
/// of such an attempt would order it again, or count it as lost, before the report comes.
fn holding(held: Vec<Held>, ending: Vec<AttemptId>) -> Vec<Held> {
    let known: BTreeSet<AttemptId> = held.iter().map(|held| held.attempt).collect();
    let ending = ending
        .into_iter()
        .filter(|attempt| !known.contains(attempt));
    let ending: BTreeSet<AttemptId> = ending.collect();
    let ending = ending.into_iter().map(|attempt| Held {
        attempt,
        started: true,
        running: None,
    });
    held.into_iter().chain(ending).collect()
}

/// One line for each absence that was said, and for the first welcome.
fn say_welcomed(welcome: &v1::Welcome, over: Over) {
    let cluster = &welcome.cluster;
    let (epoch, head_version) = (welcome.epoch, &welcome.head_version);
    match over {
        Over::Said(away) => tracing::info!(
            cluster,
            epoch,
            head_version,
            away_s = away.lasted(clock::since_boot()).as_secs(),
            dials = away.dials,
            "attached to the head, which is back"
        ),
        Over::First => tracing::info!(cluster, epoch, head_version, "attached to the head"),
        Over::Unsaid => tracing::debug!(cluster, epoch, head_version, "attached to the head again"),
    }
}

async fn on_welcome(session: &mut Session, welcome: v1::Welcome) -> Result<(), Error> {
    usurped::acknowledged(session, welcome.acked_up_to).await?;
    for attempt in welcome.kill {
        let unknown = welcome.unknown.contains(&attempt);
        match convert::attempt_id("kill", Some(attempt)) {
            Ok(id) if unknown => session.fleet.order(Order::Disown(id)).await?,
            Ok(id) => session.fleet.order(Order::GiveUp(id)).await?,
            Err(refused) => tracing::warn!(%refused, "a part of the welcome is not understood"),
        }
    }
    Ok(())
}

async fn serve(
    session: &mut Session,
    pace: Pace,
    outgoing: Outgoing,
    mut incoming: Incoming,
) -> Error {
    let mut progress = session.spool.progress();
    let mut sent = progress.borrow_and_update().acked;
    // The first at once; one that is late moves those behind it.
    let mut heartbeat = pin!(clock::wait(Duration::ZERO));
    let mut unanswered = 0;
    let mut beats = Beats::default();
    let mut readings = session.meters.changes();
    session.meters.renew();
    let mut looks = session.interims.changes();
    session.interims.renew();
    // Set while there is something to tell: the first reading at once, then one a while.
    let mut meter_due: Option<Instant> = None;
    let mut metered = None;
    progress.mark_changed();
    loop {
        let done = tokio::select! {
            message = incoming.message() => {
                unanswered = 0;
                match renew_lease(session, pace, &mut beats, &message).await {
                    Ok(()) => on_message(session, message).await,
                    Err(error) => Err(error),
                }
            }
            changed = progress.changed() => match changed {
                Ok(()) => {
                    progress.borrow_and_update();
                    send_reports(session, &outgoing, &mut sent).await
                }
                Err(_) => Err(Error::Stopping),
            },
            changed = readings.changed(), if meter_due.is_none() => match changed {
                Ok(()) => {
                    let rested = metered.map(|at: Instant| at + limits::METER_EVERY);
                    meter_due = Some(rested.unwrap_or_else(Instant::now));
                    Ok(())
                }
                Err(_) => Err(Error::Stopping),
            },
            () = due(meter_due) => {
                (meter_due, metered) = (None, Some(Instant::now()));
                readings.borrow_and_update();
                send_meters(session, &outgoing).await
            }
            changed = looks.changed() => match changed {
                Ok(()) => {
                    looks.borrow_and_update();
                    send_interims(session, &outgoing).await
                }
                Err(_) => Err(Error::Stopping),
            },
            () = &mut heartbeat => {
                heartbeat.set(clock::wait(pace.heartbeat_every));
                unanswered += 1;
                match unanswered > UNANSWERED_MAX {
                    true => Err(Error::Silent(pace.unanswered())),
                    false => outgoing.beat(&mut beats),
                }
            }
            collected = session.housekeeping.answered() => {
                outgoing.send(worker_message::Body::Garbage(collected)).await
            }
            changed = session.info.changed() => match changed {
                Ok(()) => {
                    let info = session.info.borrow_and_update().clone();
                    outgoing.send(worker_message::Body::Capacity(info.into())).await
                }
                Err(_) => Err(Error::Stopping),
            },
        };
        if let Err(error) = done {
            return error;
        }
    }
}

/// Resolves at this moment; never without one.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn send_meters(session: &Session, outgoing: &Outgoing) -> Result<(), Error> {
    while let Some(meters) = session.meters.take() {
        outgoing.send(worker_message::Body::Meters(meters)).await?;
    }
    Ok(())
}

async fn send_interims(session: &Session, outgoing: &Outgoing) -> Result<(), Error> {
    while let Some(interim) = session.interims.take() {
        outgoing
            .send(worker_message::Body::Interim(interim))
            .await?;
    }
    Ok(())
}

async fn send_reports(
    session: &mut Session,
    outgoing: &Outgoing,
    sent: &mut u64,
) -> Result<(), Error> {
    loop {
        let reports = session.spool.waiting().after(*sent, REPORTS_MAX);
        let Some(last) = reports.last().map(|report| report.seq) else {
            return Ok(());
        };
        let reports = worker_message::Body::Reports(v1::Reports { reports });
        // Also where sending fails: some of it may have arrived.
        session.sent = session.sent.max(last);
        outgoing.send(reports).await?;
        *sent = last;
    }
}

/// An answer to a heartbeat: the head had heard of this worker by then. Where the lease was over, as after a sleep
/// of the machine, the fleet begins what waits.
async fn renew_lease(
    session: &Session,
    pace: Pace,
    beats: &mut Beats,
    message: &Result<Option<v1::HeadMessage>, tonic::Status>,
) -> Result<(), Error> {
    let Ok(Some(v1::HeadMessage {
        body: Some(head_message::Body::HeartbeatAck(ack)),
    })) = message
    else {
        return Ok(());
    };
    match beats.answered(ack.time_ms).map(|sent| sent + pace.lease) {
        Some(ends) if session.lease.lasts() => session.lease.renew(ends),
        Some(ends) => session.fleet.leased(ends).await?,
        None => {}
    }
    Ok(())
}

async fn on_message(
    session: &Session,
    message: Result<Option<v1::HeadMessage>, tonic::Status>,
) -> Result<(), Error> {
    match message?.ok_or(Error::Ended)?.body {
        Some(head_message::Body::Orders(orders)) => {
            for order in orders.orders {
                on_order(session, order).await?;
            }
            Ok(())
        }
        Some(head_message::Body::ReportAck(ack)) => {
            session.spool.acknowledged(ack.up_to);
            Ok(())
        }
        Some(head_message::Body::HeartbeatAck(ack)) => {
            tracing::trace!(
                ms = now_ms().saturating_sub(ack.time_ms),
                "heartbeat answered"
            );
            Ok(())
        }
        Some(head_message::Body::Availability(v1::Availability { state })) => {
            tracing::info!(
                state,
                "the head says whether it will give this worker anything new"
            );
            Ok(())
        }
        Some(head_message::Body::CollectGarbage(wanted)) => {
            session.housekeeping.ask(&wanted);
            Ok(())
        }
        Some(head_message::Body::Welcome(_)) => Err(Error::Protocol("a second welcome")),
        // A newer head may say more than we understand.
        None => Ok(()),
    }
}

async fn on_order(session: &Session, order: v1::Order) -> Result<(), Error> {
    let order = match order.body {
        Some(order::Body::Start(start)) => match attempt(&start.attempt) {
            Some(id) => Order::Start(id, Box::new(start)),
            None => return Ok(()),
        },
        Some(order::Body::Cancel(cancel)) => match attempt(&cancel.attempt) {
            Some(id) if cancel.reason == "lost" => Order::GiveUp(id),
            Some(id) => Order::Stop(id, stop_reason(&cancel.reason)),
            None => return Ok(()),
        },
        Some(order::Body::Retract(retract)) => match attempt(&retract.attempt) {
            Some(id) => Order::Retract(id),
            None => return Ok(()),
        },
        None => return Ok(()),
    };
    Ok(session.fleet.order(order).await?)
}

fn stop_reason(wire: &str) -> StopReason {
    match wire {
        "timeout" => StopReason::Timeout,
        "stalled" => StopReason::Stalled,
        "budget" => StopReason::Budget,
        _ => StopReason::Cancelled,
    }
}

fn attempt(wire: &Option<v1::AttemptId>) -> Option<AttemptId> {
    convert::attempt_id("attempt", *wire)
        .inspect_err(|refused| tracing::warn!(%refused, "an order is not understood"))
        .ok()
}

impl Outgoing {
    async fn send(&self, body: worker_message::Body) -> Result<(), Error> {
        let message = v1::WorkerMessage { body: Some(body) };
        let sent = timeout(self.within, self.messages.send(message)).await;
        let sent = sent.map_err(|_| Error::Silent(self.within))?;
        sent.map_err(|_| Error::Ended)
    }

    /// Sends a heartbeat, unless other messages wait already.
    fn beat(&self, beats: &mut Beats) -> Result<(), Error> {
        let beat = v1::Heartbeat { time_ms: now_ms() };
        beats.sent(beat.time_ms, clock::since_boot());
        let body = Some(worker_message::Body::Heartbeat(beat));
        match self.messages.try_send(v1::WorkerMessage { body }) {
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Error::Ended),
        }
    }
}

fn now_ms() -> u64 {
    clock::now().0
}
