//! Memory goes back to the system after it was used for a while.
//!
//! glibc keeps what is freed below something that is still used, and a submission of 100,000 tasks
//! takes several times the memory that is left of it. So the engine says when it is a good moment.

/// Gives back what the allocator has free. Takes some milliseconds when that is much.
pub fn give_back() {
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
    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages = statm.split_whitespace().nth(1).unwrap();
        pages.parse::<usize>().unwrap() * rustix::param::page_size()
    }

    #[test]
    fn what_is_freed_between_what_stays_goes_back_to_the_system() {
        const BYTES: usize = 48 * 1024;
        const COUNT: usize = 2000;
        let pairs = (0..COUNT).map(|_| (vec![1_u8; BYTES], Box::new([1_u8; 64])));
        let (freed, kept): (Vec<_>, Vec<_>) = pairs.unzip();
        drop(freed);
        let before = resident();
        super::give_back();
        assert!(resident() + COUNT * BYTES / 2 < before, "{before} bytes");
        drop(kept);
    }
}
