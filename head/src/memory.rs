//! Memory goes back to the system after it was used for a while.
//!
//! glibc keeps what is freed below something that is still used, and a submission of 100,000 tasks
//! takes several times the memory that is left of it. So the engine says when it is a good moment.
//! What stays is then put into large pages.

mod large_pages;

use large_pages::Plan;
use orchestra_config::program;

/// After so many changes there is something to tidy up.
const CHURN_MAX: usize = 20_000;

/// Sees to it that the memory of a thread with much work is tidy while the thread rests.
#[derive(Debug)]
pub struct Keeper {
    /// Changes since it was tidied up.
    churn: usize,
    plan: Plan,
}

impl Keeper {
    /// For a thread that has just filled its memory, and has used more for a while.
    #[must_use]
    pub fn new() -> Self {
        Self {
            churn: CHURN_MAX,
            plan: Plan::default(),
        }
    }

    /// So many changes were made.
    pub fn note(&mut self, changes: usize) {
        self.churn = self.churn.saturating_add(changes);
    }

    /// Does a part of what there is to do, some milliseconds at most. Whether there is more.
    pub fn tidy(&mut self) -> bool {
        if self.churn >= CHURN_MAX {
            self.churn = 0;
            give_back();
            program::let_go();
            self.plan = Plan::make();
        } else {
            self.plan.go_on();
        }
        !self.plan.is_done()
    }
}

impl Default for Keeper {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives back what the allocator has free. Takes some milliseconds when that is much.
fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::give_back();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "there is no other way to ask glibc for it")]
mod glibc {
    // SAFETY: the declaration is that of malloc.h, and the function may be called at any time.
    unsafe extern "C" {
        safe fn malloc_trim(pad: usize) -> core::ffi::c_int;
    }

    pub fn give_back() {
        // It says whether there was anything.
        let _ = malloc_trim(0);
    }
}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod tests {
    use std::os::unix::fs::FileExt as _;

    #[test]
    fn what_is_freed_between_what_stays_goes_back_to_the_system() {
        const BYTES: usize = 48 * 1024;
        const COUNT: usize = 2000;
        let pairs = (0..COUNT).map(|_| (vec![1_u8; BYTES], Box::new([1_u8; 64])));
        let (freed, kept): (Vec<_>, Vec<_>) = pairs.unzip();
        let places: Vec<usize> = freed.iter().map(|bytes| bytes.as_ptr().addr()).collect();
        let there = || {
            places
                .iter()
                .filter(|at| is_there(**at + BYTES / 2))
                .count()
        };
        drop(freed);
        // Of these alone: other tests of this process take and free memory at the same time.
        assert!(there() > COUNT / 2, "{} were kept", there());
        super::give_back();
        assert!(there() < COUNT / 2, "{} are kept", there());
        drop(kept);
    }

    /// Whether the page at this address takes memory.
    fn is_there(at: usize) -> bool {
        let pages = std::fs::File::open("/proc/self/pagemap").unwrap();
        let mut entry = [0; 8];
        let place = at / rustix::param::page_size() * entry.len();
        pages.read_exact_at(&mut entry, place as u64).unwrap();
        u64::from_ne_bytes(entry) >> 63 == 1
    }

    #[test]
    fn there_is_something_to_do_after_a_start_and_after_many_changes() {
        let mut keeper = super::Keeper::new();
        let rest = |keeper: &mut super::Keeper| {
            let mut steps = 1;
            while keeper.tidy() {
                steps += 1;
            }
            assert!(keeper.plan.is_done() && keeper.churn < super::CHURN_MAX);
            steps
        };
        assert!(rest(&mut keeper) >= 1);
        keeper.note(super::CHURN_MAX - 1);
        assert_eq!(rest(&mut keeper), 1);
        assert_eq!(keeper.churn, super::CHURN_MAX - 1);
        keeper.note(1);
        assert!(rest(&mut keeper) >= 1);
        assert_eq!(keeper.churn, 0);
    }
}
