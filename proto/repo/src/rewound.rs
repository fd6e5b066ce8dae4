//! An agent that ends behind what it began with, as after `git reset --hard HEAD~1`, or while it looks at an
//! older commit: that was not asked for, and the change must take back neither what the user had not
//! committed nor the changes that the task is built on.
//!
//! An agent that writes its history anew (`git commit --amend`, a squash) has these in the commit that it is
//! on, and what it did to them counts.

use std::collections::BTreeMap;

use crate::{
    collect::restore,
    error::Result,
    git::{Git, Input, records},
    manifest::{Raw, Renames, diff},
    merge::{Merge, merge},
    names::{listed, shown},
    snapshot::commit_tree,
    stage::Warnings,
    workspace::Workspace,
};

/// How much of a commit's name people need.
const SHORT: usize = 7;

/// An agent that is on commits which do not have what it began with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WentBack {
    /// The commit that it is on; none on a branch without one.
    head: Option<String>,
    /// The last commit of its history that the user has too; none on a branch that begins anew.
    to: Option<String>,
}

/// What may have been taken back: the difference of two commits that the agent began with.
struct Layer {
    from: String,
    to: String,
    files: Vec<Raw>,
}

/// What a path is in a tree: mode and object.
type Entry<'a> = (u32, &'a str);

fn entries(files: &[Raw]) -> BTreeMap<&[u8], Entry<'_>> {
    let each = files.iter();
    each.map(|file| (&*file.path, (file.new_mode, &*file.new_id)))
        .collect()
}

fn differs(git: &Git, from: &str, to: &str) -> Result<Vec<Raw>> {
    diff(git, from, to, Renames::Ignore)
}

impl Workspace {
    /// Where the agent is, if that is known and is not what it began with, nor after it.
    pub(crate) fn went_back(&self) -> Option<WentBack> {
        // In a repository that it made itself nobody can tell.
        let began = self.agent_ref(&self.full_branch()).ok().flatten();
        let Some(head) = self.agent_head().ok()? else {
            let (head, to) = (None, None);
            return began.map(|_| WentBack { head, to });
        };
        if head == self.base {
            return None;
        }
        let lent = self.lent().ok()?;
        let ask = |args: &[&str]| lent.ended(args, Input::Nothing).ok();
        // Whatever else is wrong with its commits is no sign of that.
        if ask(&["merge-base", "--is-ancestor", &self.base, &head])?.code != 1 {
            return None;
        }
        let to = match &self.head {
            Some(users) => {
                let found = ask(&["merge-base", &head, users])?;
                let line = String::from_utf8_lossy(&found.value).trim().to_owned();
                match found.code {
                    0 => Some(line),
                    1 => None,
                    _ => return None,
                }
            }
            None => None,
        };
        let head = Some(head);
        (to.is_some() || began.is_some()).then_some(WentBack { head, to })
    }

    /// Puts what an agent that went back began with, on top of the user's commit, back into what is staged:
    /// merged with what it did, or where it changed the same, what it left alone. Gives the tree.
    ///
    /// # Errors
    /// When git fails.
    pub(crate) fn put_back(
        &self,
        git: &Git,
        tree: &str,
        went: &WentBack,
        warnings: &mut Warnings,
    ) -> Result<String> {
        let users = match &self.head {
            Some(users) => users.clone(),
            None => {
                let nothing = self.bare().line_of(&["mktree"], Input::Bytes(b""))?;
                commit_tree(&self.bare(), &nothing, &[], b"nothing\n")?
            }
        };
        let mut kept = tree.to_owned();
        if let Some(layer) = self.taken_back(&users, tree, went)? {
            let lost = self.merge_back(git, &users, tree, &layer, went)?;
            kept = git.line(&["write-tree"])?;
            if kept != tree || !lost.is_empty() {
                warnings.add(self.words(&layer, &lost));
            }
        }
        if let Some(text) = self.words_of_commits(git, &users, &kept, went)? {
            warnings.add(text);
        }
        Ok(kept)
    }

