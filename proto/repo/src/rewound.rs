//! An agent that ends behind what it began with, as after `git reset --hard HEAD~1`, or while it looks at an
//! older commit: that was not asked for, and the change must take back neither what the user had not
//! committed nor the changes that the task is built on.

use std::collections::BTreeMap;

use crate::{
    collect::restore,
    error::Result,
    git::{Git, Input},
    manifest::{Raw, Renames, diff},
    merge::{Merge, contains, merge},
    names::{listed, shown},
    snapshot::commit_tree,
    stage::Warnings,
    workspace::Workspace,
};

/// Where an agent went back to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WentBack {
    /// The last commit of its history that the user has too; none on a branch without a past.
    to: Option<String>,
}

impl Workspace {
    /// Where the agent went back to, if the commits that it is on do not have what it began with: the user's
    /// commit or an older one, or none.
    pub(crate) fn went_back(&self) -> Option<WentBack> {
        if self.head.as_deref() == Some(&self.base) {
            return None;
        }
        // In a repository that it made itself nobody can tell.
        let began = self.agent_ref(&self.full_branch()).ok().flatten();
        let head = match self.agent_head() {
            Ok(Some(head)) => head,
            Ok(None) => return self.is_unborn().then_some(WentBack { to: None }),
            Err(_) => return None,
        };
        let lent = self.lent().ok()?;
        if head == self.base || contains(&lent, &head, &self.base).unwrap_or(true) {
            return None;
        }
        let to = self.head.as_deref().and_then(|users| {
            let found = lent.ended(&["merge-base", &head, users], Input::Nothing);
            let found = found.ok().filter(|found| found.code == 0)?;
            Some(String::from_utf8_lossy(&found.value).trim().to_owned())
        });
        (to.is_some() || began.is_some()).then_some(WentBack { to })
    }

    /// Whether the agent is on a branch without a commit, in the repository that it was given.
    fn is_unborn(&self) -> bool {
        let began = self.agent_ref(&self.full_branch());
        began.is_ok_and(|began| began.is_some())
    }

    /// Puts what an agent began with, on top of the user's commit, back into what is staged of one that went
    /// back: merged with what that did, or where it changed the same, what it left alone. Gives the tree.
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
        let bare = self.bare();
        let users = match &self.head {
            Some(users) => users.clone(),
            None => {
                let nothing = bare.line_of(&["mktree"], Input::Bytes(b""))?;
                commit_tree(&bare, &nothing, &[], b"nothing\n")?
            }
        };
        let differs = |from: &str, to: &str| diff(git, from, to, Renames::Ignore);
        let began = differs(&users, &self.base)?;
        let began: BTreeMap<&[u8], &Raw> = began.iter().map(|file| (&*file.path, file)).collect();
        let older = match &went.to {
            Some(to) => differs(&users, to)?,
            None => Vec::new(),
        };
        let older: BTreeMap<&[u8], &Raw> = older.iter().map(|file| (&*file.path, file)).collect();
        let is_left_alone = |file: &Raw| {
            let Some(was) = began.get(&*file.path) else {
                return false;
            };
            let now = (file.new_mode, &file.new_id);
            let as_older = older.get(&*file.path).map(|f| (f.new_mode, &f.new_id));
            let gone = went.to.is_none() && file.is_deleted();
            gone || now == (was.old_mode, &was.old_id) || as_older == Some(now)
        };
        let taken_back = differs(&self.base, tree)?;
        restore(git, taken_back.iter().filter(|file| is_left_alone(file)))?;
        let whole = git.line(&["write-tree"])?;
        let on_users = |tree: &str, what: &[u8]| commit_tree(&bare, tree, &[&users], what);
        let theirs = on_users(&format!("{}^{{tree}}", self.base), b"began with\n")?;
        let lost = match merge(git, &theirs, &on_users(&whole, b"went back\n")?)? {
            Merge::Tree(both) => {
                git.output(&["read-tree", &both])?;
                Vec::new()
            }
            Merge::Conflict(_) => differs(&self.base, &whole)?,
        };
        let kept = git.line(&["write-tree"])?;
        if kept != tree {
            let lost = lost.iter().filter(|file| began.contains_key(&*file.path));
            let lost: Vec<String> = lost.map(|file| shown(&file.path)).collect();
            warnings.add(self.words(&lost));
        }
        if let Some(to) = went.to.as_deref().filter(|to| *to != users) {
            let to = to.get(..SHORT).unwrap_or(to);
            warnings.add(format!(
                "the agent ended on a commit from before yours ({to}): the change takes back what you have committed \
                 since, as its files are"
            ));
        }
        Ok(kept)
    }

    fn words(&self, lost: &[String]) -> String {
        let what = match self.base == self.start {
            true => "your uncommitted work",
            false => "the changes that it began with",
        };
        match lost {
            [] => format!("the agent went back behind {what}; that is kept, with what it did"),
            lost => format!(
                "the agent went back behind {what}; that is kept, but not all of what you had in {}",
                listed(lost)
            ),
        }
    }
}

/// How much of a commit's name people need.
const SHORT: usize = 7;
