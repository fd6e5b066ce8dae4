mod compact;
mod crash;
pub(crate) mod lost;
mod made;
mod mark;
mod migration;
mod older;
mod pace;

use std::{collections::BTreeMap, path::Path};

use orchestra_core::{
    AccountRow, AttemptRow, Avoids, Change, Counted, EndStatus, Ending, KeyRow, Last, LedgerRow,
    OutcomeRow, ProjectRow, Reading, ScheduleRow, Slow, State, TaskFacts, TaskRow, WorkerRow,
};
use orchestra_types::{
    ApplyResult, Artifact, ArtifactKind, AttemptId, Budget, ContextFile, Digest, Exit, Failure,
    FailureCode, ManifestSummary, Outcome, Place, Priority, ProjectRef, Recurrence, ScheduleId,
    ShellCommand, Spent, TaskId, TaskSpec, Timestamp, Usage,
    runner::{Readiness, RunnerInfo, WorkerInfo},
};

use super::{Error, Store, key};
use crate::{blobs::Blobs, progress::Progress};

fn open(dir: &Path) -> Store {
    try_open(dir).unwrap()
}

fn try_open(dir: &Path) -> super::Result<Store> {
    let blobs = Blobs::open(&dir.join("blobs")).unwrap();
    Store::open(&dir.join("db"), blobs)
}

/// A row in the database, behind the store's back.
fn put_directly(store: &Store, key: &[u8], value: &[u8]) {
    let mut batch = sled::Batch::default();
    batch.insert(key, value);
    store.database.apply(batch).unwrap();
    store.database.sync().unwrap();
}

/// Ends the checkpoint that runs, and makes another one of everything.
fn move_everything(store: &mut Store) {
    finish_checkpoint(store);
    store.freeze();
    finish_checkpoint(store);
}

fn finish_checkpoint(store: &mut Store) {
    while let Some(checkpoint) = &store.moving {
        if checkpoint.is_moved() {
            store.end_checkpoint().unwrap();
        } else {
            store.move_slice().unwrap();
        }
    }
}

fn spec(description: &str) -> TaskSpec {
    TaskSpec {
        description: description.to_owned(),
        priority: Priority::High,
        runner: Some("claude".parse().unwrap()),
        model: Some("model".to_owned()),
        after: vec![TaskId(1)],
        timeout: std::time::Duration::from_secs(60),
        retries: 2,
        ports: Some(2),
        set_up: Some(orchestra_types::SetUp {
            command: "npm ci".to_owned(),
            timeout: std::time::Duration::from_secs(90),
            files: vec![orchestra_types::CopiedFile {
                path: "config/.env".to_owned(),
                executable: true,
                content: artifact(ArtifactKind::Context),
            }],
        }),
        on_dependency_failure: orchestra_types::OnDependencyFailure::Cancel,
        start_at: Some(Timestamp(40)),
        queue_timeout: Some(std::time::Duration::from_secs(90)),
        stall_timeout: Some(std::time::Duration::from_secs(30)),
        schedule: Some(orchestra_types::ScheduleId(3)),
        labels: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        requires: BTreeMap::from([("gpu".to_owned(), "yes".to_owned())]),
        context_files: vec![ContextFile {
            name: "notes.md".to_owned(),
            content: artifact(ArtifactKind::Context),
        }],
        project: Some(ProjectRef {
            id: "git-1".parse().unwrap(),
            name: "project".to_owned(),
            dir: "/home/me/project".into(),
            machine: "m1".parse().unwrap(),
        }),
        place: Place::Repository {
            commit: "a".repeat(40),
            head: String::new(),
            branch: "main".to_owned(),
            bundles: vec![Digest([3; 32])],
            ignore_rules: ".idea/\n".to_owned(),
        },
        apply: true,
        command: Some(ShellCommand::Argv(vec!["true".to_owned()])),
        submitter: "me@here".to_owned(),
        traceparent: String::new(),
        fallback: Vec::new(),
        budget: Default::default(),
        parent: None,
    }
}

fn artifact(kind: ArtifactKind) -> Artifact {
    Artifact {
        kind,
        digest: Digest([7; 32]),
        size: 5,
    }
}

