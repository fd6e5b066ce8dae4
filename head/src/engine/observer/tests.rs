//! What a real core decides, committed to a real store, as the metrics show it.

use std::time::Duration;

use opentelemetry::trace::{SpanContext, Status};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SpanData};
use orchestra_core::{
    Config, ConnectionId, Held, Input, NewTask, Report, ReportBody, RequestId, Rows,
};
use orchestra_telemetry::Recorder;
use orchestra_types::{
    Exit, Failure, Outcome, TaskSpec, Usage,
    runner::{RunnerInfo, WorkerInfo},
};

use super::*;
use crate::{blobs::Blobs, metrics::tests::Shown, traces::Traces};

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
    sent: InMemorySpanExporter,
}

impl World {
    fn new() -> Self {
        let sent = InMemorySpanExporter::default();
        Self::open(tempfile::tempdir().unwrap(), Timestamp(1_000_000_000), sent)
    }

    fn open(dir: tempfile::TempDir, now: Timestamp, sent: InMemorySpanExporter) -> Self {
        let blobs = Blobs::open(&dir.path().join("blobs")).unwrap();
        let store = Store::open(&dir.path().join("db"), blobs).unwrap();
        let rows: Rows = store.load().unwrap();
        let shown = Shown::new();
        let provider = Recorder::provider().with_simple_exporter(sent.clone());
        let traces = Traces::new("cluster", Recorder::new(&provider.build()));
        let observed = Observed {
            metrics: Arc::clone(&shown.metrics),
            traces: Some(traces),
        };
        let observer = Observer::new(observed, &rows);
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
            sent,
        }
    }

    fn restarted(self) -> Self {
        self.store.close().unwrap();
        Self {
            // Workers go on counting.
            reports: self.reports,
            ..Self::open(self.dir, self.now, self.sent)
        }
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
            others: Vec::new(),
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

    /// The spans that were sent so far, which are taken out.
    fn spans(&mut self) -> Vec<SpanData> {
        let spans = self.sent.get_finished_spans().unwrap();
        self.sent.reset();
        spans
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
        usage: Usage {
            input_tokens: 400,
            output_tokens: 30,
            cached_tokens: 100,
            cost_microusd: Some(1_250_000),
            turns: 2,
        },
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
        running: None,
    };
    world.attach("a", 2, &[held]);
    world.report(2, attempt, finished(None));
    world.has("orchestra_attempts_ended_total{result=\"worker_lost\"} 0");
    counted_once(&world);
}

#[test]
fn nobody_knows_how_long_an_attempt_that_was_lost_unstarted_and_is_taken_back_waited() {
    let mut world = World::new();
    world.attach("a", 1, &[]);
    let attempt = first(world.submit(task()));
    world.later(AWAY);
    let held = Held {
        attempt,
        started: true,
        running: None,
    };
    world.attach("a", 2, &[held]);
    let status = world.core.task(attempt.task).unwrap().status;
    assert_eq!(status, TaskStatus::Running);
    let text = world.shown.text();
    assert!(!text.contains("orchestra_attempt_start_seconds"), "{text}");
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
        running: None,
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
    let start = "orchestra_attempt_start_seconds_count{runner=\"claude\"} 1";
    world.has(start);
    let text = world.shown.text();
    let counts = text
        .lines()
        .filter(|l| l.contains("duration_seconds_count"));
    assert_eq!(counts.count(), 1, "{text}");
    used(world, "400", "30", "100", "1.25");
}

fn used(world: &World, input: &str, output: &str, cached: &str, cost: &str) {
    for (kind, tokens) in [("input", input), ("output", output), ("cached", cached)] {
        let labels = format!("kind=\"{kind}\",runner=\"claude\"");
        world.has(&format!(
            "orchestra_attempts_tokens_total{{{labels}}} {tokens}"
        ));
    }
    world.has(&format!(
        "orchestra_attempts_cost_total{{runner=\"claude\"}} {cost}"
    ));
}

