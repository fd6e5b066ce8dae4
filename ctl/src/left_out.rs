//! Which changes a result is without, though it comes after them: those that its own attempt left out, since
//! they conflict, and those that a task below it did.

use std::collections::{BTreeSet, VecDeque};

use orchestra_types::TaskId;

use crate::{
    client::Client,
    exit::Exit,
    json::{attempt::Attempt, task::Task},
};

/// Most tasks below one that are asked for: as many as the head looks at.
const BELOW_MAX: usize = 64;

/// A task below a result, and whose changes it left out.
struct Below {
    task: TaskId,
    left_out: Vec<TaskId>,
}

/// A change that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Whose it is.
    pub change: TaskId,
    /// The task that left it out.
    pub by: TaskId,
}

/// What the tasks below left out that is not in the result by another way, each once, the nearest first.
/// Tasks that the head has forgotten say nothing.
pub async fn below(client: &Client, task: &Task) -> Vec<Missing> {
    let Some(attempt) = task.of_result() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut seen: BTreeSet<TaskId> = attempt.built_on.iter().copied().collect();
    let mut open: VecDeque<TaskId> = attempt.built_on.iter().copied().collect();
    while let Some(id) = open.pop_front().filter(|_| found.len() < BELOW_MAX) {
        let task = match client.task(id).await {
            Ok(task) => task,
            Err(error) if error.exit() == Exit::NotFound => continue,
            // Nothing that was done is undone by this.
            Err(_) => break,
        };
        let Some(attempt) = task.of_result() else {
            continue;
        };
        let further = attempt.built_on.iter().copied();
        open.extend(further.filter(|id| seen.insert(*id)));
        found.push(Below {
            task: id,
            left_out: attempt.left_out.clone(),
        });
    }
    missing(attempt, seen, &found)
}

/// All that is missing: what the attempt of the result left out, then what those below did.
pub async fn all(client: &Client, task: &Task) -> Vec<TaskId> {
    let own = task.of_result().map(|attempt| attempt.left_out.clone());
    let mut all = own.unwrap_or_default();
    all.extend(below(client, task).await.iter().map(|m| m.change));
    all
}

/// `known` are tasks whose changes are in the result.
fn missing(attempt: &Attempt, mut known: BTreeSet<TaskId>, below: &[Below]) -> Vec<Missing> {
    // Of these it is said already.
    known.extend(&attempt.left_out);
    let of = |below: &Below| {
        let by = below.task;
        let each = below.left_out.iter();
        each.map(|change| Missing {
            change: *change,
            by,
        })
        .collect::<Vec<_>>()
    };
    let all = below.iter().flat_map(of);
    all.filter(|missing| known.insert(missing.change)).collect()
}

#[cfg(test)]
mod tests {
    use orchestra_proto::v1;

    use super::*;

    fn ids(ids: &[u64]) -> Vec<TaskId> {
        ids.iter().copied().map(TaskId).collect()
    }

    #[test]
    fn each_is_said_once_and_only_where_it_is_in_no_other_way() {
        let wire = v1::Attempt {
            number: 1,
            ..v1::Attempt::default()
        };
        let attempt = Attempt {
            left_out: ids(&[1]),
            ..Attempt::read(TaskId(9), wire).unwrap()
        };
        let below = [(8, &[1, 2, 3][..]), (7, &[2, 4])].map(|(task, left_out)| Below {
            task: TaskId(task),
            left_out: ids(left_out),
        });
        let of = |change, by| Missing {
            change: TaskId(change),
            by: TaskId(by),
        };
        let known = ids(&[3, 7, 8]).into_iter().collect();
        assert_eq!(missing(&attempt, known, &below), [of(2, 8), of(4, 7)]);
    }
}
