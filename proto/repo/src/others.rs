//! What an agent left beside its result: commits on other branches, in stashes, below tags and on detached HEADs,
//! and what further work trees of its own hold. It is kept as branches of Orchestra, each named in a warning.

use std::{collections::BTreeSet, path::PathBuf, time::Instant};

use crate::{
    agent_refs::{self, AgentRef, Holds, What},
    beneath,
    choice::{Choice, LOOKED_AT_MAX, Taken, choose},
    collect::Collect,
    error::{Error, IoContext, Result, says_full},
    git::{Git, Input},
    history::{SECRET, TIME_MAX, reason},
    linked::Linked,
    names::listed,
    reach::Reach,
    stage::Warnings,
    workspace::{GIVEN_REFS, Workspace},
};

/// Most bytes of all of them: 1 GiB.
const BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Longest part of a branch's name that is the agent's.
const NAME_MAX: usize = 40;
/// How much of an agent's name a sentence has.
const SHOWN_MAX: usize = 100;
/// How much of a commit's id a sentence has.
const ID_SHOWN: usize = 12;

/// What there is beside a result.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// Refs that hold it.
    pub refs: Vec<String>,
    /// Directories in the workspace that are work trees of their own, and no part of the result.
    pub apart: Vec<Vec<u8>>,
}

impl Workspace {
    /// Takes over what the agent committed that is not in `tip`, nor in what it was given, and what its
    /// further work trees hold.
    pub(crate) fn take_others(
        &self,
        tip: &str,
        how: &Collect<'_>,
        warnings: &mut Warnings,
    ) -> Result<Beside> {
        let root = beneath::root(&self.dir).at("open", &self.dir)?;
        let mut found = agent_refs::read(&root);
        found.unread.into_iter().for_each(|text| warnings.add(text));
        if found.are_more {
            warnings.only_there(agent_refs::too_many());
        }
        let places = self.take_trees(&mut found.refs, tip, how, warnings)?;
        let left = self.left_heads(&root, &found.refs, tip, warnings)?;
        found.refs.retain(|r| !agent_refs::is_put_there(&root, r));
        found.refs.extend(left);
        self.peel_tags(&mut found.refs, warnings)?;
        // Of more than are kept, those first that are in no other form anywhere.
        found.refs.sort_by_key(|r| r.holds == Holds::Commits);
        Ok(Beside {
            refs: self.take_refs(&found.refs, tip, how, warnings)?,
            apart: self.apart(&places)?,
        })
    }

    /// Replaces tags by the commits that they name. Those of commits that the agent made are told: no tag is made
    /// in the user's repository.
    fn peel_tags(&self, refs: &mut [AgentRef], warnings: &mut Warnings) -> Result<()> {
        let is_tag = |r: &&mut AgentRef| matches!(r.what, What::Tag(_));
        let tags: Vec<&mut AgentRef> = refs.iter_mut().filter(is_tag).take(LOOKED_AT_MAX).collect();
        if tags.is_empty() {
            return Ok(());
        }
        let Ok(lent) = self.lent() else {
            return Ok(()); // It is said elsewhere.
        };
        let mut told = Vec::new();
        for tag in tags {
            let first = ["rev-list", "--max-count=1", &tag.commit];
            // Of one that names nothing sound it is said later that it is not kept.
            let Ok(commit) = lent.line(&first) else {
                continue;
            };
            let new = lent.line(&["rev-list", "--max-count=1", &commit, "--not", &self.base]);
            if new.is_ok_and(|new| !new.is_empty()) {
                told.push(agents_name(tag));
            }
            tag.commit = commit;
        }
        if !told.is_empty() {
            warnings.add(format!(
                "the agent's tags are not made in your repository: {}",
                listed(&told)
            ));
        }
        Ok(())
    }

    /// Puts what is not committed in the agent's further work trees on top of its branches. Where they
    /// are, but for those that could not be read: the result has the files of such a one in the workspace.
    fn take_trees(
        &self,
        refs: &mut Vec<AgentRef>,
        tip: &str,
        how: &Collect<'_>,
        warnings: &mut Warnings,
    ) -> Result<Vec<PathBuf>> {
        let mut found = self.linked(how.area)?;
        found.unread.into_iter().for_each(|text| warnings.add(text));
        if found.trees.is_empty() {
            return Ok(found.places);
        }
        let known = self.known(tip)?;
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        for tree in found.trees {
            match self.take_tree(&tree, refs, &known, how, warnings) {
                Ok(()) => {}
                Err(error) if is_full(&error) => return Err(error),
                Err(error) => {
                    warnings.only_there(uncommitted(&tree, &reason(&error)));
                    found.places.retain(|place| *place != tree.dir);
                }
            }
        }
        Ok(found.places)
    }

