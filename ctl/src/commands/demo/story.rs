//! The workflow, and what is told of it while it runs.

use std::{collections::BTreeMap, time::Duration};

use futures::{
    StreamExt,
    stream::{BoxStream, SelectAll},
};
use orchestra_proto::{batch::decode, v1};
use orchestra_types::{Event, TaskId, TaskStatus};
use tonic::{Status, Streaming};

use super::{cluster::Cluster, stage::Stage};
use crate::{
    client::status_error,
    error::{Error, Result},
    exit::Exit,
    json::{refused, task::Task},
    submit::{self, draft::Draft},
    ui::{
        Ui,
        status::{style, symbol, words},
        style::{Line, Style},
        task::summary,
        transcript::Transcript,
    },
};

const PLAN: &str = "Plan the two tools that README.md asks for. Change no files.";
const SLUG: &str = "Implement bin/slug with a test, as planned.";
const WORDS: &str = "Implement bin/words with a test, as planned.";
const REVIEW: &str = "Review both tools: run ./check and write REVIEW.md.";

/// How long nothing may happen. On an idle machine the whole demo takes a tenth of it.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Columns for what an agent says and does.
const COLUMNS: usize = 96;

/// Runs the workflow; the ids of its tasks, in order.
pub async fn run(cluster: &Cluster, stage: &Stage) -> Result<Vec<TaskId>> {
    let draft = |description: &str| Draft {
        description: description.to_owned(),
        agent: Some("agent".parse().expect("agent is a name")),
        repo: Some(stage.repo()),
        ..Draft::default()
    };
    let named = |name: &str, draft: Draft| Draft {
        name: Some(name.to_owned()),
        ..draft
    };
    let after = |names: &[&str], description: &str| Draft {
        after: names.iter().map(|name| (*name).to_owned()).collect(),
        apply: Some(true),
        ..draft(description)
    };
    // The review begins with both changes, as each task does with those before it.
    let drafts = vec![
        named("plan", draft(PLAN)),
        named("slug", after(&["plan"], SLUG)),
        named("words", after(&["plan"], WORDS)),
        after(&["slug", "words"], REVIEW),
    ];
    let ids = submit(cluster, drafts).await?;
    follow(cluster, &ids).await?;
    Ok(ids)
}

async fn submit(cluster: &Cluster, drafts: Vec<Draft>) -> Result<Vec<TaskId>> {
    let base = std::path::Path::new("");
    let submitted = submit::submit(&cluster.app, &cluster.client, drafts, base, None).await?;
    Ok(submitted.ids)
}

type Events<'a> = BoxStream<'a, (TaskId, std::result::Result<v1::EventBatch, Status>)>;

/// Tells what happens to these tasks until all have ended; fails when one did not succeed.
async fn follow(cluster: &Cluster, ids: &[TaskId]) -> Result<()> {
    let request = v1::WatchTasksRequest {
        ids: ids.iter().map(|id| id.0).collect(),
    };
    let answer = cluster.client.admin().watch_tasks(request).await;
    let mut changes = answer.map_err(|s| status_error(&s))?.into_inner();
    let mut teller = Teller::new(cluster.app.ui);
    let mut events: SelectAll<Events<'_>> = SelectAll::new();
    while !(teller.all_ended(ids) && events.is_empty()) {
        let told = async {
            tokio::select! {
                change = changes.message(), if !teller.all_ended(ids) => {
                    for started in teller.on_change(change)? {
                        events.push(follow_events(cluster, started).await?);
                    }
                }
                // Without a next one, all streams have ended and the set is empty.
                next = events.next(), if !events.is_empty() => {
                    if let Some((id, batch)) = next {
                        teller.on_events(id, batch.map_err(|s| status_error(&s))?)?;
                    }
                }
            }
            Ok(())
        };
        tokio::time::timeout(SILENCE_MAX, told)
            .await
            .map_err(|_| silence())??;
    }
    teller.verdict()
}

