//! What is told to clients and workers, and that it is told at all.

use orchestra_core::{
    Availability, CancelRefused, EndStatus, Message, PriorityRefused, ReleaseRefused,
    RemoveRefused, Reply, RetryRefused, Step, StopReason, SubmitRefused, Welcome,
};
use orchestra_types::{AttemptId, OnDependencyFailure, RunnerName, TaskId};

use super::{Before, Judge};
use crate::{
    cast::{Cast, Said},
    cover::Point,
    event::{Ask, Event},
    rule::{Checked, hold},
    shadow::{At, Shade, bit},
};

impl Judge {
    pub(super) fn messages(
        &mut self,
        event: &Event,
        before: &Before,
        step: &Step,
        cast: &Cast,
    ) -> Checked {
        let mut told = 0;
        let mut replies = 0;
        let mut welcomes = 0;
        let mut acks = 0;
        for message in &step.messages {
            match message {
                Message::Reply { request, reply } => {
                    replies += 1;
                    self.reply(event, before, request.0, reply)?;
                }
                Message::Welcome {
                    connection,
                    welcome,
                } => {
                    welcomes += 1;
                    self.welcome(event, before, connection.0, welcome)?;
                }
                Message::Start {
                    connection,
                    attempt,
                    runner,
                } => self.start(connection.0, *attempt, runner, cast)?,
                Message::Stop {
                    connection,
                    attempt,
                    reason,
                } => self.stop(connection.0, *attempt, *reason)?,
                Message::AckReports { connection, up_to } => {
                    acks += 1;
                    self.ack(event, connection.0, *up_to)?;
                }
                Message::Disconnect { connection } => {
                    self.disconnect(event, before, connection.0)?;
                }
                Message::Close { attempt, .. } => self.close(*attempt)?,
                Message::Changed { task } => told |= bit(*task),
                Message::Availability {
                    connection,
                    availability,
                } => self.told_availability(connection.0, *availability)?,
                Message::Retract {
                    connection,
                    attempt,
                } => self.called_back(connection.0, *attempt)?,
                Message::Forgotten { .. } => {}
            }
        }
        let asked = usize::from(matches!(event, Event::Asked { .. }));
        hold!(Answers, replies == asked, "{replies} answers to {event:?}");
        let attached = usize::from(matches!(event, Event::Attached { .. }));
        hold!(Welcome, welcomes == attached, "{welcomes} welcomes");
        welcome_first(event, step)?;
        let watched = self.changed & !told & !self.shadow.forgotten;
        hold!(Watchers, watched == 0, "nobody heard of {watched:#b}");
        self.report_taken(event, before, acks)?;
        self.told_again(event, step)?;
        self.given(step)
    }

