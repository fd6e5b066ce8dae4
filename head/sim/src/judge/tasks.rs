//! How a task may move, and what its counters must be then.

use orchestra_core::{EndStatus, TaskRow};
use orchestra_types::{AttemptId, FailureCode, OnDependencyFailure};

use super::{
    Judge,
    moves::{
        Move, applies, asks, cancels, end_point, expected, failed, is_down, raises, released,
        result, retried,
    },
};
use crate::{
    cast::{Cast, Said, WORKERS_MAX, account},
    cover::Point,
    event::{Ask, Event},
    rule::{Checked, hold},
    shadow::{At, Shade, bit},
};

impl Judge {
    pub(super) fn task(&mut self, event: &Event, row: &TaskRow, cast: &Cast) -> Checked {
        let id = row.id;
        let mut new = Shade::of(row, cast);
        let old = self.shadow.task(id);
        new.cancelled = old.cancelled;
        self.changed |= bit(id);
        self.remember_project(&new);
        if new.at != old.at {
            self.moved |= bit(id);
        }
        let change = Move {
            event,
            id,
            old,
            new,
        };
        self.facts_stay(&change)?;
        self.counters(&change)?;
        self.avoids(&change)?;
        self.first_wait(&change)?;
        let over = self.is_over(&change);
        self.counted(&change)?;
        self.count_use(&change);
        self.moved(&change, over)?;
        self.count_time(&change);
        Ok(())
    }

    fn facts_stay(&self, change: &Move<'_>) -> Checked {
        let (old, new) = (&change.old, &change.new);
        if old.at == At::Nowhere {
            return Ok(());
        }
        let facts = |s: &Shade| {
            (
                (s.created_at, s.share, s.runner, s.machine, s.start_at),
                (s.fallback, s.labelled, s.project),
                (s.retries, s.after, s.policy),
            )
        };
        let wished = asks(
            change,
            |ask| matches!(ask, Ask::Prioritise(id, p) if *id == change.id && *p == new.priority),
        );
        let let_go = Shade {
            policy: match released(change) {
                true => OnDependencyFailure::Run,
                false => old.policy,
            },
            ..*old
        };
        let same = facts(&let_go) == facts(new) && (old.priority == new.priority || wished);
        hold!(Transitions, same, "{}: its facts changed", change.id);
        Ok(())
    }

    /// A failure and a loss keep a task from their worker for as long again as it must wait anyway;
    /// nothing else does.
    fn avoids(&self, change: &Move<'_>) -> Checked {
        let Move { id, old, new, .. } = change;
        let over = old.holder().is_some() || matches!(old.at, At::Closing { .. });
        let back = self.moves_waits() && new.avoids == self.avoids_then(old, new);
        let stays = new.avoids == old.avoids || back;
        let right = match new.at {
            At::Queued { .. } if over && self.is_given_back(change) => stays,
            At::Queued { .. } if over && self.is_ahead(change) => stays,
            At::Queued { .. } if over && self.met_limit(change) => stays,
            At::Queued { .. } if self.is_over(change) || old.goes_on => stays,
            At::Queued { not_before, .. } if old.elsewhere || self.moves_on(change) => {
                let wait = u64::try_from(self.config.moved_for.as_millis()).unwrap_or(u64::MAX);
                new.avoids == old.last.map(|(worker, _)| (worker, not_before + wait))
            }
            At::Queued { not_before, .. } if over => {
                let least = self.backoff(new.failures + new.losses);
                new.avoids.is_some_and(|(worker, until)| {
                    let wait = until.saturating_sub(not_before);
                    let from_here = old.last.is_some_and(|(last, _)| last == worker);
                    from_here && (least..=least * 5 / 4).contains(&wait)
                })
            }
            _ if retried(change) && matches!(old.at, At::Ended(_)) => {
                new.avoids == old.last.map(|(worker, _)| (worker, 0))
            }
            _ => stays,
        };
        hold!(Placement, right, "{id} avoids {:?}", new.avoids);
        Ok(())
    }

