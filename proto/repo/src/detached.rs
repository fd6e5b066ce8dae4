//! Commits that an agent made on a detached HEAD and left with `git checkout`: nothing but the log of its
//! HEAD knows them. The log is a file that the agent may have written: it is read as data.

use std::{collections::BTreeSet, os::fd::OwnedFd};

use rustix::fs::FileType;

use crate::{
    agent_refs::{AgentRef, Holds, What, text},
    beneath,
    error::Result,
    git::check_commit,
    history::{REF_BYTES_MAX, reason},
    others::is_full,
    reach::{Graph, NEW_MAX, New},
    stage::Warnings,
    workspace::Workspace,
};

const LOG: &[u8] = b".git/logs/HEAD";
/// How the log says that HEAD was moved from a commit, not from a branch.
const MOVED: &str = "checkout: moving from ";
/// What brings HEAD to a commit that was there before.
const NOT_MADE: [&str; 3] = ["checkout:", "reset:", "clone:"];
/// Most commits that are looked at: the latest that were left.
const LEFT_MAX: usize = 1000;

/// One line of the log.
struct Entry<'a> {
    old: &'a str,
    new: &'a str,
    what: &'a str,
}

impl<'a> Entry<'a> {
    /// None of a line that git does not write.
    fn read(line: &'a [u8]) -> Option<Self> {
        let (who, what) = std::str::from_utf8(line).ok()?.split_once('\t')?;
        let mut ids = who.splitn(3, ' ');
        let (old, new) = (ids.next()?, ids.next()?);
        let are_commits = check_commit(old).is_ok() && check_commit(new).is_ok();
        are_commits.then_some(Self { old, new, what })
    }

    /// The commit that was left here for another one, or for a branch.
    fn left(&self) -> Option<&'a str> {
        let (from, _) = self.what.strip_prefix(MOVED)?.split_once(" to ")?;
        (from == self.old && self.new != self.old).then_some(self.old)
    }

    fn is_made_here(&self) -> bool {
        !NOT_MADE.iter().any(|kind| self.what.starts_with(kind))
    }
}

/// The commits that HEAD was on without a branch and was moved away from, the latest first. Those that it
/// only looked at, as a bisect does, and those that were replaced, as by `--amend`, are none of them.
fn left(log: &[u8]) -> Vec<String> {
    let entries: Vec<Entry<'_>> = log.split(|b| *b == b'\n').filter_map(Entry::read).collect();
    let made = entries.iter().filter(|entry| entry.is_made_here());
    let made: BTreeSet<&str> = made.map(|entry| entry.new).collect();
    let mut seen = BTreeSet::new();
    let all = entries.iter().rev().filter_map(Entry::left);
    all.filter(|commit| made.contains(commit) && seen.insert(*commit))
        .map(str::to_owned)
        .collect()
}

impl Workspace {
    /// Commits on detached HEADs that are in nothing else: neither in the result, nor below one of `refs`,
    /// nor below one another.
    pub(crate) fn left_heads(
        &self,
        root: &OwnedFd,
        refs: &[AgentRef],
        tip: &str,
        warnings: &mut Warnings,
    ) -> Result<Vec<AgentRef>> {
        match beneath::lstat(root, b".git") {
            Ok(Some(stat)) if beneath::kind(&stat) == FileType::Directory => {}
            // That is said of all that the agent left there.
            Ok(_) | Err(_) => return Ok(Vec::new()),
        }
        let log = match text(root, LOG, REF_BYTES_MAX) {
            Ok(log) => log.unwrap_or_default(),
            Err(error) => {
                warnings.add(unread(&error.to_string()));
                return Ok(Vec::new());
            }
        };
        if log.len() as u64 == REF_BYTES_MAX {
            warnings.add(unread(
                "the log of its HEAD is too long to be read to its end",
            ));
        }
        let mut left = left(&log);
        if left.len() > LEFT_MAX {
            left.truncate(LEFT_MAX);
            warnings.only_there(unread(&format!("only the latest {LEFT_MAX} are")));
        }
        if left.is_empty() {
            return Ok(Vec::new());
        }
        let mut known = self.known(tip)?;
        // Of what HEAD is on it is said elsewhere why it is not in the result.
        known.extend(self.agent_head().ok().flatten());
        known.extend(refs.iter().map(|r| r.commit.clone()));
        let (wanted, known) = (texts(&left), texts(&known));
        let new = self
            .lent()
            .and_then(|lent| New::list(&lent, &wanted, &known));
        match new {
            Ok(new) => {
                if !new.is_whole {
                    warnings.only_there(unread(&format!("they are more than {NEW_MAX}")));
                }
                let new = tips(&new.graph(), &left);
                left.retain(|commit| new.contains(commit));
                Ok(left.into_iter().map(of_head).collect())
            }
            Err(error) if is_full(&error) => Err(error),
            Err(error) => {
                warnings.add(unread(&reason(&error)));
                Ok(Vec::new())
            }
        }
    }
}