    fn reply(&mut self, event: &Event, before: &Before, request: u64, reply: &Reply) -> Checked {
        let Event::Asked {
            request: asked,
            ask,
        } = event
        else {
            hold!(Answers, false, "{reply:?} to {event:?}");
            return Ok(());
        };
        hold!(Answers, asked.0 == request, "the answer to another one");
        let shade = before.shade;
        let (right, point) = match (ask, reply) {
            (Ask::Submit { key, wants }, Reply::Submitted { ids, duplicate }) => {
                // It may be forgotten with the same step.
                let now = self.shadow.key(*key).or(before.key);
                let right = now.is_some_and(|now| {
                    let last = now.first + now.count;
                    ids.iter().map(|id| id.0).eq(now.first..last)
                });
                let same = before.key.is_none() || before.key == now;
                let known = before.key.is_some() == *duplicate;
                let all = ids.len() == wants.len();
                hold!(Keys, right && same && known && all, "key {key}: {reply:?}");
                let grew = before.under_cancelled && !*duplicate;
                hold!(Answers, !grew, "a cancelled task got a part: {reply:?}");
                (true, submit_point(*duplicate))
            }
            (Ask::Submit { wants, .. }, Reply::SubmitRefused(refused)) => {
                let open = before.open + wants.len() as u64;
                let right = before.key.is_none() && self.refuses(refused, before, open);
                (right, Point::SubmitRefused)
            }
            (_, Reply::NotFound(_)) => (
                shade.is_some_and(|shade| shade.at == At::Nowhere),
                Point::NotFound,
            ),
            (Ask::Cancel(id), Reply::Done(done)) => {
                let open = shade.is_some_and(|s| match s.at {
                    At::Ended(status) => status == EndStatus::NeedsReview,
                    At::Nowhere => false,
                    At::Blocked | At::Queued { .. } | At::Assigned { .. } | At::Running { .. } => {
                        true
                    }
                    At::Closing { plan } => !is_planned(plan),
                });
                self.cancelled(*id)?;
                (open && id == done, Point::CancelDone)
            }
            (Ask::Cancel(_), Reply::CancelRefused(CancelRefused::Ended(_, status))) => {
                let ended = shade.and_then(|shade| shade.status()) == Some(*status);
                (ended && status.is_ended(), Point::CancelRefused)
            }
            (Ask::Cancel(_), Reply::CancelRefused(CancelRefused::Finishing(_))) => {
                let right = shade.is_some_and(|s| match s.at {
                    At::Closing { plan } => is_planned(plan),
                    _ => false,
                });
                (right, Point::CancelTooLate)
            }
            (Ask::Retry(id), Reply::Done(done)) => {
                let ended = shade.is_some_and(|s| matches!(s.at, At::Ended(_)));
                (ended && !before.used_up && id == done, Point::RetryDone)
            }
            (Ask::Retry(_), Reply::RetryRefused(refused)) => {
                let at = shade.map(|shade| shade.at);
                let right = match refused {
                    RetryRefused::NotEnded(..) => !matches!(at, Some(At::Ended(_))),
                    RetryRefused::Succeeded(_) => at == Some(At::Ended(EndStatus::Succeeded)),
                    RetryRefused::Behind(..) => before.doomed,
                    RetryRefused::UsedUp(..) => before.used_up,
                };
                (right, Point::RetryRefused)
            }
            (Ask::Cordon(worker, wanted), Reply::WorkerDone(_)) => {
                let right = self.shadow.availability[usize::from(*worker)] == *wanted;
                let point = match wanted {
                    Availability::Open => Point::Uncordoned,
                    Availability::Cordoned | Availability::Draining => Point::Cordoned,
                };
                (right, point)
            }
            (Ask::Cordon(worker, _), Reply::NoWorker(_)) => {
                let unknown = self.shadow.epochs[usize::from(*worker)] == 0;
                (unknown, Point::NoWorker)
            }
            (Ask::Remove(worker), Reply::WorkerDone(_)) => {
                let unknown = self.shadow.epochs[usize::from(*worker)] == 0;
                (unknown, Point::Removed)
            }
            (Ask::Remove(worker), Reply::NoWorker(_)) => {
                let unknown = self.shadow.epochs[usize::from(*worker)] == 0;
                (unknown, Point::NoWorker)
            }
            (Ask::Remove(worker), Reply::RemoveRefused(why)) => {
                let connected = self.seen[usize::from(*worker)].connection.is_some();
                // Its lease may end with the same input, after that.
                let over = self.expired & (1 << *worker) != 0;
                let right = match why {
                    RemoveRefused::Connected(_) => connected || over,
                    RemoveRefused::Holds(..) => {
                        !connected && (self.shadow.holds_any(*worker) || over)
                    }
                };
                (right, Point::RemoveRefused)
            }
            (Ask::Release(id), Reply::Done(done)) => {
                let runs = self.shadow.task(*id).policy == OnDependencyFailure::Run;
                // It may be cancelled by its queue's time with the same step, and be forgotten at once.
                let gone = self.shadow.forgotten & bit(*id) != 0;
                (id == done && (runs || gone), Point::Released)
            }
            (Ask::Release(_), Reply::ReleaseRefused(why)) => {
                let at = shade.map(|shade| shade.at);
                let right = match why {
                    ReleaseRefused::NotBlocked(..) => at != Some(At::Blocked),
                    ReleaseRefused::Waits(_, before, _) => {
                        at == Some(At::Blocked)
                            && !matches!(self.shadow.task(*before).at, At::Ended(_))
                    }
                };
                (right, Point::ReleaseRefused)
            }
            (Ask::Prioritise(id, priority), Reply::Done(done)) => {
                let now = self.shadow.task(*id).priority;
                // It may end with the same step, and be forgotten at once.
                let gone = self.shadow.forgotten & bit(*id) != 0;
                let right = id == done && (now == *priority || gone);
                (right, Point::Reprioritised)
            }
            (Ask::Prioritise(..), Reply::PriorityRefused(PriorityRefused::Ended(_, status))) => {
                let ended = shade.and_then(|shade| shade.status()) == Some(*status);
                (ended && status.is_ended(), Point::PriorityRefused)
            }
            (Ask::Limit(id, _), Reply::Done(done)) => {
                (id == done && !self.refused, Point::BudgetRaised)
            }
            (Ask::Limit(..) | Ask::Day(..), Reply::RaiseRefused(_)) => {
                (self.refused, Point::RaiseRefused)
            }
            (Ask::Day(..), Reply::ProjectDone(_)) => {
                (before.project && !self.refused, Point::DaySet)
            }
            (Ask::Day(..), Reply::NoProject(_)) => (!before.project, Point::NoProject),
            (Ask::Applied(id), Reply::Done(done)) => (id == done, Point::RetryDone),
            (ask, reply) => self.schedule_reply(ask, reply, before),
        };
        self.cover.hit(point);
        hold!(Answers, right, "{reply:?} to {ask:?}, which was {shade:?}");
        Ok(())
    }