    /// Whether its latest attempt met a limit of its account, which keeps it from nobody.
    fn met_limit(&self, change: &Move<'_>) -> bool {
        let attempt = AttemptId {
            task: change.id,
            number: change.old.attempts,
        };
        let end = self.shadow.outcome(attempt);
        let limited = end.is_some_and(|end| end.code == Some(FailureCode::RateLimited));
        let on_account = |(worker, runner)| account(worker, runner).is_some();
        limited && change.old.last.is_some_and(on_account)
    }

    /// What an attempt, a failure and a loss cost, and when they are forgiven.
    fn counters(&self, change: &Move<'_>) -> Checked {
        let Move { id, old, new, .. } = change;
        let given = u32::from(matches!(new.at, At::Assigned { .. }) && new.at != old.at);
        let forgiven = matches!(old.at, At::Ended(_)) && retried(change);
        let attempts = old.attempts + given;
        let right = new.attempts == attempts;
        hold!(
            Charges,
            right,
            "{id}: attempt {} of {attempts}",
            new.attempts
        );
        let moves = self.moves_on(change) && !self.is_over(change);
        let ahead = self.is_ahead(change);
        let lost = self.lost(change) && !ahead;
        let back = Self::is_taken_back(change);
        let back_charged = old.is_charged(old.attempts);
        let (failures, losses, moved) = if forgiven {
            (0, 0, 0)
        } else {
            let charged = failed(change) && !lost && !ahead && !self.is_over(change) && !moves;
            (
                old.failures + u32::from(charged),
                (old.losses + u32::from(lost) + u32::from(charged && is_down(change)))
                    .saturating_sub(u32::from(back && back_charged)),
                (old.moved + u32::from(moves || ahead))
                    .saturating_sub(u32::from(back && !back_charged)),
            )
        };
        let right = (new.failures, new.losses, new.moved) == (failures, losses, moved);
        hold!(
            Charges,
            right,
            "{id}: {} failures, {} losses, {} times elsewhere, not {failures}, {losses}, {moved}",
            new.failures,
            new.losses,
            new.moved
        );
        Ok(())
    }

    /// Whether this ends an attempt that its worker could not begin, and that another worker could: the
    /// task goes there and is not charged.
    pub(super) fn moves_on(&self, change: &Move<'_>) -> bool {
        let old = &change.old;
        let ends = old.holder().is_some() && change.new.holder().is_none();
        let unbegun = ends && self.result(change) == Some(crate::cast::Result::Unbegun);
        let holder = old.holder().map_or(0, |(holder, _)| usize::from(holder));
        let mut others = (0..WORKERS_MAX).filter(|other| *other != holder);
        unbegun
            && !old.cancel_requested
            && old.moved < self.config.moved_max
            && others.any(|other| self.could_do(old, other))
    }

    /// Whether this is the loss of an attempt: it was held and no longer is, and no result says why.
    fn lost(&self, change: &Move<'_>) -> bool {
        let over = change.old.holder().is_some() && change.new.holder().is_none();
        over && self.result(change).is_none()
            && !self.is_given_back(change)
            && !self.is_given_up(change)
    }

    /// Whether this is the loss of an attempt that waited for a slot, and is not charged.
    pub(super) fn is_ahead(&self, change: &Move<'_>) -> bool {
        let attempt = AttemptId {
            task: change.id,
            number: change.old.attempts,
        };
        self.lost(change)
            && self.lost_ahead.contains(&attempt)
            && change.old.moved < self.config.moved_max
    }

    /// The result that ends an attempt. A report that was not taken is none: its worker's lease
    /// ends with the same input, which one that is taken would have renewed.
    pub(super) fn result(&self, change: &Move<'_>) -> Option<crate::cast::Result> {
        let holder = change.old.holder().map_or(0, |(holder, _)| holder);
        result(change).filter(|_| self.expired & (1 << holder) == 0)
    }

