//! Who comes after whom: names of tasks in the same submission, or ids of tasks at the head.

use std::collections::BTreeMap;

use orchestra_types::{TaskId, id::is_name, limits};

use super::draft::Draft;
use crate::{
    error::{Error, Result},
    ui::suggest::did_you_mean,
};

/// What one task comes after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct After {
    /// Tasks at the head.
    pub ids: Vec<TaskId>,
    /// Tasks of the same submission, by index.
    pub indexes: Vec<u32>,
}

/// Resolves the `after` of every draft. Refuses unknown names and cycles, by name.
pub fn resolve(drafts: &[Draft]) -> Result<Vec<After>> {
    let names = names(drafts)?;
    let afters: Vec<After> = drafts
        .iter()
        .map(|draft| after(draft, &names).map_err(|e| draft.blame(e)))
        .collect::<Result<_>>()?;
    match cycle(&afters) {
        None => placed(drafts, afters),
        Some(cycle) => {
            let path: Vec<String> = cycle.iter().map(|at| call(drafts, *at)).collect();
            let error = Error::failed(format!(
                "tasks come after each other in a circle: {}",
                path.join(" -> ")
            ))
            .hint("take one `after` out of the circle");
            let first = cycle.first().and_then(|at| drafts.get(*at as usize));
            Err(match first {
                Some(draft) => draft.blame(error),
                None => error,
            })
        }
    }
}

/// The same with places in the submission, in which recurring tasks have none.
fn placed(drafts: &[Draft], mut afters: Vec<After>) -> Result<Vec<After>> {
    let mut next = 0_u32;
    let places = drafts.iter().map(|draft| {
        let place = draft.every.is_none().then_some(next);
        next += u32::from(draft.every.is_none());
        place
    });
    let places: Vec<Option<u32>> = places.collect();
    for (draft, after) in drafts.iter().zip(&mut afters) {
        let recurs = draft.every.is_some() && !draft.after.is_empty();
        let indexes = after.indexes.iter();
        let placed = indexes.map(|index| places.get(*index as usize).copied().flatten());
        match placed.collect::<Option<Vec<u32>>>().filter(|_| !recurs) {
            Some(indexes) => after.indexes = indexes,
            None => {
                let error =
                    Error::failed("a recurring task comes after no other, and none after it");
                return Err(draft.blame(error.hint("leave `after` or `every` out")));
            }
        }
    }
    Ok(afters)
}

fn names(drafts: &[Draft]) -> Result<BTreeMap<&str, u32>> {
    let mut names = BTreeMap::new();
    for (index, draft) in (0u32..).zip(drafts) {
        let Some(name) = draft.name.as_deref() else {
            continue;
        };
        if !is_name(name) || name.parse::<TaskId>().is_ok() {
            let error = Error::failed(format!("`{name}` cannot be a task's name"))
                .hint("a name has 1 to 128 of A-Z a-z 0-9 . _ - and does not look like a task id");
            return Err(draft.blame(error));
        }
        if let Some(other) = names.insert(name, index) {
            let other = drafts.get(other as usize).and_then(|d| d.at.as_deref());
            let other = other.map_or(String::new(), |at| format!("; the other one is at {at}"));
            let error = Error::failed(format!("two tasks have the name `{name}`{other}"));
            return Err(draft.blame(error));
        }
    }
    Ok(names)
}

fn after(draft: &Draft, names: &BTreeMap<&str, u32>) -> Result<After> {
    let mut after = After::default();
    if draft.after.len() > limits::AFTER_MAX {
        let most = limits::AFTER_MAX;
        let what = draft.what();
        return Err(
            Error::failed(format!("{what} after: more than {most} tasks"))
                .hint("put a task between them that comes after some of them"),
        );
    }
    for reference in &draft.after {
        if let Some(index) = names.get(reference.as_str()) {
            after.indexes.push(*index);
        } else if let Ok(id) = reference.parse() {
            after.ids.push(id);
        } else {
            let guess = did_you_mean(reference, names.keys().copied());
            return Err(Error::failed(format!(
                "{} after: there is no task `{reference}`{guess}",
                draft.what()
            ))
            .hint("name an id as task_001, or a task of the same file"));
        }
    }
    Ok(after)
}

/// A way from a task back to itself, if there is one. Visits each task once.
fn cycle(afters: &[After]) -> Option<Vec<u32>> {
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; afters.len()];
    for start in 0u32.. {
        if *marks.get(start as usize)? != Mark::New {
            continue;
        }
        // The way here, each step with the number of its edges already taken.
        let mut way = vec![(start, 0)];
        marks[start as usize] = Mark::Open;
        while let Some((at, taken)) = way.last_mut() {
            let Some(&next) = afters[*at as usize].indexes.get(*taken) else {
                marks[*at as usize] = Mark::Done;
                way.pop();
                continue;
            };
            *taken += 1;
            match marks[next as usize] {
                Mark::Done => {}
                Mark::New => {
                    marks[next as usize] = Mark::Open;
                    way.push((next, 0));
                }
                Mark::Open => {
                    let from = way.iter().position(|(at, _)| *at == next).unwrap_or(0);
                    let circle = way[from..].iter().map(|(at, _)| *at);
                    return Some(circle.chain([next]).collect());
                }
            }
        }
    }
    None
}

