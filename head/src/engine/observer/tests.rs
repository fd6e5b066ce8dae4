//! What a real core decides, committed to a real store, as the metrics show it.

use std::time::Duration;

use orchestra_core::{
    Config, ConnectionId, Held, Input, NewTask, Report, ReportBody, RequestId, Rows,
};
use orchestra_types::{
    Exit, Failure, Outcome, TaskSpec,
    runner::{RunnerInfo, WorkerInfo},
};

use super::*;
use crate::{blobs::Blobs, metrics::tests::Shown};

/// Longer than a lease and its grace, and shorter than the delay of the retry after it.
const AWAY: Duration = Duration::from_secs(46);

struct World {
    dir: tempfile::TempDir,
    store: Store,
    core: Core,
    now: Timestamp,
    shown: Shown,
    observer: Observer,
    reports: u64,
    lines: Vec<Line>,
}

impl World {
    fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap(), Timestamp(1_000_000_000))
    }

    fn open(dir: tempfile::TempDir, now: Timestamp) -> Self {
        let blobs = Blobs::open(&dir.path().join("blobs")).unwrap();
        let store = Store::open(&dir.path().join("db"), blobs).unwrap();
        let rows: Rows = store.load().unwrap();
        let shown = Shown::new();
        let observer = Observer::new(Arc::clone(&shown.metrics), &rows);
        let (core, step) = Core::restore(Config::default(), now, rows);
        assert_eq!(step.changes, []);
        Self {
            dir,
            store,
            core,
            now,
            shown,
            observer,
            reports: 0,
            lines: Vec::new(),
        }
    }

    fn restarted(self) -> Self {
        self.store.close().unwrap();
        Self::open(self.dir, self.now)
    }

    fn give(&mut self, input: Input) {
        let steps = [self.core.handle(self.now, input).changes];
        self.store.commit(&steps).unwrap();
        let lines = self.observer.observe(&steps, &self.core, &self.store);
        self.lines.extend(lines);
    }

    fn later(&mut self, duration: Duration) {
        let end = self.now.plus(duration);
        while let Some(due) = self.core.next_deadline().filter(|due| *due < end) {
            self.now = self.now.max(due);
            self.give(Input::Tick);
        }
        self.now = end;
        self.give(Input::Tick);
    }

    fn submit(&mut self, spec: TaskSpec) -> TaskId {
        let new = NewTask {
            spec: Box::new(spec),
            after_index: Vec::new(),
        };
        let next = self.core.counts().open() + self.now.0;
        self.give(Input::Submit {
            request: RequestId(1),
            key: format!("key {next}"),
            tasks: vec![new],
        });
        self.core.open_tasks().max().unwrap()
    }

    fn attach(&mut self, worker: &str, connection: u64, held: &[Held]) {
        self.give(Input::Attached {
            connection: ConnectionId(connection),
            info: Box::new(worker_info(worker)),
            held: held.to_vec(),
            first_unacked: 0,
        });
    }

    fn report(&mut self, connection: u64, attempt: AttemptId, body: ReportBody) {
        self.reports += 1;
        let report = Report {
            seq: self.reports,
            attempt,
            body,
        };
        let row = self.store.attempt(attempt).unwrap();
        self.give(Input::Reported {
            connection: ConnectionId(connection),
            worker: "a".parse().unwrap(),
            report: Box::new(report),
            given_to: row.map(|row| Box::new(row.worker)),
        });
    }

    fn begun(&mut self, spec: TaskSpec) -> AttemptId {
        let attempt = first(self.submit(spec));
        self.report(1, attempt, ReportBody::Started);
        attempt
    }

    fn has(&self, line: &str) {
        let text = self.shown.text();
        assert!(text.lines().any(|l| l == line), "{line} not in {text}");
    }
}

fn worker_info(id: &str) -> WorkerInfo {
    WorkerInfo {
        runners: vec![RunnerInfo::ready("claude".parse().unwrap())],
        ..WorkerInfo::bare(id.parse().unwrap(), "machine".parse().unwrap())
    }
}

fn task() -> TaskSpec {
    TaskSpec {
        timeout: Duration::from_secs(600),
        ..TaskSpec::new("write tests")
    }
}

fn first(task: TaskId) -> AttemptId {
    AttemptId { task, number: 1 }
}

fn finished(failure: Option<FailureCode>) -> ReportBody {
    ReportBody::Finished(Box::new(Outcome {
        failure: failure.map(|code| Failure::new(code, "said so")),
        finished_at: Timestamp(57_000),
        ..Outcome::bare(Exit::Code(0), Timestamp(0))
    }))
}

#[test]
fn a_task_that_never_had_an_attempt_is_counted_with_its_failure() {
    let mut world = World::new();
    let waits = TaskSpec {
        queue_timeout: Some(Duration::from_secs(5)),
        ..task()
    };
    let before = world.submit(waits);
    let behind = TaskSpec {
        after: vec![before],
        on_dependency_failure: orchestra_types::OnDependencyFailure::Cancel,
        ..task()
    };
    let _ = world.submit(behind);
    let unwanted = world.submit(task());
    world.give(Input::Cancel {
        request: RequestId(2),
        task: unwanted,
    });
    world.later(Duration::from_secs(6));
    world.has("orchestra_tasks_ended_total{result=\"queue_timeout\",status=\"failed\"} 1");
    world.has("orchestra_tasks_ended_total{result=\"dependency_failed\",status=\"cancelled\"} 1");
    world.has("orchestra_tasks_ended_total{result=\"cancelled\",status=\"cancelled\"} 1");
}