    fn moved(&mut self, change: &Move<'_>, over: bool) -> Checked {
        let Move { id, old, new, .. } = change;
        self.freed |= old.holder().is_some() && new.holder().is_none();
        match (old.at, new.at) {
            (At::Nowhere, At::Blocked | At::Queued { .. }) => self.came(change),
            (At::Nowhere, At::Ended(EndStatus::Cancelled)) => {
                self.cover.hit(Point::NewCancelled);
                let doomed = self.shadow.is_doomed(new);
                hold!(Dependencies, doomed, "{id} is new and cancelled");
                Ok(())
            }
            (At::Blocked, At::Queued { .. }) => {
                self.cover.hit(Point::BlockedQueued);
                self.waits_right(change)?;
                self.free(change)
            }
            (At::Queued { .. }, At::Ended(EndStatus::Failed)) => {
                self.cover.hit(match old.attempts {
                    0 => Point::QueueTimeout,
                    _ => Point::QueueTimeoutAhead,
                });
                let late = self.waited_too_long(*id);
                hold!(Clocks, late, "{id} has time to wait");
                Ok(())
            }
            (At::Blocked, At::Ended(EndStatus::Cancelled)) if self.shadow.is_doomed(old) => {
                self.cover.hit(Point::BlockedCancelled);
                Ok(())
            }
            (At::Blocked | At::Queued { .. }, At::Ended(EndStatus::Cancelled)) => {
                self.cover.hit(match old.at {
                    At::Blocked => Point::BlockedEnded,
                    _ => Point::QueuedEnded,
                });
                let wanted = cancels(change);
                hold!(Transitions, wanted, "{id} is cancelled by nobody");
                Ok(())
            }
            (At::Queued { not_before, .. }, At::Assigned { worker, runner }) => {
                self.cover.hit(Point::QueuedAssigned);
                let due = not_before <= self.wall();
                hold!(Delays, due, "{id} starts before {not_before}");
                hold!(CancelHolds, !old.cancelled, "{id} starts after a cancel");
                if old.start_at > old.created_at {
                    self.cover.hit(Point::Scheduled);
                }
                self.goes_elsewhere(old, worker);
                self.free(change)?;
                let fills_only = match change.event {
                    Event::Asked { ask, .. } => matches!(ask, Ask::Submit { .. } | Ask::Retry(_)),
                    Event::Tick => self.expired == 0 && !self.freed,
                    _ => false,
                };
                self.chosen(*id, old, (worker, runner), fills_only)
            }
            (
                At::Assigned { worker, runner },
                At::Running {
                    worker: w,
                    runner: r,
                },
            ) => {
                self.cover.hit(Point::AssignedRunning);
                let stays = (worker, runner) == (w, r);
                hold!(OneHolder, stays, "{id} starts elsewhere");
                self.started(change)
            }
            (At::Queued { .. }, At::Running { .. }) => self.taken_back(change),
            (At::Assigned { .. } | At::Running { .. }, _) if old.at != new.at => {
                self.ends(change, over)
            }
            (At::Closing { plan }, _) if old.at != new.at => self.closed(change, plan),
            (At::Ended(status), At::Blocked | At::Queued { .. }) => self.again(change, status),
            (At::Ended(EndStatus::NeedsReview), At::Ended(EndStatus::Succeeded)) => {
                self.cover.hit(Point::EndedSucceeded);
                let solved = old.conflict && applies(change);
                hold!(Transitions, solved, "{id} succeeds by itself");
                Ok(())
            }
            (At::Ended(EndStatus::NeedsReview), At::Ended(EndStatus::Cancelled)) => {
                self.cover.hit(Point::ReviewCancelled);
                let wanted = cancels(change);
                hold!(Transitions, wanted, "{id} is cancelled by itself");
                Ok(())
            }
            (At::Queued { .. }, At::Queued { .. }) if self.goes_back(change) => {
                self.cover.hit(Point::SetBackMoves);
                Ok(())
            }
            (from, to) if from == to => self.noted(change),
            (from, to) => {
                hold!(Transitions, false, "{id}: {from:?} -> {to:?}");
                Ok(())
            }
        }
    }

