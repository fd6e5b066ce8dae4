//! Which of an agent's commits are new, and which of them come before which: what is kept of a newer one
//! holds the older one as well. The commits are data of the agent; how many are looked at is bounded.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    agent_refs::AgentRef,
    error::Result,
    git::{Git, Input},
    others::is_full,
};

/// Most new commits that are told apart.
pub(crate) const NEW_MAX: usize = 10_000;

/// Commits of an agent that are in no known history.
#[derive(Debug, Default)]
pub(crate) struct New {
    /// Each in a line with its parents, and before them.
    listed: String,
    /// Whether all of them are listed.
    pub is_whole: bool,
}

impl New {
    /// The commits of `wanted`, and those that they come after, that are in no `known` history. One that is
    /// not there any more, or never was, is passed over.
    pub fn list(lent: &Git, wanted: &[&str], known: &[&str]) -> Result<Self> {
        let mut input = wanted.join("\n");
        for commit in known {
            input.push_str(&format!("\n^{commit}"));
        }
        input.push('\n');
        let most = format!("--max-count={NEW_MAX}");
        let list = [
            "rev-list",
            "--ignore-missing",
            "--topo-order",
            "--parents",
            &most,
            "--stdin",
        ];
        let listed = lent.line_of(&list, Input::Bytes(input.as_bytes()))?;
        Ok(Self {
            is_whole: listed.lines().count() < NEW_MAX,
            listed,
        })
    }

    pub fn graph(&self) -> Graph<'_> {
        Graph::of(&self.listed)
    }
}

/// What is known of an agent's refs before one of them is taken.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    pub new: New,
    /// The objects that they name and that are there, and whether each is a commit. None is looked up where that
    /// cannot be told.
    there: Option<BTreeMap<String, bool>>,
}

impl Reach {
    /// What git cannot tell, as of a commit without those before it, is not known.
    pub fn look(lent: &Git, refs: &[&AgentRef], known: &[&str]) -> Result<Self> {
        let wanted: Vec<&str> = refs.iter().map(|r| &*r.commit).collect();
        Ok(Self {
            there: told(there(lent, &wanted))?,
            new: told(New::list(lent, &wanted, known))?.unwrap_or_default(),
        })
    }

    /// Those of `refs` that are in no known history, as far as that is known.
    pub fn open<'a>(&self, refs: &[&'a AgentRef]) -> Vec<&'a AgentRef> {
        let graph = self.new.graph();
        let is_commit = |of: &AgentRef| {
            let there = self.there.as_ref();
            there.and_then(|there| there.get(&of.commit)) == Some(&true)
        };
        let is_known = |of: &AgentRef| self.new.is_whole && is_commit(of) && !graph.has(&of.commit);
        refs.iter().copied().filter(|of| !is_known(of)).collect()
    }

    /// Whether what it names is not there.
    pub fn is_gone(&self, of: &AgentRef) -> bool {
        let there = self.there.as_ref();
        there.is_some_and(|there| !there.contains_key(&of.commit))
    }
}

/// None where git cannot tell; a full disk is not the agent's fault.
fn told<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(told) => Ok(Some(told)),
        Err(error) if is_full(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Those of these objects that are there, and whether each is a commit.
fn there(lent: &Git, ids: &[&str]) -> Result<BTreeMap<String, bool>> {
    let input = ids.join("\n") + "\n";
    let args = ["cat-file", "--batch-check=%(objectname) %(objecttype)"];
    let told = lent.line_of(&args, Input::Bytes(input.as_bytes()))?;
    let told = told.lines().filter_map(|line| line.split_once(' '));
    let there = told.filter(|(_, kind)| *kind != "missing");
    Ok(there
        .map(|(id, kind)| (id.to_owned(), kind == "commit"))
        .collect())
}

/// New commits by what they come after.
#[derive(Debug)]
pub(crate) struct Graph<'a> {
    /// The place of each in the list, and its parents.
    commits: BTreeMap<&'a str, (usize, &'a str)>,
}

impl<'a> Graph<'a> {
    pub fn of(listed: &'a str) -> Self {
        let lines = listed.lines().enumerate();
        let commits = lines.map(|(at, line)| {
            let (commit, parents) = line.split_once(' ').unwrap_or((line, ""));
            (commit, (at, parents))
        });
        Self {
            commits: commits.collect(),
        }
    }

    pub fn has(&self, commit: &str) -> bool {
        self.commits.contains_key(commit)
    }

    /// Where it stands in a list that has each commit before those that it comes after; the end for one that is
    /// not new.
    pub fn place(&self, commit: &str) -> usize {
        self.commits.get(commit).map_or(usize::MAX, |(at, _)| *at)
    }

    fn parents(&self, commit: &str) -> impl Iterator<Item = &'a str> {
        let parents = self.commits.get(commit).map(|(_, parents)| *parents);
        parents.unwrap_or_default().split_ascii_whitespace()
    }

    /// Adds all that `commit` comes after to `before`, which has what is before each commit in it.
    pub fn add_before(&self, commit: &str, before: &mut BTreeSet<&'a str>) {
        let mut open: Vec<&str> = self.parents(commit).collect();
        while let Some(commit) = open.pop() {
            if before.insert(commit) {
                open.extend(self.parents(commit));
            }
        }
    }

    /// What one of these comes after.
    pub fn before<'b>(&self, commits: impl Iterator<Item = &'b str>) -> BTreeSet<&'a str> {
        let mut before = BTreeSet::new();
        commits.for_each(|commit| self.add_before(commit, &mut before));
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_commit_comes_after_is_before_it() {
        let graph = Graph::of("e c d\nc b\nd b\nb known\nf");
        assert_eq!(
            graph.before(["e"].into_iter()),
            ["b", "c", "d", "known"].into()
        );
        let mut before = graph.before(["d", "f"].into_iter());
        assert_eq!(before, ["b", "known"].into());
        graph.add_before("e", &mut before);
        assert!(before.contains("c") && !before.contains("e") && !before.contains("f"));
        assert!(graph.has("f") && !graph.has("known"));
        assert!(graph.place("e") < graph.place("b") && graph.place("b") < graph.place("known"));
    }

    #[test]
    fn commits_that_name_each_other_end() {
        let graph = Graph::of("a b\nb a\nc c");
        assert_eq!(graph.before(["a", "c"].into_iter()), ["a", "b", "c"].into());
    }
}
