//! Where a file system is to put what it is given.

use std::path::Path;

use rustix::{
    fs::{CWD, IFlags, Mode, OFlags, ioctl_getflags, ioctl_setflags, openat},
    io::Result,
};

/// Says to the file system that what lies in the directories of this one has nothing to do with each
/// other; whether it takes such hints.
///
/// ext4 puts the files of such a directory where no neighbour's are. Else it puts those of all attempts
/// side by side, and for a new one it passes over each place that became free within the last minutes: with
/// many short attempts that is most of what they cost.
pub fn spread(dir: &Path) -> bool {
    let hint = || -> Result<()> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let dir = openat(CWD, dir, flags, Mode::empty())?;
        ioctl_setflags(&dir, ioctl_getflags(&dir)? | IFlags::TOPDIR)
    };
    hint().is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn a_hint_to_spread_is_kept_where_it_is_taken_and_costs_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let flags = || ioctl_getflags(File::open(dir.path()).unwrap());
        let before = flags();
        match spread(dir.path()) {
            true => assert_eq!(flags().unwrap(), before.unwrap() | IFlags::TOPDIR),
            false => assert_eq!(flags(), before),
        }
        fs::write(dir.path().join("file"), "x").unwrap();
        assert!(!spread(Path::new("/no/such/dir")) && !spread(Path::new("/proc/self")));
    }
}