fn failure() -> Failure {
    Failure {
        resets_at: Some(Timestamp(99)),
        ..Failure::new(FailureCode::RateLimited, "later")
    }
}

fn reading() -> Reading {
    Reading {
        usage: outcome().usage,
        model: "m-1".to_owned(),
    }
}

fn task(id: u64, state: State) -> TaskRow {
    let spec = spec("x");
    TaskRow {
        id: TaskId(id),
        created_at: Timestamp(10),
        facts: TaskFacts {
            priority: spec.priority,
            runner: spec.runner,
            machine: Some("m1".parse().unwrap()),
            requires: spec.requires,
            labels: spec.labels,
            project: spec.project.map(|p| (p.id, p.name)),
            submitter: spec.submitter,
            retries: spec.retries,
            terms: None,
            on_dependency_failure: spec.on_dependency_failure,
            timing: orchestra_core::Timing {
                start_at: spec.start_at,
                timeout: spec.timeout,
                queue_timeout: spec.queue_timeout,
                stall_timeout: spec.stall_timeout,
            },
        }
        .into(),
        after: spec.after.into(),
        state,
        attempts: 2,
        failures: 1,
        losses: 1,
        limited: 3,
        given_up: 5,
        last: Some(Box::new(Last {
            worker: "w1".parse().unwrap(),
            runner: "claude".parse().unwrap(),
            avoids: Some(Avoids {
                worker: "w2".parse().unwrap(),
                until: Timestamp(9),
            }),
            moved: 2,
            waits_since: Some(Timestamp(10)),
            used: Spent {
                tokens: 70,
                cost_microusd: 5,
                time: std::time::Duration::from_millis(1500),
                attempts: 1,
            },
            counted: vec![Counted {
                number: 2,
                used: Spent {
                    tokens: 7,
                    ..Spent::default()
                },
                up_to: Some(Timestamp(13)),
                unstarted: Some(Timestamp(12)),
                told_to_end: true,
            }],
        })),
        started_at: Some(Timestamp(11)),
        cancel_requested: true,
        reason: Some(Box::new(failure())),
        apply: Some(Box::new(ApplyResult::Conflict {
            message: "a.txt".to_owned(),
        })),
    }
}

/// Every state that a store of format 1 knew.
fn every_state() -> Vec<State> {
    let (worker, runner) = ("w1".parse().unwrap(), "claude".parse().unwrap());
    let end = |status| Ending::End {
        status,
        reason: Some(Box::new(failure())),
    };
    vec![
        State::Blocked,
        State::Queued {
            since: Timestamp(1),
            not_before: Timestamp(2),
        },
        State::Assigned {
            attempt: 2,
            worker,
            runner,
            at: Timestamp(3),
        },
        State::Running {
            attempt: 2,
            worker: "w1".parse().unwrap(),
            runner: "claude".parse().unwrap(),
            at: Timestamp(4),
        },
        State::Closing {
            attempt: 2,
            ending: end(EndStatus::Failed),
        },
        State::Closing {
            attempt: 2,
            ending: Ending::Retry {
                reason: Box::new(failure()),
            },
        },
        State::Ended {
            status: EndStatus::NeedsReview,
            at: Timestamp(5),
        },
    ]
}

fn outcome() -> Outcome {
    Outcome {
        exit: Exit::Code(0),
        failure: None,
        text: "done".to_owned(),
        usage: Usage {
            input_tokens: 1,
            cost_microusd: Some(2),
            ..Usage::default()
        },
        session: "s".to_owned(),
        model: "m".to_owned(),
        files: ManifestSummary::default(),
        branch: "orchestra/task_002".to_owned(),
        commit: "b".repeat(40),
        built_on: Default::default(),
        artifacts: vec![artifact(ArtifactKind::Patch)],
        started_at: Timestamp(6),
        finished_at: Timestamp(7),
    }
}

