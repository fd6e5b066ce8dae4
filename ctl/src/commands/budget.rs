//! `ctl budget`.

use std::{collections::BTreeSet, path::Path, time::Duration};

use clap::builder::NonEmptyStringValueParser;
use orchestra_proto::v1;
use orchestra_repo::project_ref;
use orchestra_types::{
    Budget, BudgetChange, FailureCode, Limit, Measure, TaskId, TaskStatus,
    budget::{self, NOTHING_RUNS},
    limits, shell,
    time::parse_duration,
};
use serde::Serialize;

use crate::{
    app::App,
    blocking::blocking,
    changing,
    client::{Client, patiently},
    commands::{
        accounts::until_when,
        answer,
        tasks::{LIMIT_MAX, unknown},
    },
    error::{Error, Result, or_untold},
    exit::Exit,
    json::{
        budget::{BudgetDocument, ProjectBudget},
        task::Task,
    },
    repository::OrBroken,
    ui::{
        escape::line,
        style::Style,
        table::{Cell, Table},
    },
};

/// Raise, set or take away what a task or a project may use; without options, list what the projects have used today
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A number with + in front is added to the limit that there is, else it takes its place; where there is no limit,
adding is refused, so that a raise never limits anything. What the task or the day has used before counts. A
task that had stopped at its budget goes on from its kept work when the new one allows it; so do its subtasks.
One that had stopped at the budget of a task above it, or waits for its project's, needs a raise of that one:
`ctl show` names it. With none in the place of a number there is no limit any more. A project's budget counts
per day (UTC); an added one counts for today only.

Examples:
  ctl budget task_007 --tokens +100k
  ctl budget 7 --usd +2.50 --time +30m
  ctl budget 7 --tokens none --time 2h       as many tokens as it takes, within 2 hours
  ctl budget --project website --usd 20      20 US dollars a day from now on
  ctl budget --project website --usd +5      5 more for today
  ctl budget                                 what the projects have used today, with a budget or without")]
pub struct Args {
    /// The task, as task_001 or 1
    #[arg(value_name = "TASK", conflicts_with = "project")]
    pub(super) task: Option<TaskId>,
    /// The project, by its name, its id, or the first 8 characters of that or more, as `ctl show` names
    /// them. One without tasks so far only in its directory
    #[arg(long, value_name = "PROJECT", value_parser = NonEmptyStringValueParser::new())]
    project: Option<String>,
    #[command(flatten)]
    limits: Limits,
}

/// How much.
#[derive(Debug, clap::Args)]
struct Limits {
    /// Tokens, sent and received: 200k, +100k, none
    #[arg(long, value_name = "[+]N|none", value_parser = tokens, allow_hyphen_values = true)]
    tokens: Option<Amount<u64>>,
    /// Cost in US dollars: 5, +2.50, none
    #[arg(long, value_name = "[+]USD|none", value_parser = usd, allow_hyphen_values = true)]
    usd: Option<Amount<u64>>,
    /// Wall time of agents: 2h, +30m, none
    #[arg(long, value_name = "[+]DURATION|none", value_parser = time, allow_hyphen_values = true)]
    time: Option<Amount<Duration>>,
    /// Attempts: 3, +1, none
    #[arg(long, value_name = "[+]N|none", value_parser = attempts, allow_hyphen_values = true)]
    attempts: Option<Amount<u32>>,
}

/// How a limit changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Amount<T> {
    /// It is this from now on.
    Set(T),
    /// It is so much more.
    Add(T),
    /// There is none any more.
    Lift,
}

impl<T: Copy> Amount<T> {
    fn value(self) -> Option<T> {
        match self {
            Self::Set(value) | Self::Add(value) => Some(value),
            Self::Lift => None,
        }
    }

    fn adds(self) -> bool {
        match self {
            Self::Add(_) => true,
            Self::Set(_) | Self::Lift => false,
        }
    }
}

fn amount<T: Default + PartialEq, E: ToString>(
    text: &str,
    read: impl FnOnce(&str) -> std::result::Result<T, E>,
) -> std::result::Result<Amount<T>, String> {
    if text == "none" {
        return Ok(Amount::Lift);
    }
    let (add, number) = match text.strip_prefix('+') {
        Some(number) => (true, number),
        None => (false, text),
    };
    let value = read(number).map_err(|e| e.to_string())?;
    if value == T::default() {
        return Err(format!("{NOTHING_RUNS}, or say none to take a limit away"));
    }
    Ok(match add {
        true => Amount::Add(value),
        false => Amount::Set(value),
    })
}

fn tokens(text: &str) -> std::result::Result<Amount<u64>, String> {
    amount(text, budget::tokens)
}

fn usd(text: &str) -> std::result::Result<Amount<u64>, String> {
    amount(text, budget::usd)
}

