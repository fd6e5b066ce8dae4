//! A set of numbers of classes or shares, small and quick to intersect.

const BITS: u32 = u64::BITS;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NumberSet(Vec<u64>);

impl NumberSet {
    pub fn insert(&mut self, number: u32) {
        let word = (number / BITS) as usize;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % BITS);
    }

    pub fn remove(&mut self, number: u32) {
        if let Some(word) = self.0.get_mut((number / BITS) as usize) {
            *word &= !(1 << (number % BITS));
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0
            .iter()
            .zip(0..)
            .flat_map(|(word, at)| bits(*word, at))
    }

    /// The members of this set that are in `other` too, each with the number of members of this
    /// set before it.
    pub fn common<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> + 'a {
        let mut before = 0;
        self.0.iter().zip(&other.0).flat_map(move |(own, other)| {
            let start = before;
            before += own.count_ones() as usize;
            let own = *own;
            bits(own & other, 0).map(move |bit| {
                let below = own & ((1 << bit) - 1);
                start + below.count_ones() as usize
            })
        })
    }
}

/// The bits of a word that stands at place `at`.
fn bits(mut word: u64, at: u32) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        if word == 0 {
            return None;
        }
        let bit = word.trailing_zeros();
        word &= word - 1;
        Some(at * BITS + bit)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::NumberSet;

    fn set(members: &BTreeSet<u32>) -> NumberSet {
        let mut set = NumberSet::default();
        members.iter().for_each(|number| set.insert(*number));
        set
    }

    proptest! {
        #[test]
        fn it_is_a_set_that_knows_the_places_of_common_members(
            own in prop::collection::btree_set(0_u32..200, 0..60),
            other in prop::collection::btree_set(0_u32..200, 0..60),
            gone in 0_u32..200,
        ) {
            let (mut own, other_set) = (own, set(&other));
            let mut own_set = set(&own);
            own_set.remove(gone);
            own.remove(&gone);
            prop_assert_eq!(own_set.iter().collect::<BTreeSet<u32>>(), own.clone());
            let members: Vec<u32> = own.iter().copied().collect();
            let common: Vec<u32> = own_set.common(&other_set).map(|at| members[at]).collect();
            prop_assert_eq!(common, own.intersection(&other).copied().collect::<Vec<u32>>());
        }
    }
}
