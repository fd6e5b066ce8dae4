//! Recurring tasks.

use std::time::Duration;

use orchestra_types::{Recurrence, ScheduleId, TaskId, TaskStatus, Timestamp};

use super::bench::{Bench, attempt, reply, rows, task, worker};
use crate::{Change, Input, NewSchedule, Reply, RequestId, ScheduleChange, Step};

const HOUR: Duration = Duration::from_secs(3600);
const FIRST: ScheduleId = ScheduleId(1);

fn hourly() -> NewSchedule {
    NewSchedule {
        spec: *task().spec,
        every: Recurrence::Every(HOUR),
        first: None,
    }
}

impl Bench {
    fn schedule(&mut self, new: NewSchedule) -> Step {
        self.give(Input::Schedule {
            request: RequestId(1),
            key: "key".into(),
            schedules: vec![new],
        })
    }

    fn change_schedule(&mut self, change: ScheduleChange) -> Step {
        self.give(Input::ChangeSchedule {
            request: RequestId(1),
            schedule: FIRST,
            change,
        })
    }

    fn tasks(&self) -> u64 {
        TaskStatus::ALL
            .iter()
            .map(|s| self.core.counts().with_status(*s))
            .sum()
    }

    fn cancel(&mut self, task: u64) -> Step {
        self.give(Input::Cancel {
            request: RequestId(1),
            task: TaskId(task),
        })
    }

    fn due(&self) -> Timestamp {
        self.core.schedules().next().unwrap().next
    }
}

#[test]
fn a_run_is_a_task_of_its_own_and_comes_again() {
    let mut bench = Bench::new();
    let began = bench.now;
    let step = bench.schedule(hourly());
    assert_eq!(
        reply(&step),
        Reply::Scheduled {
            ids: vec![FIRST],
            duplicate: false
        }
    );
    assert_eq!(bench.tasks(), 1, "the first run comes at once");
    let of_schedule =
        |c: &Change| matches!(c, Change::Spec { spec, .. } if spec.schedule == Some(FIRST));
    assert!(step.changes.iter().any(of_schedule));
    let _ = bench.cancel(1);
    let _ = bench.later(HOUR);
    assert_eq!(bench.tasks(), 2);
    assert_eq!(bench.due(), began.plus(2 * HOUR));
}

#[test]
fn runs_do_not_overlap_and_missed_ones_are_one() {
    let mut bench = Bench::new();
    let began = bench.now;
    let _ = bench.schedule(hourly());
    let _ = bench.later(5 * HOUR + HOUR / 2);
    assert_eq!(bench.tasks(), 1, "the first run has not ended");
    let _ = bench.cancel(1);
    assert_eq!(bench.tasks(), 2, "what was missed is one run, at once");
    assert_eq!(bench.due(), began.plus(6 * HOUR), "the grid stays");
    let _ = bench.cancel(2);
    assert_eq!(bench.tasks(), 2);
    let _ = bench.later(HOUR / 2);
    assert_eq!(bench.tasks(), 3);
}

#[test]
fn a_head_that_was_away_makes_one_run_for_all_that_it_missed() {
    let mut bench = Bench::new();
    let mut durable = bench.schedule(hourly()).changes;
    durable.extend(bench.cancel(1).changes);
    bench.now = bench.now.plus(10 * HOUR);
    let _ = bench.restore(rows(&durable));
    assert_eq!(bench.tasks(), 1);
    let _ = bench.away(Duration::ZERO);
    assert_eq!(bench.tasks(), 2);
    let _ = bench.away(Duration::ZERO);
    assert_eq!(bench.tasks(), 2);
    assert_eq!(bench.core.schedules().next().unwrap().last, Some(TaskId(2)));
}

#[test]
fn a_restart_still_knows_the_run_that_has_not_ended() {
    let mut bench = Bench::new();
    let info = worker("w", 1, &[("claude", 1)]);
    let mut durable = bench.attach(&info, 1, &[]).changes;
    durable.extend(bench.schedule(hourly()).changes);
    let _ = bench.restore(rows(&durable));
    let held = [crate::Held {
        attempt: attempt(TaskId(1), 1),
        started: true,
        running: None,
    }];
    let _ = bench.later(Duration::from_secs(3590));
    let _ = bench.attach(&info, 2, &held);
    let _ = bench.later(Duration::from_secs(20));
    assert_eq!(bench.tasks(), 1);
}

#[test]
fn a_paused_schedule_makes_no_run_and_leaves_out_what_it_missed() {
    let mut bench = Bench::new();
    let began = bench.now;
    let _ = bench.schedule(hourly());
    let _ = bench.cancel(1);
    let step = bench.change_schedule(ScheduleChange::Pause);
    assert!(matches!(&step.changes[..], [Change::Schedule(row)] if row.paused));
    let _ = bench.later(5 * HOUR + HOUR / 2);
    assert_eq!(bench.tasks(), 1);
    let _ = bench.change_schedule(ScheduleChange::Resume);
    assert_eq!(bench.tasks(), 1);
    assert_eq!(bench.due(), began.plus(6 * HOUR));
    let _ = bench.later(HOUR / 2);
    assert_eq!(bench.tasks(), 2);
}

#[test]
fn a_deleted_schedule_is_gone_and_its_run_goes_on() {
    let mut bench = Bench::new();
    let _ = bench.schedule(hourly());
    let step = bench.change_schedule(ScheduleChange::Delete);
    assert_eq!(
        step.changes,
        [
            Change::ForgetSchedule { id: FIRST },
            Change::ScheduleIds { last: FIRST }
        ]
    );
    let _ = bench.cancel(1);
    let _ = bench.later(5 * HOUR);
    assert_eq!(bench.tasks(), 1);
    let step = bench.change_schedule(ScheduleChange::Pause);
    assert_eq!(reply(&step), Reply::NoSchedule(FIRST));
}

