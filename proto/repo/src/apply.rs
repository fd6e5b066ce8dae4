//! Puts a change into the user's work tree: all of it or nothing, and never over anything that
//! is not committed, unless the attempt started from just that.

mod attempts;
mod by_hand;
mod check;
mod conflict;
mod drivers;
mod encoded;
mod filtered;
mod here;
mod later;
mod record;
mod refusal;
mod unmerged;
mod without;
mod write;
mod written;

pub use refusal::{ApplyError, Attempted};
pub use unmerged::keeps_from_merging;
pub use written::{Bit, unseen_bits};

use std::{collections::BTreeSet, path::Path};

use orchestra_types::TaskId;

use attempts::Attempts;
use here::Here;
use record::{By, Record};

use crate::{
    checkout::Checkout,
    common::merge_from_common,
    earlier::{self, Earlier},
    error::{Error, says_missing},
    git::Input,
    lock,
    manifest::{Raw, Renames, diff},
    merge::{Merge, merge},
    quarantine::Quarantine,
    received::Received,
    snapshot::commit_tree,
    told::Told,
};

/// A change that an attempt made.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The bundle that holds it.
    pub bundle: &'a Path,
    /// The branch inside of the bundle.
    pub branch: &'a str,
    /// The commit that the branch must be.
    pub commit: &'a str,
    /// The snapshot that the attempt started from.
    pub start: &'a str,
    /// Changes of earlier tasks that it builds on. Those that are not in the work tree come with it.
    pub earlier: &'a [Earlier],
    /// The commits of the task's attempts, the earliest one first. Where one is in the work tree, this
    /// change takes its place; and so does its branch.
    pub attempts: &'a [String],
    /// Whether a person looks on: then attempts count, too, that nobody knows to have been applied, and that are in
    /// the files as a whole, where the change does not fit otherwise.
    pub attended: bool,
    /// Whether it is known to have been applied, by itself or as a part of a later one.
    pub applied: bool,
    /// What was told of it. It is taken only if it is that.
    pub told: Told<'a>,
}

/// What was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// How many files now are as the change has them.
    pub files: u64,
    /// Whether they all were so before: nothing was written.
    pub already: bool,
    /// Whether the user's index lacks some of those that were written: git's diff does not show them.
    pub unknown: bool,
    /// Executable bits that it has and the user's git does not see.
    pub unseen: Vec<Bit>,
    /// For each of the earlier changes whether it was in the work tree already.
    pub was_in: Vec<bool>,
    /// The branch of a later change that is in the work tree and holds this one: nothing was done.
    pub within: Option<String>,
    /// The commit of an earlier attempt that was there, as nobody knew, and whose place it took.
    pub replaced: Option<String>,
}

impl Applied {
    /// The tasks whose changes came along because they were not there before: `tasks` are those that made the
    /// earlier changes, none for all of them together.
    #[must_use]
    pub fn brought(&self, tasks: &[Option<TaskId>]) -> Vec<TaskId> {
        let changes = || tasks.iter().zip(&self.was_in);
        if changes().any(|(task, was_in)| *was_in && task.is_none()) {
            return Vec::new();
        }
        let not = changes().filter(|(_, was_in)| !**was_in);
        let mut brought: Vec<TaskId> = not.filter_map(|(task, _)| *task).collect();
        brought.sort_unstable();
        brought
    }
}

/// The tasks to be noted as applied with a change that is in the work tree now: those whose changes it builds
/// on, of which that is not known yet. `tasks` are those that made them. Also those that were there before:
/// whoever put them there may have ended before it told anybody.
#[must_use]
pub fn not_noted(tasks: &[Option<TaskId>], earlier: &[Earlier]) -> Vec<TaskId> {
    let each = tasks.iter().zip(earlier);
    let unknown = each.filter(|(_, change)| !change.applied);
    let mut tasks: Vec<TaskId> = unknown.filter_map(|(task, _)| *task).collect();
    tasks.sort_unstable();
    tasks
}

/// Puts the change into the user's work tree. The index, HEAD and all branches stay as they are.
/// Where the work tree is other than what the attempt started from, the two are merged. Applying again
/// what is there already is no error.
///
/// # Errors
/// See [`ApplyError`]; nothing was touched then.
pub fn apply(checkout: &Checkout, received: &Received<'_>) -> Result<Applied, ApplyError> {
    apply_if(checkout, received, || true)
}

