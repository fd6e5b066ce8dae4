//! A user with a repository, and the way of a task through it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use orchestra_repo::{Cache, Change, Checkout, Collect, Collected, Plan, Snapshot, Workspace};
use tempfile::TempDir;

pub const BRANCH: &str = "orchestra/task_001";

pub struct World {
    pub tmp: TempDir,
}

impl World {
    /// A repository with one commit that has `files`.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let world = Self::without_commit();
        for (name, text) in files {
            world.write(name, text);
        }
        world.commit("first");
        world
    }

    pub fn without_commit() -> Self {
        let world = Self {
            tmp: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(world.user()).unwrap();
        git(&world.user(), &["init", "-q", "-b", "main"]);
        world
    }

    pub fn user(&self) -> PathBuf {
        self.tmp.path().join("user")
    }

    pub fn write(&self, name: &str, text: &str) {
        write(&self.user(), name, text);
    }

    pub fn commit(&self, message: &str) {
        git(&self.user(), &["add", "-A"]);
        git(
            &self.user(),
            &["commit", "-q", "--allow-empty", "-m", message],
        );
    }

    pub fn checkout(&self) -> Checkout {
        Checkout::discover(&self.user())
            .unwrap()
            .expect("it is a repository")
    }

    /// What the submitter and the worker do before an agent starts.
    pub fn start(&self) -> Task {
        self.start_from(&self.checkout().snapshot().unwrap())
    }

    pub fn start_from(&self, snapshot: &Snapshot) -> Task {
        let bundle = self.tmp.path().join("source.bundle");
        snapshot.bundle(&[], &bundle).unwrap();
        let cache = Cache::open(&self.tmp.path().join("cache"), &snapshot.commit).unwrap();
        cache.fetch_bundles(&[bundle], &snapshot.commit).unwrap();
        let plan = Plan {
            cache: &cache,
            commit: &snapshot.commit,
            head: &snapshot.head,
            branch: BRANCH,
            dir: &self.tmp.path().join("agent"),
            git_dir: &self.tmp.path().join("own"),
        };
        let workspace = Workspace::create(&plan).unwrap();
        Task {
            workspace,
            out: self.tmp.path().join("out"),
        }
    }
}

pub struct Task {
    pub workspace: Workspace,
    pub out: PathBuf,
}

impl Task {
    pub fn dir(&self) -> &Path {
        self.workspace.dir()
    }

    pub fn write(&self, name: &str, text: &str) {
        write(self.dir(), name, text);
    }

    pub fn collect(&self) -> Collected {
        let how = Collect {
            out: &self.out,
            message: "work",
            exclude: &["context".to_owned()],
            secret: &["local/.env".to_owned()],
        };
        self.workspace.collect(&how).unwrap()
    }

    pub fn change<'a>(&'a self, collected: &'a Collected) -> Change<'a> {
        Change {
            bundle: collected.bundle.as_deref().expect("something changed"),
            branch: BRANCH,
            commit: &collected.commit,
            base: self.workspace.base(),
        }
    }
}

pub fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The plain git of a user, with nobody's configuration.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args(["-c", "user.name=User", "-c", "user.email=user@example.org"])
        .args(args)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

/// Path, change, lines added, lines removed.
pub fn rows(collected: &Collected) -> Vec<(String, &'static str, Option<u64>, Option<u64>)> {
    let row = |e: &orchestra_types::ManifestEntry| {
        (
            e.path.clone(),
            e.change.as_str(),
            e.lines_added,
            e.lines_removed,
        )
    };
    collected.manifest.entries.iter().map(row).collect()
}