    /// What of that it began with the commit that it is on has nothing of.
    fn taken_back(&self, users: &str, tree: &str, went: &WentBack) -> Result<Option<Layer>> {
        let lent = self.lent()?;
        let at = went.head.as_deref().unwrap_or(tree);
        let is_gone = |from: &str, to: &str| {
            let layer = differs(&self.bare(), from, to)?;
            let now = differs(&lent, from, at)?;
            let now = entries(&now);
            let has = |(path, entry): (&[u8], Entry<'_>)| now.get(path) == Some(&entry);
            Ok::<_, crate::Error>(!layer.is_empty() && !entries(&layer).into_iter().any(has))
        };
        let uncommitted = is_gone(users, &self.start)?;
        let (from, to) = match (uncommitted, is_gone(&self.start, &self.base)?) {
            (true, true) => (users, &self.base),
            (true, false) if self.start == self.base => (users, &self.base),
            (true, false) => (users, &self.start),
            (false, true) => (&*self.start, &self.base),
            (false, false) => return Ok(None),
        };
        Ok(Some(Layer {
            from: from.to_owned(),
            to: to.to_owned(),
            files: differs(&self.bare(), from, to)?,
        }))
    }

    /// Stages both; the paths of which not all is kept.
    fn merge_back(
        &self,
        git: &Git,
        users: &str,
        tree: &str,
        layer: &Layer,
        went: &WentBack,
    ) -> Result<Vec<String>> {
        let began: BTreeMap<&[u8], &Raw> = layer.files.iter().map(|f| (&*f.path, f)).collect();
        let older = match &went.to {
            Some(to) => differs(git, users, to)?,
            None => Vec::new(),
        };
        let older = entries(&older);
        let now = differs(git, &layer.to, tree)?;
        let is_left_alone = |file: &&Raw| {
            let Some(was) = began.get(&*file.path) else {
                return false;
            };
            let entry = (file.new_mode, &*file.new_id);
            let gone = went.to.is_none() && file.is_deleted();
            let as_before = gone || entry == (was.old_mode, &*was.old_id);
            (as_before || older.get(&*file.path) == Some(&entry))
                && !is_in_the_way(&now, &file.path)
        };
        restore(git, now.iter().filter(is_left_alone))?;
        let whole = git.line(&["write-tree"])?;
        let on = |tree: &str, what: &[u8]| commit_tree(&self.bare(), tree, &[&layer.from], what);
        let theirs = on(&format!("{}^{{tree}}", layer.to), b"began with\n")?;
        match merge(git, &theirs, &on(&whole, b"went back\n")?)? {
            Merge::Tree(both) => {
                git.output(&["read-tree", &both])?;
                Ok(Vec::new())
            }
            Merge::Conflict(_) => {
                let lost = differs(git, &layer.to, &whole)?;
                let lost = lost.iter().filter(|file| began.contains_key(&*file.path));
                Ok(lost.map(|file| shown(&file.path)).collect())
            }
        }
    }

    fn words(&self, layer: &Layer, lost: &[String]) -> String {
        let what = match (layer.to == self.start, layer.from == self.start) {
            (true, _) => "your uncommitted work",
            (false, true) => "the changes that it is built on",
            (false, false) => "the changes that it is built on, and any uncommitted work of yours",
        };
        match lost {
            [] => format!("the agent went back behind {what}; that is kept, with what it did"),
            lost => format!(
                "the agent went back behind {what}; that is kept, but not all of what you had in {}",
                listed(lost)
            ),
        }
    }

    /// What is said where committed work is taken back with it.
    fn words_of_commits(
        &self,
        git: &Git,
        users: &str,
        kept: &str,
        went: &WentBack,
    ) -> Result<Option<String>> {
        if self.head.is_none() || went.to.as_deref() == Some(users) {
            return Ok(None);
        }
        let change = differs(git, users, kept)?;
        let Some(to) = &went.to else {
            let all = git.output(&["ls-tree", "-r", "-z", "--name-only", users])?;
            let touched = change.iter().filter(|file| file.old_mode != 0).count();
            let deletes = change.iter().any(Raw::is_deleted) && touched == records(&all).count();
            let text = "the agent ended on a branch that begins anew: the change deletes the files that are not on it";
            return Ok(deletes.then(|| text.to_owned()));
        };
        let older = differs(git, users, to)?;
        let older = entries(&older);
        let is_older = |(path, entry): (&[u8], Entry<'_>)| older.get(path) == Some(&entry);
        let takes_back = entries(&change).into_iter().any(is_older);
        let to = to.get(..SHORT).unwrap_or(to);
        Ok(takes_back.then(|| {
            format!(
                "the agent ended on a commit from before yours ({to}): the change takes back what you have committed \
                 since, as its files are"
            )
        }))
    }
}

/// Whether a file of the change has a directory where this path is, or is one of those above it.
fn is_in_the_way(change: &[Raw], path: &[u8]) -> bool {
    let below = |of: &[u8], path: &[u8]| {
        let rest = path.strip_prefix(of);
        rest.is_some_and(|rest| rest.first() == Some(&b'/'))
    };
    let mut there = change.iter().filter(|file| !file.is_deleted());
    there.any(|file| below(path, &file.path) || below(&file.path, path))
}
