//! What the engine wants sent to a worker: orders are made complete, and those that wait together go
//! in one message.

use orchestra_core::Welcome;
use orchestra_proto::{
    convert,
    v1::{self, head_message, order},
};
use orchestra_types::{AttemptId, WorkerId};
use prost::Message as _;
use tokio::sync::mpsc;

use super::{
    Services, cluster,
    status::{self, Result},
    stream::{self, Answers, Gone},
};
use crate::engine::Outgoing;

/// Most orders in one message.
const ORDERS_MAX: usize = 256;
/// A message is sent when its orders have so many bytes: 1 MiB. A single order may have more.
const ORDERS_BYTES: usize = 1024 * 1024;

/// Sends what the engine wants sent, in its order, until the engine ends the stream. `welcomed` is
/// called when the first messages are on their way, the welcome before them.
pub(super) async fn write(
    services: &Services,
    worker: &WorkerId,
    mut outbox: mpsc::Receiver<Outgoing>,
    answers: &Answers<v1::HeadMessage>,
    welcomed: impl FnOnce(),
) -> Result<()> {
    let mut welcomed = Some(welcomed);
    loop {
        // Made anew each time: nothing is kept for a worker that nothing waits for.
        let mut waiting = Vec::new();
        if outbox.recv_many(&mut waiting, ORDERS_MAX).await == 0 {
            return Err(status::cut_off("the head ended this stream"));
        }
        match Box::pin(write_all(services, worker, waiting, answers)).await {
            Ok(()) => {}
            Err(Gone) => return Ok(()),
        }
        if let Some(welcomed) = welcomed.take() {
            welcomed();
        }
    }
}

async fn write_all(
    services: &Services,
    worker: &WorkerId,
    waiting: Vec<Outgoing>,
    answers: &Answers<v1::HeadMessage>,
) -> std::result::Result<(), Gone> {
    let mut together = Together::default();
    for outgoing in waiting {
        match complete(services, worker, outgoing).await {
            Completed::Order(order) => together.add(*order, answers).await?,
            Completed::Other(body) => {
                together.send(answers).await?;
                stream::send(answers, message(body)).await?;
            }
        }
    }
    together.send(answers).await
}

/// Orders of one message.
#[derive(Default)]
struct Together {
    orders: Vec<v1::Order>,
    bytes: usize,
}

impl Together {
    async fn add(
        &mut self,
        order: v1::Order,
        answers: &Answers<v1::HeadMessage>,
    ) -> std::result::Result<(), Gone> {
        let bytes = order.encoded_len();
        if self.bytes + bytes > ORDERS_BYTES {
            self.send(answers).await?;
        }
        self.bytes += bytes;
        self.orders.push(order);
        Ok(())
    }

    async fn send(&mut self, answers: &Answers<v1::HeadMessage>) -> std::result::Result<(), Gone> {
        let Self { orders, bytes: _ } = std::mem::take(self);
        if orders.is_empty() {
            return Ok(());
        }
        let body = head_message::Body::Orders(v1::Orders { orders });
        stream::send(answers, message(body)).await
    }
}

enum Completed {
    Order(Box<v1::Order>),
    Other(head_message::Body),
}

async fn complete(services: &Services, worker: &WorkerId, outgoing: Outgoing) -> Completed {
    match outgoing {
        Outgoing::Welcome(welcome) => {
            if !welcome.unknown.is_empty() {
                warn_of_unknown(services, worker, &welcome).await;
            }
            Completed::Other(self::welcome(services, *welcome))
        }
        Outgoing::Start(start) => {
            // Boxed: a session that waits needs no room for it.
            let complete = Box::pin(services.starter.start(*start));
            order(order::Body::Start(complete.await))
        }
        Outgoing::Stop { attempt, reason } => {
            let reason = match reason {
                orchestra_core::StopReason::Cancelled => "cancelled",
                orchestra_core::StopReason::Timeout => "timeout",
                orchestra_core::StopReason::Stalled => "stalled",
                orchestra_core::StopReason::Budget => "budget",
            };
            order(order::Body::Cancel(v1::Cancel {
                attempt: Some(attempt.into()),
                reason: reason.to_owned(),
            }))
        }
        Outgoing::Retract { attempt } => order(order::Body::Retract(v1::Retract {
            attempt: Some(attempt.into()),
        })),
        Outgoing::Availability(availability) => {
            let state = availability.as_str().to_owned();
            let state = v1::Availability { state };
            Completed::Other(head_message::Body::Availability(state))
        }
        Outgoing::AckReports { up_to } => {
            let ack = v1::ReportAck { up_to };
            Completed::Other(head_message::Body::ReportAck(ack))
        }
    }
}

/// So many attempts are named in one line of the log.
const NAMED_MAX: usize = 16;

/// Whoever looks for the work must know whose machine it is on.
async fn warn_of_unknown(services: &Services, worker: &WorkerId, welcome: &Welcome) {
    let named = welcome.unknown.iter().take(NAMED_MAX);
    let named: Vec<String> = named.map(ToString::to_string).collect();
    let known = cluster::info_of(services, worker).await;
    tracing::warn!(
        %worker,
        name = known.map(|info| info.name),
        attempts = named.join(", "),
        in_all = welcome.unknown.len(),
        epoch = welcome.epoch,
        "a worker holds attempts that this head does not know; it ends them and puts them aside: its log and `ctl workers gc WORKER --dry-run` name the places"
    );
}

fn welcome(services: &Services, welcome: Welcome) -> head_message::Body {
    head_message::Body::Welcome(Box::new(v1::Welcome {
        cluster: services.security.cluster().to_owned(),
        epoch: welcome.epoch,
        acked_up_to: welcome.acked_up_to,
        keep: ids(welcome.keep),
        kill: ids(welcome.kill),
        unknown: ids(welcome.unknown),
        lease_ms: convert::millis(services.about.lease),
        head_version: env!("CARGO_PKG_VERSION").to_owned(),
    }))
}

fn order(body: order::Body) -> Completed {
    Completed::Order(Box::new(v1::Order { body: Some(body) }))
}

/// A message of the stream.
pub(super) fn message(body: head_message::Body) -> v1::HeadMessage {
    v1::HeadMessage { body: Some(body) }
}

fn ids(ids: Vec<AttemptId>) -> Vec<v1::AttemptId> {
    ids.into_iter().map(Into::into).collect()
}
