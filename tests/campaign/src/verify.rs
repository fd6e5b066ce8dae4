//! Compares what a head serves with what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use orchestra_proto::{
    batch::decode,
    v1::{self, TaskStatus},
};
use tokio::task::JoinSet;

use crate::{
    client::{self, Admin, Answer, Clients},
    ledger::{Cancel, Kind, Ledger, Shared, Task, description},
    worker::event_text,
};

/// Tasks of one page.
const PAGE: u32 = 1000;
/// Questions at once.
const AT_ONCE: usize = 32;
/// Differences that are reported; more say nothing new.
const DIFFERENCES_MAX: usize = 8;

/// Which tasks are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// Those from this id on.
    From(u64),
}

/// Every difference, in words. An error is a head that could not be asked.
///
/// The load may go on: what was acknowledged before must be there, and what is there must have
/// been asked for in the end.
pub async fn compare(
    clients: &Clients,
    ledger: &Shared,
    scope: Scope,
) -> anyhow::Result<Vec<String>> {
    let first = match scope {
        Scope::All => 0,
        Scope::From(id) => id,
    };
    let before = ledger.mark();
    let served = list(&mut clients.nth(0), first).await;
    let served = served.context("failed to list the tasks")?;
    let served = served.into_iter().map(|task| (task.id, task)).collect();
    let after = ledger.mark();
    let mut found = Vec::new();
    compare_tasks(&before, &after, &served, first, &mut found);
    compare_unknown(&after, &served, &mut found);
    compare_results(clients, &before, first, &mut found).await?;
    found.truncate(DIFFERENCES_MAX);
    Ok(found)
}

/// All tasks from this id on.
pub async fn list(admin: &mut Admin, first: u64) -> Result<Vec<v1::Task>, tonic::Status> {
    let mut tasks = Vec::new();
    let mut after_id = first.saturating_sub(1);
    loop {
        let request = v1::ListTasksRequest {
            limit: PAGE,
            after_id,
            ..v1::ListTasksRequest::default()
        };
        let page = admin.list_tasks(request).await?.into_inner();
        tasks.extend(page.tasks);
        if page.next_after_id == 0 {
            return Ok(tasks);
        }
        after_id = page.next_after_id;
    }
}

/// Every acknowledged task is there, and is what was asked for.
fn compare_tasks(
    before: &Ledger,
    after: &Ledger,
    served: &BTreeMap<u64, v1::Task>,
    first: u64,
    found: &mut Vec<String>,
) {
    for (id, known) in before.tasks.range(first..) {
        let Some(task) = served.get(id) else {
            found.push(format!("LOST: task {id} ({})", known.description));
            continue;
        };
        let text = task.spec.as_ref().map_or("", |spec| &spec.description);
        if text != known.description {
            found.push(format!(
                "WRONG: task {id} is {text:?}, not {:?}",
                known.description
            ));
        }
        let status = task.status();
        let later = after.tasks.get(id).unwrap_or(known);
        let reported = after.done.contains_key(id) || after.unsure.contains(id);
        let reported = reported && known.kind == Kind::Runs;
        if !reported && !is_right(known, task) && !is_right(later, task) {
            found.push(format!(
                "LOST: task {id} is {status:?}, but its cancel is {:?} ({:?})",
                known.cancel, known.kind
            ));
        }
        if before.is_done(*id) && !matches!(status, TaskStatus::Running) && !ended(status) {
            found.push(format!(
                "LOST: the completion of task {id}: it is {status:?}"
            ));
        }
    }
}

/// Whether a task without a completion is as it must be.
fn is_right(known: &Task, task: &v1::Task) -> bool {
    let status = task.status();
    let open = matches!(
        status,
        TaskStatus::Queued | TaskStatus::Assigned | TaskStatus::Running
    );
    match (known.kind, known.cancel) {
        (Kind::Waits, Cancel::No) => status == TaskStatus::Queued,
        (Kind::Waits, Cancel::Asked) => {
            matches!(status, TaskStatus::Queued | TaskStatus::Cancelled)
        }
        (Kind::Waits, Cancel::Acked) => status == TaskStatus::Cancelled,
        (Kind::Runs, Cancel::No) => open,
        (Kind::Runs, Cancel::Asked) => open || status == TaskStatus::Cancelled,
        (Kind::Runs, Cancel::Acked) => task.cancel_requested || status == TaskStatus::Cancelled,
    }
}

/// Every other task is of a submission without an answer, and those are whole or not there.
fn compare_unknown(ledger: &Ledger, served: &BTreeMap<u64, v1::Task>, found: &mut Vec<String>) {
    let mut partial: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (id, task) in served
        .iter()
        .filter(|(id, _)| !ledger.tasks.contains_key(*id))
    {
        let text = task.spec.as_ref().map_or("", |spec| &spec.description);
        let key = text.split('/').next().unwrap_or_default();
        let open = ledger
            .submits
            .get(key)
            .filter(|submit| submit.ids.is_none());
        match open {
            None => found.push(format!("TWICE: task {id} ({text}) is nobody's")),
            Some(_) if !partial.entry(key).or_default().insert(text) => {
                found.push(format!("TWICE: there are two of {text}"));
            }
            Some(_) => {}
        }
    }
    for (key, texts) in partial {
        let count = ledger.submits.get(key).map_or(0, |submit| submit.count);
        let whole = (0..count).all(|index| texts.contains(description(key, index).as_str()));
        if !whole {
            found.push(format!("HALF: submission {key} of {count}: only {texts:?}"));
        }
    }
}

