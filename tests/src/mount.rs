//! A disk of a test's own.

use std::{path::Path, process::Command};

use crate::run;

/// A small file system that is unmounted when it is dropped.
#[derive(Debug)]
pub struct Mount<'d>(&'d Path);

impl<'d> Mount<'d> {
    /// One of so many MiB in memory at `dir`. Needs root.
    pub fn tmpfs(dir: &'d Path, mib: u32) -> anyhow::Result<Self> {
        let mut mount = Command::new("mount");
        let size = format!("size={mib}m");
        mount.args(["-t", "tmpfs", "-o", &size, "none"]).arg(dir);
        run(mount, b"")?.ok()?;
        Ok(Self(dir))
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        umount.arg("--lazy").arg(self.0);
        // The directory is temporary, and the machine's next start ends the mount.
        drop(run(umount, b""));
    }
}
