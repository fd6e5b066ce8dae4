//! `ctl schedules show`: one schedule whole.

use std::{collections::BTreeMap, time::Duration};

use jiff::Zoned;
use orchestra_proto::{convert, v1};
use orchestra_types::{Recurrence, ScheduleId, ShellCommand, TaskSpec, Timestamp};
use serde::Serialize;

use super::{Schedule, next, none};
use crate::{
    app::App,
    client::Client,
    commands::tasks::latest_runs,
    error::Result,
    exit::Exit,
    json::{
        budget::BudgetDocument,
        refused,
        task::{SetUpDocument, Task, Workplace},
    },
    ui::{
        detail::{here, pairs, place, set_up},
        escape::{line, path},
        excerpt::{ALL_IN_JSON, Part, text},
        now,
        style::{Line, Style},
        task::task_table,
        time::{ago, limit},
        wrap::At,
    },
};

/// How wide the names of facts are, with the space after them.
const NAME: usize = 12;
/// How many of the latest runs are shown.
const RUNS_SHOWN: u32 = 5;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The schedule, as schedule_001 or 1
    #[arg(value_name = "SCHEDULE")]
    schedule: ScheduleId,
}

/// `ctl schedules show --json`.
#[derive(Debug, Serialize)]
struct Whole {
    #[serde(flatten)]
    schedule: Schedule,
    /// Of the clock that the time of day is meant by, as `+01:00`; null where there is no time of day.
    offset: Option<String>,
    #[serde(flatten)]
    order: Order,
    /// The latest runs, oldest first.
    tasks: Vec<Task>,
    /// There are earlier ones.
    truncated: bool,
}

/// What each run is, beside what a list of schedules says.
#[derive(Debug, Serialize)]
struct Order {
    project_id: Option<String>,
    project_dir: Option<String>,
    model: Option<String>,
    fallback: Vec<String>,
    requires: BTreeMap<String, String>,
    timeout_seconds: f64,
    retries: u32,
    queue_timeout_seconds: Option<f64>,
    stall_timeout_seconds: Option<f64>,
    budget: Option<BudgetDocument>,
    parent: Option<orchestra_types::TaskId>,
    place: Workplace,
    command: Option<ShellCommand>,
    context: Vec<String>,
    set_up: Option<SetUpDocument>,
    ports: Option<u32>,
    apply_requested: bool,
}

impl From<TaskSpec> for Order {
    fn from(spec: TaskSpec) -> Self {
        let seconds = |limit: Duration| limit.as_secs_f64();
        let project = spec.project.as_ref();
        Self {
            project_id: project.map(|project| project.id.to_string()),
            project_dir: project.map(|project| project.dir.to_string_lossy().into_owned()),
            model: spec.model,
            fallback: spec.fallback.iter().map(ToString::to_string).collect(),
            requires: spec.requires,
            timeout_seconds: seconds(spec.timeout),
            retries: spec.retries,
            queue_timeout_seconds: spec.queue_timeout.map(seconds),
            stall_timeout_seconds: spec.stall_timeout.map(seconds),
            budget: convert::budget_to_wire(spec.budget).map(BudgetDocument::from),
            parent: spec.parent,
            place: spec.place.into(),
            command: spec.command,
            context: spec.context_files.into_iter().map(|f| f.name).collect(),
            set_up: spec.set_up.map(Into::into),
            ports: spec.ports,
            apply_requested: spec.apply,
        }
    }
}

impl Whole {
    fn read(wire: v1::Schedule, tasks: Vec<Task>, truncated: bool) -> Result<Self> {
        let spec = wire.spec.clone().unwrap_or_default();
        let spec = TaskSpec::try_from(spec).map_err(refused)?;
        let offset = match convert::recurrence(wire.every).map_err(refused)? {
            Recurrence::Every(_) => None,
            rule @ Recurrence::Daily { .. } => {
                rule.to_string().rsplit(' ').next().map(str::to_owned)
            }
        };
        Ok(Self {
            schedule: Schedule::read(wire)?,
            offset,
            order: spec.into(),
            tasks,
            truncated,
        })
    }
}