    fn refuses(&self, refused: &SubmitRefused, before: &Before, open: u64) -> bool {
        match refused {
            SubmitRefused::QueueFull { limit } => open > *limit,
            SubmitRefused::UnknownTask { after, .. } => self.shadow.task(*after).at == At::Nowhere,
            SubmitRefused::UnknownParent { parent, .. } => {
                self.shadow.task(*parent).at == At::Nowhere
            }
            SubmitRefused::CancelledParent { parent, .. } => {
                // It may be forgotten with the same step.
                before.under_cancelled || self.shadow.task(*parent).is_cancelled()
            }
            SubmitRefused::Empty
            | SubmitRefused::TooMany { .. }
            | SubmitRefused::TooManySchedules { .. }
            | SubmitRefused::TooMuchText { .. }
            | SubmitRefused::TooManyEdges { .. }
            | SubmitRefused::TooManyKinds { .. }
            | SubmitRefused::UnknownIndex { .. }
            | SubmitRefused::TooDeep { .. }
            | SubmitRefused::Cycle { .. }
            | SubmitRefused::UnknownRunner { .. } => false,
        }
    }

    /// A cancel that was answered leads to an end, whatever happens from here on.
    fn cancelled(&self, id: TaskId) -> Checked {
        let shade = self.shadow.task(id);
        let right = match shade.at {
            At::Ended(EndStatus::Cancelled) => true,
            At::Assigned { .. } | At::Running { .. } => shade.cancel_requested,
            At::Closing { plan } => plan.is_some(),
            // It may be forgotten at once.
            At::Nowhere => self.shadow.forgotten & bit(id) != 0,
            At::Blocked | At::Queued { .. } | At::Ended(_) => false,
        };
        hold!(
            CancelHolds,
            right,
            "{id} was cancelled and is {:?}",
            shade.at
        );
        Ok(())
    }

    fn welcome(&mut self, event: &Event, before: &Before, to: u64, welcome: &Welcome) -> Checked {
        let Event::Attached {
            connection,
            worker,
            held,
            ..
        } = event
        else {
            hold!(Welcome, false, "a welcome after {event:?}");
            return Ok(());
        };
        let n = usize::from(*worker);
        self.held_in_order(*worker, held);
        hold!(Welcome, to == *connection, "a welcome on another stream");
        let grows = welcome.epoch > before.epoch && welcome.epoch == self.shadow.epochs[n];
        hold!(Welcome, grows, "epoch {} again", welcome.epoch);
        let right = welcome.acked_up_to == self.shadow.acked[n];
        hold!(Reports, right, "{} acknowledged", welcome.acked_up_to);
        for attempt in held.iter().map(|held| held.attempt) {
            let shade = self.shadow.task(attempt.task);
            let latest = shade.attempts == attempt.number;
            let own = latest && shade.holder().is_some_and(|(holder, _)| holder == *worker);
            let waits = latest && matches!(shade.at, At::Closing { .. });
            let (kept, killed) = (
                welcome.keep.contains(&attempt),
                welcome.kill.contains(&attempt),
            );
            hold!(Welcome, kept == own, "{attempt} kept: {kept}");
            let right = killed == (!own && !waits);
            hold!(Welcome, right, "{attempt} killed: {killed}");
            if killed {
                self.told_to_end(*worker, attempt)?;
            }
            self.cover.hit(if killed {
                Point::WelcomeKill
            } else {
                Point::WelcomeKeep
            });
        }
        Ok(())
    }