fn time(text: &str) -> std::result::Result<Amount<Duration>, String> {
    amount(text, parse_duration)
}

fn attempts(text: &str) -> std::result::Result<Amount<u32>, String> {
    amount(text, str::parse::<u32>)
}

impl Limits {
    /// What changes; none where nothing is said.
    fn change(&self) -> Result<Option<BudgetChange>> {
        let limits = Budget {
            tokens: self.tokens.and_then(Amount::value),
            cost_microusd: self.usd.and_then(Amount::value),
            time: self.time.and_then(Amount::value),
            attempts: self.attempts.and_then(Amount::value),
        };
        // Each that is said, and whether it adds.
        let said = [
            (Measure::Tokens, self.tokens.map(Amount::adds)),
            (Measure::Cost, self.usd.map(Amount::adds)),
            (Measure::Time, self.time.map(Amount::adds)),
            (Measure::Attempts, self.attempts.map(Amount::adds)),
        ];
        let adds: Vec<bool> = said.iter().filter_map(|(_, adds)| *adds).collect();
        let Some(first) = adds.first().copied() else {
            return Ok(None);
        };
        if adds.iter().any(|adds| *adds != first) {
            return Err(Error::usage("some of the numbers have a + and some do not")
                .hint("raise with one command and set with another"));
        }
        if first {
            return Ok(Some(BudgetChange::Add(limits)));
        }
        let lifted = said.into_iter().filter(|(_, adds)| adds.is_some());
        let lifted = lifted.map(|(measure, _)| measure);
        let none = lifted.filter(|measure| !limits.limits(*measure)).collect();
        Ok(Some(BudgetChange::Set { limits, none }))
    }
}

/// `ctl budget TASK --json`.
#[derive(Debug, Serialize)]
struct Tasks {
    tasks: [Task; 1],
}

/// `ctl budget --json` without a task.
#[derive(Debug, Serialize)]
struct Projects {
    projects: Vec<ProjectBudget>,
}

/// Whoever has no answer sees by it what a budget is now.
const LOOK: &str =
    "look first, `ctl budget` with the task, or without it, shows it: a + would be added twice";

/// Lists or changes budgets.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let wanted = args.limits.change()?;
    let client = app.connect().await?;
    match (args.task, args.project, wanted) {
        (Some(id), _, Some(change)) => {
            let before = client.task(id).await?;
            let task = set_task(&client, id, change).await?;
            let changed = super::change("budget", Some(words(&before)), &words(&task));
            let done = || format!("the budget of {id} is changed");
            app.show_done(&Tasks { tasks: [task] }, done, |Tasks { tasks: [task] }| {
                answer(app, task, &changed)?;
                if let Some(still) = still_used_up(task) {
                    app.ui.warn(still);
                }
                Ok(())
            })
        }
        (Some(id), _, None) => {
            let task = client.task(id).await?;
            app.show(&Tasks { tasks: [task] }, |Tasks { tasks: [task] }| {
                let spent = task.spent.map(|s| s.words());
                app.ui.print(format!(
                    "{id}  budget: {}; used: {}\n",
                    words(task),
                    spent.as_deref().unwrap_or("nothing yet"),
                ))
            })
        }
        (None, Some(project), Some(change)) => {
            let (budget, add, none) = wire(change);
            let here = this_project(app, &project).await?;
            let (new_id, new_name) = here.unwrap_or_default();
            let request = v1::SetProjectBudgetRequest {
                project,
                budget,
                add,
                none,
                new_id,
                new_name,
            };
            // It would add twice.
            let wanted = request.project.clone();
            let call = async { client.admin().set_project_budget(request).await };
            let answer = match changing::once(call, LOOK).await {
                Ok(answer) => answer,
                // The head names none that may be meant.
                Err(error) if error.exit() == Exit::NotFound => {
                    let unknown = unknown::project(&client, &wanted).await;
                    return Err(unknown.map_or_else(before_first_task, |()| error));
                }
                Err(error) => return Err(error),
            };
            let project = ProjectBudget::read(answer);
            let done = format!("the budget of {} is changed", line(&project.name));
            or_untold(show_all(app, vec![project], None), || done)
        }
        (None, project, None) => {
            let request = v1::ListBudgetsRequest {};
            let answer = patiently(async || client.admin().list_budgets(request).await).await?;
            let default = answer.default.map(BudgetDocument::from);
            let mut shown: Vec<ProjectBudget> = answer
                .projects
                .into_iter()
                .map(ProjectBudget::read)
                .collect();
            if let Some(wanted) = &project {
                shown = those_meant(&client, wanted, shown).await?;
            }
            match project {
                Some(project) if shown.is_empty() => {
                    unknown::project(&client, &project).await?;
                    show_none(app, &project, default)
                }
                Some(_) | None => show_all(app, shown, default),
            }
        }
        (None, None, Some(_)) => {
            Err(Error::usage("whose budget?").hint("name a task, or a project with --project"))
        }
    }
}

