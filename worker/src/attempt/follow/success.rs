//! What the success of a CLI is worth, as far as its disk goes. What it wrote while the disk was full is cut
//! short, and few look whether they could write.

const FULL_AT_END: &str =
    "the disk of its workspace is full at its end: what it wrote last may be cut short";
const FULL_BEFORE: &str = "its last words are that a disk was full, and at its end that of its workspace is not: \
                           what it wrote before may be cut short";
const CUT_SHORT: &str = "it ended without an error, but its last words are that the disk is full, and it is: what it \
                         wrote last may be cut short";

/// What it is worth, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// Nothing speaks against it.
    Whole,
    /// What it wrote may be cut short: that is told.
    Doubted(&'static str),
    /// It is a failure.
    None(&'static str),
}

impl Success {
    /// Of one whose last words on standard error are that a disk is full, or not, with its disk full at its end, or
    /// not. Full is what the worker takes for full, which `ctl workers` says too, and not the last byte: a little
    /// room is there again whenever somebody has closed a file.
    pub fn of(said: bool, full: bool) -> Self {
        match (said, full) {
            (false, false) => Self::Whole,
            (false, true) => Self::Doubted(FULL_AT_END),
            (true, false) => Self::Doubted(FULL_BEFORE),
            (true, true) => Self::None(CUT_SHORT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_is_none_only_where_the_cli_says_so_itself_and_no_doubt_is_kept_back() {
        assert_eq!(Success::of(false, false), Success::Whole);
        assert_eq!(Success::of(false, true), Success::Doubted(FULL_AT_END));
        assert_eq!(Success::of(true, false), Success::Doubted(FULL_BEFORE));
        assert_eq!(Success::of(true, true), Success::None(CUT_SHORT));
    }
}