    fn told_availability(&mut self, connection: u64, told: Availability) -> Checked {
        let mut seen = self.seen.iter();
        let whose = seen.position(|seen| seen.connection == Some(connection));
        let right = whose.is_some_and(|n| self.shadow.availability[n] == told);
        // Its lease may end with the same input, after that.
        let over = self.expired != 0;
        hold!(
            Orders,
            right || over,
            "stream {connection} is told {told:?}"
        );
        self.cover.hit(Point::CordonTold);
        Ok(())
    }

    /// A worker that comes back is told again what it is to end, and that it gets nothing.
    fn told_again(&mut self, event: &Event, step: &Step) -> Checked {
        let Event::Attached { worker, held, .. } = event else {
            return Ok(());
        };
        for attempt in held.iter().map(|held| held.attempt) {
            let shade = self.shadow.task(attempt.task);
            let own = shade.attempts == attempt.number
                && shade.cancel_requested
                && shade.holder().is_some_and(|(holder, _)| holder == *worker);
            if !own {
                continue;
            }
            let mut messages = step.messages.iter();
            let told =
                messages.any(|m| matches!(m, Message::Stop { attempt: a, .. } if *a == attempt));
            hold!(CancelHolds, told, "{worker} is not told to end {attempt}");
            self.cover.hit(Point::StopAgain);
        }
        let cordoned = self.shadow.availability[usize::from(*worker)] != Availability::Open;
        let mut messages = step.messages.iter();
        let told = messages.any(|m| matches!(m, Message::Availability { .. }));
        hold!(
            Orders,
            told == cordoned,
            "{worker} is cordoned, told: {told}"
        );
        Ok(())
    }

    fn start(
        &mut self,
        connection: u64,
        attempt: AttemptId,
        runner: &RunnerName,
        cast: &Cast,
    ) -> Checked {
        let shade = self.shadow.task(attempt.task);
        let At::Assigned { worker, runner: r } = shade.at else {
            hold!(Orders, false, "{attempt} is ordered and {:?}", shade.at);
            return Ok(());
        };
        let latest = shade.attempts == attempt.number;
        let there = self.seen[usize::from(worker)].connection == Some(connection);
        let same = cast.runner(runner) == Some(r);
        hold!(
            Orders,
            latest && there && same,
            "{attempt} is ordered elsewhere"
        );
        let wanted = !shade.cancelled && !shade.cancel_requested;
        hold!(CancelHolds, wanted, "{attempt} is ordered after a cancel");
        if !self.has_moved(attempt.task) {
            self.cover.hit(Point::OrderAgain);
        }
        self.orders.given(attempt);
        Ok(())
    }

    fn stop(&self, connection: u64, attempt: AttemptId, why: StopReason) -> Checked {
        let shade = self.shadow.task(attempt.task);
        let right = shade.attempts == attempt.number
            && match why {
                StopReason::Cancelled => shade.cancel_requested,
                StopReason::Budget => self.is_too_much(attempt),
                StopReason::Timeout | StopReason::Stalled => self.is_too_long(attempt, why),
            }
            && shade.holder().is_some_and(|(worker, _)| {
                self.seen[usize::from(worker)].connection == Some(connection)
            });
        // Its lease may end with the same input, after the order.
        let over = self.expired != 0 && self.has_moved(attempt.task);
        hold!(
            Orders,
            right || over,
            "{attempt} is stopped and {:?}",
            shade.at
        );
        Ok(())
    }

    fn ack(&self, event: &Event, to: u64, up_to: u64) -> Checked {
        let Event::Reported {
            connection, worker, ..
        } = event
        else {
            hold!(Reports, false, "reports acknowledged after {event:?}");
            return Ok(());
        };
        let recorded = self.shadow.acked[usize::from(*worker)];
        let right = to == *connection && up_to == recorded;
        hold!(Durable, right, "{up_to} acknowledged, {recorded} recorded");
        Ok(())
    }