    fn came(&mut self, change: &Move<'_>) -> Checked {
        let Move { event, id, new, .. } = change;
        let submits = matches!(
            event,
            Event::Asked {
                ask: Ask::Submit { .. },
                ..
            }
        );
        let comes = submits || self.is_run(*id);
        hold!(Transitions, comes, "{id} comes from {event:?}");
        let free = self.shadow.is_free_now(new) && !self.shadow.is_doomed(new);
        let right = matches!(new.at, At::Queued { .. }) == free;
        hold!(Dependencies, right, "{id} is new and {:?}", new.at);
        self.cover.hit(match new.at {
            At::Blocked => Point::NewBlocked,
            _ => Point::NewQueued,
        });
        self.waits_right(change)
    }

    /// A task that may go at once waits for its time to start, and for nothing else.
    fn waits_right(&self, change: &Move<'_>) -> Checked {
        let Move { id, new, .. } = change;
        if let At::Queued { since, not_before } = new.at {
            let right = since == self.place_since(new)
                && not_before <= self.wall().max(new.start_at)
                && not_before >= new.start_at;
            hold!(Delays, right, "{id} waits since {since} until {not_before}");
        }
        Ok(())
    }

    /// Counts where tasks go that failed before.
    fn goes_elsewhere(&mut self, old: &Shade, worker: u8) {
        let Some((avoided, until)) = old.avoids else {
            return;
        };
        self.cover.hit(if avoided != worker {
            Point::RetryElsewhere
        } else if until > self.wall() {
            Point::RetryAlone
        } else {
            Point::RetryBack
        });
    }

    fn free(&mut self, change: &Move<'_>) -> Checked {
        if change.old.policy == OnDependencyFailure::Run {
            self.cover.hit(Point::RunsAnyway);
        }
        if released(change) {
            self.cover.hit(Point::ReleasedGoes);
        }
        let free = self.shadow.is_free(&Shade {
            policy: change.new.policy,
            ..change.old
        });
        hold!(Dependencies, free, "{} goes too early", change.id);
        Ok(())
    }

    /// Only the holder says that an agent runs.
    fn started(&self, change: &Move<'_>) -> Checked {
        let says = match change.event {
            Event::Reported { attempt, said, .. } => {
                *said == Said::Started && self.by_holder(change) && attempt.task == change.id
            }
            _ => false,
        };
        hold!(Fencing, says, "{} runs after {:?}", change.id, change.event);
        Ok(())
    }

    /// Whether a report comes from the worker that holds the attempt, on its open stream.
    pub(super) fn by_holder(&self, change: &Move<'_>) -> bool {
        let Event::Reported {
            connection,
            worker,
            attempt,
            ..
        } = change.event
        else {
            return false;
        };
        let holder = change.old.holder().map(|(holder, _)| holder);
        holder == Some(*worker)
            && attempt.number == change.old.attempts
            && self.seen[usize::from(*worker)].connection == Some(*connection)
    }

