//! A fake worker: it speaks the real protocol, runs nothing, and outlives the heads it attaches to.
//!
//! It keeps every report it ever made, as a worker's spool does until the acknowledgement, so that
//! a head that forgot one can be told apart from a head that never had it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail};
use orchestra_proto::{
    batch::encode,
    v1::{
        self, bulk_client::BulkClient, fleet_client::FleetClient, head_message, order, report,
        worker_message,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::{
    head::Site,
    ledger::{Done, Shared},
};

/// How many attempts it takes at once.
const SLOTS: u32 = 24;
/// Messages that may wait for the head.
const OUTBOX: usize = 64;
/// A worker that says nothing for the length of its lease is lost.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(2);
/// Events of one attempt.
const EVENTS: u64 = 3;

/// The worker's own memory.
#[derive(Debug)]
pub struct Worker {
    id: String,
    rng: fastrand::Rng,
    /// Every report, by number.
    spool: Vec<v1::Report>,
    /// Attempts that run, by task and number.
    held: BTreeMap<(u64, u32), Held>,
    /// Attempts that have ended, with the number of the report that says so. They are kept until
    /// the next attachment: an acknowledgement may be of no worth when the power fails.
    ended: BTreeMap<(u64, u32), u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    started: bool,
    cancelled: bool,
}

/// The connection to one head.
struct Session {
    up: mpsc::Sender<v1::WorkerMessage>,
    down: Streaming<v1::HeadMessage>,
    events_up: mpsc::Sender<v1::EventUpload>,
    events_down: Streaming<v1::EventAck>,
}

/// Something came from the head.
enum Came {
    Message(head_message::Body),
    Events(v1::EventAck),
}

impl Worker {
    /// The worker of the site's machine.
    #[must_use]
    pub fn new(id: String, seed: u64) -> Self {
        Self {
            id,
            rng: fastrand::Rng::with_seed(seed),
            spool: Vec::new(),
            held: BTreeMap::new(),
            ended: BTreeMap::new(),
        }
    }

    /// Works until the head is gone. The error says how that was noticed.
    pub async fn run(&mut self, site: &Site, ledger: &Shared) -> anyhow::Result<()> {
        let mut session = self.attach(site, ledger).await?;
        let mut beat = tokio::time::interval(HEARTBEAT_EVERY);
        loop {
            tokio::select! {
                came = session.next() => self.take(came?, ledger),
                _ = beat.tick() => session.heartbeat().await?,
            }
            let reports = self.work(ledger);
            session.report(reports).await?;
            self.push_events(&session);
        }
    }

    async fn attach(&mut self, site: &Site, ledger: &Shared) -> anyhow::Result<Session> {
        let channel = site.worker_channel().await?;
        let (up, messages) = mpsc::channel(OUTBOX);
        up.send(message(worker_message::Body::Hello(self.hello(ledger))))
            .await?;
        let mut fleet = FleetClient::new(channel.clone());
        let down = fleet.attach(ReceiverStream::new(messages)).await?;
        let (events_up, events_down) = event_stream(channel).await?;
        let mut session = Session {
            up,
            down: down.into_inner(),
            events_up,
            events_down,
        };
        let first = session.down.message().await?.context("no answer")?.body;
        let Some(head_message::Body::Welcome(welcome)) = first else {
            bail!("not welcome: {first:?}");
        };
        self.welcomed(&welcome, ledger);
        let from = usize::try_from(welcome.acked_up_to)?.min(self.spool.len());
        let again = self.spool[from..].to_vec();
        session.report(again).await?;
        Ok(session)
    }

    fn hello(&mut self, ledger: &Shared) -> v1::Hello {
        let acked = ledger.lock().reports_acked;
        self.ended.retain(|_, seq| *seq > acked);
        let held = self.held.iter().map(|(id, held)| (id, held.started));
        let held = held.chain(self.ended.keys().map(|id| (id, true)));
        let held = held.map(|((task, number), started)| v1::HeldAttempt {
            attempt: Some(v1::AttemptId {
                task: *task,
                number: *number,
            }),
            started,
            running_ms: None,
        });
        let waits = acked < self.spool.len() as u64;
        v1::Hello {
            worker: Some(self.info()),
            held: held.collect(),
            first_unacked_report: if waits { acked + 1 } else { 0 },
            collects_garbage: false,
            installation: String::new(),
        }
    }

    fn info(&self) -> v1::WorkerInfo {
        v1::WorkerInfo {
            id: self.id.clone(),
            name: "fake".to_owned(),
            machine: "m1".to_owned(),
            boot_id: "boot".to_owned(),
            incarnation: "one".to_owned(),
            slots: SLOTS,
            runners: vec![v1::RunnerInfo {
                name: "agent".to_owned(),
                readiness: "ready".to_owned(),
                slots: SLOTS,
                prefetch: 0,
                agentic: true,
                ..v1::RunnerInfo::default()
            }],
            ..v1::WorkerInfo::default()
        }
    }

    fn welcomed(&mut self, welcome: &v1::Welcome, ledger: &Shared) {
        {
            let mut ledger = ledger.lock();
            let (got, want) = (welcome.acked_up_to, ledger.reports_acked);
            if got < want {
                let text = format!("reports up to {want} were acknowledged, now only {got}");
                ledger.broken.push(text);
            }
            if got > self.spool.len() as u64 {
                let text = format!("reports up to {got} are recorded that were never made");
                ledger.broken.push(text);
            }
        }
        {
            let mut ledger = ledger.lock();
            ledger.acked(welcome.acked_up_to);
            ledger.attached += 1;
        }
        for killed in &welcome.kill {
            let id = (killed.task, killed.number);
            let dropped = self.held.remove(&id).is_some();
            if dropped && ledger.lock().given.contains(&id) {
                let text = format!("attempt {killed:?} was taken away from its worker");
                ledger.lock().broken.push(text);
            }
        }
    }

    fn take(&mut self, came: Came, ledger: &Shared) {
        match came {
            Came::Message(head_message::Body::Orders(orders)) => {
                for order in orders.orders.into_iter().filter_map(|order| order.body) {
                    self.obey(order, ledger);
                }
            }
            Came::Message(head_message::Body::ReportAck(ack)) => ledger.lock().acked(ack.up_to),
            Came::Message(_) => {}
            Came::Events(ack) => note_events(&ack, ledger),
        }
    }

    fn obey(&mut self, order: order::Body, ledger: &Shared) {
        match order {
            order::Body::Start(start) => {
                let Some(attempt) = start.attempt else { return };
                if attempt.number > 1 {
                    let text = format!("task {} is run again, as {attempt:?}", attempt.task);
                    ledger.lock().broken.push(text);
                }
                let id = (attempt.task, attempt.number);
                ledger.lock().given.insert(id);
                // Ordered once more when the head was killed before it knew that it had arrived.
                if !self.ended.contains_key(&id) {
                    self.held.entry(id).or_default();
                }
            }
            // It lets nothing wait.
            order::Body::Retract(_) => {}
            order::Body::Cancel(cancel) => {
                let Some(attempt) = cancel.attempt else {
                    return;
                };
                if let Some(held) = self.held.get_mut(&(attempt.task, attempt.number)) {
                    held.cancelled = true;
                }
            }
        }
    }

    /// Starts what is new and ends some of what runs.
    fn work(&mut self, ledger: &Shared) -> Vec<v1::Report> {
        let from = self.spool.len();
        let ids: Vec<(u64, u32)> = self.held.keys().copied().collect();
        for (task, number) in ids {
            let Some(held) = self.held.get_mut(&(task, number)) else {
                continue;
            };
            let (was_started, cancelled) = (held.started, held.cancelled);
            held.started = true;
            let attempt = v1::AttemptId { task, number };
            if !was_started {
                self.spool(attempt, report::Body::Accepted(report::Accepted {}));
                self.spool(attempt, report::Body::Started(report::Started::default()));
            }
            if cancelled || self.rng.u8(0..4) < 3 {
                self.held.remove(&(task, number));
                let seq = self.finish(attempt, cancelled, ledger);
                self.ended.insert((task, number), seq);
            }
        }
        self.spool[from..].to_vec()
    }

    fn finish(&mut self, attempt: v1::AttemptId, cancelled: bool, ledger: &Shared) -> u64 {
        let text = format!(
            "result {} of {}.{}",
            self.rng.u64(..),
            attempt.task,
            attempt.number
        );
        let body = report::Body::Finished(outcome(text.clone(), cancelled));
        let seq = self.spool(attempt, body);
        let done = Done {
            number: attempt.number,
            text,
            seq,
        };
        ledger.lock().finishing(attempt.task, done);
        seq
    }

    fn spool(&mut self, attempt: v1::AttemptId, body: report::Body) -> u64 {
        let seq = self.spool.len() as u64 + 1;
        self.spool.push(v1::Report {
            seq,
            attempt: Some(attempt),
            time_ms: 1,
            body: Some(body),
        });
        seq
    }

    /// Pushes the events of attempts that run. The head knows them only once their start has been
    /// recorded: a refusal is an ordinary answer.
    fn push_events(&self, session: &Session) {
        let running = self.held.iter().filter(|(_, held)| held.started);
        for ((task, number), _) in running {
            let upload = v1::EventUpload {
                attempt: Some(v1::AttemptId {
                    task: *task,
                    number: *number,
                }),
                events: encode(
                    &(1..=EVENTS)
                        .map(|seq| event(*task, seq))
                        .collect::<Vec<_>>(),
                ),
            };
            // What does not fit comes with the next turn.
            if session.events_up.try_send(upload).is_err() {
                return;
            }
        }
    }
}

impl Session {
    async fn next(&mut self) -> anyhow::Result<Came> {
        loop {
            tokio::select! {
                message = self.down.message() => {
                    if let Some(body) = message?.context("the stream ended")?.body {
                        return Ok(Came::Message(body));
                    }
                }
                ack = self.events_down.message() => {
                    return Ok(Came::Events(ack?.context("the stream of events ended")?));
                }
            }
        }
    }

    async fn heartbeat(&self) -> anyhow::Result<()> {
        let beat = worker_message::Body::Heartbeat(v1::Heartbeat { time_ms: 1 });
        self.up.send(message(beat)).await?;
        Ok(())
    }

    async fn report(&self, reports: Vec<v1::Report>) -> anyhow::Result<()> {
        if reports.is_empty() {
            return Ok(());
        }
        let reports = v1::Reports { reports };
        self.up
            .send(message(worker_message::Body::Reports(reports)))
            .await?;
        Ok(())
    }
}

/// The text of an event; what is read back must be the same.
#[must_use]
pub fn event_text(task: u64, seq: u64) -> String {
    format!("event {seq} of task {task}")
}

async fn event_stream(
    channel: Channel,
) -> anyhow::Result<(mpsc::Sender<v1::EventUpload>, Streaming<v1::EventAck>)> {
    let (up, uploads) = mpsc::channel(OUTBOX);
    let mut bulk = BulkClient::new(channel);
    let acks = bulk.push_events(ReceiverStream::new(uploads)).await?;
    Ok((up, acks.into_inner()))
}

fn note_events(ack: &v1::EventAck, ledger: &Shared) {
    let Some(attempt) = ack.attempt.filter(|_| !ack.refused) else {
        return;
    };
    let mut ledger = ledger.lock();
    let known = ledger.events.entry(attempt.task).or_default();
    let new = ack.up_to.saturating_sub(*known);
    *known = ack.up_to.max(*known);
    ledger.counts.events += new;
}

fn event(task: u64, seq: u64) -> v1::Event {
    v1::Event {
        seq,
        time_ms: 1,
        agent: "agent".to_owned(),
        kind: Some(v1::event::Kind::Message(v1::event::Text {
            message_id: "m".to_owned(),
            text: event_text(task, seq),
            delta: false,
        })),
        ..v1::Event::default()
    }
}

fn outcome(text: String, cancelled: bool) -> v1::Outcome {
    let exit = v1::exit::Exit::Code(0);
    let failure = v1::Failure {
        code: "cancelled".to_owned(),
        message: "it was asked to end".to_owned(),
        ..v1::Failure::default()
    };
    v1::Outcome {
        exit: Some(v1::Exit { exit: Some(exit) }),
        failure: cancelled.then_some(failure),
        text,
        usage: Some(v1::Usage::default()),
        files: Some(v1::ManifestSummary::default()),
        started_at_ms: 1,
        finished_at_ms: 2,
        ..v1::Outcome::default()
    }
}

fn message(body: worker_message::Body) -> v1::WorkerMessage {
    v1::WorkerMessage { body: Some(body) }
}
