//! Workers that are given nothing new.

use orchestra_types::TaskStatus;

use super::bench::{Bench, attempt, reply, rows, starts, task, worker};
use crate::{Availability, Change, ConnectionId, Input, Message, Reply, RequestId, Step};

impl Bench {
    fn make(&mut self, id: &str, availability: Availability) -> Step {
        self.give(Input::Availability {
            request: RequestId(1),
            worker: id.parse().unwrap(),
            availability,
        })
    }
}

#[test]
fn a_cordoned_worker_ends_what_it_has_and_takes_nothing_new_until_it_is_opened() {
    for closed in [Availability::Cordoned, Availability::Draining] {
        let mut bench = Bench::new();
        let _ = bench.attach(&worker("w", 2, &[("claude", 2)]), 1, &[]);
        let running = bench.add(task());
        let step = bench.make("w", closed);
        assert_eq!(reply(&step), Reply::WorkerDone("w".parse().unwrap()));
        assert!(matches!(&step.changes[..], [Change::Worker(row)] if row.availability == closed));
        let told = Message::Availability {
            connection: ConnectionId(1),
            availability: closed,
        };
        assert!(step.messages.contains(&told));
        let waiting = bench.add(task());
        assert_eq!(bench.status(waiting), TaskStatus::Queued);
        let _ = bench.finish("w", 1, attempt(running, 1), None);
        let _ = bench.close(attempt(running, 1));
        assert_eq!(bench.status(running), TaskStatus::Succeeded);
        assert_eq!(bench.status(waiting), TaskStatus::Queued);
        let step = bench.make("w", Availability::Open);
        assert_eq!(starts(&step).len(), 1, "at once");
    }
}

#[test]
fn a_cordon_stays_over_restarts_of_head_and_worker_and_the_worker_is_told() {
    let mut bench = Bench::new();
    let info = worker("w", 1, &[("claude", 1)]);
    let mut durable = bench.attach(&info, 1, &[]).changes;
    durable.extend(bench.make("w", Availability::Cordoned).changes);
    let _ = bench.restore(rows(&durable));
    let step = bench.attach(&info, 1, &[]);
    let told = Message::Availability {
        connection: ConnectionId(1),
        availability: Availability::Cordoned,
    };
    assert!(step.messages.contains(&told));
    let id = bench.add(task());
    assert_eq!(bench.status(id), TaskStatus::Queued);
}

#[test]
fn a_worker_that_nobody_knows_cannot_be_cordoned() {
    let mut bench = Bench::new();
    let step = bench.make("w", Availability::Cordoned);
    assert_eq!(reply(&step), Reply::NoWorker("w".parse().unwrap()));
    assert_eq!(step.changes, []);
}

#[test]
fn a_cancel_that_the_worker_never_heard_of_is_told_after_a_restart_of_the_head() {
    let mut bench = Bench::new();
    let info = worker("w", 1, &[("claude", 1)]);
    let mut durable = bench.attach(&info, 1, &[]).changes;
    let step = bench.give(Input::Submit {
        request: RequestId(1),
        key: "k".into(),
        tasks: vec![task()],
    });
    durable.extend(step.changes);
    let id = orchestra_types::TaskId(1);
    let step = bench.report("w", 1, attempt(id, 1), crate::ReportBody::Started);
    durable.extend(step.changes);
    let step = bench.give(Input::Cancel {
        request: RequestId(1),
        task: id,
    });
    durable.extend(step.changes);
    let _ = bench.restore(rows(&durable));
    let held = [crate::Held {
        attempt: attempt(id, 1),
        started: true,
        running: None,
    }];
    let step = bench.attach(&info, 2, &held);
    let stop = Message::Stop {
        connection: ConnectionId(2),
        attempt: attempt(id, 1),
        reason: crate::StopReason::Cancelled,
    };
    assert!(step.messages.contains(&stop));
}