#[test]
fn the_id_of_a_deleted_schedule_is_not_given_again_after_a_restart() {
    let mut bench = Bench::new();
    let three = |bench: &mut Bench, key: &str| {
        bench.give(Input::Schedule {
            request: RequestId(1),
            key: key.into(),
            schedules: vec![hourly(), hourly(), hourly()],
        })
    };
    let mut durable = three(&mut bench, "first").changes;
    for id in [3, 1, 2] {
        let deleted = bench.give(Input::ChangeSchedule {
            request: RequestId(1),
            schedule: ScheduleId(id),
            change: ScheduleChange::Delete,
        });
        durable.extend(deleted.changes);
    }
    let _ = bench.restore(rows(&durable));
    let step = three(&mut bench, "second");
    assert_eq!(
        reply(&step),
        Reply::Scheduled {
            ids: vec![ScheduleId(4), ScheduleId(5), ScheduleId(6)],
            duplicate: false
        }
    );
}

#[test]
fn the_same_key_gives_the_same_schedules() {
    let mut bench = Bench::new();
    let _ = bench.schedule(hourly());
    let again = bench.schedule(hourly());
    assert_eq!(
        reply(&again),
        Reply::Scheduled {
            ids: vec![FIRST],
            duplicate: true
        }
    );
    assert_eq!((bench.tasks(), again.changes), (1, vec![]));
}

#[test]
fn a_first_run_may_be_told_to_come_later() {
    let mut bench = Bench::new();
    let first = bench.now.plus(10 * HOUR);
    let _ = bench.schedule(NewSchedule {
        first: Some(first),
        ..hourly()
    });
    let _ = bench.later(10 * HOUR - Duration::from_millis(1));
    assert_eq!(bench.tasks(), 0);
    let _ = bench.later(Duration::from_millis(1));
    assert_eq!(bench.tasks(), 1);
}

fn with_retention(days: u32) -> Bench {
    let retention = crate::Retention {
        finished_for: 24 * HOUR * days,
        ..crate::Retention::default()
    };
    Bench::with(crate::Config {
        retention,
        ..crate::Config::default()
    })
}

#[test]
fn what_the_runs_of_a_schedule_come_after_is_kept_until_it_is_deleted() {
    let mut bench = with_retention(1);
    let before = bench.add(task());
    let _ = bench.cancel(before.0);
    let mut new = hourly();
    new.spec.after = vec![before];
    new.spec.on_dependency_failure = orchestra_types::OnDependencyFailure::Run;
    new.every = Recurrence::Every(48 * HOUR);
    let _ = bench.schedule(new);
    let _ = bench.cancel(2);
    let _ = bench.later(49 * HOUR);
    assert_eq!(bench.status(before), TaskStatus::Cancelled);
    assert_eq!(bench.status(TaskId(3)), TaskStatus::Queued);
    let _ = bench.cancel(3);
    let _ = bench.change_schedule(ScheduleChange::Delete);
    let _ = bench.later(HOUR);
    assert!(bench.core.task(before).is_none());
}

#[test]
fn a_run_waits_for_nothing_that_was_forgotten() {
    let mut bench = Bench::new();
    let before = bench.add(task());
    let mut new = hourly();
    new.spec.after = vec![before];
    let durable = bench.schedule(new).changes;
    let schedule = durable.into_iter().find_map(|change| match change {
        Change::Schedule(row) => Some(crate::ScheduleRow { last: None, ..*row }),
        _ => None,
    });
    let _ = bench.restore(crate::Rows {
        schedules: schedule.into_iter().collect(),
        ..crate::Rows::default()
    });
    let _ = bench.away(HOUR);
    assert_eq!(bench.status(TaskId(1)), TaskStatus::Queued);
}

#[test]
fn more_schedules_than_the_limit_are_refused_as_a_whole_and_change_nothing() {
    let most = orchestra_types::limits::SCHEDULES_MAX;
    let mut bench = Bench::new();
    let schedule = |bench: &mut Bench, key: &str, count: usize| {
        let paused = NewSchedule {
            first: Some(bench.now.plus(100 * HOUR)),
            ..hourly()
        };
        bench.give(Input::Schedule {
            request: RequestId(1),
            key: key.into(),
            schedules: vec![paused; count],
        })
    };
    let _ = schedule(&mut bench, "first", most - 1);
    let refused = crate::SubmitRefused::TooManySchedules { limit: most };
    let step = schedule(&mut bench, "two", 2);
    assert_eq!(reply(&step), Reply::SubmitRefused(refused.clone()));
    assert_eq!(step.changes, []);
    assert_eq!(bench.core.schedules().count(), most - 1);
    let step = schedule(&mut bench, "one", 1);
    assert!(matches!(reply(&step), Reply::Scheduled { .. }));
    let step = schedule(&mut bench, "more", 1);
    assert_eq!(reply(&step), Reply::SubmitRefused(refused.clone()));
    // A known key is answered also then, and what is deleted makes room.
    let step = schedule(&mut bench, "one", 1);
    assert!(matches!(
        reply(&step),
        Reply::Scheduled {
            duplicate: true,
            ..
        }
    ));
    let _ = bench.change_schedule(ScheduleChange::Delete);
    let step = schedule(&mut bench, "more", 1);
    assert!(matches!(reply(&step), Reply::Scheduled { .. }));
}
