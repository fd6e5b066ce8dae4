//! Sends what the core wants told. Never waits: whoever does not take it is cut off or told later.

use std::collections::{BTreeMap, VecDeque};

use orchestra_core::{ConnectionId, Message, Reply, RequestId};
use orchestra_types::{AttemptId, FailureCode, Outcome, RunnerName, TaskId};
use tokio::sync::{
    broadcast,
    mpsc::{self, error::TrySendError},
    oneshot,
};

use super::{
    Close, Failed,
    command::{Outgoing, Start},
};
use crate::store::Store;

pub(super) struct Delivery {
    connections: BTreeMap<ConnectionId, mpsc::Sender<Outgoing>>,
    asked: BTreeMap<RequestId, oneshot::Sender<Reply>>,
    next_request: u64,
    changes: broadcast::Sender<TaskId>,
    closes: mpsc::Sender<Close>,
    forgotten: mpsc::Sender<AttemptId>,
    /// Closes that the closer had no room for. At most one for each task, and each close that ends
    /// wakes the engine, which then offers them again.
    closes_waiting: VecDeque<Close>,
    /// Acknowledgements are cumulative: of those of one turn the last one says it all.
    acks: BTreeMap<ConnectionId, u64>,
}

impl Delivery {
    pub fn new(
        changes: broadcast::Sender<TaskId>,
        closes: mpsc::Sender<Close>,
        forgotten: mpsc::Sender<AttemptId>,
    ) -> Self {
        Self {
            forgotten,
            connections: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_request: 1,
            changes,
            closes,
            closes_waiting: VecDeque::new(),
            acks: BTreeMap::new(),
        }
    }

    /// Notes who waits for the answer to a new request.
    pub fn expect(&mut self, reply: oneshot::Sender<Reply>) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.asked.insert(request, reply);
        request
    }

    pub fn connect(&mut self, connection: ConnectionId, outbox: mpsc::Sender<Outgoing>) {
        self.connections.insert(connection, outbox);
    }

    /// Ends a stream: its session sees the closed outbox.
    pub fn disconnect(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
    }

    pub fn deliver(&mut self, messages: Vec<Message>, store: &Store) -> Result<(), Failed> {
        for message in messages {
            self.deliver_one(message, store)?;
        }
        for (connection, up_to) in std::mem::take(&mut self.acks) {
            self.send(connection, Outgoing::AckReports { up_to });
        }
        self.offer_closes();
        Ok(())
    }

    fn deliver_one(&mut self, message: Message, store: &Store) -> Result<(), Failed> {
        match message {
            Message::Reply { request, reply } => self.reply(request, reply),
            Message::Welcome {
                connection,
                welcome,
            } => self.send(connection, Outgoing::Welcome(Box::new(welcome))),
            Message::Start {
                connection,
                attempt,
                runner,
            } => self.start(connection, attempt, runner, store)?,
            Message::Stop {
                connection,
                attempt,
                reason,
            } => self.send(connection, Outgoing::Stop { attempt, reason }),
            Message::Retract {
                connection,
                attempt,
            } => self.send(connection, Outgoing::Retract { attempt }),
            Message::AckReports { connection, up_to } => {
                self.acks.insert(connection, up_to);
            }
            Message::Availability {
                connection,
                availability,
            } => self.send(connection, Outgoing::Availability(availability)),
            Message::Disconnect { connection } => self.disconnect(connection),
            Message::Close { attempt, status } => {
                self.closes_waiting.push_back(Close { attempt, status });
            }
            Message::Forgotten { last } => {
                // What is passed over here is found by the next look for what nobody needs.
                let _ = self.forgotten.try_send(last);
            }
            Message::Changed { task } => {
                // Nobody may be watching.
                let _ = self.changes.send(task);
            }
        }
        Ok(())
    }

    fn reply(&mut self, request: RequestId, reply: Reply) {
        if let Some(asked) = self.asked.remove(&request) {
            // Who asked may be gone; what was asked for is done all the same.
            let _ = asked.send(reply);
        }
    }

    fn start(
        &mut self,
        connection: ConnectionId,
        attempt: AttemptId,
        runner: RunnerName,
        store: &Store,
    ) -> Result<(), Failed> {
        match store.spec(attempt.task) {
            Ok(Some(spec)) => {
                let start = Start {
                    attempt,
                    runner,
                    spec,
                    before: stopped_before(attempt, store),
                };
                self.send(connection, Outgoing::Start(Box::new(start)));
            }
            Ok(None) => tracing::error!(%attempt, "a task without a specification cannot start"),
            Err(error) => tracing::error!(%attempt, %error, "an attempt cannot start"),
        }
        Ok(())
    }

    /// A worker that does not read is cut off: it comes back and is told everything anew.
    fn send(&mut self, connection: ConnectionId, message: Outgoing) {
        let Some(outbox) = self.connections.get(&connection) else {
            return;
        };
        match outbox.try_send(message) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                tracing::warn!(connection = connection.0, "a worker does not read; cut off");
                self.disconnect(connection);
            }
            Err(TrySendError::Closed(_)) => self.disconnect(connection),
        }
    }

    fn offer_closes(&mut self) {
        while let Some(close) = self.closes_waiting.pop_front() {
            match self.closes.try_send(close) {
                Ok(()) => {}
                Err(TrySendError::Full(close)) => return self.closes_waiting.push_front(close),
                // The head stops: what is not closed is closed after the next start.
                Err(TrySendError::Closed(_)) => {}
            }
        }
    }
}

/// What an attempt before this one has done that its budget or a limit of its account stopped: this
/// one goes on from there, and so does one after it that did not come to anything.
fn stopped_before(attempt: AttemptId, store: &Store) -> Option<Box<Outcome>> {
    for number in (1..attempt.number).rev() {
        let before = AttemptId { number, ..attempt };
        let outcome = match store.outcome(before) {
            // One that was lost, or whose row is gone, has left nothing.
            Ok(row) => row.and_then(|row| row.result.ok()),
            Err(error) => {
                tracing::warn!(%before, %error, "what it has done cannot be read");
                return None;
            }
        };
        if let Some(outcome) = outcome.filter(|outcome| is_gone_on_from(outcome)) {
            return Some(outcome);
        }
    }
    None
}

/// Whether what was stopped there is more than nothing.
fn is_gone_on_from(outcome: &Outcome) -> bool {
    let Some(failure) = &outcome.failure else {
        return false;
    };
    match failure.code {
        FailureCode::BudgetExceeded => !outcome.is_of_nothing(),
        FailureCode::RateLimited | FailureCode::QuotaExhausted => outcome.result_bundle().is_some(),
        _ => false,
    }
}
