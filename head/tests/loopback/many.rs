//! Calls about many tasks at once.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn each_task_of_a_call_is_cancelled_or_refused_by_itself() {
    let head = start().await;
    let mut admin = head.admin().await;
    let tasks = (0..3).map(|i| new_task(&format!("task {i}"))).collect();
    admin.submit(submission("k", tasks)).await.unwrap();

    let cancelled = cancel(&mut admin, &[2]).await;
    assert_eq!(cancelled, [Ok((2, TaskStatus::Cancelled))]);
    let mixed = cancel(&mut admin, &[3, 2, 7, 0, 1, 1]).await;
    let expected = [
        Ok((3, TaskStatus::Cancelled)),
        Err(Code::FailedPrecondition),
        Err(Code::NotFound),
        Err(Code::InvalidArgument),
        Ok((1, TaskStatus::Cancelled)),
        Err(Code::FailedPrecondition),
    ];
    assert_eq!(mixed, expected);
    let status = admin.get_status(v1::GetStatusRequest {}).await.unwrap();
    assert_eq!(status.into_inner().by_status["cancelled"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_cancels_neither_no_task_nor_too_many() {
    let head = start().await;
    let mut admin = head.admin().await;
    admin
        .submit(submission("k", vec![new_task("x")]))
        .await
        .unwrap();
    for ids in [vec![], vec![1; limits::CHANGE_TASKS_MAX + 1]] {
        let request = v1::CancelTasksRequest { ids };
        let refused = admin.cancel_tasks(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    until_status(&mut admin, 1, TaskStatus::Queued).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_task_of_a_call_is_tried_again_or_refused_by_itself_and_in_order() {
    let head = start().await;
    let mut admin = head.admin().await;
    let mut tasks: Vec<_> = (0..3).map(|i| new_task(&format!("task {i}"))).collect();
    for (place, task) in tasks.iter_mut().enumerate().skip(1) {
        task.after_index = vec![u32::try_from(place - 1).unwrap()];
        let spec = task.spec.as_mut().unwrap();
        spec.on_dependency_failure = v1::OnDependencyFailure::Cancel.into();
    }
    admin.submit(submission("k", tasks)).await.unwrap();
    // Those that come after it go with it.
    assert_eq!(cancel(&mut admin, &[1]).await.len(), 1);
    until_status(&mut admin, 3, TaskStatus::Cancelled).await;
    let request = v1::RetryTasksRequest {
        ids: vec![1, 2, 9, 3, 1],
    };
    let answer = admin.retry_tasks(request).await.unwrap().into_inner();
    let answers = answer.answers.into_iter();
    let answers: Vec<_> = answers
        .map(|answer| match answer.answer.unwrap() {
            v1::retried::Answer::Task(task) => Ok((task.id, task.status())),
            v1::retried::Answer::Refused(why) => Err(Code::from_i32(why.code)),
        })
        .collect();
    let expected = [
        Ok((1, TaskStatus::Queued)),
        Ok((2, TaskStatus::Blocked)),
        Err(Code::NotFound),
        Ok((3, TaskStatus::Blocked)),
        Err(Code::FailedPrecondition),
    ];
    assert_eq!(answers, expected);
}

async fn cancel(
    admin: &mut AdminClient<Channel>,
    ids: &[u64],
) -> Vec<Result<(u64, TaskStatus), Code>> {
    let request = v1::CancelTasksRequest { ids: ids.to_vec() };
    let answers = admin
        .cancel_tasks(request)
        .await
        .unwrap()
        .into_inner()
        .answers;
    let answers = answers
        .into_iter()
        .map(|answer| match answer.answer.unwrap() {
            v1::cancelled::Answer::Task(task) => Ok((task.id, task.status())),
            v1::cancelled::Answer::Refused(why) => Err(Code::from_i32(why.code)),
        });
    answers.collect()
}
