//! Lets the disk begin with what is written, so that the sync at the end has little left to wait for.

use std::{fs::File, ops::Range};

/// The disk begins when so much more is written.
const STRIDE_BYTES: u64 = 8 * 1024 * 1024;

/// To be called when `file` has grown by `bytes` to `size`. Waits for nothing and makes nothing
/// durable; what goes wrong is told by the sync at the end.
pub fn begin(file: &File, size: u64, bytes: u64) {
    let full = strides(size, bytes);
    if !full.is_empty() {
        start(file, &full);
    }
}

/// The strides that the last `bytes` of `size` have filled.
fn strides(size: u64, bytes: u64) -> Range<u64> {
    let whole = |size: u64| size - size % STRIDE_BYTES;
    whole(size.saturating_sub(bytes))..whole(size)
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no safe interface begins to write out")]
fn start(file: &File, full: &Range<u64>) {
    use std::os::fd::AsRawFd;
    let bytes = full.end - full.start;
    let (Ok(from), Ok(bytes)) = (i64::try_from(full.start), i64::try_from(bytes)) else {
        return;
    };
    // SAFETY: the descriptor is open, and no memory is involved.
    let _told_by_the_sync = unsafe {
        libc::sync_file_range(file.as_raw_fd(), from, bytes, libc::SYNC_FILE_RANGE_WRITE)
    };
}

#[cfg(not(target_os = "linux"))]
fn start(_: &File, _: &Range<u64>) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stride_is_begun_once_it_is_full() {
        let mut begun = 0;
        let mut size = 0;
        for bytes in [1, STRIDE_BYTES - 2, 1, 1, 3 * STRIDE_BYTES, 5, STRIDE_BYTES] {
            size += bytes;
            let full = strides(size, bytes);
            if !full.is_empty() {
                assert_eq!(full.start, begun);
                begun = full.end;
            }
            assert!(size - begun < STRIDE_BYTES, "{begun} of {size}");
        }
    }
}
