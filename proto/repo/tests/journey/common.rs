//! A user with a repository, and the way of a task through it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use orchestra_repo::{
    Applied, ApplyError, Cache, Change, Checkout, Collect, Collected, Earlier, Plan, Predecessor,
    Received, Snapshot, Told, Workspace, task_branch,
};
use orchestra_types::{Manifest, TaskId};
use tempfile::TempDir;

pub const BRANCH: &str = "orchestra/task_001";
/// The cluster that branches are written for.
pub const CLUSTER: &str = "c1";

pub const LINES: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";

/// `LINES` with these lines replaced.
pub fn lines(changed: &[(usize, &str)]) -> String {
    let line = |(at, line)| {
        let new = changed.iter().find(|(number, _)| *number == at + 1);
        new.map_or(line, |(_, new)| *new)
    };
    let all = LINES.lines().enumerate().map(line);
    all.flat_map(|line| [line, "\n"]).collect()
}

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
        self.start_after(snapshot, 1, &[])
    }

    /// The task of this number, after others whose results its worker fetches.
    pub fn start_after(&self, snapshot: &Snapshot, number: u64, before: &[&Done]) -> Task {
        let cache = Cache::open(&self.tmp.path().join("cache"), &snapshot.commit).unwrap();
        let bundle = self.tmp.path().join("source.bundle");
        snapshot.bundle(&[], &bundle).unwrap();
        cache.fetch_bundles(&[bundle], &snapshot.commit).unwrap();
        for done in before {
            let bundle = done.bundle.clone().expect("it has a result");
            cache.fetch_bundles(&[bundle], &done.commit).unwrap();
        }
        let changes: Vec<Earlier> = before.iter().map(|done| done.earlier(true)).collect();
        let predecessors: Vec<Predecessor<'_>> = before
            .iter()
            .zip(&changes)
            .map(|(done, change)| Predecessor {
                branch: &done.branch,
                change,
            })
            .collect();
        let below: Vec<Earlier> = before.iter().flat_map(|done| done.below.clone()).collect();
        let base = cache
            .build_on(&snapshot.commit, &predecessors, &below)
            .unwrap();
        let branch = task_branch(TaskId(number));
        let place = match number {
            1 => self.tmp.path().to_owned(),
            _ => self.tmp.path().join(number.to_string()),
        };
        fs::create_dir_all(&place).unwrap();
        let others: Vec<_> = before
            .iter()
            .map(|done| (done.branch.clone(), done.commit.clone()))
            .collect();
        let plan = Plan {
            cache: &cache,
            commit: &base.commit,
            start: &snapshot.commit,
            head: &snapshot.head,
            branch: &branch,
            others: &others,
            ignore_rules: &snapshot.ignore_rules,
            dir: &place.join("agent"),
            git_dir: &place.join("own"),
        };
        let workspace = Workspace::create(&plan).unwrap();
        Task {
            workspace,
            start: snapshot.commit.clone(),
            conflicts: base.conflicts,
            below: changes.into_iter().chain(below).collect(),
            out: place.join("out"),
        }
    }
}

/// What a task has left.
#[derive(Clone)]
pub struct Done {
    pub branch: String,
    pub start: String,
    pub base: String,
    pub commit: String,
    pub bundle: Option<PathBuf>,
    pub manifest: Manifest,
    pub patch: PathBuf,
    /// What its base may be made of.
    pub sources: Vec<String>,
    /// What it builds on.
    pub below: Vec<Earlier>,
}

impl Done {
    pub fn earlier(&self, applied: bool) -> Earlier {
        Earlier {
            start: self.start.clone(),
            base: self.base.clone(),
            commit: self.commit.clone(),
            applied,
        }
    }

    /// Puts it into the user's files.
    pub fn apply(&self, user: &World, earlier: &[Earlier]) -> Result<Applied, ApplyError> {
        apply(&user.checkout(), &self.change(earlier))
    }

    /// The same where it is known to have been applied, as a part of a later change.
    pub fn apply_again(&self, user: &World, earlier: &[Earlier]) -> Result<Applied, ApplyError> {
        let applied = true;
        let change = self.change(earlier);
        apply(&user.checkout(), &Change { applied, ..change })
    }

    pub fn change<'a>(&'a self, earlier: &'a [Earlier]) -> Change<'a> {
        Change {
            bundle: self.bundle.as_deref().expect("something changed"),
            branch: &self.branch,
            commit: &self.commit,
            start: &self.start,
            earlier,
            attempts: &[],
            attended: true,
            applied: false,
            told: Told {
                base: &self.base,
                sources: Some(&self.sources),
                manifest: &self.manifest,
                patch: Some(&self.patch),
            },
        }
    }
}

pub struct Task {
    pub workspace: Workspace,
    pub start: String,
    /// What stood in the way of each change before it.
    pub conflicts: Vec<Option<Vec<String>>>,
    pub below: Vec<Earlier>,
    pub out: PathBuf,
}

impl Task {
    pub fn dir(&self) -> &Path {
        self.workspace.dir()
    }

    /// What belongs to it alone.
    pub fn area(&self) -> &Path {
        self.dir().parent().unwrap()
    }

    pub fn write(&self, name: &str, text: &str) {
        write(self.dir(), name, text);
    }

    pub fn collect(&self) -> Collected {
        let how = Collect {
            out: &self.out,
            area: self.area(),
            message: "work",
            attempt: 1,
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
            start: &self.start,
            earlier: &[],
            attempts: &[],
            attended: true,
            applied: false,
            told: Told {
                base: self.workspace.base(),
                sources: Some(&[]),
                manifest: &collected.manifest,
                patch: Some(&collected.patch),
            },
        }
    }

    /// Results of the tasks before it, and their snapshots.
    fn sources(&self) -> Vec<String> {
        let each = self.below.iter();
        each.flat_map(|e| [e.start.clone(), e.commit.clone()])
            .collect()
    }

    pub fn done(&self) -> Done {
        let collected = self.collect();
        Done {
            branch: collected.branch,
            start: self.start.clone(),
            base: self.workspace.base().to_owned(),
            commit: collected.commit,
            bundle: collected.bundle,
            manifest: collected.manifest,
            patch: collected.patch,
            sources: self.sources(),
            below: self.below.clone(),
        }
    }
}

/// Receives a change and puts it into the work tree.
pub fn apply(checkout: &Checkout, change: &Change<'_>) -> Result<Applied, ApplyError> {
    orchestra_repo::apply(checkout, &Received::take(checkout, change)?)
}

/// Receives a change and makes its branch.
pub fn import_branch(
    checkout: &Checkout,
    change: &Change<'_>,
    attempts: &[String],
) -> orchestra_repo::Result<()> {
    let change = Change {
        attempts,
        ..*change
    };
    let received = Received::take(checkout, &change)?;
    orchestra_repo::import_branch(checkout, &received, Some(CLUSTER))
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