/// What a task may use, in words.
fn words(task: &Task) -> String {
    let budget = task.budget.map(|budget| budget.words());
    budget.unwrap_or_else(|| "unlimited".to_owned())
}

/// The limit of its own that a task has used up: one that runs is stopped by it, and else it is not begun.
pub fn used_up(task: &Task) -> Option<Limit> {
    let (budget, spent) = (task.budget?.budget(), task.spent?.spent());
    match task.status {
        TaskStatus::Assigned | TaskStatus::Running => budget.reached(&spent),
        TaskStatus::Blocked
        | TaskStatus::Queued
        | TaskStatus::Failed
        | TaskStatus::Cancelled
        | TaskStatus::NeedsReview => budget.forbids_start(&spent),
        TaskStatus::Succeeded => None,
    }
}

/// Why a task does not go on by its new budget. One that is held says so itself.
fn still_used_up(task: &Task) -> Option<String> {
    let reason = task.reason.as_ref();
    let is_held = reason.is_some_and(|why| why.code == FailureCode::BudgetExceeded);
    if task.status == TaskStatus::Queued && is_held {
        return None;
    }
    let (limit, spent) = (used_up(task)?, task.spent?);
    let excess = limit.excess();
    let excess = excess.map(|more| format!(", {more} more than that"));
    Some(format!(
        "the budget of {id} is still used up at {limit}{}; used: {}\n`ctl budget {id} {}` allows more than that",
        excess.unwrap_or_default(),
        spent.words(),
        limit.raise(),
        id = task.id,
    ))
}

/// Whether a person who says `wanted` may mean this project, as the head takes it.
fn may_mean(wanted: &str, project: &ProjectBudget) -> bool {
    is_called(wanted, &project.project, &project.name)
}

/// The budgets that a person who says `wanted` may mean. A project has the name of each directory that it was worked
/// on from, and its budget the name of one: of another one its tasks say what it is.
async fn those_meant(
    client: &Client,
    wanted: &str,
    mut all: Vec<ProjectBudget>,
) -> Result<Vec<ProjectBudget>> {
    if all.iter().any(|project| may_mean(wanted, project)) {
        all.retain(|project| may_mean(wanted, project));
        return Ok(all);
    }
    let request = v1::ListTasksRequest {
        project: wanted.to_owned(),
        limit: LIMIT_MAX,
        ..Default::default()
    };
    let page = patiently(async || client.admin().list_tasks(request.clone()).await).await?;
    let projects = page.tasks.iter();
    let projects = projects.filter_map(|task| task.spec.as_ref()?.project.as_ref());
    let ids: BTreeSet<&str> = projects.map(|project| project.id.as_str()).collect();
    all.retain(|project| ids.contains(project.project.as_str()));
    Ok(all)
}

fn is_called(wanted: &str, id: &str, name: &str) -> bool {
    let begins = wanted.len() >= limits::PROJECT_PREFIX_MIN && id.starts_with(wanted);
    name == wanted || id == wanted || begins
}

/// Id and name of the project of the current directory, where a person who says `wanted` may mean it: the
/// head may not know it yet.
async fn this_project(app: &App, wanted: &str) -> Result<Option<(String, String)>> {
    let machine = app.machine()?;
    let project = blocking(move || {
        let here = || "failed to look at the current directory".to_owned();
        project_ref(Path::new("."), &machine).or_broken(here)
    })
    .await?;
    let (id, name) = (project.id.to_string(), project.name);
    Ok(is_called(wanted, &id, &name).then_some((id, name)))
}

/// What else there is to do for a project that is no typo.
fn before_first_task(error: Error) -> Error {
    error.hint(
        "a project is called as its directory, and known from its first task on; before that its budget is \
         set in that directory, by the same command",
    )
}

/// Changes the budget of a task.
pub async fn set_task(client: &Client, id: TaskId, change: BudgetChange) -> Result<Task> {
    let (budget, add, none) = wire(change);
    let request = v1::SetTaskBudgetRequest {
        id: id.0,
        budget,
        add,
        none,
    };
    // It would add twice.
    let call = async { client.admin().set_task_budget(request).await };
    Task::read(changing::once(call, LOOK).await?)
}

/// Limits, whether they are added, and what is not limited any more.
fn wire(change: BudgetChange) -> (Option<v1::Budget>, bool, Vec<i32>) {
    let none = |measure: Measure| v1::Measure::from(measure).into();
    match change {
        BudgetChange::Add(more) => (Some(more.into()), true, Vec::new()),
        BudgetChange::Set {
            limits,
            none: lifted,
        } => {
            let lifted = lifted.into_iter().map(none).collect();
            (Some(limits.into()), false, lifted)
        }
    }
}