/// Shows one.
pub async fn run(app: &App, client: &Client, args: Args) -> Result<Exit> {
    let id = args.schedule;
    let wire = client.schedule(id).await?.ok_or_else(|| none(id))?;
    let (tasks, more) = latest_runs(client, id, RUNS_SHOWN).await?;
    let names = match app.ui.is_json() {
        true => BTreeMap::new(),
        false => client.worker_names().await?,
    };
    app.show(&Whole::read(wire, tasks, more)?, |whole| {
        let ui = &app.ui;
        let shown = lines(whole, &Zoned::now(), ui.stdout.width);
        shown.iter().try_for_each(|line| ui.line(line))?;
        if whole.tasks.is_empty() {
            ui.next("\nno runs yet");
            return Ok(());
        }
        ui.line(&Line::default())?;
        ui.table(&task_table(&whole.tasks, &names))?;
        if whole.truncated {
            ui.next(format!("more: ctl tasks --schedule {id}"));
        }
        Ok(())
    })
}

fn lines(whole: &Whole, here: &Zoned, width: Option<usize>) -> Vec<Line> {
    let schedule = &whole.schedule;
    let title = Line::of(Style::Bold, format!("{}  ", schedule.id));
    let title = title.with(Style::Plain, schedule.rule.clone());
    let mut lines = vec![match schedule.paused {
        true => title.with(Style::Attention, "  paused"),
        false => title,
    }];
    lines.extend(text(&schedule.description, Part::First, width, ALL_IN_JSON));
    lines.push(Line::default());
    for (name, value) in facts(whole, here) {
        if !value.is_empty() {
            let fact = Line::of(Style::Dim, format!("  {name:<NAME$}")).with(Style::Plain, value);
            lines.extend(fact.wrapped(width, 2 + NAME, At::Words));
        }
    }
    lines
}

fn facts(whole: &Whole, zone: &Zoned) -> Vec<(&'static str, String)> {
    let (schedule, order, now) = (&whole.schedule, &whole.order, now());
    let named = |name: &Option<String>| line(name.as_deref().unwrap_or_default()).into_owned();
    let within = |seconds: Option<f64>| seconds.map(limit).unwrap_or_default();
    let model = order
        .model
        .as_deref()
        .map(|model| format!(" ({})", line(model)));
    let runner = line(schedule.runner.as_deref().unwrap_or("any")).into_owned();
    let last = schedule.last.map(|last| format!(", the latest is {last}"));
    let parent = order.parent.map(|id| id.to_string());
    let context: Vec<_> = order.context.iter().map(|name| line(name)).collect();
    let dir = order
        .project_dir
        .as_deref()
        .map(|dir| format!(" ({})", path(dir)));
    vec![
        ("next", next_run(schedule, now)),
        (
            "clock",
            whole
                .offset
                .as_deref()
                .map(|at| clock(at, zone))
                .unwrap_or_default(),
        ),
        (
            "runs",
            format!("{}{}", schedule.runs, last.unwrap_or_default()),
        ),
        (
            "created",
            format!(
                "{} ({})",
                ago(schedule.created_at.0, now),
                schedule.created_at
            ),
        ),
        ("submitter", named(&schedule.submitter)),
        ("runner", runner + &model.unwrap_or_default()),
        ("fallback", order.fallback.join(", ")),
        ("priority", schedule.priority.to_string()),
        (
            "budget",
            order
                .budget
                .map(|budget| budget.words())
                .unwrap_or_default(),
        ),
        ("time limit", within(Some(order.timeout_seconds))),
        ("wait limit", within(order.queue_timeout_seconds)),
        ("stall limit", within(order.stall_timeout_seconds)),
        ("retries", order.retries.to_string()),
        ("labels", pairs(&schedule.labels)),
        ("requires", pairs(&order.requires)),
        ("part of", parent.unwrap_or_default()),
        ("context", context.join(", ")),
        (
            "project",
            named(&schedule.project) + &dir.unwrap_or_default(),
        ),
        ("project id", named(&order.project_id)),
        ("place", place(&order.place)),
        (
            "set-up",
            order.set_up.as_ref().map(set_up).unwrap_or_default(),
        ),
        (
            "ports",
            order
                .ports
                .map(|ports| ports.to_string())
                .unwrap_or_default(),
        ),
        (
            "apply",
            if order.apply_requested {
                "on success".to_owned()
            } else {
                String::new()
            },
        ),
    ]
}

