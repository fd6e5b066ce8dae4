//! What projects may use in a day.

use super::*;

#[test]
fn a_project_is_told_how_to_raise_the_limit_that_is_used_up() {
    let mut bench = with_config(Config {
        budget_default: budget("1attempts"),
        ..Config::default()
    });
    let first = bench.add(in_project("p"));
    let _ = end(&mut bench, attempt(first, 1), 1, None);
    let second = bench.add(in_project("p"));
    let (_, text) = reason(&bench, second);
    let raise = "`ctl budget --project p-name --attempts +1`";
    assert!(text.ends_with(raise), "{text}");
}

#[test]
fn a_project_waits_for_the_next_day_and_goes_on_by_itself() {
    let mut bench = with_config(Config {
        budget_default: budget("100tokens"),
        ..Config::default()
    });
    let (first, second) = (bench.add(in_project("p")), bench.add(in_project("p")));
    let other = bench.add(in_project("q"));
    let _ = meter(&mut bench, attempt(first, 1), 60);
    let step = meter(&mut bench, attempt(second, 1), 40);
    let stopped: Vec<TaskId> = stops(&step).into_iter().map(|(id, _)| id).collect();
    assert_eq!(stopped, [first, second], "and not {other}");
    let _ = end_over_budget(&mut bench, attempt(first, 1), 60);
    assert_eq!(bench.status(first), TaskStatus::Queued);
    let (_, text) = reason(&bench, first);
    assert!(
        text.contains("project p-name") && text.contains("tomorrow"),
        "{text}"
    );
    assert_eq!(bench.core.task(first).unwrap().row.failures, 0);
    let until = bench.core.task(first).unwrap().reason.unwrap().resets_at;
    let midnight = until.expect("it says until when");
    assert_eq!(midnight.0 % (24 * HOUR.as_millis() as u64), 0);
    let _ = end(&mut bench, attempt(second, 1), 40, None);
    let rest = midnight.since(bench.now);
    let step = pass(&mut bench, rest);
    assert_eq!(starts(&step), [(attempt(first, 2), 1, "claude".to_owned())]);
}

#[test]
fn adding_to_a_projects_day_frees_its_tasks_at_once_and_counts_for_today_only() {
    let mut bench = with_config(Config {
        budgets: BTreeMap::from([("p-name".to_owned(), budget("100tokens"))]),
        ..Config::default()
    });
    let id = bench.add(in_project("p"));
    let _ = meter(&mut bench, attempt(id, 1), 100);
    let _ = end_over_budget(&mut bench, attempt(id, 1), 100);
    let mut set = |text: &str, add| {
        bench.give(Input::SetProjectBudget {
            request: RequestId(1),
            project: "p-name".to_owned(),
            new: None,
            change: match add {
                true => BudgetChange::Add(budget(text)),
                false => to(text),
            },
        })
    };
    let step = set("50tokens", true);
    assert_eq!(starts(&step).len(), 1);
    let today = |bench: &Bench| {
        let view = &bench.core.project_budgets(bench.now)[0];
        (view.budget, view.today, view.spent.tokens)
    };
    assert_eq!(
        today(&bench),
        (budget("100tokens"), budget("150tokens"), 100)
    );
    let _ = pass(&mut bench, 24 * HOUR);
    assert_eq!(today(&bench), (budget("100tokens"), budget("100tokens"), 0));
    let step = bench.give(Input::SetProjectBudget {
        request: RequestId(1),
        project: "nobody".to_owned(),
        new: None,
        change: to("1tokens"),
    });
    assert_eq!(reply(&step), Reply::NoProject("nobody".to_owned()));
}

#[test]
fn what_is_configured_for_one_of_a_projects_names_counts_for_all_of_them() {
    let mut bench = with_config(Config {
        budgets: BTreeMap::from([("app".to_owned(), budget("2attempts"))]),
        ..Config::default()
    });
    let mut named = |name: &str| {
        let mut new = in_project("p");
        new.spec.project.as_mut().unwrap().name = name.to_owned();
        bench.add(new)
    };
    let ids = ["clone", "app", "other", "app"].map(&mut named);
    let started: Vec<bool> = ids
        .iter()
        .map(|id| bench.status(*id) == TaskStatus::Assigned)
        .collect();
    assert_eq!(started, [true, true, false, false]);
    let listed = bench.core.project_budgets(bench.now);
    assert_eq!((listed.len(), listed[0].name), (1, "app"));
    let (_, text) = reason(&bench, ids[2]);
    assert!(text.contains("project app has used up"), "{text}");
}

#[test]
fn what_waits_under_a_projects_default_goes_on_when_more_is_configured_for_a_name_that_comes() {
    let mut bench = with_config(Config {
        budgets: BTreeMap::from([("app".to_owned(), budget("3attempts"))]),
        budget_default: budget("1attempts"),
        ..Config::default()
    });
    let mut named = |name: &str| {
        let mut new = in_project("p");
        new.spec.project.as_mut().unwrap().name = name.to_owned();
        bench.add(new)
    };
    let ids = ["clone", "clone", "app", "app"].map(&mut named);
    let started = ids.map(|id| bench.status(id) == TaskStatus::Assigned);
    assert_eq!(started, [true, true, true, false]);
}
