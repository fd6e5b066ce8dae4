use std::time::Duration;

use orchestra_proto::v1;
use orchestra_types::{
    Artifact, ArtifactKind, CopiedFile, Digest, Failure, FailureCode, Fault, Place, SetUp,
};

use super::*;
use crate::{json::undocumented, ui::again::Again};

fn wire() -> v1::Task {
    let spec = v1::TaskSpec {
        description: "Create README.md".into(),
        runner: "claude".into(),
        timeout_ms: 90_500,
        place: Some(Place::Empty.into()),
        labels: [("area".into(), "docs".into())].into(),
        ..Default::default()
    };
    v1::Task {
        id: 1,
        spec: Some(spec),
        status: v1::TaskStatus::Queued.into(),
        created_at_ms: 1_790_000_000_000,
        ..Default::default()
    }
}

fn attempt(number: u32, input_tokens: u64, failure: Option<v1::Failure>) -> v1::Attempt {
    let outcome = v1::Outcome {
        exit: Some(v1::Exit {
            exit: Some(v1::exit::Exit::Code(0)),
        }),
        usage: Some(v1::Usage {
            input_tokens,
            ..Default::default()
        }),
        text: "Done.".into(),
        failure,
        ..Default::default()
    };
    v1::Attempt {
        number,
        runner: "claude".into(),
        outcome: Some(outcome),
        ..Default::default()
    }
}

#[test]
fn a_task_in_a_list_is_one_stable_document() {
    let document = serde_json::to_string(&Task::read(wire()).unwrap()).unwrap();
    assert_eq!(
        document,
        concat!(
            r#"{"id":"task_001","status":"queued","description":"Create README.md","#,
            r#""priority":"normal","runner":"claude","worker":null,"attempt":0,"reason":null,"#,
            r#""waits_because":null,"created_at":"2026-09-21T14:13:20.000Z","started_at":null,"finished_at":null,"#,
            r#""usage":null,"files":null,"files_lost":null,"changes":null,"result":null,"branch":null,"#,
            r#""commit":null,"apply":{"requested":false,"result":null,"message":null},"#,
            r#""fallback":[],"budget":null,"spent":null,"parent":null,"model":null,"after":[],"waits_for":[],"on_dependency_failure":"block","start_at":null,"schedule":null,"labels":{"area":"docs"},"requires":{},"#,
            r#""timeout_seconds":90.5,"queue_timeout_seconds":null,"stall_timeout_seconds":null,"retries":0,"context":[],"project":null,"#,
            r#""place":{"type":"empty"},"command":null,"ports":null,"set_up":null,"submitter":null,"#,
            r#""cancel_requested":false,"finishing":false,"silent_since":null,"not_before":null,"attempts":null}"#
        )
    );
}

#[test]
fn a_set_up_names_its_files_and_not_what_is_in_them() {
    let file = CopiedFile {
        path: ".env".to_owned(),
        executable: false,
        content: Artifact {
            kind: ArtifactKind::Context,
            digest: Digest([0; 32]),
            size: 5,
        },
    };
    let document = SetUpDocument::from(SetUp {
        command: "npm ci".to_owned(),
        timeout: Duration::from_secs(600),
        files: vec![file],
    });
    assert_eq!(
        serde_json::to_string(&document).unwrap(),
        r#"{"command":"npm ci","timeout_seconds":600.0,"files":[".env"]}"#
    );
}

#[test]
fn a_copied_directory_has_no_branch_to_apply() {
    let mut task = Task::read(wire()).unwrap();
    task.branch = Some("orchestra/task_001".to_owned());
    let cases = [
        ("dir-1", None, false),
        ("dir-1", Some("main"), true),
        ("git-1", None, true),
    ];
    for (id, branch, has) in cases {
        task.project = Some(Project {
            id: id.to_owned(),
            name: "x".to_owned(),
            dir: "/x".to_owned(),
            machine: "m".to_owned(),
        });
        task.place = Workplace::Repository {
            commit: "c0ffee".to_owned(),
            head: Some("beef".to_owned()),
            branch: branch.map(str::to_owned),
        };
        assert_eq!(task.branch_to_apply().is_some(), has, "{id} {branch:?}");
    }
}

#[test]
fn only_an_attempt_that_left_a_result_can_have_changed_nothing() {
    let failure = || v1::Failure {
        code: "auth".into(),
        message: "not logged in".into(),
        resets_at_ms: None,
    };
    let read = |wire| Attempt::read(TaskId(1), wire).unwrap();
    assert!(read(attempt(1, 0, None)).changed_nothing());
    let mut failed = read(attempt(1, 0, Some(failure())));
    assert!(!failed.changed_nothing(), "it failed early");
    failed.artifacts.push(Artifact {
        kind: ArtifactKind::Manifest,
        digest: Digest([0; 32]),
        size: 5,
    });
    assert!(failed.changed_nothing(), "only warnings were listed");
    failed.changes = failed.changes.map(|changes| Changes {
        files: 1,
        ..changes
    });
    assert!(!failed.changed_nothing());
    let mut running = attempt(1, 0, None);
    running.outcome = None;
    assert!(!read(running).changed_nothing());
}

