//! What a task that no worker took in time says of that.

use std::{collections::BTreeMap, time::Duration};

use orchestra_types::FailureCode;

use super::bench::{Bench, task, worker};
use crate::{Availability, Config, Input, NewTask, RequestId};

const LIMIT: Duration = Duration::from_secs(5);

fn bench(max: u32, runners: &[(&str, u32)]) -> Bench {
    let mut info = worker("w", 1, runners);
    info.runners[0].account = Some("acc".parse().unwrap());
    let mut bench = Bench::with(Config {
        accounts: BTreeMap::from([("acc".parse().unwrap(), max)]),
        ..Config::default()
    });
    let _ = bench.attach(&info, 1, &[]);
    bench
}

/// What is said once it has waited too long.
fn why(mut bench: Bench, change: impl FnOnce(&mut NewTask)) -> String {
    let mut new = task();
    new.spec.queue_timeout = Some(LIMIT);
    change(&mut new);
    let id = bench.add(new);
    let _ = bench.later(LIMIT);
    let reason = bench.core.task(id).unwrap().reason.expect("it has failed");
    assert_eq!(reason.code, FailureCode::QueueTimeout);
    let said = reason.message.strip_prefix("no worker took it within 5 s");
    said.expect("how long it waited").to_owned()
}

#[test]
fn what_kept_every_worker_from_it_is_named() {
    let claude = [("claude", 1)];
    let busy = |mut bench: Bench| {
        bench.add(task());
        bench
    };
    let nothing = |_: &mut NewTask| {};
    assert_eq!(
        why(busy(bench(9, &claude)), nothing),
        "",
        "it was not its turn"
    );
    let full = why(busy(bench(1, &claude)), nothing);
    assert!(full.contains(": account acc has all"), "{full}");
    let closed = |availability| {
        let mut bench = bench(9, &claude);
        let _ = bench.give(Input::Availability {
            request: RequestId(1),
            worker: "w".parse().unwrap(),
            availability,
        });
        why(bench, nothing)
    };
    let cordoned = closed(Availability::Cordoned);
    assert!(cordoned.starts_with(": w is cordoned; "), "{cordoned}");
    assert!(closed(Availability::Draining).starts_with(": w is draining; "));
    let nobody = why(Bench::new(), nothing);
    assert_eq!(nobody, ": no worker is connected");
    let label = |new: &mut NewTask| {
        new.spec
            .requires
            .insert("zone".to_owned(), "mars".to_owned());
    };
    let labels = why(bench(9, &claude), label);
    assert!(labels.contains("what it requires"), "{labels}");
    let unready = why(bench(9, &[("shell", 1)]), nothing);
    assert!(unready.contains("has a runner ready"), "{unready}");
}
