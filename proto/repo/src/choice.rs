//! Which of what an agent left beside its result becomes a branch, when there is more than there may be: first
//! what no other one holds.

use std::collections::BTreeSet;

use crate::{agent_refs::AgentRef, error::Result, reach::Graph};

/// Most of them that are kept.
pub(crate) const OTHERS_MAX: usize = 16;
/// Most of them that are looked at, when some cannot be kept.
pub(crate) const LOOKED_AT_MAX: usize = 64;

/// What has become of a commit of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is here, in so many bytes.
    Kept(u64),
    /// It is in what is known.
    Contained,
    /// It is not sound.
    Refused(String),
}

/// What has become of all of them, each in the order in which they were given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice<'a> {
    pub kept: Vec<&'a AgentRef>,
    /// What has no branch of its own, and is before one that is kept.
    pub within: Vec<&'a AgentRef>,
    /// What could not be taken, and why.
    pub refused: Vec<(&'a AgentRef, String)>,
    /// What there was no room or no time for.
    pub left: Vec<&'a AgentRef>,
}

/// Has `take` take over what shall be kept; it gives nothing when there is no time left.
pub(crate) fn choose<'a>(
    refs: &[&'a AgentRef],
    graph: &Graph<'_>,
    mut take: impl FnMut(&AgentRef) -> Result<Option<Taken>>,
) -> Result<Choice<'a>> {
    let mut held = BTreeSet::new();
    let mut later = Vec::new();
    let mut ends = Ends::new(refs.len());
    for at in order(refs, graph) {
        if held.contains(&*refs[at].commit) {
            later.push(at);
            continue;
        }
        let end = ends.of(refs[at], &mut take)?;
        if matches!(end, Some(Taken::Kept(_))) {
            graph.add_before(&refs[at].commit, &mut held);
        }
        ends.set(at, end.map_or(End::Left, End::Taken));
    }
    // Nothing is lost with these; a name of its own is what is left to have.
    later.sort_unstable();
    for at in later {
        let end = match ends.of(refs[at], &mut take)? {
            Some(taken @ (Taken::Kept(_) | Taken::Contained)) => End::Taken(taken),
            Some(Taken::Refused(_)) | None => End::Within,
        };
        ends.set(at, end);
    }
    Ok(ends.into_choice(refs))
}

/// Those first that no other one comes after, then each before those that it comes after.
fn order(refs: &[&AgentRef], graph: &Graph<'_>) -> Vec<usize> {
    let before = graph.before(refs.iter().map(|r| &*r.commit));
    let mut order: Vec<usize> = (0..refs.len()).collect();
    order.sort_by_key(|at| {
        let commit = &*refs[*at].commit;
        let is_before = before.contains(commit);
        is_before.then(|| graph.place(commit))
    });
    order
}

enum End {
    Taken(Taken),
    Within,
    Left,
}

struct Ends {
    list: Vec<Option<End>>,
    kept: usize,
    looked_at: usize,
}

impl Ends {
    fn new(count: usize) -> Self {
        Self {
            list: (0..count).map(|_| None).collect(),
            kept: 0,
            looked_at: 0,
        }
    }

    /// None where there is no room for one more, or no time.
    fn of(
        &mut self,
        other: &AgentRef,
        take: &mut impl FnMut(&AgentRef) -> Result<Option<Taken>>,
    ) -> Result<Option<Taken>> {
        if self.kept == OTHERS_MAX || self.looked_at == LOOKED_AT_MAX {
            return Ok(None);
        }
        self.looked_at += 1;
        let taken = take(other)?;
        self.kept += usize::from(matches!(taken, Some(Taken::Kept(_))));
        Ok(taken)
    }

    fn set(&mut self, at: usize, end: End) {
        self.list[at] = Some(end);
    }