#[test]
fn usage_is_summed_over_attempts_and_the_result_is_the_latest_ones() {
    let failure = v1::Failure {
        code: "provider_unavailable".into(),
        message: "slow down".into(),
        resets_at_ms: None,
    };
    let attempts = vec![attempt(1, 10, Some(failure)), attempt(2, 5, None)];
    let task = Task::read(v1::Task {
        attempt: 2,
        attempts,
        ..wire()
    })
    .unwrap();
    assert_eq!(task.usage.unwrap().input_tokens, 15);
    assert_eq!(task.result.as_deref(), Some("Done."));
    let reason = task.attempts.unwrap().swap_remove(0).reason.unwrap();
    assert_eq!(reason.code, FailureCode::ProviderUnavailable);
    assert!(reason.advice.contains("ctl retry task_001"));
    assert_eq!((reason.retryable, reason.fault), (true, Fault::Provider));
}

#[test]
fn the_work_of_an_attempt_outlives_a_failed_one_without_any() {
    let failure = || v1::Failure {
        code: "agent_failed".into(),
        message: "gave up".into(),
        resets_at_ms: None,
    };
    let with = |files, failure| {
        let mut attempt = attempt(1, 0, failure);
        let outcome = attempt.outcome.as_mut().unwrap();
        outcome.files = Some(v1::ManifestSummary {
            files,
            ..Default::default()
        });
        attempt
    };
    let of = |attempts: Vec<v1::Attempt>| {
        let count = u32::try_from(attempts.len()).unwrap();
        let numbered = attempts.into_iter().zip(1..);
        let attempts = numbered.map(|(attempt, number)| v1::Attempt { number, ..attempt });
        let task = v1::Task {
            attempt: count,
            attempts: attempts.collect(),
            ..wire()
        };
        Task::read(task).unwrap().of_result().unwrap().number
    };
    assert_eq!(
        of(vec![with(1, Some(failure())), with(0, Some(failure()))]),
        1
    );
    assert_eq!(
        of(vec![with(1, Some(failure())), with(2, Some(failure()))]),
        2
    );
    assert_eq!(
        of(vec![with(1, Some(failure())), with(0, None)]),
        2,
        "it succeeded"
    );
    assert_eq!(
        of(vec![with(0, Some(failure())), with(0, Some(failure()))]),
        2
    );
}

#[test]
fn every_name_of_a_task_is_documented() {
    let page = include_str!("../../../../docs/json.md");
    let document = serde_json::to_value(Task::read(wire()).unwrap()).unwrap();
    let lacks = undocumented(page, &document);
    assert!(lacks.is_empty(), "docs/json.md lacks {lacks:?}");
}

#[test]
fn an_answer_that_makes_no_sense_is_refused() {
    let error = Task::read(v1::Task {
        status: 99,
        ..wire()
    })
    .unwrap_err();
    assert!(
        error
            .next_step(Again::default())
            .unwrap()
            .contains("versions"),
        "{error}"
    );
    assert!(Task::read(v1::Task { id: 0, ..wire() }).is_err());
}

#[test]
fn the_advice_for_a_task_behind_one_that_failed_names_that_one() {
    let failure = |text: &str| Failure::new(FailureCode::DependencyFailed, text.to_owned());
    let advice = |text| Reason::of(TaskId(3), failure(text)).advice;
    let named = advice("task_001 ended as failed");
    assert!(
        named.starts_with("`ctl retry task_001` first, since task_003 comes after it"),
        "{named}"
    );
    assert!(advice("it is gone").contains("`ctl show task_003`"));
    let released = |status, after: u64| {
        let reason = Reason::of(TaskId(3), failure("task_001 ended as failed"));
        let advice = reason
            .or_go_without(TaskId(3), status, &[TaskId(after)])
            .advice;
        advice.contains("`ctl release task_003`")
    };
    assert!(released(TaskStatus::Blocked, 1));
    // One that was cancelled with it is not blocked; one further behind waits for another one.
    assert!(!released(TaskStatus::Cancelled, 1) && !released(TaskStatus::Blocked, 2));
}

#[test]
fn what_happens_by_itself_is_not_advised() {
    let advice = |code, status| {
        let reason = Reason::of(TaskId(3), Failure::new(code, "why".to_owned()));
        reason.of_one_tried_again(TaskId(3), status).advice
    };
    let again = |code, status| advice(code, status).starts_with("it is tried again by itself; ");
    for status in [
        TaskStatus::Queued,
        TaskStatus::Assigned,
        TaskStatus::Running,
    ] {
        assert!(again(FailureCode::AgentFailed, status));
        // It says so in its own words.
        assert!(!again(FailureCode::RateLimited, status));
        assert!(!again(FailureCode::BudgetExceeded, status));
    }
    for status in [
        TaskStatus::Failed,
        TaskStatus::NeedsReview,
        TaskStatus::Blocked,
    ] {
        assert!(!again(FailureCode::AgentFailed, status));
    }
}
