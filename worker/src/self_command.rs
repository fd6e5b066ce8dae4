//! How to run this very program again: supervisors and our own agent are subcommands of it.

use std::{io, path::PathBuf};

/// The program and the arguments that lead to the worker's subcommands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfCommand {
    /// The program.
    pub exe: PathBuf,
    /// What stands before the subcommand: nothing for `orchestra-worker`, `worker` for `ctl`.
    pub prefix: Vec<String>,
}

impl SelfCommand {
    /// The running program.
    pub fn current(prefix: &[&str]) -> io::Result<Self> {
        Ok(Self {
            exe: std::env::current_exe()?,
            prefix: prefix.iter().map(|&p| p.to_owned()).collect(),
        })
    }

    /// Program and prefix in one list.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let exe = self.exe.to_string_lossy().into_owned();
        std::iter::once(exe).chain(self.prefix.clone()).collect()
    }
}
