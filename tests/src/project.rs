//! A scratch git repository, as a user would have one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use crate::run;

/// A directory that tasks are about.
#[derive(Clone, Debug)]
pub struct Project {
    dir: PathBuf,
}

impl Project {
    /// A repository at `dir` with one commit that holds `README.md`.
    pub fn repository(dir: &Path) -> anyhow::Result<Self> {
        let project = Self::plain(dir)?;
        project.write("README.md", "# Scratch\n")?;
        project.git(&["init", "-q", "-b", "main"])?;
        project.git(&["add", "-A"])?;
        project.git(&["commit", "-q", "-m", "first"])?;
        Ok(project)
    }

    /// A directory that is no repository.
    pub fn plain(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("failed to create `{}`", dir.display()))?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a file below it, and the directories above the file.
    pub fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let path = self.dir.join(path);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)
                .with_context(|| format!("failed to create `{}`", dir.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("failed to write `{}`", path.display()))
    }

    /// Reads a file below it.
    pub fn read(&self, path: &str) -> anyhow::Result<String> {
        let path = self.dir.join(path);
        fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))
    }

    /// Whether there is such a file below it.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.dir.join(path).exists()
    }

    /// Runs git in it, without the configuration of whoever runs the tests.
    pub fn git(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut git = Command::new("git");
        git.current_dir(&self.dir)
            .args([
                "-c",
                "user.name=Scratch",
                "-c",
                "user.email=scratch@example.org",
            ])
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null");
        Ok(run(git, b"")?.ok()?.stdout)
    }
}