/// The same. `may_write` is asked once, when all is known and right before the first file is written.
///
/// # Errors
/// See [`ApplyError`]; nothing was touched then.
pub fn apply_if(
    checkout: &Checkout,
    received: &Received<'_>,
    may_write: impl FnOnce() -> bool,
) -> Result<Applied, ApplyError> {
    apply_unless(checkout, received, may_write).map_err(|error| match error {
        ApplyError::InTheWay { paths } if !checkout.has_own_repository() => {
            ApplyError::InTheWayOfDirectory { paths }
        }
        // Git's words say that it was kept from fetching, or that there is no such object.
        ApplyError::Repo(Error::Git { stderr, .. })
            if checkout.is_partial() && says_missing(&stderr) =>
        {
            Error::PartialClone.into()
        }
        error => error,
    })
}

fn apply_unless(
    checkout: &Checkout,
    received: &Received<'_>,
    may_write: impl FnOnce() -> bool,
) -> Result<Applied, ApplyError> {
    let Received { change, quarantine } = received;
    // One at a time: another change must not be written between the check and the moves.
    let _lock = lock::exclusive(&checkout.git_dir().join("orchestra-apply.lock"))?;
    write::remove_left(checkout);
    let record = Record::read(checkout)?;
    let earlier_attempts = change.attempts.iter().filter(|a| *a != change.commit);
    let work = Work {
        attempts: Attempts::read(
            checkout,
            quarantine.git(),
            change.start,
            earlier_attempts.map(String::as_str),
            |commit| record.has(commit),
        )?,
        head: head_tree(checkout, quarantine)?,
        earlier: earlier::read(quarantine.git(), change.earlier)?,
        whole: diff(
            quarantine.git(),
            change.start,
            change.commit,
            Renames::Ignore,
        )?,
        record,
        checkout,
        quarantine,
        change,
    };
    if let Some(branch) = work.within()? {
        return Ok(Applied {
            within: Some(branch),
            ..work.there_already()
        });
    }
    let (aim, todo) = match work.plan() {
        // What a merge by hand has made of it is in the way of nothing.
        plan if does_not_fit(&plan) && (work.is_merged()? || work.is_there()?) => {
            return Ok(work.there_already());
        }
        plan => plan?,
    };
    if !may_write() {
        return Err(ApplyError::CalledOff);
    }
    match todo.is_empty() {
        true => work.note(&aim.here)?,
        false => work.write(&aim, &todo)?,
    }
    Ok(Applied {
        files: work.changed(&aim)?,
        already: todo.is_empty(),
        unknown: aim.makes_unknown(),
        unseen: work.unseen(&aim.here.index)?,
        was_in: aim.was_in,
        within: None,
        replaced: aim.replaced.map(str::to_owned),
    })
}

/// What is known before the work tree is looked at.
struct Work<'a> {
    checkout: &'a Checkout,
    quarantine: &'a Quarantine,
    change: &'a Change<'a>,
    /// HEAD's tree.
    head: String,
    earlier: Vec<earlier::Read>,
    /// Attempts of the same task that may be there.
    attempts: Attempts<'a>,
    /// The change since the snapshot.
    whole: Vec<Raw>,
    /// What was applied before.
    record: Record,
}

/// What the work tree shall become.
struct Aim<'a> {
    here: Here,
    was_in: Vec<bool>,
    /// An attempt that nobody knew to be there.
    replaced: Option<&'a str>,
    /// The commits that what is there and the change both began from.
    bases: Vec<&'a str>,
    /// The tree.
    new: String,
    /// What differs.
    files: Vec<Raw>,
    /// The paths of the change, and those that a merge led it to.
    own: BTreeSet<Vec<u8>>,
}

impl Aim<'_> {
    /// Whether files are written that the user's index lacks, be they new or another task's before.
    fn makes_unknown(&self) -> bool {
        let mut written = self.files.iter().filter(|file| !file.is_deleted());
        written.any(|file| !self.here.index.contains_key(&file.path))
    }
}

/// What is looked at besides the change.
#[derive(Debug, Default)]
struct Look {
    /// The paths at which something was applied.
    applied: BTreeSet<Vec<u8>>,
    /// Whether attempts count that nobody knows to be there.
    by_hand: bool,
}

/// Whether a change is refused for what is there.
fn does_not_fit<T>(plan: &Result<T, ApplyError>) -> bool {
    matches!(
        plan,
        Err(ApplyError::Conflict { .. }
            | ApplyError::InTheWay { .. }
            | ApplyError::Unmerged { .. })
    )
}

