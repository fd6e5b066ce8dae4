//! Builds the three binaries once, with the cargo, profile and target directory of the tests.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, ensure};

/// Where the built binaries are.
#[derive(Clone, Debug)]
pub struct Binaries {
    dir: PathBuf,
}

static BINARIES: OnceLock<Binaries> = OnceLock::new();

impl Binaries {
    /// Builds them. A test run calls this once, before any test, while the machine's own network
    /// and home directory are still there for cargo.
    pub fn build() -> anyhow::Result<()> {
        let binaries = Self {
            dir: profile_dir()?,
        };
        if std::env::var_os("ORCHESTRA_TESTS_BUILT").is_none() {
            binaries.compile()?;
        }
        BINARIES.get_or_init(|| binaries);
        Ok(())
    }

    /// The binaries of this test run.
    pub fn get() -> &'static Self {
        BINARIES.get().expect("main builds before it runs a test")
    }

    /// The directory that they are in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The admin client.
    #[must_use]
    pub fn ctl(&self) -> PathBuf {
        self.dir.join("ctl")
    }

    /// The head.
    #[must_use]
    pub fn head(&self) -> PathBuf {
        self.dir.join("orchestra-head")
    }

    /// The worker.
    #[must_use]
    pub fn worker(&self) -> PathBuf {
        self.dir.join("orchestra-worker")
    }

    /// `cargo build` with `--tests`, so that features are unified exactly as for the tests and
    /// nothing is compiled twice.
    fn compile(&self) -> anyhow::Result<()> {
        let target = self
            .dir
            .parent()
            .context("the profile directory has a parent")?;
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // What cargo told this test of its own crate would make build scripts run again, and
        // everything that depends on them be compiled again, now and in the next build.
        for (name, _) in std::env::vars_os() {
            let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_"];
            if own
                .iter()
                .any(|own| name.to_string_lossy().starts_with(own))
            {
                cargo.env_remove(name);
            }
        }
        cargo
            .args([
                "build",
                "--quiet",
                "--workspace",
                "--bins",
                "--tests",
                "--target-dir",
            ])
            .arg(target)
            .current_dir(workspace());
        if self.dir.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo.status().context("failed to run cargo")?;
        ensure!(
            status.success(),
            "cargo could not build the binaries: {status}"
        );
        Ok(())
    }
}

/// `target/debug`, or whichever profile this test was built with.
fn profile_dir() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe().context("failed to find this test's own program")?;
    let deps = test.parent().context("the test lies in a directory")?;
    Ok(deps
        .parent()
        .context("the test lies below target/PROFILE/deps")?
        .to_owned())
}

/// The top of the workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace")
}
