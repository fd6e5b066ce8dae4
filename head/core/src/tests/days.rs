//! Where a day of a project's budget begins and ends.

use std::{collections::BTreeMap, time::Duration};

use orchestra_types::{Budget, BudgetChange, Measure, Timestamp};

use super::{
    bench::{Bench, attempt, reply, worker},
    budgets::{bench, budget, end, in_project, meter, stops, to, with_config, without_tokens},
};
use crate::{Config, Input, RaiseRefused, Reply, RequestId, Step, StopReason};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn of_100_tokens() -> Config {
    Config {
        budgets: BTreeMap::from([("p".to_owned(), budget("100tokens"))]),
        ..Config::default()
    }
}

fn set(bench: &mut Bench, text: &str, add: bool) -> Step {
    bench.give(Input::SetProjectBudget {
        request: RequestId(1),
        project: "p".to_owned(),
        new: None,
        change: match add {
            true => BudgetChange::Add(budget(text)),
            false => to(text),
        },
    })
}

/// How many tokens the project has used today.
fn used(bench: &Bench) -> u64 {
    bench.core.project_budgets(bench.now)[0].spent.tokens
}

/// The first moment of the next day; nobody looks before.
fn next_day(now: Timestamp) -> Timestamp {
    let day = u64::try_from(DAY.as_millis()).unwrap();
    Timestamp((now.0 / day + 1) * day)
}

#[test]
fn what_is_added_at_the_first_call_of_a_day_is_for_that_day() {
    let mut bench = with_config(of_100_tokens());
    let _ = bench.add(in_project("p"));
    bench.now = next_day(bench.now);
    let _ = set(&mut bench, "50tokens", true);
    let today = bench.core.project_budgets(bench.now)[0].today;
    assert_eq!(today, budget("150tokens"));
}

#[test]
fn an_end_that_is_the_first_to_be_heard_of_on_a_day_counts_for_what_was_used_on_it() {
    let mut bench = with_config(of_100_tokens());
    let id = bench.add(in_project("p"));
    let _ = meter(&mut bench, attempt(id, 1), 30);
    bench.now = next_day(bench.now);
    let _ = end(&mut bench, attempt(id, 1), 70, None);
    assert_eq!(used(&bench), 40);
}

#[test]
fn the_first_budget_of_a_project_is_for_what_runs_already() {
    let mut bench = bench();
    let id = bench.add(in_project("p"));
    let _ = meter(&mut bench, attempt(id, 1), 500);
    assert_eq!(stops(&set(&mut bench, "600tokens", false)), []);
    let step = meter(&mut bench, attempt(id, 1), 600);
    assert_eq!(stops(&step), [(id, StopReason::Budget)]);
    assert_eq!(used(&bench), 600);
}

#[test]
fn a_days_budget_counts_what_was_used_before_it_came_also_after_a_restart() {
    let mut bench = bench();
    let id = bench.add(in_project("p"));
    let _ = end(&mut bench, attempt(id, 1), 70, None);
    let _ = bench.restart();
    let view = &bench.core.project_budgets(bench.now)[0];
    let unlimited = Budget::default();
    assert_eq!((view.budget, view.today), (unlimited, unlimited));
    assert_eq!((view.spent.tokens, view.until), (70, None));
    let _ = set(&mut bench, "100tokens", false);
    assert_eq!(used(&bench), 70);
}

#[test]
fn a_project_without_a_budget_is_listed_on_the_days_on_which_it_uses_something() {
    let mut bench = bench();
    let id = bench.add(in_project("p"));
    let _ = end(&mut bench, attempt(id, 1), 70, None);
    assert_eq!(used(&bench), 70);
    bench.now = next_day(bench.now);
    let _ = bench.give(Input::Tick);
    assert!(bench.core.project_budgets(bench.now).is_empty());
}

#[test]
fn a_day_begins_anew_without_a_budget_too() {
    let mut bench = bench();
    let first = bench.add(in_project("p"));
    let second = bench.add(in_project("p"));
    let _ = end(&mut bench, attempt(first, 1), 70, None);
    let _ = meter(&mut bench, attempt(second, 1), 30);
    bench.now = next_day(bench.now);
    let _ = meter(&mut bench, attempt(second, 1), 35);
    let _ = set(&mut bench, "100tokens", false);
    assert_eq!(used(&bench), 5);
}

#[test]
fn a_days_limit_that_is_taken_away_is_gone_with_what_was_added_and_as_configured() {
    let mut bench = with_config(of_100_tokens());
    let id = bench.add(in_project("p"));
    let _ = set(&mut bench, "50tokens", true);
    let _ = meter(&mut bench, attempt(id, 1), 140);
    let _ = bench.give(Input::SetProjectBudget {
        request: RequestId(1),
        project: "p".to_owned(),
        new: None,
        change: without_tokens(),
    });
    assert_eq!(stops(&meter(&mut bench, attempt(id, 1), 900)), []);
    let view = &bench.core.project_budgets(bench.now)[0];
    assert!(view.budget.is_unlimited() && view.today.is_unlimited());
    bench.now = next_day(bench.now);
    assert_eq!(stops(&meter(&mut bench, attempt(id, 1), 5000)), []);
}