    /// On top of what it is on; where that is nothing sound, on top of what the agent began with.
    fn take_tree(
        &self,
        tree: &Linked,
        refs: &mut Vec<AgentRef>,
        known: &[&str],
        how: &Collect<'_>,
        warnings: &mut Warnings,
    ) -> Result<()> {
        let lent = self.lent()?;
        let sound = match tree.commit(refs) {
            None => None,
            Some(head) => match self.take_one(&lent, &head, known, how.secret, BYTES_MAX)? {
                Taken::Kept(_) => Some((head, Holds::Both)),
                Taken::Contained => Some((head, Holds::Edits)),
                // Of its commits it is said elsewhere why they are not kept.
                Taken::Refused(_) => None,
            },
        };
        let branch = tree.branch().filter(|_| sound.is_some());
        let (head, with_edits) = sound.unwrap_or((self.base.clone(), Holds::Edits));
        let commit = self.commit_linked(tree, &head, how, warnings)?;
        let holds = match commit == head {
            true => Holds::Commits,
            false => with_edits,
        };
        let on =
            |r: &&mut AgentRef| matches!(&r.what, What::Branch(name) if Some(&**name) == branch);
        match (refs.iter_mut().find(on), holds) {
            // It says already what it holds.
            (Some(_), Holds::Commits) => {}
            (Some(branch), Holds::Edits | Holds::Both) => {
                (branch.commit, branch.holds) = (commit, holds);
            }
            (None, _) => refs.push(AgentRef {
                what: What::Tree(tree.name.clone()),
                commit,
                holds,
            }),
        }
        Ok(())
    }

    /// Takes over these. The refs of ours that hold them.
    fn take_refs(
        &self,
        refs: &[AgentRef],
        tip: &str,
        how: &Collect<'_>,
        warnings: &mut Warnings,
    ) -> Result<Vec<String>> {
        // What HEAD is was taken already, or refused.
        let head = self.agent_head().ok().flatten();
        let mut seen: BTreeSet<&str> = [&*self.base, tip]
            .into_iter()
            .chain(head.as_deref())
            .collect();
        let new: Vec<&AgentRef> = refs.iter().filter(|r| seen.insert(&r.commit)).collect();
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let known = self.known(tip)?;
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let new: Vec<&AgentRef> = new
            .into_iter()
            .filter(|r| !known.contains(&&*r.commit))
            .collect();
        let kept = self.take_each(&new, &known, how, warnings)?;
        self.name_all(&kept, how.attempt, warnings)
    }

    /// The commits of the result, and of the branches that the agent was given.
    pub(crate) fn known(&self, tip: &str) -> Result<Vec<String>> {
        let text = self
            .bare()
            .line(&["for-each-ref", "--format=%(objectname)", GIVEN_REFS])?;
        let own = [&*self.base, tip].into_iter();
        Ok(own.chain(text.lines()).map(str::to_owned).collect())
    }

    /// Those that could be taken over. What is lost otherwise is nowhere but with the agent.
    fn take_each<'a>(
        &self,
        new: &[&'a AgentRef],
        known: &[&str],
        how: &Collect<'_>,
        warnings: &mut Warnings,
    ) -> Result<Vec<&'a AgentRef>> {
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let lent = match self.lent() {
            Ok(lent) => lent,
            Err(error) => {
                let lost = new.iter().map(|r| lost(r, &reason(&error)));
                lost.for_each(|text| warnings.only_there(text));
                return Ok(Vec::new());
            }
        };
        let reach = Reach::look(&lent, new, known)?;
        let (end, mut bytes) = (Instant::now() + TIME_MAX, BYTES_MAX);
        let choice = choose(&reach.open(new), &reach.new.graph(), |other| {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let lent = lent.clone().time_limit(left);
            match self.take_one(&lent, &other.commit, known, how.secret, bytes) {
                Ok(taken) => {
                    if let Taken::Kept(size) = taken {
                        bytes = bytes.saturating_sub(size);
                    }
                    Ok(Some(taken))
                }
                // That is not the agent's fault: whoever makes room collects again.
                Err(error) if is_full(&error) => Err(error),
                Err(error) => Ok(Some(Taken::Refused(reason(&error)))),
            }
        })?;
        tell(&choice, &reach, warnings);
        Ok(choice.kept)
    }

    fn take_one(
        &self,
        lent: &Git,
        commit: &str,
        known: &[&str],
        secret: &[String],
        bytes_max: u64,
    ) -> Result<Taken> {
        let first = ["rev-list", "--max-count=1", commit, "--not"];
        match lent.line(&[&first, known].concat())? {
            none if none.is_empty() => return Ok(Taken::Contained),
            first if first == commit => {}
            _ => return Ok(Taken::Refused("it names a tag".to_owned())),
        }
        let shared = [&["merge-base", commit], known].concat();
        if lent.ended(&shared, Input::Nothing)?.code != 0 {
            let why = "they do not come after anything that the agent was given";
            return Ok(Taken::Refused(why.to_owned()));
        }
        let bytes = self.take_over(lent, commit, known, bytes_max)?;
        Ok(match self.touches(commit, known, secret)? {
            false => Taken::Kept(bytes),
            true => Taken::Refused(SECRET.to_owned()),
        })
    }

    /// Makes a ref of each.
    fn name_all(
        &self,
        kept: &[&AgentRef],
        attempt: u32,
        warnings: &mut Warnings,
    ) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let mut refs = String::new();
        for other in kept {
            let name = unique(&plain(&other.what), &names);
            let branch = format!("{}-{attempt}-{name}", self.branch);
            refs.push_str(&format!("update refs/heads/{branch} {}\n", other.commit));
            warnings.add(format!(
                "{} {} are not in the result; they are the branch `{branch}`",
                work(other.holds),
                place(other)
            ));
            names.push(name);
        }
        if !refs.is_empty() {
            let args = ["update-ref", "--stdin"];
            self.bare()
                .output_of(&args, Input::Bytes(refs.as_bytes()))?;
        }
        let full = |name: &String| format!("refs/heads/{}-{attempt}-{name}", self.branch);
        Ok(names.iter().map(full).collect())
    }
}