    /// A report on the open stream is taken, and acknowledged, exactly when it is the next one.
    fn report_taken(&mut self, event: &Event, before: &Before, acks: usize) -> Checked {
        let Event::Reported {
            worker, seq, said, ..
        } = event
        else {
            return Ok(());
        };
        let recorded = self.shadow.acked[usize::from(*worker)];
        let wanted = before.acked + u64::from(before.fresh);
        hold!(
            Reports,
            recorded == wanted,
            "{recorded} recorded, not {wanted}"
        );
        let gap = before.current && *seq > before.acked + 1;
        let acked = usize::from(before.current && !gap);
        hold!(Reports, acks == acked, "{acks} acknowledgements of {seq}");
        match (before.current, gap, before.fresh) {
            (false, ..) => self.cover.hit(Point::StaleStream),
            (true, true, _) => self.cover.hit(Point::ReportGap),
            (true, false, false) => self.cover.hit(Point::DoubledReport),
            (true, false, true) => {}
        }
        if before.fresh && !before.held && *said != Said::Accepted {
            self.cover.hit(Point::StaleReport);
        }
        Ok(())
    }

    fn disconnect(&self, event: &Event, before: &Before, to: u64) -> Checked {
        let right = match event {
            Event::Attached { .. } => before.connection == Some(to),
            Event::Reported {
                connection, seq, ..
            } => *connection == to && *seq > before.acked + 1,
            _ => false,
        };
        let lost = self.expired != 0;
        hold!(Orders, right || lost, "stream {to} is ended by {event:?}");
        Ok(())
    }

    fn close(&self, attempt: AttemptId) -> Checked {
        let shade = self.shadow.task(attempt.task);
        let right = shade.attempts == attempt.number && matches!(shade.at, At::Closing { .. });
        hold!(Orders, right, "{attempt} is closed and {:?}", shade.at);
        Ok(())
    }

    /// What a step gives to a connected worker is ordered, and what closes is closed.
    fn given(&self, step: &Step) -> Checked {
        for (id, shade) in self.shadow.tasks().filter(|(id, _)| self.has_moved(*id)) {
            let wants = |message: &Message| match (shade.at, message) {
                (At::Assigned { .. }, Message::Start { attempt, .. }) => attempt.task == id,
                (At::Closing { .. }, Message::Close { attempt, .. }) => attempt.task == id,
                _ => false,
            };
            let needed = match shade.at {
                At::Assigned { worker, .. } => {
                    let there = self.seen[usize::from(worker)].connection.is_some();
                    there && !shade.cancel_requested
                }
                At::Closing { .. } => !shade.cancelled,
                At::Nowhere
                | At::Blocked
                | At::Queued { .. }
                | At::Running { .. }
                | At::Ended(_) => false,
            };
            let ordered = !needed || step.messages.iter().any(wants);
            hold!(Orders, ordered, "nobody was told of {id}: {:?}", shade.at);
        }
        Ok(())
    }
}

/// Whether what closes ends, whatever a person wants: its agent has ended with that.
fn is_planned(plan: Option<EndStatus>) -> bool {
    plan.is_some_and(|status| status != EndStatus::Cancelled)
}

/// Whether a cancel of a task in this state prevents every further attempt.
pub(super) fn cancel_holds(shade: &Shade) -> bool {
    match shade.at {
        At::Blocked | At::Queued { .. } | At::Assigned { .. } | At::Running { .. } => true,
        At::Closing { plan } => plan.is_none(),
        At::Nowhere | At::Ended(_) => false,
    }
}

fn submit_point(duplicate: bool) -> Point {
    if duplicate {
        Point::SubmitAgain
    } else {
        Point::SubmitDone
    }
}

/// A worker hangs up where something else comes first.
fn welcome_first(event: &Event, step: &Step) -> Checked {
    let Event::Attached { connection, .. } = event else {
        return Ok(());
    };
    let mut to_it = step.messages.iter().filter(|m| to(m) == Some(*connection));
    let first = to_it.next();
    let right = matches!(first, Some(Message::Welcome { .. }));
    hold!(Welcome, right, "{first:?} comes before the welcome");
    Ok(())
}

/// The stream that a message goes to.
fn to(message: &Message) -> Option<u64> {
    match message {
        Message::Welcome { connection, .. }
        | Message::Start { connection, .. }
        | Message::Stop { connection, .. }
        | Message::Retract { connection, .. }
        | Message::AckReports { connection, .. }
        | Message::Disconnect { connection }
        | Message::Availability { connection, .. } => Some(connection.0),
        Message::Reply { .. }
        | Message::Close { .. }
        | Message::Changed { .. }
        | Message::Forgotten { .. } => None,
    }
}
