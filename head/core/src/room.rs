//! What tasks may take of the head's memory besides their number: the texts that a client chooses
//! the length of, the dependencies between them, and the different things that they require of a
//! worker, among which a pick has to choose.

use std::collections::BTreeSet;

use crate::{Core, input::NewTask, message::SubmitRefused, queue::Requirement, row::TaskFacts};

/// What tasks may take, those that have ended and are still kept included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes of labels, names of projects and submitters. What tasks have in common counts once.
    pub text_bytes: usize,
    /// Dependencies: how many tasks each comes after, added up.
    pub edges: usize,
    /// Different requirements: runner, machine, labels, fallbacks.
    pub kinds: usize,
    /// Bytes of descriptions and commands of recurring tasks, which are kept in memory whole.
    pub schedule_bytes: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            text_bytes: 256 * 1024 * 1024,
            edges: 8_000_000,
            kinds: 10_000,
            schedule_bytes: 16 * 1024 * 1024,
        }
    }
}

impl Core {
    /// What is too much in a submission; none when there is room for all of it.
    pub(crate) fn no_room(&self, tasks: &[NewTask]) -> Option<SubmitRefused> {
        let room = &self.config.room;
        let edges = tasks.iter().map(NewTask::edges).sum::<usize>();
        if self.edges + edges > room.edges {
            return Some(SubmitRefused::TooManyEdges { limit: room.edges });
        }
        // Most submissions are far from the limits: only near to them it counts what is new.
        let most: usize = tasks.iter().map(NewTask::text_bytes).sum();
        if self.facts.text_bytes() + most > room.text_bytes
            && self.facts.text_bytes() + self.new_text_bytes(tasks) > room.text_bytes
        {
            let limit = room.text_bytes;
            return Some(SubmitRefused::TooMuchText { limit });
        }
        if self.facts.kinds() + tasks.len() > room.kinds
            && self.facts.kinds() + self.new_kinds(tasks) > room.kinds
        {
            return Some(SubmitRefused::TooManyKinds { limit: room.kinds });
        }
        None
    }

    fn new_text_bytes(&self, tasks: &[NewTask]) -> usize {
        let facts = tasks.iter().map(|task| TaskFacts::of(&task.spec));
        let new: BTreeSet<TaskFacts> = facts.filter(|f| !self.facts.knows(f)).collect();
        new.iter().map(TaskFacts::text_bytes).sum()
    }

    fn new_kinds(&self, tasks: &[NewTask]) -> usize {
        // Tasks of a submission are mostly alike.
        let first = tasks
            .chunk_by(NewTask::requires_the_same)
            .map(|alike| &alike[0]);
        let kinds = first.map(|task| Requirement::of(&TaskFacts::of(&task.spec)));
        let new: BTreeSet<Requirement> = kinds.filter(|k| !self.facts.knows_kind(k)).collect();
        new.len()
    }
}

impl NewTask {
    fn edges(&self) -> usize {
        self.spec.after.len() + self.after_index.len()
    }

    fn requires_the_same(&self, other: &Self) -> bool {
        let (own, other) = (&self.spec, &other.spec);
        (&own.runner, &own.requires, &own.fallback, &own.place)
            == (
                &other.runner,
                &other.requires,
                &other.fallback,
                &other.place,
            )
    }

    fn text_bytes(&self) -> usize {
        let pairs = self.spec.requires.iter().chain(&self.spec.labels);
        let labels: usize = pairs.map(|(key, value)| key.len() + value.len()).sum();
        let project = self.spec.project.as_ref();
        let project = project.map_or(0, |p| p.id.as_str().len() + p.name.len());
        labels + project + self.spec.submitter.len()
    }
}
