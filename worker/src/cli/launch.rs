//! What the command lines of all runners have in common.

use std::{collections::BTreeMap, path::PathBuf};

use super::adapter::{CommandLine, Launch};

impl Launch<'_> {
    /// The model to ask for: the task's, else the configured one.
    pub(super) fn wanted_model(&self) -> Option<&str> {
        self.model
            .or_else(|| self.config.and_then(|c| c.model.as_deref()))
    }

    /// The program with `args` and then the configured ones, and `env` with the configured one on top.
    pub(super) fn command_line(&self, args: Vec<String>, env: &[(&str, &str)]) -> CommandLine {
        self.command_line_of(self.program.to_owned(), args, env)
    }

    /// The same for another program than the runner's own.
    pub(super) fn command_line_of(
        &self,
        program: PathBuf,
        mut args: Vec<String>,
        env: &[(&str, &str)],
    ) -> CommandLine {
        let mut all: BTreeMap<String, String> = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        if let Some(config) = self.config {
            args.extend(config.args.iter().cloned());
            all.extend(config.env.clone());
        }
        CommandLine {
            program,
            args,
            env: all,
            stdin: Vec::new(),
            keep_stdin: false,
        }
    }
}

/// The arguments as owned texts.
pub(super) fn args<const N: usize>(args: [&str; N]) -> Vec<String> {
    args.map(str::to_owned).to_vec()
}