impl<'a> Work<'a> {
    /// The change is there as a whole.
    fn there_already(&self) -> Applied {
        Applied {
            files: 0,
            already: true,
            unknown: false,
            unseen: Vec::new(),
            was_in: vec![true; self.change.earlier.len()],
            within: None,
            replaced: None,
        }
    }

    /// What is at these paths.
    fn read(&self, paths: &BTreeSet<Vec<u8>>) -> Result<Here, Error> {
        let written = |heads: &here::Entries| self.written(heads);
        Here::read(self.checkout, self.quarantine, &self.head, paths, written)
    }

    /// What the work tree shall become, and what is to be done for that. Where the change does not fit, what
    /// was applied before is looked at as well: a file may have another name since. Then attempts that nobody
    /// knows of are, too.
    fn plan(&self) -> Result<(Aim<'a>, Vec<Todo>), ApplyError> {
        let mut look = Look::default();
        let mut plan = self.plan_with(&look);
        if does_not_fit(&plan) {
            look.applied = self.record.paths().cloned().collect();
            plan = self.plan_with(&look);
        }
        if does_not_fit(&plan) && self.change.attended && self.attempts.are_by_hand() {
            look.by_hand = true;
            plan = self.plan_with(&look);
        }
        plan
    }

    /// The same for one such look.
    fn plan_with(&self, look: &Look) -> Result<(Aim<'a>, Vec<Todo>), ApplyError> {
        let aim = self.aim(look)?;
        check::refuse_unsafe(self.quarantine, &aim.files)?;
        check::refuse_apart(&aim.here, &aim.files)?;
        let git = self.quarantine.git();
        let known = self.known(&aim.here, &aim.bases, look.by_hand)?;
        let mut todo = check::require_clean(&aim.here, &aim.files, &known)?;
        let (start, branch) = (self.change.start, self.change.branch);
        let unchanged = filtered::unchanged(self.checkout, git, start, branch, &aim.files)?;
        for item in &mut todo {
            item.filtered = unchanged.contains(&item.file.path);
        }
        Ok((aim, todo))
    }

