//! Files that this process has from whoever started it, as a lock of a shell script: what it starts in
//! turn goes on for longer, and must not have them. Our own files close themselves.

use std::{fs, io};

/// The first number after standard input, output and error.
const FIRST: i32 = 3;

/// What is started from now on gets no file but those that it is given.
pub fn inherit_nothing() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        if let Some(fd) = name.to_str().and_then(|name| name.parse().ok())
            && fd >= FIRST
        {
            close_on_exec(fd)?;
        }
    }
    Ok(())
}

#[expect(
    unsafe_code,
    reason = "no safe interface takes a file that somebody else has opened"
)]
fn close_on_exec(fd: i32) -> io::Result<()> {
    // SAFETY: nothing is closed in this process: whoever has the file here keeps it.
    let done = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    match (done, io::Error::last_os_error()) {
        (-1, error) if error.raw_os_error() != Some(libc::EBADF) => Err(error),
        // Another thread may have closed it since it was listed.
        (_, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[test]
    fn a_child_gets_nothing_of_what_was_inherited() {
        // As if it were from a parent: without the mark that our own files have.
        let inherited = pipe_with(PipeFlags::empty()).unwrap();
        inherit_nothing().unwrap();
        let list = Command::new("ls").arg("/proc/self/fd").output().unwrap();
        // 3 is the directory that `ls` reads.
        assert_eq!(String::from_utf8(list.stdout).unwrap(), "0\n1\n2\n3\n");
        drop(inherited);
    }
}
