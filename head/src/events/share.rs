//! What belongs to a copy of all events as they were at one moment, made while more come.
//!
//! Segments that were full at that moment are copied whole, and of the one that was appended to what
//! was durable. A later segment is none of it: of the one before it a part would be missing.

use std::path::Path;

use super::{check::Reached, frame::Header, segment::Name};

/// What of a file belongs to such a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Share {
    /// All of it.
    Whole,
    /// So many bytes from its begin on, and then a seal: in the copy all of it is durable.
    Begin {
        /// Where its last whole frame ends.
        bytes: u32,
        /// What stands behind them.
        seal: Vec<u8>,
    },
    /// Nothing: it came later.
    Nothing,
}

impl Reached {
    /// What of a file was there. Its path is relative to the directory of events.
    #[must_use]
    pub fn share_of(&self, path: &Path) -> Share {
        let name = path.to_str().unwrap_or_default();
        if let Some(index) = Name::parse_index(name) {
            return match index.number < self.number {
                true => Share::Whole,
                false => Share::Nothing,
            };
        }
        match Name::parse(name) {
            Some(segment) if segment.number > self.number => Share::Nothing,
            Some(segment) if segment.number == self.number => self.begin(),
            // A file of the layout before segments has no number of ours.
            Some(_) | None => Share::Whole,
        }
    }

    fn begin(&self) -> Share {
        let mut seal = Vec::new();
        Header::closed(self.newest, self.bytes).put(&[], &mut seal);
        Share::Begin {
            bytes: self.bytes,
            seal,
        }
    }
}

#[cfg(test)]
mod tests {
    use orchestra_types::Timestamp;

    use super::*;

    #[test]
    fn what_was_full_is_copied_whole_and_what_came_later_not_at_all() {
        let reached = Reached {
            number: 7,
            bytes: 100,
            newest: Timestamp(5),
        };
        let share = |name: &str| reached.share_of(Path::new(name));
        for whole in [
            "0000000006.seg",
            "0000000006.idx",
            "0000000002.3.seg",
            "0000000002.3.idx",
            "0/task_001.1.log",
        ] {
            assert_eq!(share(whole), Share::Whole, "{whole}");
        }
        // The index of a segment is made when the next one is there.
        for later in ["0000000007.idx", "0000000008.seg", "0000000008.idx"] {
            assert_eq!(share(later), Share::Nothing, "{later}");
        }
        let Share::Begin { bytes: 100, seal } = share("0000000007.seg") else {
            panic!("{:?}", share("0000000007.seg"));
        };
        let (header, length, _) = Header::parse(&seal).unwrap();
        assert_eq!(
            (header, length),
            (Header::closed(Timestamp(5), 100), seal.len())
        );
    }
}
