//! Lists of tasks.

use orchestra_core::Filter;
use orchestra_proto::{Refused, convert, v1};
use orchestra_types::{ScheduleId, TaskId, limits};
use prost::Message;

use super::{
    Services,
    status::{self, Result},
    wire,
};
use crate::{engine::View, store};

/// How many tasks a page has when the request says nothing.
const LIMIT_DEFAULT: u32 = 100;
/// Most tasks on a page.
const LIMIT_MAX: u32 = 1000;
/// Most tasks whose attempts are read at once, so that the engine is not kept from its work.
const WITH_USAGE_MAX: usize = 100;
/// Most attempts of several tasks that are read at once, for the same reason.
const ATTEMPTS_MAX: usize = 1000;
/// A page ends early when it gets larger than this, so that a client can take the message.
const PAGE_BYTES_MAX: usize = limits::MESSAGE_BYTES_MAX / 4;

pub(super) async fn tasks(
    services: &Services,
    request: v1::ListTasksRequest,
) -> Result<v1::ListTasksResponse> {
    let schedule = (request.schedule > 0).then_some(ScheduleId(request.schedule));
    let read = Reading {
        with_usage: request.with_usage,
        schedule,
    };
    let mut filter = filter(request).map_err(|e| status::refused(&e))?;
    if let Some(schedule) = schedule {
        return runs(services, filter, schedule, read).await;
    }
    let mut all = Found::default();
    // Where few of very many tasks fit, the engine answers in parts, and others have their turn.
    loop {
        let asked = read.part_of(&filter);
        let found = services.engine.read(move |view| page(view, &asked, read));
        let found = found.await.map_err(status::read)?;
        filter.limit = filter.limit.saturating_sub(found.tasks.len());
        filter.after = found.next;
        all.bytes += found.bytes;
        all.tasks.extend(found.tasks);
        all.next = found.next;
        if all.next.is_none() || filter.limit == 0 || all.bytes > PAGE_BYTES_MAX {
            return Ok(v1::ListTasksResponse {
                tasks: all.tasks,
                next_after_id: all.next.map_or(0, |id| id.0),
            });
        }
    }
}

/// Those of one schedule. Only the store knows whose run a task is, so that every task is looked at which
/// fits otherwise.
async fn runs(
    services: &Services,
    mut filter: Filter,
    schedule: ScheduleId,
    read: Reading,
) -> Result<v1::ListTasksResponse> {
    let wanted = std::mem::replace(&mut filter.limit, LIMIT_MAX as usize);
    let mut tasks: Vec<v1::Task> = Vec::new();
    let mut bytes = 0;
    loop {
        let asked = read.part_of(&filter);
        let found = services.engine.read(move |view| {
            let asked = narrowed(view, asked, schedule);
            page(view, &asked, read)
        });
        let found = found.await.map_err(status::read)?;
        let tasks_found = found.tasks.into_iter();
        for run in tasks_found.filter(|task| is_run(task, schedule)) {
            bytes += run.encoded_len();
            if tasks.len() == wanted || (bytes > PAGE_BYTES_MAX && !tasks.is_empty()) {
                let next_after_id = tasks.last().map_or(0, |last| last.id);
                return Ok(v1::ListTasksResponse {
                    tasks,
                    next_after_id,
                });
            }
            tasks.push(run);
        }
        filter.after = found.next;
        if filter.after.is_none() {
            return Ok(v1::ListTasksResponse {
                tasks,
                next_after_id: 0,
            });
        }
    }
}

/// The same, of tasks as the schedule makes them: fewer are looked at. One that was deleted is not known.
fn narrowed(view: &View<'_>, mut filter: Filter, schedule: ScheduleId) -> Filter {
    let row = view.core.schedules().find(|row| row.id == schedule);
    let Some(spec) = row.map(|row| &row.spec) else {
        return filter;
    };
    let project = spec.project.as_ref().map(|project| project.id.to_string());
    filter.project = filter.project.or(project);
    let submitter = Some(spec.submitter.clone()).filter(|name| !name.is_empty());
    filter.submitter = filter.submitter.or(submitter);
    filter
}

/// What is read of each task.
#[derive(Clone, Copy, Debug)]
struct Reading {
    with_usage: bool,
    /// Of other tasks than the runs of this schedule nothing more is read than shows that.
    schedule: Option<ScheduleId>,
}

impl Reading {
    /// As many tasks as the engine may read in one go.
    fn part_of(self, filter: &Filter) -> Filter {
        let most = match self.with_usage {
            true => filter.limit.min(WITH_USAGE_MAX),
            false => filter.limit,
        };
        Filter {
            limit: most,
            ..filter.clone()
        }
    }

    fn task(self, view: &View<'_>, id: TaskId) -> store::Result<Option<v1::Task>> {
        let mut found = wire::summary(view, id)?;
        if let Some(task) = found.as_mut().filter(|task| self.wants(task)) {
            wire::add_usage(view, task)?;
        }
        Ok(found)
    }

    fn wants(self, task: &v1::Task) -> bool {
        self.with_usage && self.schedule.is_none_or(|schedule| is_run(task, schedule))
    }
}

fn is_run(task: &v1::Task, schedule: ScheduleId) -> bool {
    let spec = task.spec.as_ref();
    spec.is_some_and(|spec| spec.schedule == schedule.0)
}

/// A part of a page.
#[derive(Default)]
struct Found {
    tasks: Vec<v1::Task>,
    bytes: usize,
    next: Option<TaskId>,
}

fn page(view: &View<'_>, filter: &Filter, read: Reading) -> store::Result<Found> {
    let listed = view.core.list(filter);
    let mut found = Found {
        next: listed.next,
        ..Found::default()
    };
    let mut attempts = 0;
    for id in listed.ids {
        let Some(task) = read.task(view, id)? else {
            continue;
        };
        found.bytes += task.encoded_len();
        attempts += task.attempts.len();
        let large = found.bytes > PAGE_BYTES_MAX || attempts > ATTEMPTS_MAX;
        if large && !found.tasks.is_empty() {
            found.next = found.tasks.last().map(|last: &v1::Task| TaskId(last.id));
            break;
        }
        found.tasks.push(task);
    }
    Ok(found)
}

fn filter(wire: v1::ListTasksRequest) -> std::result::Result<Filter, Refused> {
    let statuses = wire.statuses.into_iter();
    let statuses = statuses.map(|status| convert::task_status("statuses", status));
    let limit = match wire.limit {
        0 => LIMIT_DEFAULT,
        limit => limit.min(LIMIT_MAX),
    };
    Ok(Filter {
        statuses: statuses.collect::<std::result::Result<_, _>>()?,
        labels: convert::labels("labels", wire.labels)?,
        runner: convert::optional_name("runner", &wire.runner)?,
        project: (!wire.project.is_empty()).then_some(wire.project),
        submitter: (!wire.submitter.is_empty()).then_some(wire.submitter),
        limit: limit as usize,
        after: (wire.after_id > 0).then_some(TaskId(wire.after_id)),
        newest_first: wire.newest_first,
    })
}