#[test]
fn what_an_attempt_used_is_counted_at_its_end_and_not_again_after_a_restart() {
    let mut world = World::new();
    world.attach("a", 1, &[]);
    let attempt = world.begun(task());
    used(&world, "0", "0", "0", "0");
    world = world.restarted();
    used(&world, "0", "0", "0", "0");
    let held = Held {
        attempt,
        started: true,
        running: None,
    };
    world.attach("a", 2, &[held]);
    world.report(2, attempt, finished(None));
    used(&world, "400", "30", "100", "1.25");
    world = world.restarted();
    // A worker that was not answered says it again.
    world.reports -= 1;
    world.attach("a", 3, &[]);
    world.report(3, attempt, finished(None));
    let text = world.shown.text();
    assert!(!text.contains("orchestra_attempts_tokens_total{"), "{text}");
    assert!(!text.contains("orchestra_attempts_cost_total{"), "{text}");
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
        running: None,
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

/// A span's name, with its result where it has one.
fn told(span: &SpanData) -> String {
    let result = span
        .attributes
        .iter()
        .find(|pair| pair.key.as_str() == "result");
    let result = result.map(|pair| format!(" {}", pair.value));
    format!("{}{}", span.name, result.unwrap_or_default())
}

fn all_told(spans: &[SpanData]) -> Vec<String> {
    spans.iter().map(told).collect()
}

fn took(span: &SpanData) -> Duration {
    span.end_time.duration_since(span.start_time).unwrap()
}

#[test]
fn a_tasks_life_is_one_trace_also_over_a_restart() {
    let mut world = World::new();
    let before = world.submit(task());
    let after = TaskSpec {
        after: vec![before],
        ..task()
    };
    let id = world.submit(after);
    assert_eq!(all_told(&world.spans()), [""; 0]);
    world.attach("a", 1, &[]);
    world.report(1, first(before), ReportBody::Started);
    world.report(1, first(before), finished(None));
    let spans = world.spans();
    assert_eq!(
        all_told(&spans),
        [
            "task.queue",
            "task.attempt succeeded",
            "task succeeded",
            "task.queue"
        ]
    );
    let earlier = spans[2].span_context.clone();
    world = world.restarted();
    world.attach(
        "a",
        2,
        &[Held {
            attempt: first(id),
            started: true,
            running: None,
        }],
    );
    world.later(Duration::from_secs(9));
    world.report(2, first(id), finished(None));
    let again = world.spans();
    assert_eq!(
        all_told(&again),
        ["task.attempt succeeded", "task succeeded"]
    );
    let [attempt, whole] = &again[..] else {
        panic!("{again:?}");
    };
    assert_eq!(whole.parent_span_id, opentelemetry::trace::SpanId::INVALID);
    for child in [attempt, &spans[3]] {
        assert_eq!(child.parent_span_id, whole.span_context.span_id());
        let trace = child.span_context.trace_id();
        assert_eq!(trace, whole.span_context.trace_id());
    }
    assert_ne!(earlier.trace_id(), whole.span_context.trace_id());
    let links: Vec<&SpanContext> = whole.links.iter().map(|link| &link.span_context).collect();
    assert_eq!(links, [&earlier]);
    assert_eq!(
        (took(attempt), took(whole)),
        (took(whole), Duration::from_secs(9))
    );
    assert_eq!((&attempt.status, &whole.status), (&Status::Ok, &Status::Ok));
}

#[test]
fn a_late_result_is_a_span_of_its_own() {
    let mut world = World::new();
    world.attach("a", 1, &[]);
    let attempt = world.begun(task());
    world.later(AWAY);
    let spans = world.spans();
    assert_eq!(all_told(&spans), ["task.queue", "task.attempt worker_lost"]);
    assert_eq!(spans[1].status, Status::error("worker_lost"));
    let given_up = spans[1].span_context.clone();
    world = world.restarted();
    world.attach("b", 2, &[]);
    world.later(Duration::from_secs(20));
    assert_eq!(all_told(&world.spans()), ["task.queue"]);
    let held = Held {
        attempt,
        started: true,
        running: None,
    };
    world.attach("a", 3, &[held]);
    world.report(3, attempt, finished(None));
    let spans = world.spans();
    assert_eq!(all_told(&spans), ["task.late_result succeeded"]);
    assert_eq!(spans[0].parent_span_id, given_up.span_id());
}

#[test]
fn a_task_that_nobody_took_has_its_wait_and_its_submitters_trace() {
    let mut world = World::new();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let id = world.submit(TaskSpec {
        traceparent: format!("00-{trace}-b7ad6b7169203331-01"),
        ..task()
    });
    world.now = world.now.plus(Duration::from_secs(3));
    world.give(Input::Cancel {
        request: RequestId(2),
        task: id,
    });
    let spans = world.spans();
    assert_eq!(all_told(&spans), ["task.queue", "task cancelled"]);
    assert_eq!(took(&spans[0]), Duration::from_secs(3));
    assert_eq!(spans[1].parent_span_id.to_string(), "b7ad6b7169203331");
    assert_eq!(spans[1].span_context.trace_id().to_string(), trace);
    assert_eq!(spans[1].status, Status::Unset);
}