/// What is not kept, or not by its own name.
fn tell(choice: &Choice<'_>, reach: &Reach, warnings: &mut Warnings) {
    for (other, why) in &choice.refused {
        match reach.is_gone(other) {
            true => warnings.add(lost(other, why)),
            false => warnings.only_there(lost(other, why)),
        }
    }
    let names =
        |refs: &[&AgentRef]| -> Vec<String> { refs.iter().map(|r| agents_name(r)).collect() };
    if !choice.within.is_empty() {
        warnings.add(format!(
            "the agent has more branches beside the result than become one here; the commits of these are in those \
             that do: {}",
            listed(&names(&choice.within))
        ));
    }
    if !choice.left.is_empty() {
        warnings.only_there(format!(
            "the agent has more branches beside the result than are looked at; not kept: {}",
            listed(&names(&choice.left))
        ));
    }
}

fn uncommitted(tree: &Linked, why: &str) -> String {
    let name: String = tree.name.chars().take(SHOWN_MAX).collect();
    format!(
        "what is not committed in the agent's work tree `{name}` is neither in the result nor a branch: {why}"
    )
}

fn lost(other: &AgentRef, why: &str) -> String {
    format!(
        "{} {} are not in the result, and were not kept: {why}",
        work(other.holds),
        place(other)
    )
}

/// What it is, for a sentence.
fn work(holds: Holds) -> &'static str {
    match holds {
        Holds::Edits => "edits",
        Holds::Both => "commits and edits",
        Holds::Commits => "commits",
    }
}

/// Where its commits are, for a sentence.
fn place(other: &AgentRef) -> String {
    let name = agents_name(other);
    match other.what {
        What::Branch(_) => format!("on the agent's branch `{name}`"),
        What::Stash(_) => format!("in the agent's stash `{name}`"),
        What::Tree(_) => format!("in the agent's work tree `{name}`"),
        What::Tag(_) => format!("below the agent's tag `{name}`"),
        What::Detached => format!("on the detached HEAD `{name}` that the agent left"),
    }
}

/// As the agent calls it.
fn agents_name(other: &AgentRef) -> String {
    match &other.what {
        What::Branch(name) | What::Tree(name) | What::Tag(name) => {
            name.chars().take(SHOWN_MAX).collect()
        }
        What::Stash(number) => format!("stash@{{{number}}}"),
        What::Detached => other.commit.chars().take(ID_SHOWN).collect(),
    }
}

/// The same in letters that a branch of Orchestra may have.
fn plain(what: &What) -> String {
    let plain = |c: char| match c {
        '_' => c,
        c if c.is_ascii_alphanumeric() => c,
        _ => '-',
    };
    match what {
        What::Branch(name) | What::Tree(name) | What::Tag(name) => {
            name.chars().take(NAME_MAX).map(plain).collect()
        }
        What::Stash(0) => "stash".to_owned(),
        What::Stash(number) => format!("stash-{number}"),
        What::Detached => "detached".to_owned(),
    }
}

/// One that is not among `names`, also where files of another case are the same.
fn unique(name: &str, names: &[String]) -> String {
    let is_free = |name: &String| !names.iter().any(|taken| taken.eq_ignore_ascii_case(name));
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut all = std::iter::once(name.to_owned()).chain(numbered);
    all.find(is_free).unwrap_or_default()
}

/// Whether it is for want of disk space.
pub(crate) fn is_full(error: &Error) -> bool {
    says_full(&reason(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain_short_and_its_own() {
        let branch = |name: &str| plain(&What::Branch(name.to_owned()));
        assert_eq!(branch("fix/the lexer.v2"), "fix-the-lexer-v2");
        assert_eq!(branch("gr\u{fc}n_1"), "gr-n_1");
        assert_eq!(branch(&"x".repeat(99)), "x".repeat(NAME_MAX));
        assert_eq!(plain(&What::Stash(0)), "stash");
        assert_eq!(plain(&What::Stash(3)), "stash-3");
        let taken = ["a".to_owned(), "A-2".to_owned()];
        assert_eq!(unique("b", &taken), "b");
        assert_eq!(unique("a", &taken), "a-3");
    }
}