    /// Merges what is there with the change. A merge may lead to other paths, where files were renamed:
    /// then what is there is looked at as well.
    fn aim(&self, look: &Look) -> Result<Aim<'a>, ApplyError> {
        let earlier = self.earlier.iter().flat_map(|e| paths(&e.files));
        let mut own: BTreeSet<Vec<u8>> = paths(&self.whole).chain(earlier).collect();
        let aim = self.aim_at(&own, look)?;
        let before = own.len();
        own.extend(paths(&aim.files));
        match own.len() == before {
            true => Ok(aim),
            false => self.aim_at(&own, look),
        }
    }

    fn aim_at(&self, own: &BTreeSet<Vec<u8>>, look: &Look) -> Result<Aim<'a>, ApplyError> {
        let (git, change) = (self.quarantine.git(), self.change);
        let mut touched = own | &look.applied;
        touched.extend(self.attempts.paths(look.by_hand));
        let here = self.read(&touched)?;
        let head = self.checkout.head();
        let was_in = earlier::are_in(git, head, &here.tree, change.earlier, &self.earlier)?;
        let mut bases = vec![change.start];
        let present = change.earlier.iter().zip(&was_in).filter(|(_, is)| **is);
        bases.extend(present.map(|(earlier, _)| earlier.commit.as_str()));
        let replaced = self.replaced(&here, look.by_hand)?;
        bases.extend(replaced);
        let new = self.merged(&here, &bases, replaced)?;
        let files = diff(git, &here.tree, &new, Renames::Ignore)?;
        Ok(Aim {
            here,
            was_in,
            replaced: replaced.filter(|commit| self.attempts.is_by_hand(commit)),
            bases,
            new,
            files,
            own: own.clone(),
        })
    }

    /// The tree that the work tree shall have: the change's own, or merged with what is there. An earlier
    /// attempt that is `replaced` is what both sides come from.
    fn merged(
        &self,
        here: &Here,
        bases: &[&str],
        replaced: Option<&str>,
    ) -> Result<String, ApplyError> {
        let (git, change) = (self.quarantine.git(), self.change);
        let tree = |commit: &str| git.line(&["rev-parse", &format!("{commit}^{{tree}}")]);
        if bases == [change.start] && tree(change.start)? == here.tree {
            return Ok(tree(change.commit)?);
        }
        // What is there on top of the bases, so that they are what both sides started from.
        let ours = commit_tree(git, &here.tree, bases, b"work tree\n")?;
        let theirs = match replaced {
            Some(attempt) => commit_tree(
                git,
                &tree(change.commit)?,
                &[change.commit, attempt],
                b"attempt\n",
            )?,
            None => change.commit.to_owned(),
        };
        let tree = match merge(git, &ours, &theirs)? {
            Merge::Tree(tree) => tree,
            Merge::Conflict(paths) => match self.merged_from_common(&ours, replaced)? {
                Some(tree) => tree,
                None => return Err(self.conflict(here, bases, &paths)?),
            },
        };
        let otherwise = self.merged_otherwise(&here.tree, &tree)?;
        match otherwise.is_empty() {
            true => Ok(tree),
            false => Err(self.conflict(here, bases, &otherwise)?),
        }
    }

    /// The same where both have earlier changes that git does not see.
    fn merged_from_common(
        &self,
        ours: &str,
        replaced: Option<&str>,
    ) -> Result<Option<String>, Error> {
        if replaced.is_some() {
            return Ok(None);
        }
        let change = self.change;
        let whole = Earlier {
            start: change.start.to_owned(),
            base: change.told.base.to_owned(),
            commit: change.commit.to_owned(),
            applied: change.applied,
        };
        merge_from_common(self.quarantine.git(), ours, &whole, change.earlier)
    }

    /// Writes what is to be done, once it is in the record.
    fn write(&self, aim: &Aim<'_>, todo: &[Todo]) -> Result<(), ApplyError> {
        if todo.is_empty() {
            return Ok(());
        }
        let left = diff(self.quarantine.git(), &self.head, &aim.new, Renames::Ignore)?;
        let written: BTreeSet<&[u8]> = todo.iter().map(|todo| &*todo.file.path).collect();
        let left = left.iter().filter(|file| written.contains(&*file.path));
        // With what was there already, as if it had been written.
        let left = left.chain(self.unrecorded(&aim.here));
        self.record.with(left, &By::of(self.change)).save()?;
        write::write(
            self.checkout,
            self.quarantine,
            &aim.new,
            self.change.branch,
            todo,
        )
        .inspect_err(|_| {
            // Else what the user comes to write there could be taken for ours.
            let _ = self.record.save();
        })
    }

    /// How many files of the change are other than in HEAD now, or were other than they are now: also those
    /// that went, and those that are as in HEAD again. Of earlier changes that were there before it none
    /// counts.
    fn changed(&self, aim: &Aim<'_>) -> Result<u64, Error> {
        let git = self.quarantine.git();
        let differs = |from: &str, to: &str| diff(git, from, to, Renames::Find);
        let mut since_head = differs(&self.head, &aim.new)?;
        since_head.retain(|file| aim.own.contains(&file.path));
        let mut files: BTreeSet<Vec<u8>> = paths(&since_head).collect();
        let each = self.change.earlier.iter().zip(&self.earlier);
        for ((earlier, read), _) in each.zip(&aim.was_in).filter(|(_, is)| **is) {
            let since = differs(&earlier.commit, self.change.commit)?;
            let since: BTreeSet<Vec<u8>> = paths(&since).collect();
            let others = paths(&read.files).filter(|path| !since.contains(path));
            for path in others {
                files.remove(&path);
            }
        }
        let mut written = differs(&aim.here.tree, &aim.new)?;
        let renamed: BTreeSet<_> = since_head.iter().filter_map(|f| f.from.as_ref()).collect();
        written.retain(|file| !(file.is_deleted() && renamed.contains(&file.path)));
        files.extend(paths(&written));
        Ok(files.len() as u64)
    }
}

fn paths(files: &[Raw]) -> impl Iterator<Item = Vec<u8>> + '_ {
    files.iter().map(|file| file.path.clone())
}

fn head_tree(checkout: &Checkout, quarantine: &Quarantine) -> Result<String, Error> {
    match checkout.head() {
        Some(head) => quarantine
            .git()
            .line(&["rev-parse", &format!("{head}^{{tree}}")]),
        None => quarantine.git().line_of(&["mktree"], Input::Bytes(b"")),
    }
}

/// One file to write or delete.
#[derive(Clone, Debug)]
struct Todo {
    file: Raw,
    /// What was there when it was checked; none when nothing was.
    was: Option<Stamp>,
    /// Whether the user's filter makes it.
    filtered: bool,
}

/// What tells whether somebody wrote to a file since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: i64,
    modified: (i64, i64),
    /// Who may do what with it.
    mode: u32,
}

impl Stamp {
    fn of(stat: &rustix::fs::Stat) -> Self {
        Self {
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (
                stat.st_mtime,
                i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
            ),
            mode: stat.st_mode & 0o777,
        }
    }
}
