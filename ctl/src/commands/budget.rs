//! `ctl budget`.

use orchestra_proto::v1;
use orchestra_types::{Budget, TaskId, budget, time::parse_duration};
use serde::Serialize;
use serde_json::json;

use crate::{
    app::App,
    client::{Client, patiently, status_error},
    commands::{accounts::until_when, answer},
    error::{Error, Result},
    exit::Exit,
    json::{budget::ProjectBudget, task::Task},
    ui::{
        escape::line,
        style::Style,
        table::{Cell, Table},
    },
};

/// Raise or set what a task or a project may use; without options, list the projects' budgets
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A number with + in front is added to the limit that there is, else it takes its place; where there is no limit,
adding is refused, so that a raise never limits anything. What the task or the day has used before counts. A
task that had stopped at its budget goes on from its kept work when the new one allows it; so do its subtasks.
One that had stopped at the budget of a task above it, or waits for its project's, needs a raise of that one:
`ctl show` names it. A project's budget counts per day (UTC); an added one counts for today only.

Examples:
  ctl budget task_007 --tokens +100k
  ctl budget 7 --usd +2.50 --time +30m
  ctl budget --project website --usd 20      20 US dollars a day from now on
  ctl budget --project website --usd +5      5 more for today
  ctl budget                                 what the projects have used today")]
pub struct Args {
    /// The task, as task_001 or 1
    #[arg(value_name = "TASK", conflicts_with = "project")]
    task: Option<TaskId>,
    /// The project, by name or id, as `ctl show` names it
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    #[command(flatten)]
    limits: Limits,
}

/// How much.
#[derive(Debug, clap::Args)]
struct Limits {
    /// Tokens, sent and received: 200k, +100k
    #[arg(long, value_name = "[+]N", value_parser = tokens, allow_hyphen_values = true)]
    tokens: Option<Amount<u64>>,
    /// Cost in US dollars: 5, +2.50
    #[arg(long, value_name = "[+]USD", value_parser = usd)]
    usd: Option<Amount<u64>>,
    /// Wall time of agents: 2h, +30m
    #[arg(long, value_name = "[+]DURATION", value_parser = time)]
    time: Option<Amount<std::time::Duration>>,
    /// Attempts: 3, +1
    #[arg(long, value_name = "[+]N", value_parser = attempts)]
    attempts: Option<Amount<u32>>,
}

/// A number that is added or takes the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Amount<T> {
    add: bool,
    value: T,
}

fn amount<T, E: ToString>(
    text: &str,
    read: impl FnOnce(&str) -> std::result::Result<T, E>,
) -> std::result::Result<Amount<T>, String> {
    let (add, number) = match text.strip_prefix('+') {
        Some(number) => (true, number),
        None => (false, text),
    };
    let value = read(number).map_err(|e| e.to_string())?;
    Ok(Amount { add, value })
}

fn tokens(text: &str) -> std::result::Result<Amount<u64>, String> {
    amount(text, budget::tokens)
}

fn usd(text: &str) -> std::result::Result<Amount<u64>, String> {
    amount(text, budget::usd)
}

fn time(text: &str) -> std::result::Result<Amount<std::time::Duration>, String> {
    amount(text, parse_duration)
}

fn attempts(text: &str) -> std::result::Result<Amount<u32>, String> {
    amount(text, str::parse::<u32>)
}

impl Limits {
    /// The budget and whether it is added; none where nothing is said.
    fn budget(&self) -> Result<Option<(Budget, bool)>> {
        let budget = Budget {
            tokens: self.tokens.map(|a| a.value),
            cost_microusd: self.usd.map(|a| a.value),
            time: self.time.map(|a| a.value),
            attempts: self.attempts.map(|a| a.value),
        };
        let adds = [
            self.tokens.map(|a| a.add),
            self.usd.map(|a| a.add),
            self.time.map(|a| a.add),
            self.attempts.map(|a| a.add),
        ];
        let mut adds = adds.into_iter().flatten();
        let Some(first) = adds.next() else {
            return Ok(None);
        };
        if adds.any(|add| add != first) {
            return Err(Error::usage("some of the numbers have a + and some do not")
                .hint("raise with one command and set with another"));
        }
        Ok(Some((budget, first)))
    }
}

