//! Workers that a person has forgotten.

use orchestra_types::TaskStatus;

use super::bench::{Bench, attempt, reply, rows, task, worker};
use crate::{Change, Input, Message, RemoveRefused, Reply, RequestId, Step};

impl Bench {
    fn remove(&mut self, id: &str) -> Step {
        self.give(Input::RemoveWorker {
            request: RequestId(1),
            worker: id.parse().unwrap(),
        })
    }
}

#[test]
fn only_a_worker_that_is_gone_and_holds_nothing_can_be_removed() {
    let mut bench = Bench::new();
    let id = "w".parse().unwrap();
    assert_eq!(
        reply(&bench.remove("w")),
        Reply::NoWorker("w".parse().unwrap())
    );
    let mut durable = bench
        .attach(&worker("w", 1, &[("claude", 1)]), 1, &[])
        .changes;
    let running = bench.add(task());
    let refused = |why| Reply::RemoveRefused(why);
    let connected = refused(RemoveRefused::Connected("w".parse().unwrap()));
    assert_eq!(reply(&bench.remove("w")), connected);
    let _ = bench.detach("w", 1);
    let step = bench.remove("w");
    let holds = refused(RemoveRefused::Holds("w".parse().unwrap(), 1));
    assert_eq!((reply(&step), step.changes), (holds, vec![]));
    assert_eq!(bench.status(running), TaskStatus::Assigned);

    let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), 2, &[]);
    durable.extend(bench.finish("w", 2, attempt(running, 1), None).changes);
    let _ = bench.close(attempt(running, 1));
    let _ = bench.detach("w", 2);
    let step = bench.remove("w");
    assert_eq!(reply(&step), Reply::WorkerDone("w".parse().unwrap()));
    assert_eq!(step.changes, [Change::ForgetWorker { id }]);
    assert_eq!(bench.core.workers().count(), 0);
    assert_eq!(
        reply(&bench.remove("w")),
        Reply::NoWorker("w".parse().unwrap())
    );
    durable.extend(step.changes);
    let _ = bench.restore(rows(&durable));
    assert_eq!(bench.core.workers().count(), 0);
}

#[test]
fn one_that_was_removed_comes_back_with_its_reports_where_they_were() {
    let mut bench = Bench::new();
    let info = worker("w", 1, &[("claude", 1)]);
    let _ = bench.attach(&info, 1, &[]);
    for _ in 0..3 {
        let done = bench.add(task());
        let _ = bench.finish("w", 1, attempt(done, 1), None);
        let _ = bench.close(attempt(done, 1));
    }
    let _ = bench.detach("w", 1);
    let _ = bench.remove("w");
    let step = bench.attach_ahead(&info, 2, &[], 4);
    let acked = step.messages.iter().find_map(|message| match message {
        Message::Welcome { welcome, .. } => Some(welcome.acked_up_to),
        _ => None,
    });
    assert_eq!(acked, Some(3));
    let next = bench.add(task());
    let _ = bench.finish("w", 2, attempt(next, 1), None);
    let _ = bench.close(attempt(next, 1));
    assert_eq!(bench.status(next), TaskStatus::Succeeded);
}