    /// A held attempt is over: by its result, or by a loss.
    fn ends(&mut self, change: &Move<'_>, over: bool) -> Checked {
        let Move { id, old, new, .. } = change;
        if self.is_given_back(change) {
            return self.given_back(change);
        }
        if self.is_given_up(change) {
            return self.given_up(change);
        }
        match self.result(change) {
            Some(result) => {
                let own = self.by_holder(change);
                hold!(Fencing, own, "{id} ends after {:?}", change.event);
                let used_up = self.used_up_by_tasks(*id, old).is_some();
                let moves = self.moves_on(change) && !over;
                let plan = match expected(old, new, result, self.config.losses_max) {
                    _ if over || moves => None,
                    plan => plan,
                };
                // Where a budget stands against another attempt, a person is asked.
                let plan = plan.or(used_up.then_some(EndStatus::NeedsReview));
                if over || (used_up && plan == Some(EndStatus::NeedsReview)) {
                    self.cover.hit(if used_up {
                        Point::BudgetAsks
                    } else if old.project && self.day_is_over() {
                        Point::DayUsedUp
                    } else {
                        Point::BudgetRaisedMeanwhile
                    });
                }
                let recorded = self.recorded(change, true);
                hold!(ResultOnce, recorded, "{id} ends without its result");
                let goes_on = over && plan.is_none();
                if !old.project {
                    return self.settled(change, plan, goes_on);
                }
                self.cover.hit(Point::HeldClosing);
                let right = new.at == At::Closing { plan }
                    && new.goes_on == goes_on
                    && new.elsewhere == (moves && plan.is_none());
                hold!(Charges, right, "{id}: {:?}, not {plan:?}", new.at);
                Ok(())
            }
            None => self.lose(change),
        }
    }

    pub(super) fn recorded(&self, change: &Move<'_>, result: bool) -> bool {
        let attempt = AttemptId {
            task: change.id,
            number: change.old.attempts,
        };
        let end = self.shadow.outcome(attempt);
        end.is_some_and(|end| end.result == result)
    }

    fn lose(&mut self, change: &Move<'_>) -> Checked {
        let Move { id, old, new, .. } = change;
        let holder = old.holder().map_or(0, |(holder, _)| holder);
        let expired = self.expired & (1 << holder) != 0;
        let disowned = match change.event {
            Event::Attached { worker, held, .. } if *worker == holder => {
                let mut held = held.iter().map(|held| held.attempt);
                let has = held.any(|a| a.task == *id && a.number == old.attempts);
                let again = matches!(old.at, At::Assigned { .. }) && !old.cancel_requested;
                !has && !again
            }
            _ => false,
        };
        hold!(Leases, expired || disowned, "{id} is lost too early");
        let recorded = self.recorded(change, false);
        hold!(ResultOnce, recorded, "{id} is lost without a record");
        let (right, point) = match new.at {
            At::Ended(EndStatus::Cancelled) => (old.cancel_requested, Point::LostCancelled),
            At::Ended(EndStatus::NeedsReview) => (
                !old.cancel_requested
                    && new.losses >= self.config.losses_max
                    && !self.is_ahead(change),
                Point::LostReview,
            ),
            At::Queued { since, not_before } if self.is_ahead(change) => {
                let at_once = not_before == self.wall().max(old.start_at);
                let right = !old.cancel_requested && at_once && since == self.place_since(old);
                (right, Point::LostAhead)
            }
            At::Queued { since, not_before } => (
                !old.cancel_requested
                    && new.losses < self.config.losses_max
                    && since == self.place_since(old)
                    && not_before >= self.wall(),
                Point::LostQueued,
            ),
            _ => (false, Point::LostQueued),
        };
        self.cover.hit(point);
        let cancelled = old.cancelled && !old.cancel_requested;
        hold!(CancelHolds, !cancelled, "the cancel of {id} was forgotten");
        hold!(Charges, right, "{id} is lost and becomes {:?}", new.at);
        Ok(())
    }

    fn closed(&mut self, change: &Move<'_>, plan: Option<EndStatus>) -> Checked {
        let Move { id, old, new, .. } = change;
        if let (None, At::Closing { plan: Some(end) }) = (plan, new.at) {
            self.cover.hit(Point::ClosingReplanned);
            let wanted = cancels(change) && end == EndStatus::Cancelled;
            hold!(Transitions, wanted, "{id} is to end as {end:?}");
            return Ok(());
        }
        let closes = match change.event {
            Event::Closed { attempt, .. } => attempt.task == *id && attempt.number == old.attempts,
            _ => false,
        };
        hold!(Fencing, closes, "{id} closes after {:?}", change.event);
        self.settled(change, plan, old.goes_on)
    }

