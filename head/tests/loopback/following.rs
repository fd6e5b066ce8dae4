//! Following the events of attempts that were given up.

use super::*;
use tonic::Streaming;

type Followed = Streaming<v1::EventBatch>;

/// A head that soon gives up what its worker does not come for.
async fn impatient() -> Head {
    let binary = env!("CARGO_BIN_EXE_orchestra-head").as_ref();
    Head::start_configured(binary, "queue: {lease: 2s}\n").await
}

/// Follows this attempt alone; with 0, all of them.
async fn follow(admin: &mut AdminClient<Channel>, attempt: u32) -> Followed {
    let request = v1::FollowEventsRequest {
        task: 1,
        attempt,
        follow: true,
        ..v1::FollowEventsRequest::default()
    };
    admin.follow_events(request).await.unwrap().into_inner()
}

/// The next so many events, as the number of the attempt and their own.
async fn next(followed: &mut Followed, count: usize) -> Vec<(u32, u64)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(60), followed.message()).await;
        let batch = next.expect("there are more events").unwrap();
        let batch = batch.expect("there are more events");
        seen.extend(numbers(&batch));
    }
    seen
}

fn numbers(batch: &v1::EventBatch) -> Vec<(u32, u64)> {
    assert_eq!(batch.gap, None);
    let attempt = batch.attempt.unwrap().number;
    let events = decode(&batch.events).unwrap();
    events.iter().map(|event| (attempt, event.seq)).collect()
}

/// Reads to the end.
async fn rest(mut followed: Followed) -> Vec<(u32, u64)> {
    let mut seen = Vec::new();
    while let Some(batch) = followed.message().await.unwrap() {
        seen.extend(numbers(&batch));
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_taken_back_is_followed_as_if_it_had_never_been_lost() {
    let head = impatient().await;
    let (mut admin, mut worker, attempt) = an_order(&head).await;
    worker.report(1, attempt, started()).await;
    worker.acked(1).await;
    push(&head, attempt, 1..=3).await;
    let mut every = follow(&mut admin, 0).await;
    let mut first = follow(&mut admin, 1).await;
    for followed in [&mut every, &mut first] {
        assert_eq!(next(followed, 3).await, [(1, 1), (1, 2), (1, 3)]);
    }

    drop(worker);
    until_status(&mut admin, 1, TaskStatus::Queued).await;
    // What comes before its worker does is of this attempt as well.
    push(&head, attempt, 4..=4).await;
    for followed in [&mut every, &mut first] {
        assert_eq!(next(followed, 1).await, [(1, 4)]);
    }
    let mut worker = Worker::attach(&head, &[(attempt, true)]).await;
    assert_eq!(worker.welcome.keep, [attempt]);
    push(&head, attempt, 5..=6).await;
    worker.report(2, attempt, finished("done")).await;
    worker.acked(2).await;
    until_status(&mut admin, 1, TaskStatus::Succeeded).await;
    for followed in [every, first] {
        assert_eq!(rest(followed).await, [(1, 5), (1, 6)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_attempt_is_followed_until_another_one_begins() {
    let (head, mut admin, mut worker, attempt) = with_an_order().await;
    worker.report(1, attempt, started()).await;
    worker.acked(1).await;
    push(&head, attempt, 1..=3).await;
    let mut every = follow(&mut admin, 0).await;
    let first = follow(&mut admin, 1).await;

    // Its worker comes back without it.
    let mut worker = Worker::attach(&head, &[]).await;
    let second = worker.start_order().await.attempt.unwrap();
    assert_eq!(second.number, 2);
    assert_eq!(rest(first).await, [(1, 1), (1, 2), (1, 3)]);
    worker.report(2, second, started()).await;
    push(&head, second, 1..=1).await;
    assert_eq!(next(&mut every, 4).await, [(1, 1), (1, 2), (1, 3), (2, 1)]);
    // What the lost one said is kept, and not mixed in.
    push(&head, attempt, 4..=5).await;
    push(&head, second, 2..=2).await;
    worker.report(3, second, finished("done")).await;
    worker.acked(3).await;
    until_status(&mut admin, 1, TaskStatus::Succeeded).await;
    assert_eq!(rest(every).await, [(2, 2)]);
    let first = follow(&mut admin, 1).await;
    assert_eq!(rest(first).await.last(), Some(&(1, 5)));
}
