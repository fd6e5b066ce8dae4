//! Limits of accounts, over all workers.

use std::{collections::BTreeMap, time::Duration};

use orchestra_types::{
    AccountName, AttemptId, FailureCode, Fault, Limited, TaskId, TaskStatus, Timestamp, WorkerId,
    runner::WorkerInfo,
};

use super::bench::{Bench, attempt, finished, reply, starts, task, worker};
use crate::{
    Change, Config, ConnectionId, Input, Meter, NewTask, Reply, ReportBody, RequestId, Step,
};

fn name(text: &str) -> AccountName {
    text.parse().unwrap()
}

/// A worker whose `claude` uses the account that everybody shares.
fn shared(id: &str) -> WorkerInfo {
    let mut info = worker(id, 4, &[("claude", 4), ("codex", 4)]);
    info.runners[0].account = Some(name("anthropic-1"));
    info.runners[1].account = Some(name("openai-1"));
    info
}

fn two_workers() -> Bench {
    let mut bench = Bench::new();
    let _ = bench.attach(&shared("a"), 1, &[]);
    let _ = bench.attach(&shared("b"), 2, &[]);
    bench
}

fn claude() -> NewTask {
    task().runner("claude")
}

/// The attempt ends with a rate limit and its result is put in place.
fn limit(bench: &mut Bench, id: AttemptId, resets_at: Option<Timestamp>) -> Step {
    fail(bench, id, FailureCode::RateLimited, resets_at)
}

fn fail(bench: &mut Bench, id: AttemptId, code: FailureCode, at: Option<Timestamp>) -> Step {
    let worker: WorkerId = bench.core.holder(id).expect("it runs").clone();
    let connection = if worker.as_str() == "a" { 1 } else { 2 };
    let ReportBody::Finished(mut outcome) = finished(Some(code)) else {
        unreachable!("it is an end");
    };
    if let Some(failure) = &mut outcome.failure {
        failure.resets_at = at;
    }
    let body = ReportBody::Finished(outcome);
    let mut all = bench.report(worker.as_str(), connection, id, body);
    all.messages.extend(bench.close(id).messages);
    all
}

/// Time passes, and the workers give signs of life.
fn pass(bench: &mut Bench, seconds: u64) -> Step {
    let mut all = Step::default();
    for from in (0..seconds).step_by(10) {
        let part = Duration::from_secs((seconds - from).min(10));
        all.messages.extend(bench.later(part).messages);
        for (worker, connection) in [("a", 1), ("b", 2)] {
            let beat = bench.give(Input::Heartbeat {
                connection: ConnectionId(connection),
                worker: worker.parse().unwrap(),
            });
            all.messages.extend(beat.messages);
        }
    }
    all
}

fn account(bench: &mut Bench, input: fn(RequestId, AccountName) -> Input, text: &str) -> Step {
    bench.give(input(RequestId(1), name(text)))
}

fn resume(request: RequestId, name: AccountName) -> Input {
    Input::ResumeAccount { request, name }
}

fn at_most_one(request: RequestId, name: AccountName) -> Input {
    let max = Some(1);
    Input::SetAccount { request, name, max }
}

fn in_a_minute(bench: &Bench) -> Option<Timestamp> {
    Some(bench.now.plus(Duration::from_secs(60)))
}

#[test]
fn a_used_up_quota_is_the_reason_of_what_waits_for_its_account() {
    let mut bench = two_workers();
    let first = bench.add(claude());
    let _ = fail(
        &mut bench,
        attempt(first, 1),
        FailureCode::QuotaExhausted,
        None,
    );
    let next = bench.add(claude());
    for id in [first, next] {
        let view = bench.core.task(id).unwrap();
        let reason = view.reason.expect("a queued task says why it waits");
        assert_eq!(reason.code, FailureCode::QuotaExhausted);
        let said = &reason.message;
        assert!(
            said.starts_with("the quota of account anthropic-1 is used up"),
            "{said}"
        );
        assert!(said.contains("`ctl accounts resume anthropic-1`"), "{said}");
    }
}

