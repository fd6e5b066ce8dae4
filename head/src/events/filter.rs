//! Which attempts a segment may hold, in ten bits each: a Bloom filter, wrong for one in a hundred.

use orchestra_types::AttemptId;

const BITS_PER_ATTEMPT: usize = 10;
const PROBES: u64 = 7;

/// May say yes for an attempt that is not there, never no for one that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    bytes: Vec<u8>,
}

impl Filter {
    pub fn of(attempts: impl ExactSizeIterator<Item = AttemptId>) -> Self {
        let bits = attempts.len() * BITS_PER_ATTEMPT;
        let mut filter = Self {
            bytes: vec![0; bits / 8 + 1],
        };
        for attempt in attempts {
            for bit in filter.bits(attempt) {
                filter.bytes[bit / 8] |= 1 << (bit % 8);
            }
        }
        filter
    }

    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn may_have(&self, attempt: AttemptId) -> bool {
        self.bits(attempt)
            .all(|bit| self.bytes[bit / 8] & (1 << (bit % 8)) != 0)
    }

    fn bits(&self, attempt: AttemptId) -> impl Iterator<Item = usize> + use<> {
        let one = mix(attempt.task.0 ^ u64::from(attempt.number).rotate_left(40));
        let two = mix(one) | 1;
        let bits = self.bytes.len() as u64 * 8;
        (0..PROBES).map(move |i| (one.wrapping_add(i.wrapping_mul(two)) % bits) as usize)
    }
}

/// The finaliser of SplitMix64: every bit of the input reaches every bit of the result.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use orchestra_types::TaskId;

    use super::*;

    #[test]
    fn it_has_all_that_was_put_in_and_little_else() {
        let attempt = |task| AttemptId {
            task: TaskId(task),
            number: 1,
        };
        let attempts: Vec<_> = (1..=1000).map(attempt).collect();
        let filter = Filter::of(attempts.iter().copied());
        assert!(attempts.iter().all(|attempt| filter.may_have(*attempt)));
        let wrong = (2000..12_000).filter(|task| filter.may_have(attempt(*task)));
        assert!(wrong.count() < 300);
    }
}
