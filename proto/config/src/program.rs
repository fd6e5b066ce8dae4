//! The program's own text in memory: what only its start needed is let go.
//!
//! A daemon that waits runs a small part of its program over and over. Of the rest it has used nearly
//! everything once, to read its configuration, to open its store, to make its keys. Those pages stay in its
//! memory, and look like what it needs. They are the file's, and come back from there when they are
//! used again.

use std::{fs, ops::Range, time::Duration};

use tokio::time::sleep;

/// A start is over by then, with the first looks at everything.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// Lets go of the text, once, when a start is over.
pub async fn settle() {
    sleep(SETTLED_AFTER).await;
    let_go();
}

/// Lets go of all text of this process and its libraries. What is used comes back, sixteen pages at once, in
/// some microseconds.
pub fn let_go() {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    untouched(&maps).into_iter().for_each(kernel::let_go);
}

/// The addresses of text in `smaps` that is as it stands in its file: a loader, or who watches this process, may have
/// written to some of it, which would be lost.
fn untouched(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut place = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("Anonymous:") if words.next() == Some("0") => found.extend(place.take()),
            Some(word) if word.ends_with(':') => {}
            Some(_) | None => place = text(line),
        }
    }
    found
}

/// The addresses of the first line of a mapping, if it is text of a file.
fn text(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (range, permissions) = (words.next()?, words.next()?);
    let (_offset, _device, inode) = (words.next()?, words.next()?, words.next()?);
    if permissions != "r-xp" || inode == "0" {
        return None;
    }
    let (from, to) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(from)?..address(to)?)
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no safe interface speaks of pages")]
mod kernel {
    use std::ops::Range;

    use rustix::mm::{Advice, madvise};

    pub fn let_go(text: Range<usize>) {
        let start = std::ptr::without_provenance_mut(text.start);
        // SAFETY: the pages hold what the file holds, since nobody may write to them, and are read from
        // there again by whoever uses them next. What is not mapped any more is an error.
        let _stays = unsafe { madvise(start, text.len(), Advice::LinuxDontNeed) };
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    pub fn let_go(_: std::ops::Range<usize>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_of_files_that_nobody_can_write_to_is_meant() {
        let line = |permissions: &str, rest: &str| {
            text(&format!("7f0000200000-7f0000a01000 {permissions} {rest}"))
        };
        let range = Some(0x7f00_0020_0000..0x7f00_00a0_1000);
        assert_eq!(
            line("r-xp", "00026000 fe:00 326279 /usr/lib/libc.so.6"),
            range
        );
        assert_eq!(
            line("r--p", "00026000 fe:00 326279 /usr/lib/libc.so.6"),
            None
        );
        assert_eq!(
            line("rwxp", "00026000 fe:00 326279 /usr/lib/libc.so.6"),
            None
        );
        assert_eq!(line("r-xp", "00000000 00:00 0          [vdso]"), None);
        assert_eq!(text("nonsense"), None);
    }

    #[test]
    fn text_that_was_written_to_is_left_alone() {
        let mapping = |from: &str, anonymous: u32| {
            format!(
                "{from}000-{from}fff r-xp 00026000 fe:00 326279 /usr/lib/libc.so.6\nSize: 4 kB\n\
                 Rss: 4 kB\nAnonymous: {anonymous} kB\nVmFlags: rd ex\n"
            )
        };
        let smaps = [mapping("1", 0), mapping("2", 4), mapping("3", 0)].concat();
        assert_eq!(untouched(&smaps), [0x1000..0x1fff, 0x3000..0x3fff]);
    }

    /// Kilobytes in memory of the mapping that a place is in.
    #[cfg(target_os = "linux")]
    fn resident_kb(place: usize) -> u64 {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = maps.lines();
        let holds = |line: &&str| text(line).is_some_and(|range| range.contains(&place));
        lines.find(holds).unwrap();
        let rss = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        rss.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    #[cfg(target_os = "linux")]
    #[test]
    #[expect(unsafe_code, reason = "no safe interface speaks of pages")]
    fn what_is_let_go_is_not_in_memory_and_comes_back_when_it_is_used() {
        use rustix::mm::{Advice, madvise};
        let place = text as *const () as usize;
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let whole = maps
            .lines()
            .filter_map(text)
            .find(|range| range.contains(&place));
        let whole = whole.unwrap();
        let start = std::ptr::without_provenance_mut(whole.start);
        // SAFETY: it reads the pages in, and no more.
        unsafe { madvise(start, whole.len(), Advice::LinuxPopulateRead) }.unwrap();
        let all = whole.len() as u64 / 1024;
        assert_eq!(resident_kb(place), all);
        let_go();
        let left = resident_kb(place);
        assert!(left < all, "{left} of {all} KiB are left");
        assert!(left > 0, "and this runs");
    }
}