/// When the next run comes, also by the clock of this machine.
fn next_run(schedule: &Schedule, now: Timestamp) -> String {
    let (words, _) = next(schedule, now);
    match schedule.next_at.filter(|at| at.0 > now) {
        Some(at) => format!("{words} ({})", here(at)),
        None => words,
    }
}

/// By which clock its time of day is meant, and what another one here shows then.
fn clock(offset: &str, here: &Zoned) -> String {
    let this = here.strftime("%:z").to_string();
    match this == offset {
        true => format!("{offset} from UTC, as here now; it does not follow summer time"),
        false => {
            format!("{offset} from UTC, and not {this} as here now: it does not follow summer time")
        }
    }
}

#[cfg(test)]
mod tests {
    use orchestra_types::{Place, RunnerName};

    use super::*;
    use crate::json::undocumented;

    fn whole() -> Whole {
        let mut spec = TaskSpec::new("Look at the logs\nand say what is new");
        spec.runner = Some("claude".parse::<RunnerName>().unwrap());
        spec.model = Some("small".to_owned());
        spec.retries = 2;
        spec.place = Place::Empty;
        spec.labels = [("area".to_owned(), "ops".to_owned())].into();
        let rule = Recurrence::parse("6:00", 60).unwrap();
        let wire = v1::Schedule {
            id: 1,
            spec: Some(spec.into()),
            every: Some(convert::recurrence_to_wire(rule)),
            paused: true,
            last_task: 7,
            runs: 3,
            ..Default::default()
        };
        Whole::read(wire, Vec::new(), false).unwrap()
    }

    #[test]
    fn what_each_run_is_stands_below_when_it_comes() {
        let here = "2026-11-21T17:00:00+01:00[Europe/Paris]".parse().unwrap();
        let shown = lines(&whole(), &here, None);
        let shown: Vec<String> = shown.iter().map(|line| line.render(false)).collect();
        assert_eq!(shown[0], "schedule_001  daily at 06:00 +01:00  paused");
        assert_eq!(shown[2], "  and say what is new");
        for fact in [
            "  next        paused",
            "  clock       +01:00 from UTC, as here now; it does not follow summer time",
            "  runs        3, the latest is task_007",
            "  runner      claude (small)",
            "  time limit  30m",
            "  retries     2",
            "  labels      area=ops",
            "  place       an empty directory",
        ] {
            assert!(shown.iter().any(|line| line == fact), "{fact}\n{shown:#?}");
        }
        assert!(!shown.iter().any(|line| line.contains("budget")));
    }

    #[test]
    fn a_clock_that_is_another_one_here_is_told_apart() {
        let summer = "2026-07-21T17:00:00+02:00[Europe/Paris]".parse().unwrap();
        let said = clock("+01:00", &summer);
        assert!(said.contains("not +02:00 as here now"), "{said}");
    }

    #[test]
    fn every_name_of_a_whole_schedule_is_documented_where_schedules_are() {
        let document = serde_json::to_value(whole()).unwrap();
        let page = include_str!("../../../../docs/json.md");
        let mut paragraphs = page.split("\n\n");
        let of_schedules = paragraphs.find(|text| text.starts_with("**Schedule**"));
        let lacks = undocumented(of_schedules.unwrap(), &document);
        assert!(lacks.is_empty(), "docs/json.md lacks {lacks:?}");
    }
}
