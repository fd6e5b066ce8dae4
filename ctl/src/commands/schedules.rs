//! `ctl schedules`.

mod show;

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use orchestra_proto::v1;
use orchestra_types::{Priority, ScheduleId, TaskId, Timestamp};
use serde::Serialize;

use crate::{
    app::App,
    changing,
    client::Client,
    commands::each_once,
    error::{Error, Result, or_untold},
    exit::Exit,
    json::{refused, some, time::Time},
    ui::{
        escape::line,
        now,
        style::{Line, Style},
        table::{Cell, Table},
        time::{ago, duration},
    },
};

/// List recurring tasks; show, pause, resume or delete them
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
`ctl add --every 6h \"…\"` makes a recurring task. Each run is a task of its own; a run that is due while
the last one has not ended comes when it has, and what was missed is one run.

Examples:
  ctl schedules
  ctl schedules show 1               one whole: what each run is, when the next one comes, the last ones
  ctl tasks --schedule 1             all of its runs
  ctl schedules pause schedule_001
  ctl schedules delete 1 2"
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Show also who asked for each, its project, runner, priority and labels
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show one whole: what each run is, when the next one comes and by which clock, the last runs
    Show(show::Args),
    /// Make no more runs for now; a run that has begun goes on
    Pause(Named),
    /// Make runs again; those that were missed meanwhile are left out
    Resume(Named),
    /// Make no more runs, and forget the schedules
    Delete(Named),
}

impl Command {
    /// What it has done to them.
    fn in_words(&self) -> &'static str {
        match self {
            Self::Show(_) => "shown",
            Self::Pause(_) => "paused",
            Self::Resume(_) => "resumed",
            Self::Delete(_) => "deleted",
        }
    }
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The schedules, as schedule_001 or 1
    #[arg(value_name = "SCHEDULE", required = true)]
    schedules: Vec<ScheduleId>,
}

/// `ctl schedules --json`.
#[derive(Debug, Serialize)]
struct Schedules {
    schedules: Vec<Schedule>,
}

/// One recurring task.
#[derive(Debug, Serialize)]
struct Schedule {
    id: ScheduleId,
    description: String,
    /// `every 6h`, `daily at 18:30 +01:00`.
    rule: String,
    paused: bool,
    /// Null while it is paused.
    next_at: Option<Time>,
    /// The latest run; null before the first.
    last: Option<TaskId>,
    runs: u64,
    created_at: Time,
    /// Who asked for it, as `user@host`.
    submitter: Option<String>,
    /// Its project's name.
    project: Option<String>,
    /// Which runner it is for; null: any.
    runner: Option<String>,
    priority: Priority,
    labels: BTreeMap<String, String>,
}

impl Schedule {
    fn read(wire: v1::Schedule) -> Result<Self> {
        let id = ScheduleId::from_str(&wire.id.to_string());
        let id = id.map_err(|e| Error::failed(e.to_string()))?;
        let spec = wire.spec.unwrap_or_default();
        let last = (wire.last_task > 0).then_some(TaskId(wire.last_task));
        let rule = orchestra_proto::convert::recurrence(wire.every).map_err(refused)?;
        Ok(Self {
            id,
            description: spec.description,
            rule: rule.to_string(),
            paused: wire.paused,
            next_at: (!wire.paused).then_some(Time::from_ms(wire.next_ms)),
            last,
            runs: wire.runs,
            created_at: Time::from_ms(wire.created_at_ms),
            submitter: some(spec.submitter),
            project: spec.project.and_then(|project| some(project.name)),
            runner: some(spec.runner),
            priority: orchestra_proto::convert::priority(spec.priority).map_err(refused)?,
            labels: spec.labels.into_iter().collect(),
        })
    }
}

/// Refuses schedules that are not there, before any is changed.
async fn require(client: &Client, wanted: &[ScheduleId]) -> Result<()> {
    let schedules = client.schedules().await?;
    let there = |id: &&ScheduleId| schedules.iter().any(|known| known.id == id.0);
    match wanted.iter().find(|id| !there(id)) {
        None => Ok(()),
        Some(id) => Err(none(*id).saying(format!("there is no {id}; nothing was changed"))),
    }
}

/// There is no such schedule.
pub fn none(id: ScheduleId) -> Error {
    let error = Error::new(Exit::NotFound, format!("there is no {id}"));
    error.hint("`ctl schedules` lists all of them")
}

/// Pauses what recurs because an agent of one of these tasks has asked for it; gives what was paused.
pub async fn pause_those_of(client: &Client, tasks: &BTreeSet<TaskId>) -> Result<Vec<ScheduleId>> {
    let schedules = client.schedules().await?;
    let parent = |schedule: &v1::Schedule| schedule.spec.as_ref().map_or(0, |spec| spec.parent);
    let theirs = |schedule: &v1::Schedule| tasks.contains(&TaskId(parent(schedule)));
    let mut paused = Vec::new();
    for schedule in schedules.iter().filter(|s| !s.paused && theirs(s)) {
        let request = v1::ChangeScheduleRequest {
            id: schedule.id,
            action: v1::ScheduleAction::Pause.into(),
        };
        changing::patiently(async || client.admin().change_schedule(request).await).await?;
        paused.push(ScheduleId(schedule.id));
    }
    Ok(paused)
}

