//! What a peer may send at most: each thing that is too much is refused with its name.

use orchestra_types::{Budget, BudgetChange, Measure, Usage, limits, runner::WorkerInfo};

use super::{Refused, budget_change, submitted_spec};
use crate::v1;

fn spec() -> v1::TaskSpec {
    v1::TaskSpec {
        description: "write tests".to_owned(),
        timeout_ms: 1000,
        place: Some(v1::Place {
            place: Some(v1::place::Place::Empty(v1::place::Empty {})),
        }),
        ..v1::TaskSpec::default()
    }
}

/// The field that is refused in a specification that is as changed; none when it is taken.
fn refused(change: impl FnOnce(&mut v1::TaskSpec)) -> Option<&'static str> {
    let mut wire = spec();
    change(&mut wire);
    submitted_spec(wire)
        .err()
        .map(|Refused { field, .. }| field)
}

fn many<T>(count: usize, of: impl Fn(usize) -> T) -> Vec<T> {
    (0..count).map(of).collect()
}

fn pairs(count: usize) -> std::collections::BTreeMap<String, String> {
    (0..count)
        .map(|n| (format!("k{n}"), "v".to_owned()))
        .collect()
}

fn argv(args: Vec<String>) -> Option<v1::ShellCommand> {
    let argv = v1::shell_command::Argv { args };
    Some(v1::ShellCommand {
        command: Some(v1::shell_command::Command::Argv(argv)),
    })
}

/// A task of the `shell` runner with this change, refused or not.
fn refused_command(change: impl FnOnce(&mut v1::TaskSpec)) -> Option<&'static str> {
    refused(|spec| {
        spec.runner = "shell".to_owned();
        change(spec);
    })
}

#[test]
fn a_command_that_no_kernel_starts_is_refused() {
    let word = |bytes| "w".repeat(bytes);
    let line = |bytes| {
        Some(v1::ShellCommand {
            command: Some(v1::shell_command::Command::Line(word(bytes))),
        })
    };
    let most = limits::ARGUMENT_BYTES_MAX;
    for (bytes, expected) in [(most, None), (most + 1, Some("command"))] {
        let of_line = refused_command(|spec| spec.command = line(bytes));
        let of_argv = refused_command(|spec| spec.command = argv(vec!["a".into(), word(bytes)]));
        let described = refused_command(|spec| spec.description = word(bytes));
        assert_eq!([of_line, of_argv, described], [expected; 3], "{bytes}");
    }
    let three = refused_command(|spec| spec.command = argv(vec![word(most); 3]));
    assert_eq!(three, Some("command"), "more than 256 KiB together");
    let agent = refused(|spec| spec.description = word(most + 1));
    assert_eq!(agent, None, "an agent reads its prompt from elsewhere");
}

#[test]
fn what_a_task_may_have_at_most_is_taken() {
    let at_most = refused(|spec| {
        spec.description = "d".repeat(limits::DESCRIPTION_BYTES_MAX);
        spec.labels = pairs(limits::LABELS_MAX);
        let value = "v".repeat(limits::LABEL_VALUE_BYTES_MAX);
        spec.requires = [("k".repeat(limits::NAME_BYTES_MAX), value)].into();
        spec.after = many(limits::AFTER_MAX, |n| n as u64 + 1);
        spec.retries = limits::RETRIES_MAX;
    });
    assert_eq!(at_most, None);
}

#[test]
fn a_time_of_zero_is_refused_and_is_not_none() {
    assert_eq!(refused(|s| s.timeout_ms = 0), Some("timeout"));
    let queue = refused(|s| s.queue_timeout_ms = Some(0));
    assert_eq!(queue, Some("queue_timeout"));
    let stall = refused(|s| s.stall_timeout_ms = Some(0));
    assert_eq!(stall, Some("stall_timeout"));
    let none = submitted_spec(spec()).unwrap();
    assert_eq!((none.queue_timeout, none.stall_timeout), (None, None));
    let short = refused(|s| s.queue_timeout_ms = Some(1));
    assert_eq!(short, None);
}