fn call(drafts: &[Draft], index: u32) -> String {
    let draft = drafts.get(index as usize);
    let name = draft.and_then(|d| d.name.clone().or_else(|| d.at.clone()));
    name.unwrap_or_else(|| format!("number {}", index + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str, after: &[&str]) -> Draft {
        Draft {
            name: Some(name.into()),
            description: name.into(),
            after: after.iter().map(ToString::to_string).collect(),
            ..Draft::default()
        }
    }

    #[test]
    fn names_become_indexes_and_ids_stay_ids() {
        let drafts = [task("plan", &["task_007"]), task("code", &["plan", "3"])];
        let afters = resolve(&drafts).unwrap();
        assert_eq!(
            afters[0],
            After {
                ids: vec![TaskId(7)],
                indexes: vec![]
            }
        );
        assert_eq!(
            afters[1],
            After {
                ids: vec![TaskId(3)],
                indexes: vec![0]
            }
        );
    }

    #[test]
    fn a_circle_is_named() {
        let drafts = [
            task("a", &["c"]),
            task("b", &["a"]),
            task("c", &["b"]),
            task("d", &["a"]),
        ];
        let error = resolve(&drafts).unwrap_err().to_string();
        assert_eq!(
            error,
            "tasks come after each other in a circle: a -> c -> b -> a"
        );
        assert!(
            resolve(&[task("me", &["me"])])
                .unwrap_err()
                .to_string()
                .ends_with("me -> me")
        );
        assert!(
            resolve(&[
                task("a", &["b", "c"]),
                task("b", &["d"]),
                task("c", &["d"]),
                task("d", &[])
            ])
            .is_ok()
        );
    }

    #[test]
    fn a_task_without_a_name_in_a_circle_is_called_by_its_place() {
        let mut drafts = [task("a", &["b"]), task("b", &["a"])];
        drafts[0].at = Some("tasks.yaml:1".into());
        drafts[1].at = Some("tasks.yaml:3".into());
        assert_eq!(call(&drafts, 1), "b");
        drafts[1].name = None;
        assert_eq!(call(&drafts, 1), "tasks.yaml:3");
    }

    #[test]
    fn a_mistake_in_a_file_is_told_with_its_place() {
        let said = |mut drafts: Vec<Draft>| {
            for (at, draft) in (1..).zip(&mut drafts) {
                draft.at = Some(format!("t:{at}"));
            }
            resolve(&drafts).unwrap_err().to_string()
        };
        assert_eq!(
            said(vec![task("x", &[]), task("a", &["b"]), task("b", &["a"])]),
            "t:2: tasks come after each other in a circle: a -> b -> a"
        );
        assert_eq!(
            said(vec![task("a", &[]), task("b", &[]), task("a", &[])]),
            "t:3: two tasks have the name `a`; the other one is at t:1"
        );
        assert_eq!(
            said(vec![task("a", &[]), task("a b", &[])]),
            "t:2: `a b` cannot be a task's name"
        );
    }

    #[test]
    fn recurring_tasks_have_no_place_among_the_others() {
        let recurring = |name: &str, after: &[&str]| Draft {
            every: Some(orchestra_types::Recurrence::Every(
                std::time::Duration::from_secs(60),
            )),
            ..task(name, after)
        };
        let afters = resolve(&[recurring("r", &[]), task("a", &[]), task("b", &["a"])]).unwrap();
        assert_eq!(afters[2].indexes, [0]);
        for drafts in [
            [task("a", &[]), recurring("r", &["a"])],
            [recurring("r", &[]), task("a", &["r"])],
        ] {
            let error = resolve(&drafts).unwrap_err().to_string();
            assert!(
                error.contains("a recurring task comes after no other"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_long_chain_is_no_trouble() {
        let drafts: Vec<Draft> = (0..50_000)
            .map(|n| task(&format!("t{n}"), &[&format!("t{}", n + 1)]))
            .chain([task("t50000", &[])])
            .collect();
        assert!(resolve(&drafts).is_ok());
    }

    #[test]
    fn unknown_doubled_and_odd_names_are_refused() {
        let unknown = resolve(&[task("review", &["paln"]), task("plan", &[])])
            .unwrap_err()
            .to_string();
        assert!(
            unknown.contains("there is no task `paln`; did you mean `plan`?"),
            "{unknown}"
        );
        assert!(resolve(&[task("a", &[]), task("a", &[])]).is_err());
        assert!(resolve(&[task("task_001", &[])]).is_err());
    }
}