fn worker() -> WorkerRow {
    WorkerRow {
        info: WorkerInfo {
            id: "w1".parse().unwrap(),
            name: "one".to_owned(),
            hostname: "host".to_owned(),
            machine: "m1".parse().unwrap(),
            boot_id: "b".to_owned(),
            incarnation: "i".to_owned(),
            version: "1".to_owned(),
            pid: 4,
            slots: 2,
            labels: BTreeMap::new(),
            runners: vec![RunnerInfo {
                name: "claude".parse().unwrap(),
                version: "2".to_owned(),
                path: "/bin/claude".to_owned(),
                readiness: Readiness::NotReady {
                    reason: "log in".to_owned(),
                },
                slots: 1,
                prefetch: 5,
                agentic: true,
                account: None,
                login: orchestra_types::runner::Login::Unknown,
                model: String::new(),
            }],
            kill_method: "cgroup".to_owned(),
            limits: String::new(),
            cores: 8,
            memory_bytes: 9,
            disk_bytes: 8,
            disk_free_bytes: 7,
            isolation: "none".to_owned(),
            installation: "i1".to_owned(),
        },
        joined_at: Timestamp(1),
        attached_at: Timestamp(2),
        epoch: 3,
        availability: orchestra_core::Availability::Draining,
    }
}

fn schedule(id: u64) -> ScheduleRow {
    let rules = [
        Recurrence::Every(std::time::Duration::from_secs(90)),
        Recurrence::Daily {
            minute: 61,
            ahead: 1439,
        },
    ];
    ScheduleRow {
        id: ScheduleId(id),
        key: "key".to_owned(),
        created_at: Timestamp(5),
        spec: Box::new(spec("again")),
        every: rules[(id % 2) as usize],
        next: Timestamp(6),
        paused: id == 2,
        last: (id == 2).then_some(TaskId(9)),
        runs: id,
    }
}

fn submission(first: u64, count: u64) -> KeyRow {
    KeyRow {
        key: format!("key-{first}"),
        first: TaskId(first),
        count,
        at: Timestamp(1),
    }
}

fn attempt_id(number: u32) -> AttemptId {
    AttemptId {
        task: TaskId(1),
        number,
    }
}

#[test]
fn every_kind_of_row_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = State::Closing {
        attempt: 2,
        ending: Ending::Elsewhere {
            reason: Box::new(failure()),
        },
    };
    let states = every_state().into_iter().chain([elsewhere]);
    let tasks: Vec<TaskRow> = (1..).zip(states).map(|(id, s)| task(id, s)).collect();
    let attempt = AttemptRow {
        id: attempt_id(2),
        worker: "w1".parse().unwrap(),
        runner: "claude".parse().unwrap(),
        assigned_at: Timestamp(3),
        started_at: Some(Timestamp(4)),
    };
    let ends = [Err(failure()), Ok(Box::new(outcome()))];
    let ends: Vec<OutcomeRow> = (1..)
        .zip(ends)
        .map(|(number, result)| OutcomeRow {
            id: attempt_id(number),
            at: Timestamp(8),
            reading: result.is_err().then(reading),
            result,
        })
        .collect();
    let mut changes = vec![
        Change::Key(submission(1, 100)),
        Change::Worker(Box::new(worker())),
        Change::Schedule(Box::new(schedule(1))),
        Change::Schedule(Box::new(schedule(2))),
        Change::Acked {
            worker: "w1".parse().unwrap(),
            up_to: 42,
        },
        Change::Spec {
            id: TaskId(1),
            spec: Box::new(spec("do it")),
        },
        Change::Attempt(Box::new(attempt.clone())),
    ];
    changes.extend(tasks.iter().map(|row| Change::Task(Box::new(row.clone()))));
    changes.extend(
        ends.iter()
            .map(|row| Change::Outcome(Box::new(row.clone()))),
    );
    open(dir.path()).commit(&[changes]).unwrap();

    let store = open(dir.path());
    let rows = store.load().unwrap();
    assert_eq!(rows.tasks, tasks);
    assert_eq!(rows.workers, [(worker(), 42)]);
    assert_eq!(rows.keys, [submission(1, 100)]);
    assert_eq!(rows.schedules, [schedule(1), schedule(2)]);
    assert_eq!(store.spec(TaskId(1)).unwrap(), Some(spec("do it")));
    assert_eq!(store.attempts(TaskId(1)).unwrap(), [attempt]);
    for end in ends {
        assert_eq!(store.outcome(end.id).unwrap(), Some(end));
    }
}