    /// What follows once a result is in its place.
    fn settled(&mut self, change: &Move<'_>, plan: Option<EndStatus>, goes_on: bool) -> Checked {
        let Move { id, old, new, .. } = change;
        let conflict = matches!(change.event, Event::Closed { conflict: true, .. });
        let plan = match plan {
            Some(EndStatus::Succeeded) if conflict => Some(EndStatus::NeedsReview),
            other => other,
        };
        let held = old.holder().is_some();
        match (plan, new.at) {
            (Some(end), At::Ended(status)) => {
                self.cover.hit(end_point(status, held));
                hold!(
                    Charges,
                    end == status,
                    "{id} ends as {status:?}, not {end:?}"
                );
                let right = match status {
                    EndStatus::Failed => !old.cancelled,
                    EndStatus::NeedsReview => !old.cancelled || conflict,
                    EndStatus::Succeeded | EndStatus::Cancelled => true,
                };
                hold!(
                    CancelHolds,
                    right,
                    "{id} was cancelled and ends as {status:?}"
                );
            }
            (None, At::Queued { since, not_before }) => {
                self.cover.hit(if held {
                    Point::HeldAgain
                } else {
                    Point::ClosingQueued
                });
                hold!(CancelHolds, !old.cancelled, "{id} is tried after a cancel");
                let attempt = AttemptId {
                    task: *id,
                    number: old.attempts,
                };
                let end = self.shadow.outcome(attempt);
                let limited = end.is_some_and(|end| end.code == Some(FailureCode::RateLimited));
                let elsewhere = old.elsewhere || self.moves_on(change);
                if elsewhere {
                    self.cover.hit(Point::MovedOn);
                }
                let least = self.wall()
                    + if limited || goes_on || elsewhere {
                        0
                    } else {
                        self.backoff(new.failures)
                    };
                let right = since == self.place_since(old) && not_before >= least;
                hold!(Delays, right, "{id} waits until {not_before}, not {least}");
            }
            (plan, at) => hold!(Transitions, false, "{id}: {at:?} instead of {plan:?}"),
        }
        Ok(())
    }

    pub(super) fn backoff(&self, failures: u32) -> u64 {
        let doublings = failures.saturating_sub(1).min(16);
        let delay = self.config.retry_delay.saturating_mul(1 << doublings);
        let delay = delay.min(self.config.retry_delay_max);
        u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
    }

    fn again(&mut self, change: &Move<'_>, status: EndStatus) -> Checked {
        let Move { id, old, new, .. } = change;
        let goes_on =
            raises(change) && !self.refused && old.over_budget && status == EndStatus::NeedsReview;
        if goes_on {
            self.cover.hit(Point::BudgetGoesOn);
        }
        let wanted = (retried(change) && status != EndStatus::Succeeded) || goes_on;
        hold!(Transitions, wanted, "{id} begins anew by itself");
        let right = match new.at {
            At::Queued { .. } if goes_on => self.shadow.is_free(new),
            At::Queued { .. } => self.shadow.is_free_now(new),
            _ => !self.shadow.is_free_now(new),
        } && !new.cancel_requested;
        hold!(Dependencies, right, "{id} is retried and {:?}", new.at);
        let point = match new.at {
            At::Blocked => Point::EndedBlocked,
            _ => Point::EndedQueued,
        };
        self.cover.hit(point);
        self.promise(*id, false);
        Ok(())
    }

    /// A row is written although the task stays where it is.
    fn noted(&mut self, change: &Move<'_>) -> Checked {
        let Move { id, old, new, .. } = change;
        if new.cancel_requested != old.cancel_requested {
            self.cover.hit(Point::CancelWished);
            let wanted = cancels(change) && new.cancel_requested && old.holder().is_some();
            hold!(Transitions, wanted, "{id}: cancel wished by nobody");
        }
        Ok(())
    }
}
