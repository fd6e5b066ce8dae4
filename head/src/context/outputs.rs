//! Which outputs of a project are too many or too old, and their removal: from the list of tasks, and then here,
//! with a note of their copies in mirrors, so that a crash in between is gone on from at the next look. No git
//! runs here, and nothing of a project's directory is touched: the copies go by the note (see `copies`).

use std::{cmp::Reverse, collections::BTreeSet, io, time::SystemTime};

use orchestra_types::{ProjectId, TaskId};

use super::{
    OUTPUT_BYTES_MAX, OUTPUTS, render,
    store::{Error, Files, Store},
};

/// What stays.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// The newest stay, this many of each project: those of the tasks with the highest numbers, which the head has
    /// given out one after the other, whatever the clock said.
    pub max: u64,
    /// What was written before goes; none: nothing goes for its age. One that was written while the clock was ahead
    /// counts as new until that time has come.
    pub since: Option<SystemTime>,
}

/// An output that may go once its task is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Whose.
    pub task: TaskId,
    /// How many bytes the head's own file has.
    pub bytes: u64,
}

/// What of outputs that were to be removed is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// The tasks whose outputs are gone.
    pub tasks: Vec<TaskId>,
    /// Whether some stay until there is room for a note of their copies, which [`Store::remove_copies`] makes.
    pub full: bool,
}

/// An output that is there.
#[derive(Clone, Copy, Debug)]
struct Output {
    task: TaskId,
    bytes: u64,
    written: SystemTime,
}

impl Store {
    /// The projects that have a context.
    pub fn projects(&self) -> io::Result<Vec<ProjectId>> {
        let entries = match self.root.read_dir() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut projects = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let project = name.to_str().and_then(|name| name.parse().ok());
            projects.extend(project.filter(|_| entry.path().is_dir()));
        }
        projects.sort();
        Ok(projects)
    }

    /// The outputs of a project that are too many or too old, those of the oldest tasks first.
    pub fn due_outputs(&self, project: &ProjectId, keep: &Keep) -> Result<Vec<Due>, Error> {
        self.owned(project, |files| Ok(due(files.outputs()?, keep)))
    }

    /// Removes outputs, as many of them as there is room for in the note of their copies in mirrors; those go with
    /// [`Store::remove_copies`].
    pub fn remove_outputs(&self, project: &ProjectId, tasks: &[TaskId]) -> Result<Gone, Error> {
        let max = self.copies_max;
        self.owned(project, |files| files.remove_outputs(tasks, max))
    }
}

/// Those that go, the oldest first.
fn due(mut outputs: Vec<Output>, keep: &Keep) -> Vec<Due> {
    outputs.sort_by_key(|output| Reverse(output.task));
    let max = usize::try_from(keep.max).unwrap_or(usize::MAX);
    let is_old = |output: &Output| keep.since.is_some_and(|since| output.written < since);
    let outputs = outputs.iter().enumerate();
    let due = outputs.filter(|(newer, output)| *newer >= max || is_old(output));
    let due = due.map(|(_, output)| Due {
        task: output.task,
        bytes: output.bytes,
    });
    let mut due: Vec<Due> = due.collect();
    due.reverse();
    due
}

impl Files {
    fn outputs(&self) -> io::Result<Vec<Output>> {
        let Some(outputs) = self.folder.existing(OUTPUTS)? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for name in outputs.names()? {
            // What is called otherwise is not ours to remove.
            let Some(task) = render::task_of_output(&name) else {
                continue;
            };
            found.extend(outputs.look(&name)?.map(|look| Output {
                task,
                bytes: look.bytes,
                written: look.written,
            }));
        }
        Ok(found)
    }

    /// The list names no output that is not there.
    fn list_without(&self, tasks: &[TaskId]) -> io::Result<()> {
        let tasks: BTreeSet<u64> = tasks.iter().map(|task| task.0).collect();
        let mut list = self.completed()?;
        let mut changed = false;
        for task in &mut list {
            changed |= tasks.contains(&task.number) && task.loses_output();
        }
        if !changed {
            return Ok(());
        }
        self.write_completed(list).map(drop)
    }

    /// One that cannot be read stays until it can: what its copies are is not known without it.
    fn remove_outputs(&self, tasks: &[TaskId], copies_max: usize) -> io::Result<Gone> {
        let mut gone = Gone::default();
        let Some(outputs) = self.folder.existing(OUTPUTS)? else {
            return Ok(gone);
        };
        let mut room = self.room(copies_max)?;
        let mut copies = Vec::new();
        for task in tasks {
            let name = render::output_name_of(&task.to_string());
            match outputs.sums(&name, 2 * OUTPUT_BYTES_MAX) {
                Ok(Some(_)) if !room.take() => {
                    gone.full = true;
                    break;
                }
                Ok(sums) => copies.extend(sums.map(|sums| (name, sums))),
                Err(error) => {
                    self.tell_unreadable(&name, &error);
                    continue;
                }
            }
            gone.tasks.push(*task);
        }
        self.list_without(&gone.tasks)?;
        self.note_copies(&copies, copies_max)?;
        let mut names = copies.iter();
        names.try_for_each(|(name, _)| outputs.remove(name))?;
        outputs.sync()?;
        Ok(gone)
    }

    fn tell_unreadable(&self, name: &str, error: &io::Error) {
        tracing::warn!(project = %self.project, name, %error, "an old output stays: it cannot be read");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn due_of(outputs: &[(u64, u64)], max: u64, since: Option<u64>) -> Vec<u64> {
        let outputs = outputs.iter().map(|(task, written)| Output {
            task: TaskId(*task),
            bytes: 1,
            written: at(*written),
        });
        let since = since.map(at);
        let due = due(outputs.collect(), &Keep { max, since });
        due.iter().map(|due| due.task.0).collect()
    }

    #[test]
    fn those_of_the_newest_tasks_stay_whatever_the_clock_said() {
        let outputs = [(3, 30), (1, 5_000_000), (2, 20), (4, 0)];
        assert_eq!(due_of(&outputs, 4, None), [0_u64; 0]);
        assert_eq!(due_of(&outputs, 3, None), [1]);
        assert_eq!(due_of(&outputs, 2, None), [1, 2]);
        assert_eq!(due_of(&outputs, 0, None), [1, 2, 3, 4]);
    }

    #[test]
    fn what_is_old_goes_however_few_there_are() {
        let outputs = [(1, 50), (2, 20), (3, 30)];
        assert_eq!(due_of(&outputs, 9, Some(30)), [2]);
        assert_eq!(due_of(&outputs, 9, Some(31)), [2, 3]);
        assert_eq!(due_of(&outputs, 1, Some(21)), [1, 2]);
        assert_eq!(due_of(&[], 0, Some(99)), [0_u64; 0]);
    }
}