#[test]
fn accounts_and_what_was_used_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let spent = Spent {
        tokens: 3,
        cost_microusd: 4,
        time: std::time::Duration::from_secs(5),
        attempts: 6,
    };
    let accounts = [true, false].map(|is_empty| AccountRow {
        name: format!("claude-{is_empty}").parse().unwrap(),
        max: Some(2),
        parked_until: Some(Timestamp(7)),
        why: "no credit".to_owned(),
        is_empty,
        slow: Some(Slow {
            window: 1,
            full: 4,
            next: Timestamp(8),
        }),
        strikes: 3,
        limited_at: Some(Timestamp(6)),
    });
    let ledger = LedgerRow {
        task: TaskId(1),
        budget: "10tok,1h".parse().unwrap(),
        spent,
    };
    let project = ProjectRow {
        id: "git-1".parse().unwrap(),
        name: "website".to_owned(),
        budget: Some("5usd".parse().unwrap()),
        day: 20_000,
        spent,
        added: Budget::default(),
    };
    let mut changes = vec![
        Change::Ledger(Box::new(ledger)),
        Change::Project(Box::new(project.clone())),
    ];
    let of_accounts = accounts.iter().cloned();
    changes.extend(of_accounts.map(|row| Change::Account(Box::new(row))));
    open(dir.path()).commit(&[changes]).unwrap();

    let rows = open(dir.path()).load().unwrap();
    let named = |name: &str| rows.accounts.iter().find(|row| row.name.as_str() == name);
    for account in &accounts {
        assert_eq!(named(account.name.as_str()), Some(account));
    }
    assert_eq!(rows.ledgers, [ledger]);
    assert_eq!(rows.projects, [project]);
}

#[test]
fn a_large_specification_is_kept_outside_of_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let large = spec(&"x".repeat(256 * 1024));
    let change = Change::Spec {
        id: TaskId(1),
        spec: Box::new(large.clone()),
    };
    let mut store = open(dir.path());
    store.commit(&[vec![change]]).unwrap();
    let value = store.value(&key::spec(TaskId(1))).unwrap().unwrap();
    assert!(value.len() < 64, "{} bytes", value.len());
    drop(store);
    assert_eq!(open(dir.path()).spec(TaskId(1)).unwrap(), Some(large));
}

#[test]
fn a_row_of_an_unknown_format_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put_directly(&store, &key::task(TaskId(7)), &[9, 0]);
    let error = store.load().unwrap_err();
    assert!(matches!(error, Error::Format { found: 9, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("row t:") && text.contains("newer"), "{text}");
}

#[test]
fn a_database_of_an_unknown_format_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put_directly(&store, key::FORMAT, &[200]);
    drop(store);
    let error = try_open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Format { found: 200, .. }), "{error}");
}

#[test]
fn a_value_with_a_flipped_bit_or_under_another_key_is_named_and_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let id = TaskId(1);
    let spec = Box::new(spec("x"));
    store.commit(&[vec![Change::Spec { id, spec }]]).unwrap();
    move_everything(&mut store);
    let value = store.value(&key::spec(id)).unwrap().unwrap();
    for bit in 0..value.len() * 8 {
        let mut flipped = value.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        put_directly(&store, &key::spec(id), &flipped);
        let error = store.spec(id).unwrap_err().to_string();
        assert!(error.contains("row s:0000000000000001"), "{error}");
    }
    put_directly(&store, &key::spec(TaskId(2)), &value);
    let error = store.spec(TaskId(2)).unwrap_err().to_string();
    assert!(
        error.contains("row s:0000000000000002 (task_002) is damaged"),
        "{error}"
    );
}

#[test]
fn a_store_whose_making_was_cut_off_is_made_anew() {
    let whole = tempfile::tempdir().unwrap();
    drop(open(whole.path()));
    let settings = std::fs::read(whole.path().join("db/conf")).unwrap();
    for bytes in 0..=settings.len() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("db")).unwrap();
        std::fs::write(dir.path().join("db/conf"), &settings[..bytes]).unwrap();
        assert!(open(dir.path()).load().is_ok(), "after {bytes} bytes");
    }
}