#[test]
fn one_limit_holds_every_task_of_the_account_and_charges_none() {
    let mut bench = two_workers();
    let (first, second) = (bench.add(claude()), bench.add(claude()));
    let reset = in_a_minute(&bench);
    assert_eq!(starts(&limit(&mut bench, attempt(first, 1), reset)), []);
    let third = bench.add(claude());
    assert_eq!(bench.status(third), TaskStatus::Queued);
    assert_eq!(
        bench.status(second),
        TaskStatus::Running.min(TaskStatus::Assigned)
    );
    let view = bench.core.task(third).unwrap();
    let reason = view.reason.expect("a queued task says why it waits");
    assert_eq!(
        (reason.code, reason.resets_at),
        (FailureCode::RateLimited, reset)
    );
    assert!(
        reason
            .message
            .contains("account anthropic-1 is parked until")
    );
    let row = bench.core.task(first).unwrap().row;
    assert_eq!((row.failures, row.losses, row.limited), (0, 0, 1));

    let other = bench.add(task().runner("codex"));
    assert_eq!(
        bench.status(other),
        TaskStatus::Assigned,
        "another account goes on"
    );
    let after = pass(&mut bench, 60);
    let started: Vec<TaskId> = starts(&after).iter().map(|(a, ..)| a.task).collect();
    assert_eq!(started, [first, third]);
}

#[test]
fn a_task_for_any_agent_goes_to_another_account_at_once() {
    let mut bench = two_workers();
    let id = bench.add(task());
    let reset = in_a_minute(&bench);
    let step = limit(&mut bench, attempt(id, 1), reset);
    let runners: Vec<String> = starts(&step).into_iter().map(|(.., r)| r).collect();
    assert_eq!(runners, ["codex"]);
}

#[test]
fn a_fallback_runner_takes_over_only_while_the_first_ones_account_is_parked() {
    let mut bench = two_workers();
    let with_fallback = || {
        let mut new = claude();
        new.spec.fallback = vec!["codex".parse().unwrap()];
        new
    };
    for _ in 0..8 {
        bench.add(with_fallback());
    }
    let waits = bench.add(with_fallback());
    assert_eq!(
        bench.status(waits),
        TaskStatus::Queued,
        "full is not parked"
    );
    let reset = in_a_minute(&bench);
    let step = limit(&mut bench, attempt(TaskId(1), 1), reset);
    let runners: Vec<(TaskId, String)> = starts(&step)
        .into_iter()
        .map(|(a, _, r)| (a.task, r))
        .collect();
    assert_eq!(runners.len(), 1, "the one free slot: {runners:?}");
    assert_eq!(runners[0].1, "codex");
}

#[test]
fn an_account_has_its_limit_over_all_workers() {
    let config = Config {
        accounts: BTreeMap::from([(name("anthropic-1"), 3)]),
        ..Config::default()
    };
    let mut bench = Bench::with(config);
    let _ = bench.attach(&shared("a"), 1, &[]);
    let _ = bench.attach(&shared("b"), 2, &[]);
    let ids: Vec<TaskId> = (0..5).map(|_| bench.add(claude())).collect();
    let assigned = |bench: &Bench| {
        let is = |id: &&TaskId| bench.status(**id) == TaskStatus::Assigned;
        ids.iter().filter(is).count()
    };
    assert_eq!(assigned(&bench), 3);
    let why = |bench: &Bench, place: &str| {
        let reason = bench.core.task(ids[4]).unwrap().reason.unwrap();
        assert_eq!(reason.code, FailureCode::AccountFull);
        assert_eq!(reason.code.fault(), Fault::Person, "no provider's limit");
        let said = &reason.message;
        assert!(
            said.contains("this cluster lets") && said.contains(place),
            "{said}"
        );
    };
    why(
        &bench,
        "`accounts.anthropic-1.max` in the head's orchestra.yaml",
    );
    let _ = account(&mut bench, at_most_one, "anthropic-1");
    why(&bench, "`ctl accounts set anthropic-1 --max` has set that");
    let _ = bench.finish("a", 1, attempt(ids[0], 1), None);
    assert_eq!(assigned(&bench), 2, "what runs over a new limit runs on");
    let known = bench.core.account(&name("anthropic-1")).unwrap();
    assert_eq!(
        (known.in_use, known.max, known.workers.len()),
        (2, Some(1), 2)
    );
}

#[test]
fn repeated_limits_slow_an_account_down() {
    let mut bench = two_workers();
    let ids: Vec<TaskId> = (0..8).map(|_| bench.add(claude())).collect();
    let _ = limit(&mut bench, attempt(ids[0], 1), None);
    let _ = pass(&mut bench, 16);
    let again = bench.core.task(ids[0]).unwrap().row.attempts;
    let _ = limit(&mut bench, attempt(ids[0], again), None);
    assert_eq!(
        bench.core.account(&name("anthropic-1")).unwrap().slowed_to,
        Some(4)
    );
    let step = pass(&mut bench, 40);
    assert_eq!(starts(&step), [], "seven run, and it bears four");
    let waits = bench.core.task(ids[0]).unwrap().reason.unwrap();
    assert_eq!(waits.code, FailureCode::RateLimited, "{waits}");
}

