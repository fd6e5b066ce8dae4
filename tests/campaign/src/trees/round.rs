//! One round: a user, an agent, and the four forms of what the agent did.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use fastrand::Rng;
use orchestra_repo::{
    Cache, Change, Checkout, Collect, Collected, Plan, Received, Snapshot, Told, Workspace, apply,
    import_branch,
};

use super::{
    check,
    make::{self, Made},
    model::Tree,
};

const BRANCH: &str = "orchestra/task_001";
/// Bytes stay as they are, whatever the tree's own attributes ask for.
const RAW: &str = "* -text -eol -ident -filter -working-tree-encoding\n";

/// How far an agent's own commits go.
#[derive(Clone, Copy, Debug)]
enum Habit {
    NoCommit,
    CommitsAll,
    CommitsHalf,
    Amends,
    HidesChanges,
    Detaches,
}

const HABITS: [Habit; 6] = [
    Habit::NoCommit,
    Habit::CommitsAll,
    Habit::CommitsHalf,
    Habit::Amends,
    Habit::HidesChanges,
    Habit::Detaches,
];

/// What rounds went through, so that nobody takes empty ones for a proof.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub files: usize,
    pub renames: usize,
    pub left_out: usize,
    pub dirty: usize,
    pub attributes: usize,
}

impl Seen {
    /// Adds what another round went through.
    pub fn add(&mut self, other: Self) {
        self.files += other.files;
        self.renames += other.renames;
        self.left_out += other.left_out;
        self.dirty += other.dirty;
        self.attributes += other.attributes;
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} files changed, {} of them renamed; {} left out by name; {} checkouts with uncommitted work, {} with attributes",
            self.files, self.renames, self.left_out, self.dirty, self.attributes
        )
    }
}

/// One round in a directory of its own, which must be empty.
pub(crate) struct Round<'a> {
    pub dir: &'a Path,
    pub rng: Rng,
}

impl Round<'_> {
    /// Runs it; what it went through and what was wrong.
    pub fn run(mut self) -> anyhow::Result<(Seen, Vec<String>)> {
        let made = make::trees(&mut self.rng);
        let dirty = self.rng.u32(0..3) == 0;
        self.make_user(&made, dirty)?;
        let checkout = Checkout::discover(&self.user())?.context("the user has no checkout")?;
        let snapshot = checkout.snapshot()?;
        let workspace = self.workspace(&snapshot)?;
        let mut wrong = Vec::new();
        let begun = Tree::read(workspace.dir())?;
        wrong.extend(made.before.difference(&begun, "the workspace"));

        let litter = self.act(workspace.dir(), &made)?;
        let collected = self.collect(&workspace)?;
        let warnings = collected.manifest.warnings.join("\n");
        let unnamed = litter
            .iter()
            .filter(|path| !warnings.contains(&*String::from_utf8_lossy(path)));
        wrong.extend(unnamed.map(|path| {
            let path = String::from_utf8_lossy(path);
            format!("no warning names {path:?}: {warnings}")
        }));
        wrong.extend(check::manifest(
            &collected.manifest,
            &made.before,
            &made.after,
        ));
        wrong.extend(self.forms(&checkout, &workspace, &collected, &made)?);
        let seen = Seen {
            files: collected.manifest.entries.len(),
            renames: renames(&collected),
            left_out: litter.len(),
            dirty: usize::from(snapshot.dirty),
            attributes: usize::from(made.attributes),
        };
        Ok((seen, wrong))
    }

    fn user(&self) -> PathBuf {
        self.dir.join("user")
    }

    /// A repository whose work tree is `before`: committed, or in part not.
    fn make_user(&mut self, made: &Made, dirty: bool) -> anyhow::Result<()> {
        let user = self.user();
        let format = match self.rng.u32(0..8) {
            0 => "--object-format=sha256",
            _ => "--object-format=sha1",
        };
        init(&user, format, made.attributes)?;
        let mut older = made.before.clone();
        if dirty {
            older.0.retain(|_, _| self.rng.u32(0..4) > 0);
        }
        older.write(&user)?;
        commit(&user, "older")?;
        make::act(&user, &older, &made.before)
    }

    fn workspace(&self, snapshot: &Snapshot) -> anyhow::Result<Workspace> {
        let bundle = self.source();
        snapshot.bundle(&[], &bundle)?;
        let cache = Cache::open(&self.dir.join("cache"), &snapshot.commit)?;
        cache.fetch_bundles(&[bundle], &snapshot.commit)?;
        Ok(Workspace::create(&Plan {
            cache: &cache,
            commit: &snapshot.commit,
            start: &snapshot.commit,
            head: &snapshot.head,
            branch: BRANCH,
            others: &[],
            ignore_rules: &snapshot.ignore_rules,
            dir: &self.dir.join("agent"),
            git_dir: &self.dir.join("own"),
        })?)
    }

    fn source(&self) -> PathBuf {
        self.dir.join("source.bundle")
    }

    /// The agent works; what it left that no result can carry.
    fn act(&mut self, dir: &Path, made: &Made) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut half = made.before.clone();
        let done = made.after.0.iter().filter(|_| self.rng.bool());
        done.for_each(|(path, node)| half.insert(path.clone(), node.clone()));
        let habit = HABITS[self.rng.usize(..HABITS.len())];
        match habit {
            Habit::NoCommit => make::act(dir, &made.before, &made.after)?,
            Habit::CommitsAll | Habit::Amends => {
                make::act(dir, &made.before, &made.after)?;
                try_commit(dir, "all of it\n\nwith a body");
            }
            Habit::CommitsHalf | Habit::Detaches => {
                make::act(dir, &made.before, &half)?;
                if matches!(habit, Habit::Detaches) {
                    git(dir, &["checkout", "-q", "--detach"])?;
                    git(dir, &["branch", "-D", "-q", BRANCH])?;
                }
                try_commit(dir, "half of it");
                make::act(dir, &half, &made.after)?;
            }
            Habit::HidesChanges => {
                hide(dir, &made.before)?;
                make::act(dir, &made.before, &made.after)?;
            }
        }
        if matches!(habit, Habit::Amends) {
            git(
                dir,
                &["commit", "-q", "--amend", "--allow-empty", "-m", "again"],
            )?;
        }
        let found = Tree::read(dir)?;
        ensure!(found == made.after, "the agent did not do what it should");
        make::litter(&mut self.rng, dir, &made.after)
    }

    fn collect(&self, workspace: &Workspace) -> anyhow::Result<Collected> {
        Ok(workspace.collect(&Collect {
            out: &self.dir.join("out"),
            area: self.dir,
            message: "left over",
            attempt: 1,
            exclude: &[],
            secret: &[],
        })?)
    }

    /// Each form on a fresh checkout.
    fn forms(
        &mut self,
        checkout: &Checkout,
        workspace: &Workspace,
        collected: &Collected,
        made: &Made,
    ) -> anyhow::Result<Vec<String>> {
        let after = &made.after;
        let Some(bundle) = &collected.bundle else {
            let wrong = (made.before != *after).then(|| "there is no bundle".to_owned());
            return Ok(wrong.into_iter().collect());
        };
        let mut wrong = Vec::new();
        let patched = self.fresh("patched", workspace.base())?;
        if fs::metadata(&collected.patch)?.len() > 0 {
            let patch = collected.patch.to_string_lossy();
            git(&patched, &["apply", "--whitespace=nowarn", &patch])?;
        }
        wrong.extend(after.difference(&Tree::read(&patched)?, "the patch"));

        let change = Change {
            bundle,
            branch: BRANCH,
            commit: &collected.commit,
            start: workspace.base(),
            earlier: &[],
            attempts: &[],
            attended: true,
            applied: false,
            told: Told {
                base: workspace.base(),
                sources: Some(&[]),
                manifest: &collected.manifest,
                patch: Some(&collected.patch),
            },
        };
        import_branch(checkout, &Received::take(checkout, &change)?, None)?;
        let branched = self.dir.join("branched");
        init(&branched, &self.format()?, true)?;
        let user = self.user();
        git(&branched, &["fetch", "-q", &user.to_string_lossy(), BRANCH])?;
        git(&branched, &["checkout", "-q", "--detach", "FETCH_HEAD"])?;
        wrong.extend(after.difference(&Tree::read(&branched)?, "the bundle"));

        // What the attempt started from may have been committed meanwhile.
        if self.rng.bool() {
            commit(&user, "mine")?;
        }
        let checkout = Checkout::discover(&user)?.context("the user has no checkout")?;
        apply(&checkout, &Received::take(&checkout, &change)?)?;
        wrong.extend(after.difference(&Tree::read(&user)?, "the user's checkout"));
        Ok(wrong)
    }

    /// A new checkout of a commit that the source bundle has.
    fn fresh(&self, name: &str, base: &str) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join(name);
        init(&dir, &self.format()?, true)?;
        let source = self.source();
        git(
            &dir,
            &[
                "fetch",
                "-q",
                &source.to_string_lossy(),
                "refs/*:refs/source/*",
            ],
        )?;
        git(&dir, &["checkout", "-q", "--detach", base])?;
        Ok(dir)
    }

    fn format(&self) -> anyhow::Result<String> {
        let format = git(&self.user(), &["rev-parse", "--show-object-format"])?;
        Ok(format!("--object-format={format}"))
    }
}