#[test]
fn a_torn_snapshot_does_not_keep_the_database_shut() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store
        .commit(&[vec![Change::Key(submission(1, 0))]])
        .unwrap();
    drop(store);
    let torn = dir.path().join("db/snap.00000000FFFFFFFF.generating");
    std::fs::write(&torn, b"torn").unwrap();
    let rows = open(dir.path()).load().unwrap();
    assert_eq!(rows.keys, [submission(1, 0)]);
    assert!(!torn.exists());
}

#[test]
fn a_submission_of_many_frames_is_whole_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut changes = vec![Change::Key(submission(1, 1000))];
    for id in 1..=1000 {
        let spec = Box::new(spec("x"));
        let id = TaskId(id);
        changes.push(Change::Spec { id, spec });
        changes.push(Change::Task(Box::new(task(id.0, State::Blocked))));
    }
    open(dir.path()).commit(&[changes]).unwrap();
    let store = open(dir.path());
    assert_eq!(store.load().unwrap().tasks.len(), 1000);
    assert!(store.spec(TaskId(1000)).unwrap().is_some());
}

#[test]
fn ids_of_schedules_that_were_given_are_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store
        .commit(&[vec![Change::Schedule(Box::new(schedule(2)))]])
        .unwrap();
    drop(store);
    let rows = open(dir.path()).load().unwrap();
    assert_eq!(rows.schedule_ids, None, "a store of before has no such row");
    assert_eq!(rows.last_schedule(), Some(ScheduleId(2)));
    let deleted = vec![
        Change::ForgetSchedule { id: ScheduleId(2) },
        Change::ScheduleIds {
            last: ScheduleId(2),
        },
    ];
    open(dir.path()).commit(&[deleted]).unwrap();
    let blobs = Blobs::open(&dir.path().join("blobs")).unwrap();
    let unwatched = Progress::unwatched();
    super::compact(&dir.path().join("db"), blobs, &unwatched).unwrap();
    let rows = open(dir.path()).load().unwrap();
    assert!(rows.schedules.is_empty());
    assert_eq!(rows.last_schedule(), Some(ScheduleId(2)));
}

#[test]
fn the_end_of_an_attempt_that_is_taken_back_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let lost = OutcomeRow {
        id: attempt_id(2),
        at: Timestamp(8),
        result: Err(failure()),
        reading: None,
    };
    store
        .commit(&[vec![Change::Outcome(Box::new(lost))]])
        .unwrap();
    assert!(store.outcome(attempt_id(2)).unwrap().is_some());
    let gone = Change::ForgetOutcome { id: attempt_id(2) };
    store.commit(&[vec![gone]]).unwrap();
    drop(store);
    assert_eq!(open(dir.path()).outcome(attempt_id(2)).unwrap(), None);
}

#[test]
fn what_is_forgotten_is_gone_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut changes = vec![
        Change::Key(submission(1, 1)),
        Change::Key(submission(2, 1)),
        Change::Worker(Box::new(worker())),
    ];
    for id in [TaskId(1), TaskId(2)] {
        let spec = Box::new(spec("x"));
        changes.push(Change::Spec { id, spec });
        changes.push(Change::Task(Box::new(task(id.0, State::Blocked))));
    }
    changes.push(Change::Outcome(Box::new(OutcomeRow {
        id: attempt_id(2),
        at: Timestamp(8),
        result: Err(failure()),
        reading: None,
    })));
    store.commit(&[changes]).unwrap();
    let worker_id = worker().info.id;
    store
        .commit(&[vec![
            Change::ForgetTask {
                id: TaskId(1),
                attempts: 2,
            },
            Change::ForgetKey {
                key: "key-1".to_owned(),
            },
            Change::ForgetWorker { id: worker_id },
        ]])
        .unwrap();
    drop(store);
    let store = open(dir.path());
    let rows = store.load().unwrap();
    assert_eq!(rows.tasks, [task(2, State::Blocked)]);
    assert_eq!((rows.keys.len(), rows.workers.len()), (1, 0));
    assert_eq!(store.spec(TaskId(1)).unwrap(), None);
    assert_eq!(store.outcome(attempt_id(2)).unwrap(), None);
    assert_eq!(store.spec(TaskId(2)).unwrap(), Some(spec("x")));
}