#[test]
fn what_is_too_much_in_a_task_is_refused_by_name() {
    let long = |max: usize| "x".repeat(max + 1);
    let description = refused(|s| s.description = long(limits::DESCRIPTION_BYTES_MAX));
    assert_eq!(description, Some("description"));
    assert_eq!(
        refused(|s| s.labels = pairs(limits::LABELS_MAX + 1)),
        Some("labels")
    );
    let value = long(limits::LABEL_VALUE_BYTES_MAX);
    let labels = refused(|s| s.labels = [("k".to_owned(), value)].into());
    assert_eq!(labels, Some("labels"));
    let key = long(limits::NAME_BYTES_MAX);
    let requires = refused(|s| s.requires = [(key, String::new())].into());
    assert_eq!(requires, Some("requires"));
    let after = many(limits::AFTER_MAX + 1, |n| n as u64 + 1);
    assert_eq!(refused(|s| s.after = after), Some("after"));
    assert_eq!(
        refused(|s| s.retries = limits::RETRIES_MAX + 1),
        Some("retries")
    );
    assert_eq!(refused(|s| s.submitter = long(4096)), Some("submitter"));
    assert_eq!(
        refused(|s| s.runner = long(limits::NAME_BYTES_MAX)),
        Some("runner")
    );
    let fallback = many(17, |n| format!("r{n}"));
    assert_eq!(refused(|s| s.fallback = fallback), Some("fallback"));
    let file = |_| v1::ContextFile::default();
    let files = many(limits::CONTEXT_FILES_MAX + 1, file);
    assert_eq!(refused(|s| s.context_files = files), Some("context_files"));
}

#[test]
fn too_many_or_too_long_arguments_are_refused() {
    let shell = |args: Vec<String>| {
        refused(|spec| {
            spec.runner = "shell".to_owned();
            spec.command = argv(args);
        })
    };
    assert_eq!(shell(vec!["true".to_owned()]), None);
    assert_eq!(shell(many(4097, |_| "a".to_owned())), Some("command"));
    let kib = "a".repeat(1024);
    assert_eq!(shell(many(256, |_| kib.clone())), None);
    assert_eq!(shell(many(257, |_| kib.clone())), Some("command"));
}

fn worker() -> v1::WorkerInfo {
    v1::WorkerInfo {
        id: "w".to_owned(),
        machine: "m".to_owned(),
        slots: 1,
        ..v1::WorkerInfo::default()
    }
}

fn worker_refused(change: impl FnOnce(&mut v1::WorkerInfo)) -> Option<&'static str> {
    let mut wire = worker();
    change(&mut wire);
    WorkerInfo::try_from(wire)
        .err()
        .map(|Refused { field, .. }| field)
}

#[test]
fn what_is_too_much_in_a_worker_is_refused_by_name() {
    assert_eq!(worker_refused(|_| {}), None);
    let runner = |n| v1::RunnerInfo {
        name: format!("r{n}"),
        readiness: "ready".to_owned(),
        ..v1::RunnerInfo::default()
    };
    assert_eq!(worker_refused(|w| w.runners = many(256, runner)), None);
    assert_eq!(
        worker_refused(|w| w.runners = many(257, runner)),
        Some("worker")
    );
    assert_eq!(worker_refused(|w| w.slots = 100_001), Some("worker"));
    assert_eq!(
        worker_refused(|w| w.hostname = "h".repeat(4097)),
        Some("worker")
    );
    let labels = pairs(limits::LABELS_MAX + 1);
    assert_eq!(worker_refused(|w| w.labels = labels), Some("worker labels"));
}

#[test]
fn a_budget_that_lets_nothing_run_is_refused() {
    let nothing = Some(v1::Budget {
        time_ms: Some(0),
        tokens: Some(5),
        ..v1::Budget::default()
    });
    assert_eq!(refused(|spec| spec.budget = nothing), Some("budget"));
    let some = Some(v1::Budget {
        tokens: Some(5),
        ..v1::Budget::default()
    });
    let tokens = v1::Measure::Tokens as i32;
    for (budget, add, none) in [
        (nothing, false, vec![]),
        (nothing, true, vec![]),
        (None, false, vec![]),
        (some, true, vec![v1::Measure::Cost as i32]),
        (some, false, vec![tokens]),
        (None, false, vec![77]),
        (None, false, vec![0]),
        (None, false, vec![tokens; 5]),
    ] {
        let change = budget_change(budget, add, &none);
        assert!(change.is_err(), "{budget:?} {add} {none:?}");
    }
    let change = BudgetChange::Set {
        limits: Budget::default(),
        none: vec![Measure::Tokens],
    };
    assert_eq!(budget_change(None, false, &[tokens]), Ok(change));
}

#[test]
fn a_cost_of_0_for_tokens_that_were_used_is_not_known() {
    let cost = |input_tokens, cost_microusd| {
        let wire = v1::Usage {
            input_tokens,
            cost_microusd,
            ..v1::Usage::default()
        };
        Usage::from(wire).cost_microusd
    };
    assert_eq!(cost(150, Some(0)), None);
    assert_eq!(cost(150, Some(7)), Some(7));
    assert_eq!(cost(0, Some(0)), Some(0), "nothing costs nothing");
}