fn renames(collected: &Collected) -> usize {
    let renamed = |entry: &&orchestra_types::ManifestEntry| {
        matches!(entry.change, orchestra_types::FileChange::Renamed { .. })
    };
    collected.manifest.entries.iter().filter(renamed).count()
}

/// A repository; with `raw`, one that leaves bytes as they are.
fn init(dir: &Path, format: &str, raw: bool) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    git(dir, &["init", "-q", "-b", "main", "--template=", format])?;
    if raw {
        fs::create_dir_all(dir.join(".git/info"))?;
        fs::write(dir.join(".git/info/attributes"), RAW)?;
    }
    Ok(())
}

fn commit(dir: &Path, message: &str) -> anyhow::Result<()> {
    git(dir, &["add", "-A"])?;
    git(dir, &["commit", "-q", "--allow-empty", "-m", message]).map(drop)
}

/// Attributes of the tree may make the agent's git refuse its files: then it does not commit.
fn try_commit(dir: &Path, message: &str) {
    let _refused = commit(dir, message);
}

/// Tells the agent's git to see no change in any file, and leaves a lock behind.
fn hide(dir: &Path, tree: &Tree) -> anyhow::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    for flags in ["--assume-unchanged", "--skip-worktree"] {
        let paths = tree.0.keys().map(|path| std::ffi::OsStr::from_bytes(path));
        // Attributes of the tree may make the agent's git refuse: then nothing is hidden.
        let _refused = plain(dir)
            .args(["update-index", flags, "--"])
            .args(paths)
            .output()?;
    }
    Ok(fs::write(dir.join(".git/index.lock"), "")?)
}

/// The plain git of anybody, with nobody's configuration.
fn git(dir: &Path, args: &[&str]) -> anyhow::Result<String> {
    let output = plain(dir).args(args).output()?;
    ensure!(
        output.status.success(),
        "plain git {args:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.trim_end().to_owned())
}

fn plain(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args(["-c", "user.name=User", "-c", "user.email=u@example.org"])
        .args(["-c", "core.autocrlf=false", "-c", "gc.auto=0"]);
    command
}
