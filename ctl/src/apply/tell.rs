//! Tells the head what became of a change.

use orchestra_proto::v1;
use orchestra_types::TaskId;

use super::{Done, How};
use crate::{changing, client::Client, error::Result, exit::Exit};

/// Tells it of a task's change, and of those below it that are there with it.
pub async fn tell(client: &Client, task: TaskId, how: &How, done: &Result<Done>) -> Result<()> {
    if *how == How::WorkTree {
        record(client, task, done).await?;
    }
    for task in done.iter().flat_map(|done| &done.not_noted) {
        note_applied(client, *task, 0).await?;
    }
    Ok(())
}

async fn record(client: &Client, task: TaskId, done: &Result<Done>) -> Result<()> {
    match done {
        Ok(done) => note_applied(client, task, done.files.unwrap_or(0)).await,
        Err(e) if e.exit() == Exit::Refused => {
            let request = v1::RecordApplyRequest {
                id: task.0,
                applied: false,
                message: e.chain(),
                files: 0,
            };
            note(client, request).await
        }
        Err(_) => Ok(()),
    }
}

async fn note_applied(client: &Client, task: TaskId, files: u64) -> Result<()> {
    let request = v1::RecordApplyRequest {
        id: task.0,
        applied: true,
        message: String::new(),
        files,
    };
    note(client, request).await
}

async fn note(client: &Client, request: v1::RecordApplyRequest) -> Result<()> {
    changing::patiently(async || client.admin().record_apply(request.clone()).await)
        .await
        .map(drop)
}
