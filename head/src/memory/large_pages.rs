//! Memory that stays goes into large pages.
//!
//! A million tasks lie in some hundred megabytes, and a pick reads here and there in it. With pages
//! of 4 KiB most of these reads wait for the page table too, which a virtual machine has twice. The
//! kernel puts two megabytes together when it is asked to. It is asked only for places that are
//! almost full: the rest of a page that is put together counts as used.

use std::{fs, ops::Range};

/// What is put together.
const CHUNK_BYTES: usize = 2 * 1024 * 1024;
/// Of so many pages of a chunk one may be unused: memory grows by 3 % at most.
const PAGES_PER_UNUSED: usize = 32;
/// With less there is nothing to gain: the processor knows so many small pages by heart.
const BYTES_MIN: usize = 32 * 1024 * 1024;
/// What the administrator wants.
const SWITCH: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// Addresses of whole chunks.
type Chunk = usize;

/// What is to be put together, the last one first.
#[derive(Debug, Default)]
pub struct Plan {
    chunks: Vec<Chunk>,
}

impl Plan {
    /// All of this process's memory that is almost full; nothing where that is little, or where large
    /// pages are switched off.
    pub fn make() -> Self {
        if fs::read_to_string(SWITCH).is_ok_and(|text| text.contains("[never]")) {
            return Self::default();
        }
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let chunks: Vec<_> = maps.lines().filter_map(private).flat_map(chunks).collect();
        match chunks.len() * CHUNK_BYTES >= BYTES_MIN {
            true => Self { chunks },
            false => Self::default(),
        }
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Puts one chunk together, which takes some milliseconds. A kernel that cannot is not asked again.
    pub fn go_on(&mut self) {
        let Some(chunk) = self.chunks.pop() else {
            return;
        };
        if kernel::is_almost_full(chunk) && !kernel::put_together(chunk) {
            self.chunks.clear();
        }
    }
}

/// The addresses of a line of `maps`, if it is memory of the allocator.
fn private(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (range, permissions) = (words.next()?, words.next()?);
    let (_offset, _device, inode) = (words.next()?, words.next()?, words.next()?);
    let named = words.next().is_some_and(|name| name != "[heap]");
    if !permissions.starts_with("rw") || inode != "0" || named {
        return None;
    }
    let (from, to) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(from)?..address(to)?)
}

/// The whole chunks in a range.
fn chunks(range: Range<usize>) -> impl Iterator<Item = Chunk> {
    let first = range.start.next_multiple_of(CHUNK_BYTES);
    let end = range.end - range.end % CHUNK_BYTES;
    (first..end).step_by(CHUNK_BYTES)
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "no safe interface speaks of pages")]
mod kernel {
    use super::{CHUNK_BYTES, Chunk, PAGES_PER_UNUSED};

    /// Whether nearly every page of a chunk is in memory.
    pub fn is_almost_full(chunk: Chunk) -> bool {
        let pages = CHUNK_BYTES / rustix::param::page_size();
        let mut resident = vec![0_u8; pages];
        // SAFETY: it writes a byte for each page of the range, and reads nothing of it. What is not
        // mapped any more is an error.
        let said = unsafe {
            libc::mincore(
                std::ptr::without_provenance_mut(chunk),
                CHUNK_BYTES,
                resident.as_mut_ptr(),
            )
        };
        let unused = resident.iter().filter(|page| **page & 1 == 0).count();
        said == 0 && unused <= pages / PAGES_PER_UNUSED
    }

    /// False where the kernel cannot do it, or has no memory for it.
    pub fn put_together(chunk: Chunk) -> bool {
        // SAFETY: it changes in which pages memory lies, and never what it holds. What is not mapped any
        // more is an error.
        let said = unsafe {
            libc::madvise(
                std::ptr::without_provenance_mut(chunk),
                CHUNK_BYTES,
                libc::MADV_COLLAPSE,
            )
        };
        said == 0
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod kernel {
    use super::Chunk;

    pub fn is_almost_full(_: Chunk) -> bool {
        false
    }

    pub fn put_together(_: Chunk) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_memory_of_the_allocator_is_meant() {
        let line = |permissions: &str, rest: &str| {
            private(&format!("7f0000200000-7f0000a01000 {permissions} {rest}"))
        };
        let range = Some(0x7f00_0020_0000..0x7f00_00a0_1000);
        assert_eq!(line("rw-p", "00000000 00:00 0"), range);
        assert_eq!(line("rw-p", "00000000 00:00 0          [heap]"), range);
        assert_eq!(line("rw-p", "00000000 00:00 0          [stack]"), None);
        assert_eq!(line("r--p", "00000000 00:00 0"), None);
        assert_eq!(line("---p", "00000000 00:00 0"), None);
        assert_eq!(line("rw-s", "00000000 00:01 7 /memfd:x (deleted)"), None);
        assert_eq!(private("nonsense"), None);
    }

    #[test]
    fn only_whole_chunks_are_meant() {
        let all = |range| chunks(range).collect::<Vec<_>>();
        let chunk = CHUNK_BYTES;
        assert_eq!(all(chunk..3 * chunk), [chunk, 2 * chunk]);
        assert_eq!(all(chunk + 1..3 * chunk + 1), [2 * chunk]);
        assert!(all(chunk + 1..2 * chunk).is_empty());
        assert!(all(1..chunk - 1).is_empty());
    }

    /// Kilobytes in large pages of the mapping that a place is in.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn large_kb(place: *const u8) -> u64 {
        let text = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = text.lines();
        let holds = |line: &&str| private(line).is_some_and(|range| range.contains(&place.addr()));
        lines.find(holds).unwrap();
        let line = lines.find_map(|line| line.strip_prefix("AnonHugePages:"));
        line.unwrap()
            .trim()
            .strip_suffix(" kB")
            .unwrap()
            .parse()
            .unwrap()
    }

    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn what_is_full_is_put_together_and_what_is_not_does_not_grow() {
        let bytes = 2 * BYTES_MIN;
        let pattern = |at: usize| (at / 4096 % 251) as u8;
        let full: Vec<u8> = (0..bytes).map(pattern).collect();
        // Of this one only every second page is in memory.
        let mut sparse = vec![0_u8; bytes];
        for pages in sparse.chunks_mut(8192) {
            pages[0] = 1;
        }
        let mut plan = Plan::make();
        let off = fs::read_to_string(SWITCH).is_ok_and(|text| text.contains("[never]"));
        assert_eq!(plan.is_done(), off);
        while !plan.is_done() {
            plan.go_on();
        }
        let gained = large_kb(full.as_ptr()) as usize * 1024;
        assert!(off || gained >= bytes - 2 * CHUNK_BYTES, "{gained} bytes");
        let is_half = |chunk| !kernel::is_almost_full(chunk);
        let start = sparse.as_ptr().addr();
        assert!(chunks(start..start + bytes).all(is_half));
        assert!((0..bytes).all(|at| full[at] == pattern(at)));
        assert!(sparse.chunks(8192).all(|pages| pages[0] == 1));
    }
}