#[test]
fn an_end_counts_once_however_often_its_row_is_written_and_another_one_after_a_retry() {
    let mut world = World::new();
    let id = world.submit(task());
    let cancel = |world: &mut World| {
        world.give(Input::Cancel {
            request: RequestId(2),
            task: id,
        });
    };
    let note_apply = |world: &mut World| {
        world.give(Input::ApplyRecorded {
            request: RequestId(3),
            task: id,
            result: orchestra_types::ApplyResult::NotRequested,
        });
    };
    cancel(&mut world);
    note_apply(&mut world);
    let line = "orchestra_tasks_ended_total{result=\"cancelled\",status=\"cancelled\"}";
    world.has(&format!("{line} 1"));
    world = world.restarted();
    note_apply(&mut world);
    world.has(&format!("{line} 0"));
    world.give(Input::Retry {
        request: RequestId(4),
        task: id,
    });
    world = world.restarted();
    cancel(&mut world);
    world.has(&format!("{line} 1"));
}

#[test]
fn an_attempt_that_is_taken_back_counts_once_and_as_long_as_it_took() {
    let mut world = World::new();
    world.attach("a", 1, &[]);
    let attempt = world.begun(task());
    world.later(AWAY);
    world.has("orchestra_attempts_given_up_total{result=\"worker_lost\"} 1");
    let held = Held {
        attempt,
        started: true,
    };
    world.attach("a", 2, &[held]);
    world.report(2, attempt, finished(None));
    world.has("orchestra_attempts_ended_total{result=\"worker_lost\"} 0");
    counted_once(&world);
}

#[test]
fn a_late_result_counts_once_and_as_long_as_it_took() {
    let mut world = World::new();
    world.attach("a", 1, &[]);
    let attempt = world.begun(task());
    world.later(AWAY);
    world.attach("b", 2, &[]);
    world.later(Duration::from_secs(20));
    assert_eq!(
        world.core.task(attempt.task).unwrap().row.attempts,
        2,
        "another worker has it"
    );
    let held = Held {
        attempt,
        started: true,
    };
    world.attach("a", 3, &[held]);
    world.report(3, attempt, finished(None));
    world.has("orchestra_attempts_given_up_total{result=\"worker_lost\"} 1");
    counted_once(&world);
}

fn counted_once(world: &World) {
    world.has("orchestra_attempts_ended_total{result=\"succeeded\"} 1");
    let labels = "result=\"succeeded\",runner=\"claude\"";
    let name = "orchestra_attempt_duration_seconds";
    world.has(&format!("{name}_count{{{labels}}} 1"));
    world.has(&format!("{name}_sum{{{labels}}} 57"));
    let text = world.shown.text();
    let counts = text
        .lines()
        .filter(|l| l.contains("duration_seconds_count"));
    assert_eq!(counts.count(), 1, "{text}");
}

#[test]
fn the_wait_of_a_task_that_was_queued_at_a_start_is_measured_from_when_it_could_run() {
    let mut world = World::new();
    let _ = world.submit(task());
    world = world.restarted();
    world.now = world.now.plus(Duration::from_secs(7));
    world.attach("a", 1, &[]);
    let name = "orchestra_queue_wait_seconds";
    world.has(&format!("{name}_sum{{priority=\"normal\"}} 7"));
    world.has(&format!("{name}_count{{priority=\"normal\"}} 1"));
}

#[test]
fn an_operator_is_told_once_of_each_thing_that_goes_wrong() {
    let mut world = World::new();
    world.attach("a", 1, &[]);
    let attempt = world.begun(task());
    assert_eq!(world.lines, []);
    world.later(AWAY);
    let worker: orchestra_types::WorkerId = "a".parse().unwrap();
    let lost = Line::Lost {
        worker: worker.clone(),
        attempts: 1,
    };
    let given_up = Line::GivenUp {
        attempt,
        worker: Some(worker),
        code: FailureCode::WorkerLost,
    };
    assert_eq!(std::mem::take(&mut world.lines), [lost, given_up]);
    let held = Held {
        attempt,
        started: true,
    };
    world.attach("a", 2, &[held]);
    world.report(2, attempt, finished(Some(FailureCode::Auth)));
    world.give(Input::Closed {
        attempt,
        apply: orchestra_types::ApplyResult::NotRequested,
    });
    let ended = |line: &&Line| matches!(line, Line::Ended { .. });
    let lines: Vec<&Line> = world.lines.iter().filter(ended).collect();
    let [
        Line::Ended {
            task,
            code,
            attempts: 1,
            ..
        },
    ] = lines[..]
    else {
        panic!("{lines:?}");
    };
    assert_eq!((*task, *code), (attempt.task, FailureCode::Auth));
}

#[test]
fn a_worker_that_comes_back_without_its_attempt_is_not_lost() {
    let mut world = World::new();
    world.attach("a", 1, &[]);
    let attempt = world.begun(task());
    world.attach("a", 2, &[]);
    let given_up = Line::GivenUp {
        attempt,
        worker: Some("a".parse().unwrap()),
        code: FailureCode::WorkerLost,
    };
    assert_eq!(world.lines, [given_up]);
}
