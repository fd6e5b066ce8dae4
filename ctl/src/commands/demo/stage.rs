//! The demo's directory: a scratch repository, and a place for each part of the cluster.
//!
//! ```text
//! DIR/repo/        the scratch repository
//! DIR/cluster/     the state directory of head and first worker
//! DIR/worker-2/    the state directory of the second worker
//! DIR/model.jsonl  every request that the scripted model got
//! ```

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use orchestra_types::runner::KNOWN_RUNNERS;
use serde_json::{Map, Value, json};

use crate::{
    error::{Error, OrFailed, Result},
    local::daemon::make_private_dir,
    ui::now,
};

const README: &str = "\
# toolbox

Two small shell tools are wanted:

- `bin/slug` reads a title on standard input and prints it as a URL slug: `Hello, World!` becomes
  `hello-world`.
- `bin/words` counts the words of the files that are named, or of standard input.

`./check` runs the tests.
";

const CHECK: &str = "\
#!/bin/sh
# Runs every test in tests/.
set -e
for test in tests/*.sh; do sh \"$test\"; done
echo \"all checks pass\"
";

/// The environment variable of the scripted model's key.
const KEY_NAME: &str = "ORCHESTRA_DEMO_KEY";

/// The demo's directory.
#[derive(Debug)]
pub struct Stage {
    dir: PathBuf,
}

impl Stage {
    /// Makes the directory and the scratch repository.
    pub fn set(dir: Option<PathBuf>) -> Result<Self> {
        let stage = Self {
            dir: make_dir(dir)?,
        };
        stage.make_repo()?;
        Ok(stage)
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The scratch repository.
    pub fn repo(&self) -> PathBuf {
        self.dir.join("repo")
    }

    /// The state directory of the head and the first worker.
    pub fn cluster(&self) -> PathBuf {
        self.dir.join("cluster")
    }

    /// The state directory of the second worker.
    pub fn second_worker(&self) -> PathBuf {
        self.dir.join("worker-2")
    }

    /// The record of the scripted model.
    pub fn record(&self) -> PathBuf {
        self.dir.join("model.jsonl")
    }

    /// Writes the configuration of a worker that has one slot and no runner but `agent`.
    pub fn configure(&self, state: &Path, worker: &str, model_url: &str) -> Result<PathBuf> {
        make_private_dir(state)?;
        let mut runners: Map<String, Value> = KNOWN_RUNNERS
            .iter()
            .map(|name| ((*name).to_owned(), json!({ "enabled": false })))
            .collect();
        // A key of the demo's own, so that the person's goes nowhere.
        let agent = json!({
            "model": "scripted-model",
            "env": { KEY_NAME: "no key is needed" },
            "agent": {
                "provider": "anthropic", "base_url": model_url, "api_key_env": KEY_NAME,
            },
        });
        runners.insert("agent".to_owned(), agent);
        let config = json!({ "worker": { "name": worker, "slots": 1 }, "runners": runners });
        let path = state.join("orchestra.yaml");
        // JSON is YAML too.
        write(&path, &format!("{config:#}\n"))?;
        Ok(path)
    }

    fn make_repo(&self) -> Result<()> {
        let repo = self.repo();
        make_private_dir(&repo)?;
        write(&repo.join("README.md"), README)?;
        let check = repo.join("check");
        write(&check, CHECK)?;
        fs::set_permissions(&check, fs::Permissions::from_mode(0o755))
            .or_failed(|| format!("failed to make `{}` executable", check.display()))?;
        let seconds = i64::try_from(now().0 / 1000).unwrap_or(i64::MAX);
        orchestra_repo::scratch(&repo, "toolbox: what is wanted", seconds)
            .or_failed(|| format!("failed to make the repository `{}`", repo.display()))
    }
}

fn make_dir(wanted: Option<PathBuf>) -> Result<PathBuf> {
    let Some(dir) = wanted else {
        return tempfile::Builder::new()
            .prefix("orchestra-demo-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .map(tempfile::TempDir::keep)
            .or_failed(|| {
                let place = std::env::temp_dir();
                format!(
                    "failed to make a temporary directory in `{}`",
                    place.display()
                )
            });
    };
    if dir.exists() {
        return Err(Error::failed(format!("`{}` exists already", dir.display()))
            .hint("name a directory that does not exist yet"));
    }
    make_private_dir(&dir)?;
    dir.canonicalize()
        .or_failed(|| format!("failed to open `{}`", dir.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).or_failed(|| format!("failed to write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_one_runner_and_is_valid() {
        let base = tempfile::tempdir().unwrap();
        let stage = Stage::set(Some(base.path().join("demo"))).unwrap();
        let path = stage
            .configure(&stage.cluster(), "worker-1", "http://127.0.0.1:1")
            .unwrap();
        let config = orchestra_config::load(&path).unwrap();
        let enabled: Vec<&str> = config
            .runners
            .iter()
            .filter(|(_, runner)| runner.enabled != Some(false))
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(enabled, ["agent"]);
        assert_eq!(config.worker.slots, Some(1));
    }

    #[test]
    fn a_directory_that_exists_is_left_alone() {
        let base = tempfile::tempdir().unwrap();
        assert!(Stage::set(Some(base.path().to_owned())).is_err());
    }
}
