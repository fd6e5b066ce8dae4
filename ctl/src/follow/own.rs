//! An agent that waits for its own task waits for its own end; and so does one that waits for a task that
//! comes after its own, directly or through others.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
};

use orchestra_types::TaskId;

use super::Which;
use crate::{
    app::App,
    client::Client,
    error::{Error, Result},
    exit::Exit,
    json::task::Task,
};

/// How many tasks are looked at. Where more come one after the other, the waiting is not refused.
const LOOKED_AT_MAX: usize = 256;

/// For each task those that it waits for.
type Waits = BTreeMap<TaskId, Vec<TaskId>>;

/// The task of this cluster whose agent calls, if one does: ids are a cluster's own.
pub fn own_task(app: &App) -> Option<TaskId> {
    let state = std::env::var_os("ORCHESTRA_STATE")?;
    let is_its_own = Path::new(&state) == app.state.path() && !app.names_head();
    let task = std::env::var("ORCHESTRA_TASK").ok()?;
    task.parse().ok().filter(|_| is_its_own)
}

/// Refuses to wait for tasks which cannot end before the caller's own does, where that is without an end,
/// and goes on. A parent is waited for like any other: it may end before its subtasks.
pub async fn refuse_own(app: &App, client: &Client, tasks: &[Task], which: Which) -> Result<()> {
    let Some(own) = own_task(app) else {
        return Ok(());
    };
    let open: Vec<&Task> = tasks.iter().filter(|task| !task.rests()).collect();
    if which == Which::Any && open.len() < tasks.len() {
        return Ok(());
    }
    let known = open.iter().map(|task| (task.id, task.waits_for.clone()));
    let known: Waits = known.collect();
    let asked = unknown(&known);
    let waits = look(client, own, known, asked).await;
    let ways = open.iter().map(|task| way(task.id, own, &waits));
    let stuck = match which {
        Which::All => ways.flatten().next(),
        // One that can end is enough.
        Which::Any => ways
            .collect::<Option<Vec<_>>>()
            .and_then(|ways| ways.into_iter().next()),
    };
    stuck.map_or(Ok(()), |way| Err(refused(&way)))
}

/// Refuses to queue a task after others and to wait for it, where one of `after` is the caller's own or comes
/// after that.
pub async fn refuse_after_own(app: &App, client: &Client, after: &[TaskId]) -> Result<()> {
    let Some(own) = own_task(app) else {
        return Ok(());
    };
    let waits = look(client, own, Waits::new(), after.to_vec()).await;
    let way = after.iter().find_map(|id| way(*id, own, &waits));
    way.map_or(Ok(()), |way| Err(refused_after(&way)))
}

/// What is `known`, what the tasks that are `asked` for wait for, and what those do, as far as the head says so.
async fn look(client: &Client, own: TaskId, known: Waits, mut asked: Vec<TaskId>) -> Waits {
    let mut waits = known;
    loop {
        // It runs, and waits for none.
        asked.retain(|id| *id != own);
        if asked.is_empty() || waits.len() + asked.len() > LOOKED_AT_MAX {
            return waits;
        }
        // Whoever cannot be asked says so when it is waited for.
        let Ok(found) = client.tasks(&asked).await else {
            return waits;
        };
        let on = found.into_iter().filter(|task| !task.rests());
        waits.extend(on.map(|task| (task.id, task.waits_for)));
        for id in asked {
            waits.entry(id).or_default();
        }
        asked = unknown(&waits);
    }
}

/// Those that are waited for, and of which it is not known what they wait for.
fn unknown(waits: &Waits) -> Vec<TaskId> {
    let on: BTreeSet<TaskId> = waits.values().flatten().copied().collect();
    on.into_iter()
        .filter(|id| !waits.contains_key(id))
        .collect()
}