/// Every acknowledged completion is recorded once, with its text; every event can be read.
async fn compare_results(
    clients: &Clients,
    ledger: &Ledger,
    first: u64,
    found: &mut Vec<String>,
) -> anyhow::Result<()> {
    let mut asked = JoinSet::new();
    let ids: BTreeSet<u64> = ledger
        .done
        .range(first..)
        .map(|(id, _)| *id)
        .filter(|id| ledger.is_done(*id))
        .chain(ledger.events.range(first..).map(|(id, _)| *id))
        .collect();
    for (n, id) in ids.into_iter().enumerate() {
        while asked.len() >= AT_ONCE {
            found.extend(take(asked.join_next().await)?);
        }
        let admin = clients.nth(n);
        let done = ledger.done.get(&id).filter(|_| ledger.is_done(id));
        let done = done.map(|done| (done.number, done.text.clone()));
        let events = ledger.events.get(&id).copied().unwrap_or(0);
        asked.spawn(async move { result(admin, id, done, events).await });
    }
    while let Some(one) = asked.join_next().await {
        found.extend(take(Some(one))?);
    }
    Ok(())
}

type Joined = Result<anyhow::Result<Vec<String>>, tokio::task::JoinError>;

fn take(one: Option<Joined>) -> anyhow::Result<Vec<String>> {
    one.transpose()?.transpose().map(Option::unwrap_or_default)
}

async fn result(
    mut admin: Admin,
    id: u64,
    done: Option<(u32, String)>,
    events: u64,
) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let task = admin.get_task(v1::GetTaskRequest { id }).await;
    let task = match task {
        Ok(task) => task.into_inner(),
        Err(status) if client::meaning(&status) == Answer::Refused => {
            return Ok(vec![format!(
                "LOST: task {id}, which a worker reported: {status}"
            )]);
        }
        Err(status) => return Err(status).with_context(|| format!("failed to read task {id}")),
    };
    if let Some((number, text)) = done {
        let recorded: Vec<_> = task
            .attempts
            .iter()
            .map(|attempt| {
                let outcome = attempt.outcome.as_ref();
                (attempt.number, outcome.map(|outcome| outcome.text.as_str()))
            })
            .collect();
        if recorded != [(number, Some(text.as_str()))] {
            found.push(format!(
                "LOST: the completion {text:?} of task {id}: recorded is {recorded:?}"
            ));
        }
    }
    if events > 0 {
        found.extend(follow(&mut admin, id, events).await?);
    }
    Ok(found)
}

async fn follow(admin: &mut Admin, id: u64, events: u64) -> anyhow::Result<Vec<String>> {
    let texts = match read_events(admin, id).await {
        Ok(texts) => texts,
        Err(status) if client::meaning(&status) == Answer::Refused => {
            return Ok(vec![format!(
                "LOST: {events} events of task {id}: {status}"
            )]);
        }
        Err(status) => {
            return Err(status).with_context(|| format!("failed to read events of task {id}"));
        }
    };
    let in_order = (1..).zip(&texts);
    let right = in_order.fold(true, |right, (n, (seq, text))| {
        right && *seq == n && *text == event_text(id, n)
    });
    Ok(match right && texts.len() as u64 >= events {
        true => Vec::new(),
        false => vec![format!(
            "LOST: events of task {id}: want {events}, there are {texts:?}"
        )],
    })
}

/// The numbers and texts of a task's events.
pub async fn read_events(admin: &mut Admin, id: u64) -> Result<Vec<(u64, String)>, tonic::Status> {
    let request = v1::FollowEventsRequest {
        task: id,
        ..v1::FollowEventsRequest::default()
    };
    let mut stream = admin.follow_events(request).await?.into_inner();
    let mut texts = Vec::new();
    while let Some(batch) = stream.message().await? {
        texts.extend(batch.gap.map(|gap| (gap.from, format!("{gap:?}"))));
        let events = decode(&batch.events);
        let events = events.map_err(|e| tonic::Status::data_loss(e.to_string()))?;
        texts.extend(events.into_iter().map(|event| match event.kind {
            Some(v1::event::Kind::Message(text)) => (event.seq, text.text),
            other => (event.seq, format!("{other:?}")),
        }));
    }
    Ok(texts)
}

fn ended(status: TaskStatus) -> bool {
    matches!(
        status,
        TaskStatus::Succeeded
            | TaskStatus::Failed
            | TaskStatus::Cancelled
            | TaskStatus::NeedsReview
    )
}
