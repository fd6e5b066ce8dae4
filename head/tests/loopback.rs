//! The built head over real mTLS on loopback, with a fake worker.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is the answer"
)]

#[path = "loopback/following.rs"]
mod following;
#[path = "loopback/many.rs"]
mod many;
mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use orchestra_proto::RUNNER;
use orchestra_proto::batch::{decode, encode};
use orchestra_proto::v1::{
    self, TaskStatus, admin_client::AdminClient, bulk_client::BulkClient, report,
};
use orchestra_types::limits;
use sha2::{Digest, Sha256};
use support::{Head, Worker, finished, new_task, started, submission, until_status};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, transport::Channel};
use tonic_types::StatusExt;

const SECOND: v1::AttemptId = v1::AttemptId { task: 2, number: 1 };

#[tokio::test(flavor = "multi_thread")]
async fn a_task_goes_from_submission_to_success_and_its_events_are_followed() {
    let head = start().await;
    let mut admin = head.admin().await;
    let mut worker = Worker::attach(&head, &[]).await;

    let request = submission("k1", vec![new_task("do it")]);
    let submitted = admin.submit(request.clone()).await.unwrap().into_inner();
    assert_eq!((submitted.ids, submitted.duplicate), (vec![1], false));
    let again = admin.submit(request).await.unwrap().into_inner();
    assert_eq!((again.ids, again.duplicate), (vec![1], true));

    let start = worker.start_order().await;
    let attempt = start.attempt.unwrap();
    assert_eq!((attempt.task, attempt.number), (1, 1));
    assert_eq!(start.spec.unwrap().description, "do it");
    assert_eq!(start.runner, "agent");
    let follow = v1::FollowEventsRequest {
        task: 1,
        follow: true,
        ..v1::FollowEventsRequest::default()
    };
    let mut followed = admin.follow_events(follow).await.unwrap().into_inner();

    worker.report(1, attempt, started()).await;
    worker.acked(1).await;
    until_status(&mut admin, 1, TaskStatus::Running).await;
    push(&head, attempt, 1..=3).await;
    worker.report(2, attempt, finished("the result")).await;
    // Sent twice, as after a lost acknowledgement.
    worker.report(2, attempt, finished("another")).await;
    worker.acked(2).await;

    let task = until_status(&mut admin, 1, TaskStatus::Succeeded).await;
    assert_eq!(task.attempts.len(), 1);
    let outcome = task.attempts[0].outcome.clone().unwrap();
    assert_eq!(outcome.text, "the result");
    let mut seqs = Vec::new();
    while let Some(batch) = followed.message().await.unwrap() {
        seqs.extend(decode(&batch.events).unwrap().iter().map(|event| event.seq));
    }
    assert_eq!(seqs, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_reports_are_acknowledged_and_change_nothing() {
    let (_head, mut admin, mut worker, attempt) = with_an_order().await;
    worker.report(1, attempt, finished("first")).await;
    until_status(&mut admin, 1, TaskStatus::Succeeded).await;

    worker.report(2, attempt, finished("late")).await;
    let unknown = v1::AttemptId { task: 1, number: 9 };
    worker.report(3, unknown, started()).await;
    worker.report(4, SECOND, finished("of no task")).await;
    // Not readable as a result: it still ends the attempt's report.
    let empty = report::Body::Finished(v1::Outcome::default());
    worker.report(5, attempt, empty).await;
    worker.acked(5).await;
    let task = until_status(&mut admin, 1, TaskStatus::Succeeded).await;
    assert_eq!(task.attempts.len(), 1);
    assert_eq!(task.attempts[0].outcome.as_ref().unwrap().text, "first");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_late_result_of_an_attempt_before_the_latest_is_kept() {
    let (head, mut admin, mut worker, first) = with_an_order().await;
    worker.report(1, first, started()).await;
    worker.acked(1).await;

    // It comes back without the attempt, is given another one, and has the result after all.
    let mut worker = Worker::attach(&head, &[]).await;
    let second = worker.start_order().await.attempt.unwrap();
    assert_eq!((second.task, second.number), (1, 2));
    worker.report(2, first, finished("late")).await;
    worker.acked(2).await;
    let request = v1::GetTaskRequest { id: 1 };
    let task = admin.get_task(request).await.unwrap().into_inner();
    assert_eq!(task.attempts[0].outcome.as_ref().unwrap().text, "late");
    assert_eq!(task.attempts.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_whose_bytes_are_not_stored_counts_as_lost_and_begins_anew() {
    let (_head, mut admin, mut worker, attempt) = with_an_order().await;
    let report::Body::Finished(mut outcome) = finished("of a time after the backup") else {
        panic!("it is a result");
    };
    outcome.artifacts.push(v1::Artifact {
        kind: "patch".to_owned(),
        digest: vec![7; 32],
        size: 1,
    });
    worker
        .report(1, attempt, report::Body::Finished(outcome))
        .await;
    worker.acked(1).await;

    // A loss is not the task's fault: it has no retries, and waits for another attempt all the same.
    let task = until_status(&mut admin, 1, TaskStatus::Queued).await;
    let reason = task.reason.unwrap();
    assert_eq!(reason.code, "worker_lost");
    assert!(reason.message.contains("not stored here"), "{reason:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9_of_the_head() {
    let head = start().await;
    let mut admin = head.admin().await;
    let mut worker = Worker::attach(&head, &[]).await;
    let tasks = (1..=40).map(|i| new_task(&format!("task {i}"))).collect();
    admin.submit(submission("k", tasks)).await.unwrap();
    let attempt = worker.start_order().await.attempt.unwrap();
    worker.report(1, attempt, started()).await;
    worker.acked(1).await;
    push(&head, attempt, 1..=5).await;

    let head = head.kill_and_start_again().await;
    let mut admin = head.admin().await;
    let mut worker = Worker::attach(&head, &[(attempt, true)]).await;
    assert_eq!(worker.welcome.keep, [attempt]);
    assert_eq!(worker.welcome.acked_up_to, 1);
    assert_eq!(worker.welcome.epoch, 2);
    let list = v1::ListTasksRequest::default();
    let list = admin.list_tasks(list).await.unwrap().into_inner();
    assert_eq!(list.tasks.len(), 40);
    assert_eq!(list.tasks[0].status(), TaskStatus::Running);
    // The second slot's attempt never reached the worker: it is ordered again.
    assert_eq!(worker.start_order().await.attempt, Some(SECOND));
    let request = v1::FollowEventsRequest {
        task: 1,
        after_seq: 2,
        ..v1::FollowEventsRequest::default()
    };
    let mut events = admin.follow_events(request).await.unwrap().into_inner();
    let batch = events.message().await.unwrap().unwrap();
    let events = decode(&batch.events).unwrap();
    let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, [3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_can_neither_speak_for_another_one_nor_push_for_foreign_attempts() {
    let head = start().await;
    let refused = Worker::try_attach(&head, "somebody-else", &[]).await;
    let refused = refused.err().expect("another worker's name is refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let ack = push(&head, SECOND, 1..=1).await;
    assert!(ack.refused, "{ack:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_worker_that_is_there_is_refused_and_a_restarted_one_is_not() {
    let head = start().await;
    let id = head.worker_id();
    let attach =
        async |installation| Worker::try_attach_installed(&head, &id, &[], installation).await;
    let mut first = attach("first").await.unwrap();
    let copy = async {
        let refused = attach("copy").await.err().expect("the copy is refused");
        assert_eq!(refused.code(), Code::AlreadyExists);
        assert!(refused.message().contains("join again"), "{refused}");
    };
    first.beat_until(copy).await;
    let again = attach("first").await.unwrap();
    assert_eq!(again.welcome.epoch, first.welcome.epoch + 1);
    drop((first, again));
    // Nobody is there any more: it was moved.
    attach("copy").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_head_a_copy_that_comes_first_is_refused() {
    let head = start().await;
    let id = head.worker_id();
    let first = Worker::try_attach_installed(&head, &id, &[], "first").await;
    drop(first.unwrap());
    let head = head.kill_and_start_again().await;
    let copy = async {
        let refused = Worker::try_attach_installed(&head, &id, &[], "copy").await;
        let refused = refused.err().expect("the copy is refused");
        assert_eq!(refused.code(), Code::AlreadyExists);
    };
    let first = async {
        let first = Worker::try_attach_installed(&head, &id, &[], "first").await;
        first
            .unwrap()
            .beat_until(std::future::pending::<()>())
            .await;
    };
    tokio::select! {
        biased;
        () = copy => {}
        () = first => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_is_told_of_tasks_that_are_not_there() {
    let head = start().await;
    let mut admin = head.admin().await;
    let submitted = admin.submit(submission("k", vec![new_task("x")])).await;
    submitted.unwrap();
    let ids = vec![1, 7];
    let watch = admin.watch_tasks(v1::WatchTasksRequest { ids }).await;
    let first = watch
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    let seen: Vec<u64> = first.tasks.iter().map(|task| task.id).collect();
    assert_eq!((seen, first.forgotten), (vec![1], vec![7]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_the_worker_and_a_watcher_sees_the_end() {
    let head = start().await;
    let mut admin = head.admin().await;
    let mut worker = Worker::attach(&head, &[]).await;
    admin
        .submit(submission("k", vec![new_task("x")]))
        .await
        .unwrap();
    let attempt = worker.start_order().await.attempt.unwrap();
    let ids = vec![1];
    let watch = admin.watch_tasks(v1::WatchTasksRequest { ids }).await;
    let mut watch = watch.unwrap().into_inner();

    admin
        .cancel_tasks(v1::CancelTasksRequest { ids: vec![1] })
        .await
        .unwrap();
    let order = worker.order().await;
    let v1::order::Body::Cancel(cancel) = order else {
        panic!("not an order to stop: {order:?}");
    };
    assert_eq!(cancel.attempt, Some(attempt));
    let mut outcome = match finished("") {
        report::Body::Finished(outcome) => outcome,
        other => panic!("{other:?}"),
    };
    outcome.failure = Some(v1::Failure {
        code: "cancelled".to_owned(),
        ..v1::Failure::default()
    });
    worker
        .report(1, attempt, report::Body::Finished(outcome))
        .await;
    loop {
        let answer = watch.message().await.unwrap().expect("the watch goes on");
        let ended = |task: &v1::Task| task.status() == TaskStatus::Cancelled;
        if answer.tasks.iter().any(ended) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_reads_late_misses_the_end_of_no_task() {
    const TASKS: u64 = 1500;
    let head = start().await;
    let mut admin = head.admin().await;
    let tasks = (0..TASKS).map(|i| new_task(&format!("task {i}"))).collect();
    admin.submit(submission("k", tasks)).await.unwrap();
    let all = v1::WatchTasksRequest { ids: Vec::new() };
    let mut slow = admin.watch_tasks(all).await.unwrap().into_inner();
    for id in 1..=TASKS {
        let cancel = v1::CancelTasksRequest { ids: vec![id] };
        admin.cancel_tasks(cancel).await.unwrap();
    }
    let mut open: std::collections::BTreeSet<u64> = (1..=TASKS).collect();
    let mut snapshots = 0;
    while !open.is_empty() {
        let next = tokio::time::timeout(Duration::from_secs(60), slow.message()).await;
        let answer = next.expect("the watch goes on").unwrap().unwrap();
        snapshots += u32::from(answer.snapshot_done);
        for task in answer.tasks {
            if task.status() == TaskStatus::Cancelled {
                open.remove(&task.id);
            }
        }
    }
    assert!(snapshots <= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_cut_goes_on_and_wrong_bytes_before_it_are_sent_again() {
    let head = start().await;
    let mut bulk = head.bulk().await;
    let bytes: Vec<u8> = (0..300_000_u32).map(|i| (i % 253) as u8).collect();
    let (digest, size) = (Sha256::digest(&bytes).to_vec(), bytes.len() as u64);
    let request = v1::HaveRequest {
        digests: vec![digest.clone()],
    };
    let (begun, rest) = bytes.split_at(200_000);

    let cut = upload_part(&mut bulk, &digest, size, 0, &begun[1..]).await;
    assert_eq!(cut.unwrap_err().code(), Code::DataLoss);
    let wrong = upload_part(&mut bulk, &digest, size, 199_999, &bytes[199_999..]).await;
    assert_eq!(wrong.unwrap_err().code(), Code::Aborted);
    let gone = upload_part(&mut bulk, &digest, size, 199_999, rest).await;
    assert_eq!(gone.unwrap_err().code(), Code::Aborted);

    upload_part(&mut bulk, &digest, size, 0, begun)
        .await
        .unwrap_err();
    let stored = bulk.have(request.clone()).await.unwrap().into_inner();
    assert_eq!((stored.have, stored.partial), (vec![false], vec![200_000]));
    upload_part(&mut bulk, &digest, size, 200_000, rest)
        .await
        .unwrap();
    let stored = bulk.have(request).await.unwrap().into_inner();
    assert_eq!((stored.have, stored.partial), (vec![true], vec![0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_stored_only_under_their_own_hash_and_come_back_from_an_offset() {
    let head = start().await;
    let mut bulk = head.bulk().await;
    let bytes: Vec<u8> = (0..300_000_u32).map(|i| (i % 253) as u8).collect();
    let digest = Sha256::digest(&bytes).to_vec();
    let wrong = upload(&mut bulk, &digest, &bytes[1..]).await.unwrap_err();
    assert_eq!(wrong.code(), Code::DataLoss, "{wrong}");
    let have = |digest: &[u8]| v1::HaveRequest {
        digests: vec![digest.to_vec()],
    };
    let stored = bulk.have(have(&digest)).await.unwrap().into_inner();
    assert_eq!(stored.have, [false]);

    upload(&mut bulk, &digest, &bytes).await.unwrap();
    let stored = bulk.have(have(&digest)).await.unwrap().into_inner();
    assert_eq!(stored.have, [true]);
    let offset = 200_000;
    let request = v1::DownloadRequest { digest, offset };
    let mut chunks = bulk.download(request).await.unwrap().into_inner();
    let mut rest = Vec::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        rest.extend(chunk.data);
    }
    assert_eq!(rest, bytes[200_000..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_with_what_to_do() {
    let head = start().await;
    let mut admin = head.admin().await;
    let mut task = new_task("x");
    task.spec.as_mut().unwrap().runner = "cluade".to_owned();
    let refused = admin.submit(submission("k", vec![task])).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let missing = refused.get_details_resource_info().unwrap();
    assert_eq!(
        (&*missing.resource_type, &*missing.resource_name),
        (RUNNER, "cluade")
    );
    assert!(
        refused.message().contains("did you mean `claude`"),
        "{refused}"
    );

    let mut first = new_task("a");
    first.after_index = vec![1];
    let mut second = new_task("b");
    second.after_index = vec![0];
    let refused = admin.submit(submission("k", vec![first, second])).await;
    assert!(refused.unwrap_err().message().contains("circle"));

    let unknown = admin.get_task(v1::GetTaskRequest { id: 77 }).await;
    let unknown = unknown.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("ctl tasks"), "{unknown}");
    let list = v1::ListTasksRequest::default();
    let list = admin.list_tasks(list).await.unwrap().into_inner();
    assert!(list.tasks.is_empty(), "nothing was submitted");
}

#[tokio::test(flavor = "multi_thread")]
async fn small_calls_do_not_wait_for_delayed_acknowledgements() {
    /// A machine that is busy with other things for a moment is as slow once, not each time.
    const SERIES_MAX: usize = 8;
    let head = start().await;
    let mut admin = head.admin().await;
    let large = new_task(&"x".repeat(4096));
    admin.submit(submission("k", vec![large])).await.unwrap();
    let mut medians = Vec::new();
    for _ in 0..SERIES_MAX {
        let mut took = Vec::new();
        for _ in 0..50 {
            let began = Instant::now();
            admin.get_task(v1::GetTaskRequest { id: 1 }).await.unwrap();
            took.push(began.elapsed());
        }
        took.sort_unstable();
        // Without TCP_NODELAY at the head each call takes 40 ms, in every series.
        if took[25] < Duration::from_millis(30) {
            return;
        }
        medians.push(took[25]);
    }
    panic!("{medians:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_streams_and_the_process() {
    let mut head = start().await;
    let mut admin = head.admin().await;
    let _worker = Worker::attach(&head, &[]).await;
    let watch = v1::WatchTasksRequest::default();
    let mut watch = admin.watch_tasks(watch).await.unwrap().into_inner();
    admin
        .shutdown(v1::ShutdownRequest { now: false })
        .await
        .unwrap();
    while let Ok(Some(_)) = watch.message().await {}
    let until = Instant::now() + Duration::from_secs(30);
    let status = loop {
        if let Some(status) = head.process().try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < until, "the head does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(status.success(), "{status}");
    assert!(!head.state().join("head/head.json").exists());
}

async fn start() -> Head {
    Head::start_binary(env!("CARGO_BIN_EXE_orchestra-head").as_ref()).await
}

/// A head with one task, and a worker that was told to start it.
async fn with_an_order() -> (Head, AdminClient<Channel>, Worker, v1::AttemptId) {
    let head = start().await;
    let (admin, worker, attempt) = an_order(&head).await;
    (head, admin, worker, attempt)
}

/// Submits one task to a worker that is told to start it.
async fn an_order(head: &Head) -> (AdminClient<Channel>, Worker, v1::AttemptId) {
    let mut admin = head.admin().await;
    let mut worker = Worker::attach(head, &[]).await;
    let request = submission("k", vec![new_task("one")]);
    admin.submit(request).await.unwrap();
    let attempt = worker.start_order().await.attempt.unwrap();
    (admin, worker, attempt)
}

async fn upload(
    bulk: &mut BulkClient<tonic::transport::Channel>,
    digest: &[u8],
    bytes: &[u8],
) -> Result<v1::Artifact, tonic::Status> {
    upload_part(bulk, digest, bytes.len() as u64, 0, bytes).await
}

/// Sends some of the bytes that have this hash, from `offset` on.
async fn upload_part(
    bulk: &mut BulkClient<tonic::transport::Channel>,
    digest: &[u8],
    size: u64,
    offset: u64,
    bytes: &[u8],
) -> Result<v1::Artifact, tonic::Status> {
    let artifact = v1::Artifact {
        kind: "context".to_owned(),
        digest: digest.to_vec(),
        size,
    };
    let mut chunks = bytes.chunks(64 * 1024).map(|data| v1::UploadChunk {
        artifact: None,
        offset: 0,
        data: Bytes::copy_from_slice(data),
    });
    let mut first = chunks.next().unwrap();
    first.artifact = Some(artifact);
    first.offset = offset;
    let chunks: Vec<v1::UploadChunk> = std::iter::once(first).chain(chunks).collect();
    let answer = bulk.upload(tokio_stream::iter(chunks)).await?;
    Ok(answer.into_inner())
}

/// Pushes raw events over a connection of its own, as a worker does.
async fn push(
    head: &Head,
    attempt: v1::AttemptId,
    seqs: std::ops::RangeInclusive<u64>,
) -> v1::EventAck {
    let (uploads, stream) = tokio::sync::mpsc::channel(1);
    let event = |seq| v1::Event {
        seq,
        kind: Some(v1::event::Kind::RawOnly(true)),
        ..v1::Event::default()
    };
    let upload = v1::EventUpload {
        attempt: Some(attempt),
        events: encode(&seqs.map(event).collect::<Vec<_>>()),
    };
    uploads.send(upload).await.unwrap();
    let mut bulk = BulkClient::new(head.worker_channel().await);
    let acks = bulk.push_events(ReceiverStream::new(stream)).await;
    acks.unwrap().into_inner().message().await.unwrap().unwrap()
}
