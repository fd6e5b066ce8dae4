//! What the head wants told goes out, and what workers get of it.

use orchestra_core::{ConnectionId, Message, StopReason};

use super::{
    World,
    net::{Down, Stream, Up},
};
use crate::{
    cast::Result as Ended,
    cover::Point,
    event::Event,
    plan::Switch,
    rule::{Checked, hold},
};

impl World<'_> {
    pub(super) fn send_one(&mut self, message: Message) -> Checked {
        match message {
            Message::Reply { request, reply } => {
                if self.has(Switch::LostReplies) && self.random.once_in(4) {
                    self.judge.cover.hit(Point::ReplyLost);
                    self.clients.reply_lost(request);
                    return Ok(());
                }
                return self.clients.answered(request, reply, &self.disk.shadow);
            }
            Message::Welcome {
                connection,
                welcome,
            } => self.tell(connection, Down::Welcome(welcome)),
            Message::Start {
                connection,
                attempt,
                runner,
            } => {
                let runner = self.cast.runner(&runner).unwrap_or(0);
                self.tell(connection, Down::Start(attempt, runner));
            }
            Message::Stop {
                connection,
                attempt,
                reason,
            } => self.tell(connection, Down::Stop(attempt, reason)),
            Message::AckReports { connection, up_to } => self.tell(connection, Down::Ack(up_to)),
            Message::Disconnect { connection } => {
                if let Some(place) = self.on(connection) {
                    self.end_stream(place);
                }
            }
            Message::Close { attempt, .. } => self.head.closes.push(attempt),
            Message::Retract {
                connection,
                attempt,
            } => self.tell(connection, Down::Retract(attempt)),
            Message::Changed { .. } | Message::Forgotten { .. } | Message::Availability { .. } => {}
        }
        Ok(())
    }

    fn on(&self, connection: ConnectionId) -> Option<usize> {
        let mut streams = self.streams.iter();
        streams.position(|s| s.connection == Some(connection.0) && !s.ended)
    }

    fn tell(&mut self, connection: ConnectionId, message: Down) {
        if let Some(place) = self.on(connection) {
            self.streams[place].tell(message);
        }
    }

    /// The head lets go of a stream; it notes that itself a little later.
    pub(super) fn end_stream(&mut self, place: usize) {
        self.judge.cover.hit(Point::StreamEndedByHead);
        let stream = &mut self.streams[place];
        let kept = self.random.index(stream.down.len() + 1);
        stream.end(kept);
        if let Some(connection) = stream.connection {
            let worker = stream.worker;
            self.arrive(Event::Detached { connection, worker });
        }
        self.sweep();
    }

    /// The head's process is gone, and its ends of all streams.
    pub(super) fn lose_streams(&mut self) {
        for stream in &mut self.streams {
            let kept = self.random.index(stream.down.len() + 1);
            stream.end(kept);
            stream.connection = None;
        }
        self.sweep();
    }

    /// Forgets streams of which nothing can come.
    pub(super) fn sweep(&mut self) {
        self.streams.retain(|stream| !stream.is_over());
    }

    /// A message of a worker reaches the head's inbox.
    pub(super) fn carry_up(&mut self, place: usize) {
        let stream = &mut self.streams[place];
        let (worker, connection) = (stream.worker, stream.connection);
        let Some(message) = stream.up.pop_front() else {
            self.up_is_empty(place);
            return;
        };
        let event = match (message, connection) {
            (
                Up::Hello {
                    look,
                    held,
                    first_unacked,
                },
                _,
            ) => {
                let connection = self.head.next_connection;
                self.head.next_connection += 1;
                self.streams[place].connection = Some(connection);
                Event::Attached {
                    connection,
                    worker,
                    look,
                    held,
                    first_unacked,
                }
            }
            (
                Up::Report {
                    seq,
                    attempt,
                    said,
                    used,
                    clock,
                },
                Some(connection),
            ) => Event::Reported {
                connection,
                worker,
                seq,
                attempt,
                said,
                used,
                clock,
            },
            (Up::Meter(attempt, used), Some(connection)) => Event::Metered {
                connection,
                worker,
                attempt,
                used,
            },
            (Up::Beat, Some(connection)) => Event::Heartbeat { connection, worker },
            (Up::Capacity(look), Some(connection)) => Event::Capacity {
                connection,
                worker,
                look,
            },
            // Without its hello a stream is nobody's.
            (_, None) => return,
        };
        self.arrive(event);
    }

    /// A stream that its worker has left ends for the head when everything on it was read.
    fn up_is_empty(&mut self, place: usize) {
        let stream = &mut self.streams[place];
        if stream.left && !stream.ended {
            stream.ended = true;
            if let Some(connection) = stream.connection {
                let worker = stream.worker;
                self.arrive(Event::Detached { connection, worker });
            }
            self.sweep();
        }
    }

    /// A message of the head reaches a worker.
    pub(super) fn carry_down(&mut self, place: usize) -> Checked {
        let stream = &mut self.streams[place];
        let (id, number, process) = (stream.id, stream.worker, stream.process);
        let Some(message) = stream.down.pop_front() else {
            return Ok(());
        };
        self.trace.line(self.clock, || {
            format!("worker {number}.{process} <- {message:?}")
        });
        if process == 0 {
            self.promised(number, &message)?;
        }
        let Some(worker) = self.process(number, process) else {
            return Ok(());
        };
        match message {
            Down::Welcome(welcome) => worker.welcome(&welcome),
            Down::Start(attempt, runner) => worker.start(attempt, runner),
            Down::Retract(attempt) => {
                let given = worker.give_back(attempt);
                self.judge.cover.hit(if given {
                    Point::GivenBack
                } else {
                    Point::CalledBackTooLate
                });
            }
            Down::Stop(attempt, reason) => worker.stop(attempt, ends(reason)),
            Down::Ack(up_to) => worker.acknowledged(up_to),
            Down::End => self.leave(number, process, id),
        }
        Ok(())
    }

    /// What an acknowledgement promises. It promises nothing about what a twin has reported.
    fn promised(&mut self, worker: u8, message: &Down) -> Checked {
        let up_to = match message {
            Down::Welcome(welcome) => welcome.acked_up_to,
            Down::Ack(up_to) => *up_to,
            Down::Start(..) | Down::Retract(_) | Down::Stop(..) | Down::End => return Ok(()),
        };
        if self.has(Switch::Twins) {
            return Ok(());
        }
        let last = self.workers[usize::from(worker)].last;
        hold!(Reports, up_to <= last, "{up_to} acknowledged, {last} said");
        self.result_acked(up_to, worker)
    }

    /// A worker's process lets go of its stream.
    pub(super) fn leave(&mut self, worker: u8, process: usize, id: u64) {
        if let Some(worker) = self.process(worker, process) {
            worker.forget_stream();
        }
        if let Some(place) = self.streams.iter().position(|s| s.id == id) {
            let kept = self.random.index(self.streams[place].up.len() + 1);
            self.streams[place].leave(kept);
        }
        self.sweep();
    }

    /// A worker's process dials, and says what it holds.
    pub(super) fn dial(&mut self, worker: u8, process: usize) {
        let id = self.next_stream;
        let Some(dialler) = self.process(worker, process) else {
            return;
        };
        if dialler.stream.is_some() || dialler.gone {
            return;
        }
        dialler.stream = Some(id);
        dialler.welcomed = false;
        let (look, held) = (dialler.look, dialler.held());
        let (next, waits) = (dialler.acked + 1, dialler.last > dialler.acked);
        self.next_stream += 1;
        // Older workers said it only when something waited.
        let silent = !waits && self.random.once_in(8);
        let first_unacked = if silent { 0 } else { next };
        let mut stream = Stream::new(id, worker, process);
        stream.say(Up::Hello {
            look,
            held,
            first_unacked,
        });
        self.streams.push(stream);
    }

    /// A worker's process sends what its head has not acknowledged and it has not sent yet.
    pub(super) fn report(&mut self, worker: u8, process: usize) {
        let vanish = self.has(Switch::LostReports) && self.random.once_in(16);
        let twice = self.has(Switch::DoubledReports) && self.random.once_in(4);
        let clock = orchestra_types::Timestamp(self.clock);
        let Some(sender) = self.process(worker, process) else {
            return;
        };
        let Some(id) = sender.stream.filter(|_| sender.welcomed) else {
            return;
        };
        let from = sender.sent;
        sender.sent = sender.last;
        let reports: Vec<_> = sender.spool.iter().copied().collect();
        let new = reports.into_iter().filter(|report| report.seq > from);
        let Some(stream) = self.stream(id) else {
            return;
        };
        let mut lost = vanish;
        let mut vanished = 0;
        for report in new {
            if std::mem::take(&mut lost) {
                vanished += 1;
                continue;
            }
            let message = Up::Report {
                seq: report.seq,
                attempt: report.attempt,
                said: report.said,
                used: report.used,
                clock,
            };
            if twice {
                stream.say(message.clone());
            }
            stream.say(message);
        }
        if vanished > 0 {
            self.judge.cover.hit(Point::ReportVanished);
        }
    }
}

/// How an agent ends that is told to.
fn ends(reason: StopReason) -> Ended {
    match reason {
        StopReason::Cancelled => Ended::Cancelled,
        StopReason::Timeout => Ended::TimedOut,
        StopReason::Stalled => Ended::Silent,
        StopReason::Budget => Ended::OverBudget,
    }
}