/// From a task to the one that it cannot end before: itself, or by those that each waits for.
fn way(from: TaskId, to: TaskId, waits: &Waits) -> Option<Vec<TaskId>> {
    let mut came_from = BTreeMap::from([(from, None)]);
    let mut next = VecDeque::from([from]);
    while let Some(at) = next.pop_front() {
        if at == to {
            let back = std::iter::successors(Some(at), |at| came_from.get(at).copied().flatten());
            let mut way: Vec<TaskId> = back.collect();
            way.reverse();
            return Some(way);
        }
        for on in waits.get(&at).into_iter().flatten() {
            came_from.entry(*on).or_insert_with(|| {
                next.push_back(*on);
                Some(at)
            });
        }
    }
    None
}

/// That the waiting for the first of `way` would never end: the last one is the caller's own.
fn refused(way: &[TaskId]) -> Error {
    error(match way {
        [own] => format!("{}, so that the waiting would never end", ends_later(*own)),
        way => format!("{}: the waiting would never end", comes_after(way)),
    })
}

/// The same of what would come after the first of `way`.
fn refused_after(way: &[TaskId]) -> Error {
    let would = "the waiting for what comes after it would never end";
    error(match way {
        [own] => format!("{}, so that {would}", ends_later(*own)),
        way => format!("{}: {would}", comes_after(way)),
    })
}

fn ends_later(own: TaskId) -> String {
    format!("{own} is the task of the agent that calls this: it ends after this call")
}

/// `task_005 comes after task_004, that after task_003, the task of …`.
fn comes_after(way: &[TaskId]) -> String {
    let [first, rest @ ..] = way else {
        return String::new();
    };
    let rest: Vec<String> = rest.iter().map(TaskId::to_string).collect();
    let rest = rest.join(", that after ");
    format!(
        "{first} comes after {rest}, the task of the agent that calls this, which ends after this call"
    )
}

fn error(message: String) -> Error {
    Error::new(Exit::Refused, message).hint(
        "wait for subtasks, by the ids that `ctl add` has printed; what comes after this task needs no waiting here",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: TaskId = TaskId(3);

    fn waits(each: &[(u64, &[u64])]) -> Waits {
        let ids = |ids: &[u64]| ids.iter().copied().map(TaskId).collect();
        each.iter().map(|(id, on)| (TaskId(*id), ids(on))).collect()
    }

    fn of(from: u64, each: &[(u64, &[u64])]) -> Option<Vec<u64>> {
        let way = way(TaskId(from), OWN, &waits(each))?;
        Some(way.into_iter().map(|id| id.0).collect())
    }

    #[test]
    fn the_way_to_the_own_task_is_found_through_others() {
        assert_eq!(of(3, &[]), Some(vec![3]));
        assert_eq!(of(4, &[(4, &[3])]), Some(vec![4, 3]));
        let through = [
            (6, &[1, 5][..]),
            (5, &[4]),
            (4, &[2, 3]),
            (1, &[]),
            (2, &[]),
        ];
        assert_eq!(of(6, &through), Some(vec![6, 5, 4, 3]));
        // What it does not wait for any more, and what the own task itself came after.
        assert_eq!(of(6, &[(6, &[1, 2]), (1, &[2])]), None);
        assert_eq!(of(2, &[(3, &[2]), (2, &[])]), None);
        assert_eq!(of(7, &[(7, &[7])]), None);
    }

    #[test]
    fn the_refusal_says_who_comes_after_whom() {
        let chain = |error: Error| error.chain();
        let direct = chain(refused(&[OWN]));
        assert!(
            direct.starts_with("task_003 is the task of the agent that calls this"),
            "{direct}"
        );
        let said = chain(refused(&[TaskId(5), TaskId(4), OWN]));
        assert_eq!(
            said,
            "task_005 comes after task_004, that after task_003, the task of the agent that calls this, which ends \
             after this call: the waiting would never end"
        );
        let said = chain(refused_after(&[TaskId(4), OWN]));
        assert!(
            said.ends_with("the waiting for what comes after it would never end"),
            "{said}"
        );
    }
}