#[test]
fn a_person_may_resume_a_parked_account() {
    let mut bench = two_workers();
    let id = bench.add(claude());
    let reset = in_a_minute(&bench);
    let _ = limit(&mut bench, attempt(id, 1), reset);
    assert_eq!(bench.core.parked_accounts().len(), 1);
    let step = account(&mut bench, resume, "anthropic-1");
    assert_eq!(reply(&step), Reply::AccountDone(name("anthropic-1")));
    assert_eq!(starts(&step).len(), 1);
    let step = account(&mut bench, resume, "nobody-9");
    assert_eq!(reply(&step), Reply::NoAccount(name("nobody-9")));
}

#[test]
fn what_is_known_of_accounts_survives_a_restart() {
    let mut bench = Bench::new();
    for (id, connection) in [("a", 1), ("b", 2)] {
        let _ = bench.attach(&shared(id), connection, &[]);
    }
    let _ = bench.submit(vec![claude(), claude()]);
    let reset = in_a_minute(&bench);
    let first = attempt(TaskId(1), 1);
    let ReportBody::Finished(mut outcome) = finished(Some(FailureCode::RateLimited)) else {
        unreachable!("it is an end");
    };
    outcome.failure.as_mut().unwrap().resets_at = reset;
    let _ = bench.report("a", 1, first, ReportBody::Finished(outcome));
    let _ = bench.close(first);
    let is_kept = |change: &Change| matches!(change, Change::Account(_));
    assert!(bench.kept.iter().any(is_kept));

    let _ = bench.restart();
    let view = bench.core.account(&name("anthropic-1")).unwrap();
    assert_eq!((view.in_use, view.parked_until), (1, reset));
    let _ = bench.attach(&shared("a"), 3, &[]);
    assert_eq!(bench.status(TaskId(1)), TaskStatus::Queued);
}

#[test]
fn a_cancel_stands_above_a_limit() {
    let mut bench = two_workers();
    let id = bench.add(claude());
    let _ = bench.give(Input::Cancel {
        request: RequestId(1),
        task: id,
    });
    let reset = in_a_minute(&bench);
    let _ = limit(&mut bench, attempt(id, 1), reset);
    assert_eq!(bench.status(id), TaskStatus::Cancelled);
}

#[test]
fn a_task_that_meets_nothing_but_limits_ends_with_a_person() {
    let mut bench = two_workers();
    let id = bench.add(claude());
    for _ in 0..60 {
        if bench.status(id) == TaskStatus::NeedsReview {
            let row = bench.core.task(id).unwrap().row;
            assert_eq!((row.attempts, row.failures), (51, 1));
            return;
        }
        let number = bench.core.task(id).unwrap().row.attempts;
        let _ = limit(&mut bench, attempt(id, number), None);
        let _ = pass(&mut bench, 1000);
    }
    panic!("it goes on for ever");
}

#[test]
fn a_cli_that_waits_for_a_limit_slows_its_account_while_it_runs() {
    let mut bench = two_workers();
    let ids: Vec<TaskId> = (0..4).map(|_| bench.add(claude())).collect();
    let reset = in_a_minute(&bench);
    let mut say = |connection: u64, worker: &str, resets_at| {
        let _ = bench.give(Input::Metered {
            connection: ConnectionId(connection),
            worker: worker.parse().unwrap(),
            attempt: attempt(ids[0], 1),
            meter: Box::new(Meter {
                limited: Some(Limited {
                    resets_at,
                    message: "waits".to_owned(),
                }),
                ..Meter::default()
            }),
        });
        let view = bench.core.account(&name("anthropic-1")).unwrap();
        (view.slowed_to, view.parked_until)
    };
    assert_eq!(say(2, "b", None), (None, None), "not its holder");
    assert_eq!(say(1, "a", None), (Some(2), None));
    assert_eq!(say(1, "a", reset).1, reset);
}

#[test]
fn a_runner_without_a_named_account_has_one_of_its_own() {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("a", 1, &[("claude", 1), ("shell", 1)]), 1, &[]);
    let _ = bench.attach(&worker("b", 1, &[("claude", 1)]), 2, &[]);
    let names: Vec<String> = bench
        .core
        .accounts()
        .iter()
        .map(|v| v.name.to_string())
        .collect();
    assert_eq!(names, ["claude@a", "claude@b"], "and the shell has none");
    let id = bench.add(claude());
    let reset = in_a_minute(&bench);
    let step = limit(&mut bench, attempt(id, 1), reset);
    assert_eq!(starts(&step), [(attempt(id, 2), 2, "claude".to_owned())]);
}