/// A project that is known, without a budget of its own and with nothing used.
fn show_none(app: &App, project: &str, default: Option<BudgetDocument>) -> Result<Exit> {
    let projects = Vec::new();
    app.show(&Projects { projects }, |_| {
        app.ui.next(nothing_used(project, default));
        Ok(())
    })
}

fn nothing_used(project: &str, default: Option<BudgetDocument>) -> String {
    let (name, word) = (line(project), shell::word(project));
    match default {
        None => format!(
            "{name} has no daily budget, and has used nothing today; `ctl budget --project {word} --usd 20` sets one"
        ),
        Some(budget) => format!(
            "{name} may use {} a day, as every project (`budgets.default`), and has used nothing today; \
             `ctl budget --project {word} --usd 20` sets another one",
            budget.words()
        ),
    }
}

/// Projects, and what holds for those that have no budget of their own.
fn show_all(
    app: &App,
    projects: Vec<ProjectBudget>,
    default: Option<BudgetDocument>,
) -> Result<Exit> {
    app.show(&Projects { projects }, |document| {
        if document.projects.is_empty() {
            app.ui.next(no_projects(default));
            return Ok(());
        }
        app.ui.table(&table(&document.projects))
    })
}

/// Said where no project has a budget of its own and none has used anything today.
fn no_projects(default: Option<BudgetDocument>) -> String {
    match default {
        None => "no project has a daily budget, and none has used anything today; \
                 `ctl budget --project NAME --usd 20` sets one"
            .to_owned(),
        Some(budget) => format!(
            "each project may use {} a day (`budgets.default`), and none has used anything today; \
             `ctl budget --project NAME --usd 20` sets another one",
            budget.words()
        ),
    }
}

fn table(projects: &[ProjectBudget]) -> Table {
    let mut table = Table::new(&["PROJECT", "A DAY…", "TODAY…", "USED…", "STATE…"])
        .sparing(&["A DAY", "TODAY"])
        .wrapping();
    let words = |budget: &Option<BudgetDocument>| {
        budget.map_or_else(|| "unlimited".to_owned(), |b| b.words())
    };
    for project in projects {
        let (state, style) = match project.until {
            Some(until) => (format!("‖ waits {}", until_when(until)), Style::Attention),
            None => ("● open".to_owned(), Style::Good),
        };
        let same = projects.iter().filter(|other| other.name == project.name);
        let name = match same.count() {
            0 | 1 => line(&project.name).into_owned(),
            _ => format!("{} {}", line(&project.name), line(&project.project)),
        };
        table.row(vec![
            Cell::new(name, Style::Bold),
            words(&project.budget).into(),
            words(&project.today).into(),
            project.spent.words().into(),
            Cell::new(state, style),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(tokens_text: &str, usd_text: &str) -> Limits {
        Limits {
            tokens: Some(tokens(tokens_text).unwrap()),
            usd: Some(usd(usd_text).unwrap()),
            time: None,
            attempts: None,
        }
    }

    #[test]
    fn a_plus_adds_and_both_kinds_in_one_command_are_refused() {
        let raised = limits("+100k", "+0.5").change().unwrap();
        let more = "100k-tokens,0.5usd".parse().unwrap();
        assert_eq!(raised, Some(BudgetChange::Add(more)));
        let set = BudgetChange::Set {
            limits: "5tokens,1usd".parse().unwrap(),
            none: Vec::new(),
        };
        assert_eq!(limits("5", "1").change().unwrap(), Some(set));
        assert!(limits("+5", "1").change().is_err());
        assert!(limits("+5", "none").change().is_err());
        assert!(tokens("-5").is_err() && attempts("+x").is_err());
    }

    #[test]
    fn a_default_is_told_where_no_project_has_a_budget_of_its_own() {
        let default = "20s".parse::<Budget>().unwrap();
        let default = Some(BudgetDocument::from(v1::Budget::from(default)));
        for (with, without) in [
            (no_projects(default), no_projects(None)),
            (nothing_used("web", default), nothing_used("web", None)),
        ] {
            assert!(
                with.contains("may use 20 s") && !with.contains("no daily"),
                "{with}"
            );
            assert!(without.contains("no daily budget") || without.contains("no project has"));
        }
    }

    #[test]
    fn none_takes_a_limit_away_and_nothing_is_no_limit() {
        let lifted = BudgetChange::Set {
            limits: "1usd".parse().unwrap(),
            none: vec![Measure::Tokens],
        };
        assert_eq!(limits("none", "1").change().unwrap(), Some(lifted));
        for refused in [
            tokens("0").unwrap_err(),
            tokens("+0k").unwrap_err(),
            usd("0.00").unwrap_err(),
            time("0s").unwrap_err(),
            attempts("0").unwrap_err(),
        ] {
            assert!(refused.starts_with(NOTHING_RUNS), "{refused}");
        }
    }
}
