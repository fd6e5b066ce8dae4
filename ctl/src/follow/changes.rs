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

/// What is new.
pub struct News {
    /// Tasks that are new or changed.
    pub tasks: Vec<Task>,
    /// Tasks that were asked for and are not there: the head has forgotten them.
    pub forgotten: Vec<TaskId>,
}

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

    /// What is new. After a break all tasks come again as they are. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<News> {
        loop {
            let Some(stream) = &mut self.stream else {
                tokio::time::sleep(PAUSE).await;
                self.stream = Some(open(&self.client, &self.request).await?);
                continue;
            };
            match stream.message().await {
                Ok(Some(change)) if change.tasks.is_empty() && change.forgotten.is_empty() => {}
                Ok(Some(change)) => return News::read(change),
                Err(status) if !may_resume(&status) => return Err(status_error(&status)),
                // The head went away, or is about to.
                Ok(None) | Err(_) => self.stream = None,
            }
        }
    }
}

impl News {
    fn read(wire: v1::WatchResponse) -> Result<Self> {
        let tasks = wire.tasks.into_iter().map(Task::read);
        Ok(Self {
            tasks: tasks.collect::<Result<_>>()?,
            forgotten: wire.forgotten.into_iter().map(TaskId).collect(),
        })
    }
}

async fn open(
    client: &Client,
    request: &v1::WatchTasksRequest,
) -> Result<Streaming<v1::WatchResponse>> {
    patiently(async || client.admin().watch_tasks(request.clone()).await).await
}
