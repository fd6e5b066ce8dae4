//! What the success of a CLI is worth, as far as its disk goes. What it wrote while the disk was full is cut
//! short, and few look whether they could write.

const FULL_AT_END: &str =
    "the disk of its workspace is full at its end: what it wrote last may be cut short";
const FULL_BEFORE: &str = "its last words are that a disk was full, and at its end that of its workspace is not: \
                           what it wrote before may be cut short";
const FULL_MEANWHILE: &str = "the disk of its workspace was full while it ran, and has room at its end: what it wrote \
                              meanwhile may be cut short";
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

/// How full the disk of the workspace is, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// It has room, and nobody has seen it without.
    HadRoom,
    /// It has room, and was seen full while the CLI ran.
    WasFull,
    /// It is full at the CLI's end.
    IsFull,
}

impl Success {
    /// Of one whose last words on standard error are that a disk is full, or not. Full is what the worker takes for
    /// full, which `ctl workers` says too, and not the last byte: a little room is there again whenever somebody has
    /// closed a file.
    pub fn of(said: bool, disk: Disk) -> Self {
        match (said, disk) {
            (false, Disk::HadRoom) => Self::Whole,
            (false, Disk::WasFull) => Self::Doubted(FULL_MEANWHILE),
            (false, Disk::IsFull) => Self::Doubted(FULL_AT_END),
            (true, Disk::HadRoom | Disk::WasFull) => Self::Doubted(FULL_BEFORE),
            (true, Disk::IsFull) => Self::None(CUT_SHORT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_is_none_only_where_the_cli_says_so_itself_and_no_doubt_is_kept_back() {
        let silent = |disk| Success::of(false, disk);
        assert_eq!(silent(Disk::HadRoom), Success::Whole);
        assert_eq!(silent(Disk::WasFull), Success::Doubted(FULL_MEANWHILE));
        assert_eq!(silent(Disk::IsFull), Success::Doubted(FULL_AT_END));
        let says_so = |disk| Success::of(true, disk);
        for disk in [Disk::HadRoom, Disk::WasFull] {
            assert_eq!(says_so(disk), Success::Doubted(FULL_BEFORE));
        }
        assert_eq!(says_so(Disk::IsFull), Success::None(CUT_SHORT));
    }
}