fn silence() -> Error {
    let message = format!("nothing has happened for {} s", SILENCE_MAX.as_secs());
    Error::failed(message).hint("the logs of head and workers say why; they are kept")
}

async fn follow_events(cluster: &Cluster, id: TaskId) -> Result<Events<'static>> {
    let request = v1::FollowEventsRequest {
        task: id.0,
        attempt: 0,
        after_seq: 0,
        follow: true,
    };
    let answer = cluster.client.admin().follow_events(request).await;
    let stream: Streaming<v1::EventBatch> = answer.map_err(|s| status_error(&s))?.into_inner();
    Ok(stream.map(move |batch| (id, batch)).boxed())
}

/// Tells the steps of tasks, and what their agents say and do.
struct Teller {
    ui: Ui,
    tasks: BTreeMap<TaskId, Task>,
    transcripts: BTreeMap<TaskId, Transcript>,
}

impl Teller {
    fn new(ui: Ui) -> Self {
        Self {
            ui,
            tasks: BTreeMap::new(),
            transcripts: BTreeMap::new(),
        }
    }

    fn all_ended(&self, ids: &[TaskId]) -> bool {
        ids.iter()
            .all(|id| self.tasks.get(id).is_some_and(has_ended))
    }

    /// Tells what is new; the tasks that an agent has begun.
    fn on_change(
        &mut self,
        change: std::result::Result<Option<v1::WatchResponse>, Status>,
    ) -> Result<Vec<TaskId>> {
        let change = change.map_err(|s| status_error(&s))?.ok_or_else(|| {
            Error::new(
                Exit::HeadNotRunning,
                "the head stopped telling about its tasks",
            )
        })?;
        let mut started = Vec::new();
        for task in change.tasks {
            let task = Task::read(task)?;
            let before = self.tasks.get(&task.id).map(|task| task.status);
            if before != Some(task.status) {
                self.step(&task);
            }
            if task.attempt > 0 && !self.transcripts.contains_key(&task.id) {
                self.transcripts
                    .insert(task.id, Transcript::new(Some(COLUMNS)));
                started.push(task.id);
            }
            self.tasks.insert(task.id, task);
        }
        Ok(started)
    }

    fn step(&self, task: &Task) {
        let state = format!("{} {:<10}", symbol(task.status), words(task.status));
        let line = Line::of(Style::Bold, format!("{}  ", task.id))
            .with(style(task.status), state)
            .with(Style::Plain, summary(task, 70));
        self.ui.note(&line);
    }

    fn on_events(&mut self, id: TaskId, batch: v1::EventBatch) -> Result<()> {
        let Some(transcript) = self.transcripts.get_mut(&id) else {
            return Ok(());
        };
        let mut lines = Vec::new();
        for event in decode(&batch.events).map_err(refused)? {
            let event = Event::try_from(event).map_err(refused)?;
            lines.extend(transcript.on(&event));
        }
        lines
            .iter()
            .filter(|line| !line.0.is_empty())
            .for_each(|line| self.said(id, line));
        Ok(())
    }

    /// A line of an agent, with the task that it belongs to.
    fn said(&self, id: TaskId, line: &Line) {
        let mut told = Line::of(Style::Dim, format!("{id}  │ "));
        told.0.extend(line.0.iter().cloned());
        self.ui.note(&told);
    }

    fn verdict(&self) -> Result<()> {
        let failed = self
            .tasks
            .values()
            .find(|task| task.status != TaskStatus::Succeeded);
        let Some(task) = failed else {
            return Ok(());
        };
        let why = task
            .reason
            .as_ref()
            .map_or("no reason is known", |r| r.message.as_str());
        let message = format!("{} ended as {}: {why}", task.id, words(task.status));
        Err(Error::new(Exit::TaskFailed, message))
    }
}

fn has_ended(task: &Task) -> bool {
    task.status.is_ended() || task.status == TaskStatus::NeedsReview
}
