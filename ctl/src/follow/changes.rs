//! The stream of changed tasks: first all as they are, then every change.

use std::collections::BTreeMap;

use orchestra_proto::v1;
use orchestra_types::TaskId;
use tonic::Streaming;

use super::absence::Absence;
use crate::{
    client::{Client, may_resume, patiently, status_error},
    error::Result,
    json::{task::Task, time::Time},
    ui::live::Voice,
};

/// What is new.
pub struct News {
    /// Tasks that are new or changed.
    pub tasks: Vec<Task>,
    /// Tasks that were asked for and are not there: the head has forgotten them, or comes from a backup that
    /// lacks them, where another task may have their id by now.
    pub forgotten: Vec<TaskId>,
}

/// Changed tasks, over breaks of the connection.
pub struct Changes {
    client: Client,
    request: v1::WatchTasksRequest,
    /// When those were added that were asked for, as it was first told.
    added: BTreeMap<TaskId, Time>,
    /// None after a break, until it is open again.
    stream: Option<Streaming<v1::WatchResponse>>,
    absence: Absence<Streaming<v1::WatchResponse>>,
}

impl Changes {
    /// Changes of these tasks; without any, of all that have not ended and of new ones. `voice` says it
    /// when the head is away.
    pub async fn open(client: &Client, ids: &[TaskId], voice: Voice) -> Result<Self> {
        let request = v1::WatchTasksRequest {
            ids: ids.iter().map(|id| id.0).collect(),
        };
        let call = async || client.admin().watch_tasks(request.clone()).await;
        let stream = Some(patiently(call).await?);
        Ok(Self {
            absence: Absence::new(client, Some(voice)),
            client: client.clone(),
            request,
            added: BTreeMap::new(),
            stream,
        })
    }

    /// The head has answered on another stream: it is not away, though this one is not open again yet.
    pub fn head_answered(&mut self) {
        self.absence.is_over();
    }

    /// What is new. After a break all tasks come again as they are. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<News> {
        loop {
            let Some(stream) = &mut self.stream else {
                let open = || {
                    let (mut admin, request) = (self.client.admin(), self.request.clone());
                    async move { admin.watch_tasks(request).await }
                };
                self.stream = Some(self.absence.end(open).await?);
                continue;
            };
            match stream.message().await {
                Ok(Some(change)) if change.tasks.is_empty() && change.forgotten.is_empty() => {}
                Ok(Some(change)) => return Ok(self.of_those_asked_for(News::read(change)?)),
                Err(status) if !may_resume(&status) => return Err(status_error(&status)),
                // The head went away, or is about to.
                Ok(None) | Err(_) => self.stream = None,
            }
        }
    }

    /// A task that has the id of one that was asked for, and is another one, is no news of that.
    fn of_those_asked_for(&mut self, mut news: News) -> News {
        if self.request.ids.is_empty() {
            return news;
        }
        let others = news.tasks.extract_if(.., |task| {
            let added = self.added.entry(task.id).or_insert(task.created_at);
            *added != task.created_at
        });
        news.forgotten.extend(others.map(|task| task.id));
        news
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