#[test]
fn a_name_that_two_projects_have_is_refused_and_an_id_is_not() {
    let mut bench = bench();
    for id in ["git-0001aa", "git-0001bb", "git-0002cc"] {
        let mut new = in_project(id);
        if let Some(project) = &mut new.spec.project {
            project.name = "web".to_owned();
        }
        let _ = bench.add(new);
    }
    let mut ask = |wanted: &str| {
        let step = bench.give(Input::SetProjectBudget {
            request: RequestId(1),
            project: wanted.to_owned(),
            new: None,
            change: to("100tokens"),
        });
        reply(&step)
    };
    let several = |reply| match reply {
        Reply::SeveralProjects(all) => all.into_iter().map(|p| p.id.to_string()).collect(),
        other => vec![format!("{other:?}")],
    };
    let all = ["git-0001aa", "git-0001bb", "git-0002cc"];
    assert_eq!(several(ask("web")), all);
    assert_eq!(several(ask("git-0001")), all[..2]);
    let done = |id: &str| Reply::ProjectDone(id.parse().unwrap());
    assert_eq!(ask("git-0001bb"), done("git-0001bb"));
    assert_eq!(ask("git-0002"), done("git-0002cc"));
    assert_eq!(several(ask("web")), all, "a budget decides nothing");
    let no = |wanted: &str| Reply::NoProject(wanted.to_owned());
    assert_eq!(ask("git-000"), no("git-000"), "too short to be an id");
    assert_eq!(ask("git-0002cd"), no("git-0002cd"));
}

#[test]
fn a_budget_may_be_set_before_the_first_task_where_it_is_said_which_project_is_meant() {
    let mut bench = bench();
    let ask = |bench: &mut Bench, wanted: &str, new: Option<&str>| {
        let step = bench.give(Input::SetProjectBudget {
            request: RequestId(1),
            project: wanted.to_owned(),
            new: new.map(|id| (id.parse().unwrap(), "p-name".to_owned())),
            change: to("100tokens"),
        });
        reply(&step)
    };
    assert_eq!(
        ask(&mut bench, "p-name", None),
        Reply::NoProject("p-name".to_owned())
    );
    let done = Reply::ProjectDone("p".parse().unwrap());
    assert_eq!(ask(&mut bench, "p-name", Some("p")), done);
    assert_eq!(ask(&mut bench, "p-name", None), done, "it is known since");
    let other = ask(&mut bench, "p-name", Some("q"));
    assert_eq!(other, done, "what is known by that name is meant");
    let id = bench.add(in_project("p"));
    let step = meter(&mut bench, attempt(id, 1), 100);
    assert_eq!(stops(&step).len(), 1, "its first task is limited");
    let _ = bench.restart();
    let view = &bench.core.project_budgets(bench.now)[0];
    assert_eq!((view.name, view.budget), ("p-name", budget("100tokens")));
}

#[test]
fn a_raise_of_a_day_without_a_limit_is_refused() {
    let mut bench = bench();
    let id = bench.add(in_project("p"));
    let _ = meter(&mut bench, attempt(id, 1), 500);
    let step = set(&mut bench, "1tokens", true);
    let name = "p-name".to_owned();
    let lacks = Measure::Tokens;
    let refused = Reply::RaiseRefused(RaiseRefused::Project { name, lacks });
    assert_eq!(reply(&step), refused);
    assert_eq!((step.changes.len(), step.messages.len()), (0, 1));
    let view = &bench.core.project_budgets(bench.now)[0];
    assert_eq!((view.budget, view.today), Default::default());
}

/// A head that is started again at this moment, after 100 tokens were used.
fn started_again(at: impl Fn(Timestamp) -> Timestamp) -> Bench {
    let mut bench = Bench::new();
    bench.now = next_day(bench.now);
    let _ = bench.attach(&worker("a", 8, &[("claude", 8)]), 1, &[]);
    let id = bench.add(in_project("p"));
    let _ = set(&mut bench, "100tokens", false);
    let _ = end(&mut bench, attempt(id, 1), 100, None);
    bench.now = at(bench.now);
    let _ = bench.restart();
    bench
}

#[test]
fn a_clock_that_was_set_back_over_midnight_begins_no_day_anew() {
    let hour = 3_600_000;
    let bench = started_again(|now| Timestamp(now.0 - hour));
    assert_eq!(used(&bench), 100);
    let bench = started_again(|now| Timestamp(now.0 + hour));
    assert_eq!(used(&bench), 100);
    let bench = started_again(|now| now.plus(DAY));
    assert_eq!(used(&bench), 0, "it is another day");
}

#[test]
fn a_clock_that_was_days_ahead_does_not_keep_a_day_for_ever() {
    let bench = started_again(|now| Timestamp(now.0 - 3 * 24 * 3_600_000));
    assert_eq!(used(&bench), 0);
}
