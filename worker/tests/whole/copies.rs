//! A copy of a worker's directory, as a cloned machine has it.

use super::{
    gone,
    harness::{FakeHead, Worker, is_alive, wait_for},
    sleeper,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_the_head_refuses_says_so_and_ends_and_touches_no_agent() {
    let head = FakeHead::start().await;
    let mut worker = Worker::start(&head);
    let agent = sleeper(&head).await;
    let mut copy = worker.start_copy();

    let status = copy.ended().await;
    let log = copy.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("another worker uses this identity"), "{log}");
    assert!(!log.contains("agent found again"), "{log}");
    assert!(is_alive(agent), "the copy has ended the agent: {log}");
    assert_eq!(head.seen().hellos.len(), 1);

    worker.crash();
    worker.start_again();
    let hellos = || (head.seen().hellos.len() == 2).then_some(());
    wait_for("the first one's return", hellos, || worker.log()).await;
    assert!(is_alive(agent));
    worker.stop().await;
    gone(agent).await;
}