/// Those that make tasks, by id.
pub async fn going_on(client: &Client) -> Result<Vec<ScheduleId>> {
    let schedules = client.schedules().await?;
    let open = schedules.iter().filter(|schedule| !schedule.paused);
    Ok(open.map(|schedule| ScheduleId(schedule.id)).collect())
}

/// Lists or changes schedules.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let client = app.connect().await?;
    let verbose = args.verbose;
    let change = args.command.as_ref().map(Command::in_words);
    let deleted = matches!(args.command, Some(Command::Delete(_)));
    let wire = match args.command {
        None => client.schedules().await?,
        Some(command) => {
            let (named, action) = match command {
                Command::Show(args) => return show::run(app, &client, args).await,
                Command::Pause(named) => (named, v1::ScheduleAction::Pause),
                Command::Resume(named) => (named, v1::ScheduleAction::Resume),
                Command::Delete(named) => (named, v1::ScheduleAction::Delete),
            };
            require(&client, &named.schedules).await?;
            let mut changed = Vec::new();
            for id in each_once(named.schedules) {
                let request = v1::ChangeScheduleRequest {
                    id: id.0,
                    action: action.into(),
                };
                let answer =
                    changing::patiently(async || client.admin().change_schedule(request).await);
                changed.extend(answer.await?.schedule);
            }
            changed
        }
    };
    let schedules = wire
        .into_iter()
        .map(Schedule::read)
        .collect::<Result<_>>()?;
    let document = Schedules { schedules };
    let shown = app.show(&document, |document| {
        if deleted {
            return tell_deleted(app, &document.schedules);
        }
        if document.schedules.is_empty() {
            app.ui
                .next("no recurring tasks; `ctl add --every 6h \"…\"` makes one");
            return Ok(());
        }
        app.ui.table(&table(&document.schedules, verbose))
    });
    match change {
        None => shown,
        Some(change) => or_untold(shown, || in_words(&document.schedules, change)),
    }
}

/// `schedule_001, schedule_002 paused`.
fn in_words(schedules: &[Schedule], change: &str) -> String {
    let ids: Vec<String> = schedules.iter().map(|s| s.id.to_string()).collect();
    format!("{} {change}", ids.join(", "))
}

fn tell_deleted(app: &App, schedules: &[Schedule]) -> Result<()> {
    for schedule in schedules {
        let deleted = Line::of(Style::Good, "deleted ");
        app.ui
            .line(&deleted.with(Style::Bold, schedule.id.to_string()))?;
    }
    Ok(())
}

/// What stands in each line; whose it is only where somebody wants to know.
const COLUMNS: [&str; 6] = ["SCHEDULE", "RULE", "NEXT", ">RUNS", "LAST", "CREATED"];
const WHOSE: [&str; 5] = ["SUBMITTER", "PROJECT", "RUNNER", "PRIORITY", "LABELS"];

fn table(schedules: &[Schedule], verbose: bool) -> Table {
    let now = now();
    let whose = if verbose { &WHOSE[..] } else { &[] };
    let columns = [&COLUMNS[..], whose, &["DESCRIPTION…"]].concat();
    let mut table = Table::new(&columns).sparing(match verbose {
        true => &[
            "CREATED",
            "RUNS",
            "LAST",
            "LABELS",
            "PRIORITY",
            "RUNNER",
            "PROJECT",
            "SUBMITTER",
            "RULE",
        ],
        false => &["CREATED", "RUNS", "LAST", "RULE"],
    });
    for schedule in schedules {
        let first_line = schedule
            .description
            .trim_start()
            .lines()
            .next()
            .unwrap_or_default();
        let (next, style) = next(schedule, now);
        let mut row = vec![
            Cell::new(schedule.id.to_string(), Style::Bold),
            schedule.rule.clone().into(),
            Cell::new(next, style),
            schedule.runs.to_string().into(),
            schedule
                .last
                .map_or_else(|| "-".to_owned(), |id| id.to_string())
                .into(),
            Cell::new(ago(schedule.created_at.0, now), Style::Dim),
        ];
        if verbose {
            row.extend(whose_is(schedule));
        }
        row.push(line(first_line).into_owned().into());
        table.row(row);
    }
    table
}

/// When the next run comes, in words.
fn next(schedule: &Schedule, now: Timestamp) -> (String, Style) {
    match schedule.next_at {
        None => ("paused".to_owned(), Style::Attention),
        Some(at) if at.0 <= now => ("when the last run has ended".to_owned(), Style::Dim),
        Some(at) => (format!("in {}", duration(at.0.since(now))), Style::Plain),
    }
}

/// What stands in the columns of `WHOSE`.
fn whose_is(schedule: &Schedule) -> [Cell; 5] {
    let named = |name: &Option<String>| line(name.as_deref().unwrap_or("-")).into_owned().into();
    let labels = schedule.labels.iter();
    let labels: Vec<String> = labels
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    [
        named(&schedule.submitter),
        named(&schedule.project),
        schedule
            .runner
            .clone()
            .unwrap_or_else(|| "any".to_owned())
            .into(),
        schedule.priority.to_string().into(),
        named(&(!labels.is_empty()).then(|| labels.join(" "))),
    ]
}