/// `ctl budget --json` without a task.
#[derive(Debug, Serialize)]
struct Projects {
    projects: Vec<ProjectBudget>,
}

/// Lists or changes budgets.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let wanted = args.limits.budget()?;
    let client = app.connect().await?;
    match (args.task, args.project, wanted) {
        (Some(id), _, Some((budget, add))) => {
            let task = set_task(&client, id, budget, add).await?;
            if app.ui.is_json() {
                app.ui.document(&json!({ "tasks": [task] }))?;
            } else {
                answer(app, &task)?;
            }
            Ok(Exit::Ok)
        }
        (Some(id), _, None) => {
            let task = client.task(id).await?;
            app.show(&task, |task| {
                let budget = task.budget.map(|b| b.words());
                let spent = task.spent.map(|s| s.words());
                app.ui.print(format!(
                    "{id}  budget: {}; used: {}\n",
                    budget.as_deref().unwrap_or("unlimited"),
                    spent.as_deref().unwrap_or("nothing yet"),
                ))
            })
        }
        (None, Some(project), Some((budget, add))) => {
            let request = v1::SetProjectBudgetRequest {
                project,
                budget: Some(budget.into()),
                add,
            };
            // Not repeated by itself: it would add twice.
            let answer = client.admin().set_project_budget(request).await;
            let answer = answer.map_err(|s| status_error(&s))?.into_inner();
            show(app, vec![ProjectBudget::read(answer)])
        }
        (None, project, None) => {
            let request = v1::ListBudgetsRequest {};
            let answer = patiently(async || client.admin().list_budgets(request).await).await?;
            let all = answer.projects.into_iter().map(ProjectBudget::read);
            let wanted = |p: &ProjectBudget| {
                let names = [p.project.as_str(), p.name.as_str()];
                project
                    .as_deref()
                    .is_none_or(|wanted| names.contains(&wanted))
            };
            show(app, all.filter(wanted).collect())
        }
        (None, None, Some(_)) => {
            Err(Error::usage("whose budget?").hint("name a task, or a project with --project"))
        }
    }
}

/// Sets or raises the budget of a task.
pub async fn set_task(client: &Client, id: TaskId, budget: Budget, add: bool) -> Result<Task> {
    let request = v1::SetTaskBudgetRequest {
        id: id.0,
        budget: Some(budget.into()),
        add,
    };
    // Not repeated by itself: it would add twice.
    let answer = client.admin().set_task_budget(request).await;
    Task::read(answer.map_err(|s| status_error(&s))?.into_inner())
}

fn show(app: &App, projects: Vec<ProjectBudget>) -> Result<Exit> {
    app.show(&Projects { projects }, |document| {
        if document.projects.is_empty() {
            app.ui.next(
                "no project has a daily budget; `ctl budget --project NAME --usd 20` sets one",
            );
            return Ok(());
        }
        app.ui.table(&table(&document.projects))
    })
}

fn table(projects: &[ProjectBudget]) -> Table {
    let mut table = Table::new(&["PROJECT", "A DAY…", "TODAY…", "USED…", "STATE…"])
        .sparing(&["A DAY", "TODAY"])
        .wrapping();
    let words = |budget: &Option<crate::json::budget::BudgetDocument>| {
        budget.map_or_else(|| "unlimited".to_owned(), |b| b.words())
    };
    for project in projects {
        let (state, style) = match project.until {
            Some(until) => (format!("‖ waits {}", until_when(until)), Style::Attention),
            None => ("● open".to_owned(), Style::Good),
        };
        table.row(vec![
            Cell::new(line(&project.name), Style::Bold),
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
        let (raised, add) = limits("+100k", "+0.5").budget().unwrap().unwrap();
        assert!(add);
        assert_eq!(
            (raised.tokens, raised.cost_microusd),
            (Some(100_000), Some(500_000))
        );
        assert_eq!(
            limits("5", "1").budget().unwrap().map(|(_, add)| add),
            Some(false)
        );
        assert!(limits("+5", "1").budget().is_err());
        assert!(tokens("-5").is_err() && attempts("+x").is_err());
    }
}