fn texts(commits: &[String]) -> Vec<&str> {
    commits.iter().map(String::as_str).collect()
}

/// Those of `left` that are new, and not before another one of them.
fn tips(new: &Graph<'_>, left: &[String]) -> BTreeSet<String> {
    let listed = || left.iter().filter(|commit| new.has(commit));
    let before = new.before(listed().map(String::as_str));
    listed()
        .filter(|commit| !before.contains(commit.as_str()))
        .cloned()
        .collect()
}

fn of_head(commit: String) -> AgentRef {
    AgentRef {
        what: What::Detached,
        commit,
        holds: Holds::Commits,
    }
}

fn unread(why: &str) -> String {
    format!("commits on detached HEADs that the agent left are not all looked for: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(letter: char) -> String {
        letter.to_string().repeat(40)
    }

    /// Lines of a log: from, to, and why.
    fn log(entries: &[(char, char, &str)]) -> Vec<u8> {
        let line = |(old, new, what): &(char, char, &str)| {
            let (old, new) = (id(*old), id(*new));
            format!("{old} {new} A <a@a> 1 +0000\t{what}\n")
        };
        entries.iter().map(line).collect::<String>().into_bytes()
    }

    #[test]
    fn only_commits_that_were_made_and_left_count() {
        let moved = |from: char| format!("checkout: moving from {} to main", id(from));
        let [from_b, from_c, from_d] = ['b', 'c', 'd'].map(moved);
        let text = log(&[
            ('a', 'a', "checkout: moving from main to HEAD"),
            ('a', 'b', "commit: one"),
            ('b', 'a', &from_b),
            // Looked at, and gone from.
            ('a', 'c', "checkout: moving from main to origin/x"),
            ('c', 'a', &from_c),
            // Made on a branch, and gone from by its name.
            ('a', 'e', "commit: on main"),
            ('e', 'a', "checkout: moving from main to other"),
            // Replaced.
            ('a', 'f', "commit: two"),
            ('f', 'd', "commit (amend): two"),
            ('d', 'a', &from_d),
            ('a', 'b', "checkout: moving from main to b"),
            ('b', 'a', &from_b),
        ]);
        assert_eq!(left(&text), [id('b'), id('d')]);
    }

    #[test]
    fn a_line_that_git_does_not_write_says_nothing() {
        let made = log(&[('a', 'b', "commit: one")]);
        let other = format!("checkout: moving from {} to main", id('c'));
        let short = "checkout: moving from bbbb to main";
        for line in [
            log(&[('b', 'a', &other)]),
            log(&[('b', 'a', short)]),
            log(&[('b', 'a', &format!("checkout: moving from {}", id('b')))]),
            format!("--all {} A\tcheckout: moving from --all to main\n", id('a')).into_bytes(),
            b"\xff\xfe\t\n\0\0 \t".to_vec(),
        ] {
            assert_eq!(left(&[&made[..], &line].concat()), [""; 0]);
        }
        let sound = log(&[(
            'b',
            'a',
            &format!("checkout: moving from {} to -x", id('b')),
        )]);
        assert_eq!(left(&[&made[..], b"\xff\n", &sound].concat()), [id('b')]);
    }

    #[test]
    fn one_that_another_one_goes_on_from_is_in_that() {
        let left = ['a', 'b', 'c', 'd'].map(id);
        let [a, b, c, _] = &left;
        let between = id('e');
        let listed = format!("{a} {between}\n{between} {b}\n{b} {b}\n{c} {b}");
        assert_eq!(
            tips(&Graph::of(&listed), &left),
            [a.clone(), c.clone()].into()
        );
    }
}
