//! All tasks, by id. Ids count from one and are never used again, so that a task stands in the
//! page that its id names; a page is a sorted run of at most `PAGE` tasks.

use std::{
    collections::VecDeque,
    ops::{Bound, RangeBounds},
};

use orchestra_types::{TaskId, TaskStatus};

use crate::task::Task;

/// Ids that share a page.
const PAGE: u64 = 64;

#[derive(Debug, Default)]
struct Page {
    tasks: Vec<Task>,
    /// How many of them have each status, so that a search can pass over the page.
    by_status: [u8; TaskStatus::ALL.len()],
}

/// All tasks, in the order of their ids.
#[derive(Debug, Default)]
pub(crate) struct TaskTable {
    /// The number of the first page that is kept.
    first: u64,
    pages: VecDeque<Page>,
}

impl Page {
    /// Where a task stands, or would stand.
    fn find(&self, id: TaskId) -> Result<usize, usize> {
        // Where no task of the page is missing, this is its place.
        let guess = (id.0 % PAGE) as usize;
        if self.tasks.get(guess).is_some_and(|t| t.row.id == id) {
            return Ok(guess);
        }
        self.tasks.binary_search_by_key(&id, |t| t.row.id)
    }

    fn may_have(&self, statuses: &[TaskStatus]) -> bool {
        let some = |status: &TaskStatus| self.by_status[*status as usize] > 0;
        statuses.is_empty() || statuses.iter().any(some)
    }
}

impl TaskTable {
    pub fn get(&self, id: &TaskId) -> Option<&Task> {
        let page = self.page(*id)?;
        page.find(*id).ok().map(|at| &page.tasks[at])
    }

    /// Its status changes by `Core::set_state` only, which tells `count`.
    pub fn get_mut(&mut self, id: &TaskId) -> Option<&mut Task> {
        let page = self.page_mut(*id)?;
        page.find(*id).ok().map(|at| &mut page.tasks[at])
    }

    pub fn contains_key(&self, id: &TaskId) -> bool {
        self.get(id).is_some()
    }

    /// Takes in a task. Its status is not counted yet.
    pub fn insert(&mut self, id: TaskId, task: Task) {
        let number = id.0 / PAGE;
        if self.pages.is_empty() {
            self.first = number;
        }
        while number < self.first {
            self.first -= 1;
            self.pages.push_front(Page::default());
        }
        let place = index(number - self.first);
        while self.pages.len() <= place {
            self.pages.push_back(Page::default());
        }
        let page = &mut self.pages[place];
        if page.tasks.capacity() == 0 {
            // At once: what a page outgrows would lie between the pages for ever.
            page.tasks.reserve_exact(PAGE as usize);
        }
        match page.find(id) {
            Ok(at) => page.tasks[at] = task,
            Err(at) => page.tasks.insert(at, task),
        }
    }

    /// Gives up a task whose status is not counted any more.
    pub fn remove(&mut self, id: &TaskId) -> Option<Task> {
        let page = self.page_mut(*id)?;
        let at = page.find(*id).ok()?;
        let task = page.tasks.remove(at);
        if page.tasks.is_empty() {
            page.tasks = Vec::new();
        }
        while self.pages.front().is_some_and(|page| page.tasks.is_empty()) {
            self.pages.pop_front();
            self.first += 1;
        }
        Some(task)
    }

    /// Notes that a task has a status.
    pub fn count(&mut self, id: TaskId, status: TaskStatus) {
        if let Some(page) = self.page_mut(id) {
            page.by_status[status as usize] += 1;
        }
    }

    /// Notes that a task no longer has a status.
    pub fn uncount(&mut self, id: TaskId, status: TaskStatus) {
        if let Some(page) = self.page_mut(id) {
            page.by_status[status as usize] -= 1;
        }
    }

    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Task> {
        self.pages.iter().flat_map(|page| &page.tasks)
    }

    /// The tasks of a range of ids, without pages in which no task has one of `statuses` (none:
    /// any). The rest of a page comes as it is.
    pub fn range(
        &self,
        ids: impl RangeBounds<TaskId>,
        statuses: &[TaskStatus],
    ) -> impl DoubleEndedIterator<Item = &Task> {
        let from = match ids.start_bound() {
            Bound::Included(id) => id.0,
            Bound::Excluded(id) => id.0.saturating_add(1),
            Bound::Unbounded => 0,
        };
        // The first id behind the range; the largest id of all is never given out.
        let to = match ids.end_bound() {
            Bound::Included(id) => id.0.saturating_add(1),
            Bound::Excluded(id) => id.0,
            Bound::Unbounded => u64::MAX,
        };
        let kept = self.pages.len();
        let place = |number: u64| index(number.saturating_sub(self.first)).min(kept);
        let (begin, end) = (place(from / PAGE), place(to.div_ceil(PAGE)));
        let pages = self.pages.range(begin..end.max(begin));
        pages
            .filter(move |page| page.may_have(statuses))
            .flat_map(move |page| {
                let begin = page.tasks.partition_point(|t| t.row.id.0 < from);
                let end = page.tasks.partition_point(|t| t.row.id.0 < to);
                &page.tasks[begin..end.max(begin)]
            })
    }

    fn page(&self, id: TaskId) -> Option<&Page> {
        let place = (id.0 / PAGE).checked_sub(self.first)?;
        self.pages.get(index(place))
    }

    fn page_mut(&mut self, id: TaskId) -> Option<&mut Page> {
        let place = (id.0 / PAGE).checked_sub(self.first)?;
        self.pages.get_mut(index(place))
    }
}

fn index(place: u64) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}