    fn into_choice<'a>(self, refs: &[&'a AgentRef]) -> Choice<'a> {
        let mut choice = Choice::default();
        for (end, other) in self.list.into_iter().zip(refs) {
            match end {
                Some(End::Taken(Taken::Kept(_))) => choice.kept.push(other),
                Some(End::Taken(Taken::Contained)) => {}
                Some(End::Taken(Taken::Refused(why))) => choice.refused.push((other, why)),
                Some(End::Within) => choice.within.push(other),
                Some(End::Left) | None => choice.left.push(other),
            }
        }
        choice
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent_refs::{Holds, What};

    fn branches(commits: &[String]) -> Vec<AgentRef> {
        let branch = |commit: &String| AgentRef {
            what: What::Branch(commit.clone()),
            commit: commit.clone(),
            holds: Holds::Commits,
        };
        commits.iter().map(branch).collect()
    }

    /// What is kept, within, refused and left.
    fn ends(
        commits: &[String],
        listed: &str,
        take: impl FnMut(&AgentRef) -> Result<Option<Taken>>,
    ) -> [Vec<String>; 4] {
        let refs = branches(commits);
        let refs: Vec<&AgentRef> = refs.iter().collect();
        let choice = choose(&refs, &Graph::of(listed), take).unwrap();
        let names = |refs: &[&AgentRef]| refs.iter().map(|r| r.commit.clone()).collect();
        let refused: Vec<&AgentRef> = choice.refused.iter().map(|(r, _)| *r).collect();
        [
            names(&choice.kept),
            names(&choice.within),
            names(&refused),
            names(&choice.left),
        ]
    }

    fn numbered(letter: char, count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{letter}{n:02}")).collect()
    }

    /// Each comes after the one before it; the last one is listed first.
    fn chain(commits: &[String]) -> String {
        let line = |pair: &[String]| format!("{} {}\n", pair[1], pair[0]);
        let lines: Vec<String> = commits.windows(2).map(line).collect();
        lines.iter().rev().map(String::as_str).collect::<String>() + &commits[0]
    }

    fn keep(_: &AgentRef) -> Result<Option<Taken>> {
        Ok(Some(Taken::Kept(1)))
    }

    #[test]
    fn of_a_long_chain_the_last_one_is_kept_and_none_is_lost() {
        let chained = numbered('w', 30);
        let [kept, within, refused, left] = ends(&chained, &chain(&chained), keep);
        assert!(kept.contains(&chained[29]) && kept.len() == OTHERS_MAX);
        assert_eq!(within.len(), 30 - OTHERS_MAX);
        assert_eq!([refused, left], [[""; 0]; 2]);
        // As many as there may be are all kept, in their order.
        let few = &chained[..OTHERS_MAX];
        let none: [String; 0] = [];
        let kept = ends(few, &chain(few), keep);
        assert_eq!(
            kept.each_ref().map(Vec::as_slice),
            [few, &none, &none, &none]
        );
    }

    #[test]
    fn where_the_last_one_is_refused_those_before_it_are_tried_the_latest_first() {
        let chained = numbered('w', 30);
        let last = &chained[29];
        let [kept, within, refused, left] = ends(&chained, &chain(&chained), |other| {
            Ok(Some(match other.commit == *last {
                true => Taken::Refused("odd".to_owned()),
                false => Taken::Kept(1),
            }))
        });
        assert!(kept.contains(&chained[28]));
        assert_eq!(within.len(), 29 - OTHERS_MAX);
        assert_eq!(refused, std::slice::from_ref(last));
        assert_eq!(left, [""; 0]);
    }

    #[test]
    fn what_has_no_room_and_is_in_no_other_one_is_left() {
        let (apart, chained) = (numbered('a', 20), numbered('w', 3));
        let all = [chained.clone(), apart.clone()].concat();
        let listed = format!("{}\n{}", apart.join("\n"), chain(&chained));
        let [kept, within, _, left] = ends(&all, &listed, keep);
        // The last one of the chain stands before those that are apart.
        assert_eq!(kept[0], chained[2]);
        assert_eq!(kept[1..], apart[..OTHERS_MAX - 1]);
        assert_eq!(within, chained[..2]);
        assert_eq!(left, apart[OTHERS_MAX - 1..]);
    }

    #[test]
    fn of_what_cannot_be_taken_only_some_is_looked_at() {
        let bad = numbered('a', 100);
        let mut looked_at = 0;
        let [_, _, refused, left] = ends(&bad, &bad.join("\n"), |_| {
            looked_at += 1;
            Ok(Some(Taken::Refused("odd".to_owned())))
        });
        assert_eq!((looked_at, refused.len()), (LOOKED_AT_MAX, LOOKED_AT_MAX));
        assert_eq!(left, bad[LOOKED_AT_MAX..]);
        let [_, _, _, left] = ends(&bad, &bad.join("\n"), |_| Ok(None));
        assert_eq!(left, bad, "no time");
    }
}
