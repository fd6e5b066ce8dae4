//! The stream of changed tasks: first all as they are, then every change.

use std::time::Duration;

use orchestra_proto::v1;
use orchestra_types::TaskId;
use tonic::Streaming;

use crate::{
    client::{Client, may_resume, patiently, status_error},
    error::Result,
    json::task::Task,
};

/// Pause before a stream that ended is opened again.
const PAUSE: Duration = Duration::from_millis(200);

/// Changed tasks, over breaks of the connection.
pub struct Changes {
    client: Client,
    request: v1::WatchTasksRequest,
    /// None after a break, until it is open again.
    stream: Option<Streaming<v1::WatchResponse>>,
}

impl Changes {
    /// Changes of these tasks; without any, of all that have not ended and of new ones.
    pub async fn open(client: &Client, ids: &[TaskId]) -> Result<Self> {
        let request = v1::WatchTasksRequest {
            ids: ids.iter().map(|id| id.0).collect(),
        };
        let stream = Some(open(client, &request).await?);
        Ok(Self {
            client: client.clone(),
            request,
            stream,
        })
    }

    /// The next tasks that are new or changed. After a break all of them come again as they are.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Vec<Task>> {
        loop {
            let Some(stream) = &mut self.stream else {
                tokio::time::sleep(PAUSE).await;
                self.stream = Some(open(&self.client, &self.request).await?);
                continue;
            };
            match stream.message().await {
                Ok(Some(change)) if change.tasks.is_empty() => {}
                Ok(Some(change)) => return change.tasks.into_iter().map(Task::read).collect(),
                Err(status) if !may_resume(&status) => return Err(status_error(&status)),
                // The head went away, or is about to.
                Ok(None) | Err(_) => self.stream = None,
            }
        }
    }
}

async fn open(
    client: &Client,
    request: &v1::WatchTasksRequest,
) -> Result<Streaming<v1::WatchResponse>> {
    patiently(async || client.admin().watch_tasks(request.clone()).await).await
}
