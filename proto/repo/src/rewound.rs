//! An agent that goes back behind what its user had not committed, as `git reset --hard HEAD~1` does to
//! begin with the last commit: that was not asked for, and the change must not take the user's work back.

use std::collections::BTreeMap;

use crate::{
    collect::restore,
    error::Result,
    git::Git,
    manifest::{Renames, diff},
    merge::{Merge, contains, merge},
    names::{listed, shown},
    snapshot::commit_tree,
    stage::Warnings,
    workspace::Workspace,
};

impl Workspace {
    /// Whether the agent is on the user's commit, or went on from there, and what was uncommitted on top of
    /// it is not below.
    pub(crate) fn went_back(&self) -> bool {
        let Some(users) = self.behind_uncommitted() else {
            return false;
        };
        let (Ok(Some(head)), Ok(lent)) = (self.agent_head(), self.lent()) else {
            return false;
        };
        let has = |commit: &str| contains(&lent, &head, commit).unwrap_or(false);
        has(users) && !has(&self.base)
    }

    /// The user's commit, where the base has uncommitted work on top of it and nothing else.
    fn behind_uncommitted(&self) -> Option<&str> {
        let users = self.head.as_deref()?;
        (users != self.base && self.base == self.start).then_some(users)
    }

    /// Puts the uncommitted work back into what is staged of an agent that went back: merged with what that
    /// did, or where it changed the same, what it left alone. Gives the tree.
    ///
    /// # Errors
    /// When git fails.
    pub(crate) fn put_back(
        &self,
        git: &Git,
        tree: &str,
        warnings: &mut Warnings,
    ) -> Result<String> {
        let Some(users) = self.behind_uncommitted() else {
            return Ok(tree.to_owned());
        };
        let own = commit_tree(&self.bare(), tree, &[users], b"went back\n")?;
        let differs = |from: &str, to: &str| diff(git, from, to, Renames::Ignore);
        let uncommitted: BTreeMap<_, _> = differs(users, &self.base)?
            .into_iter()
            .map(|file| (file.path, (file.old_mode, file.old_id)))
            .collect();
        match merge(git, &self.base, &own)? {
            Merge::Tree(both) => {
                git.output(&["read-tree", &both])?;
            }
            Merge::Conflict(_) => {
                let mut left_alone = differs(&self.base, tree)?;
                left_alone.retain(|file| {
                    let was = uncommitted.get(&file.path);
                    was.is_some_and(|(mode, id)| (file.new_mode, &file.new_id) == (*mode, id))
                });
                restore(git, left_alone.iter())?;
            }
        }
        let kept = git.line(&["write-tree"])?;
        let lost = differs(&self.base, &kept)?;
        let lost = lost.iter().filter(|f| uncommitted.contains_key(&f.path));
        let lost: Vec<String> = lost.map(|file| shown(&file.path)).collect();
        warnings.add(match &lost[..] {
            [] => "the agent went back behind your uncommitted work; that is kept, with what it did"
                .to_owned(),
            lost => format!(
                "the agent went back behind your uncommitted work; that is kept, but not all of what you had \
                 in {}",
                listed(lost)
            ),
        });
        Ok(kept)
    }
}
