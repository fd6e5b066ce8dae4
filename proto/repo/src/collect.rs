//! What an agent changed: from its files, never from what it says.

use std::{
    fs,
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use orchestra_types::Manifest;

use crate::{
    bare, beneath,
    error::{Error, IoContext, Result},
    git::{Git, Input, records},
    index,
    manifest::{Listed, Raw, Renames, Sides, diff, manifest, renames_in_patch, write_patch},
    names::is_checked_by_git,
    others::Beside,
    quarantine::{Format, Quarantine},
    snapshot::{Bundled, bundle},
    special,
    stage::{Conflicts, Nested, Sizes, Stage, Warnings, is_below},
    unfinished,
    workspace::{AGENT_EMAIL, HEAD_REF, Workspace},
};

/// What CLIs leave behind for themselves; left out unless the project tracks it.
const LITTER: &[&str] = &[
    ".aider.chat.history.md",
    ".aider.input.history",
    ".aider.llm.history",
    ".aider.tags.cache.v3",
    ".aider.tags.cache.v4",
];

/// The patch and the bundle in the directory that they are written to.
pub(crate) const PATCH: &str = "change.patch";
pub(crate) const BUNDLE: &str = "change.bundle";

/// How to collect.
#[derive(Clone, Copy, Debug)]
pub struct Collect<'a> {
    /// Where the patch and the bundle are written.
    pub out: &'a Path,
    /// What belongs to the attempt alone, with the workspace in it: where further work trees of the agent
    /// may lie.
    pub area: &'a Path,
    /// The message of the commit for what the agent left uncommitted.
    pub message: &'a str,
    /// Which attempt of its task it is: a part of the names of branches beside the result.
    pub attempt: u32,
    /// Paths below the workspace that are ours, such as the context mirror, and no result; unless the
    /// project has the directory that holds one, or the path itself where it is at the top.
    pub exclude: &'a [String],
    /// Paths of files that were put there for the agent alone: no form of the result has them.
    pub secret: &'a [String],
}

/// What an agent changed. Manifest, patch and bundle say the same.
#[derive(Clone, Debug)]
pub struct Collected {
    /// The files.
    pub manifest: Manifest,
    /// The change as a patch; empty when nothing changed.
    pub patch: PathBuf,
    /// The change as a bundle that holds `branch`, with the changes that it builds on, and the branches
    /// beside it; none when there is nothing of that.
    pub bundle: Option<PathBuf>,
    /// Whether `branch` is in the bundle.
    pub has_branch: bool,
    /// The attempt's branch.
    pub branch: String,
    /// The commit of the result; the base when nothing changed.
    pub commit: String,
    /// Whether something is nowhere but in the agent's directory: files of a submodule, or the history of
    /// a repository that it made.
    pub only_there: bool,
}

/// What an earlier collection left on the attempt's branch, and what this one builds on.
struct Before {
    commit: String,
    tree: String,
    parents: Vec<String>,
    tree_of_tip: String,
    /// Refs of what the agent committed beside the result.
    others: Vec<String>,
}

/// The forms of a result.
struct Forms {
    commit: String,
    bundle: Option<PathBuf>,
    listed: Listed,
    patch: PathBuf,
}

impl Workspace {
    /// Collects what changed since the base: the agent's own commits where they are sound, and
    /// one more for what was not committed. It may be called again and gives the same, but for the
    /// warnings of pipes and devices, which are gone then.
    ///
    /// # Errors
    /// When git or the disk fails. No file that the agent made is a reason: what cannot be taken
    /// is named in the manifest's warnings.
    pub fn collect(&self, how: &Collect<'_>) -> Result<Collected> {
        let mut warnings = Warnings::default();
        let root = beneath::root(&self.dir).at("open", &self.dir)?;
        self.unlock(how.out)?;
        let special = special::remove(&root, &mut warnings);
        let history = self.take_history(how.secret);
        let went_back = match &history {
            Ok(Some(_)) => None,
            Ok(None) | Err(_) => self.went_back(),
        };
        let tip = history.unwrap_or_else(|why| {
            warnings.add(format!("the agent's commits became one: {why}"));
            None
        });
        let tip = tip.as_deref().unwrap_or(&self.base);
        fs::create_dir_all(how.out).at("create the directory", how.out)?;
        let Beside { refs, apart } = self.take_others(tip, how, &mut warnings)?;
        let before = self.before(tip, refs)?;
        let index = index::Copy::of(self)?;
        let git = index.git(self.git());
        let mut tree = self.stage(&git, tip, how, apart, &mut warnings)?;
        if !special.is_empty() {
            let skip = self.skipped(&git, how.exclude, how.secret)?;
            special::warn(&git, &special, &skip, &mut warnings)?;
        }
        if let Some(whole) = self.widen(&git, &index, &root, (tip, &tree))? {
            tree = whole;
        }
        if let Some(went) = went_back {
            tree = self.put_back(&git, &tree, &went, &mut warnings)?;
        }
        let mut result = self.result(tip, &tree, &before, how)?;
        if let Some(tree) = self.without_refused(&git, &result, &mut warnings)? {
            result = self.result(tip, &tree, &before, how)?;
        }
        self.submodules(&tree, &mut warnings)?;
        if let Some(text) = bare::warning(&root, &result.listed.files) {
            warnings.first(text);
        }
        if let Some(text) = unfinished::warning(&root, &result.listed.files, &result.patch) {
            warnings.first(text);
        }
        let only_there = warnings.are_of_the_only_copy();
        let mut manifest = result.listed.manifest;
        manifest.warnings.extend(warnings.into_list());
        Ok(Collected {
            manifest,
            patch: result.patch,
            has_branch: result.bundle.is_some() && result.commit != self.start,
            bundle: result.bundle,
            branch: self.branch.clone(),
            commit: result.commit,
            only_there,
        })
    }

    /// What the attempt's branch holds, and the tree of `tip`.
    fn before(&self, tip: &str, others: Vec<String>) -> Result<Before> {
        let branch = self.full_branch();
        let tree = |of: &str| format!("{of}^{{tree}}");
        let args = ["rev-parse", &branch, &tree(&branch), &tree(tip)];
        let parents = format!("{branch}^@");
        let text = self.bare().line(&[&args[..], &[&parents]].concat())?;
        let mut lines = text.lines().map(str::to_owned);
        let mut next = || lines.next().unwrap_or_default();
        Ok(Before {
            commit: next(),
            tree: next(),
            tree_of_tip: next(),
            parents: lines.collect(),
            others,
        })
    }

    /// All forms of the result: the commit with its bundle, and what it says beside them.
    fn result(&self, tip: &str, tree: &str, before: &Before, how: &Collect<'_>) -> Result<Forms> {
        thread::scope(|scope| {
            let told = scope.spawn(|| self.tell(tree, how.out));
            let kept = self.keep(tip, tree, before, how);
            let told = told.join().unwrap_or_else(|panic| resume_unwind(panic));
            let ((commit, bundle), (listed, patch)) = (kept?, told?);
            Ok(Forms {
                commit,
                bundle,
                listed,
                patch,
            })
        })
    }

    /// The tree as a commit on the attempt's branch, and as a bundle.
    fn keep(
        &self,
        tip: &str,
        tree: &str,
        before: &Before,
        how: &Collect<'_>,
    ) -> Result<(String, Option<PathBuf>)> {
        let bare = self.bare();
        let commit = commit(&bare, tip, tree, before, how.message)?;
        bare.output(&["update-ref", &self.full_branch(), &commit])?;
        let bundle = self.bundle(&bare, &commit, &before.others, how.out)?;
        Ok((commit, bundle))
    }

    /// The tree as a manifest and as a patch.
    fn tell(&self, tree: &str, out: &Path) -> Result<(Listed, PathBuf)> {
        let (bare, old) = (self.bare(), &self.base);
        let listed = manifest(&bare, Sides::Trees { old, new: tree })?;
        let patch = out.join(PATCH);
        let renames = renames_in_patch(&listed.manifest);
        write_patch(&bare, old, tree, renames, &patch)?;
        Ok((listed, patch))
    }

    /// Git checks the content of files with certain names, and whoever fetches a bundle with a bad one
    /// gets nothing of it. The tree without those, when they are bad: each is named in a warning.
    fn without_refused(
        &self,
        git: &Git,
        result: &Forms,
        warnings: &mut Warnings,
    ) -> Result<Option<String>> {
        let is_suspect = |file: &Raw| !file.is_deleted() && is_checked_by_git(&file.path);
        let Some(bundle) = &result.bundle else {
            return Ok(None);
        };
        if !result.listed.files.iter().any(is_suspect) {
            return Ok(None);
        }
        let Err(error) = self.received(bundle) else {
            return Ok(None);
        };
        // A file that was renamed is two here: each is put back by itself.
        let mut suspects = diff(&self.bare(), &self.base, &result.commit, Renames::Ignore)?;
        suspects.retain(is_suspect);
        let Error::Git { stderr, .. } = &error else {
            return Err(error);
        };
        let why = stderr.lines().find(|line| line.contains("error: "));
        for file in &suspects {
            let why = why.unwrap_or("git refuses it");
            warnings.path(&file.path, format_args!("nobody could fetch it: {why}"));
        }
        restore(git, suspects.iter())?;
        git.line(&["write-tree"]).map(Some)
    }

    /// Takes the bundle as a receiver does, into a repository that vanishes.
    fn received(&self, bundle: &Path) -> Result<()> {
        let receiver = Quarantine::new(Format::of(&self.base), &[])?;
        let lent = |objects: &Path| objects.join("info/alternates");
        let (from, to) = (self.git_dir.join("objects"), receiver.objects());
        fs::copy(lent(&from), lent(&to)).at("copy", lent(&from))?;
        receiver.take(bundle, &self.full_branch(), HEAD_REF)
    }

    /// The tree of the agent's files.
    fn stage(
        &self,
        git: &Git,
        tip: &str,
        how: &Collect<'_>,
        apart: Vec<Vec<u8>>,
        warnings: &mut Warnings,
    ) -> Result<String> {
        if !self.is_settled_on(tip) {
            index::settle(git, tip)?;
        }
        let mut skip = self.skipped(git, how.exclude, how.secret)?;
        self.warn_about_ours(how.exclude, &skip, warnings);
        skip.extend(apart);
        self.unstage(git, tip, &skip)?;
        Stage {
            git,
            root: &self.dir,
            skip: &skip,
            also: self.carried_new()?,
            nested: Nested::Include,
            conflicts: Conflicts::Never,
            sizes: Sizes::KEPT,
        }
        .run(warnings)?;
        git.line(&["write-tree"])
    }

    /// What is no result: our own files and secret ones, and litter. What the project tracks is its own.
    pub(crate) fn skipped(
        &self,
        git: &Git,
        exclude: &[String],
        secret: &[String],
    ) -> Result<Vec<Vec<u8>>> {
        let secret = secret.iter().map(|path| path.trim_matches('/'));
        let mut skip: Vec<Vec<u8>> = secret.map(|path| path.as_bytes().to_vec()).collect();
        skip.retain(|path| !path.is_empty());
        let ours = exclude.iter().map(|path| path.trim_matches('/'));
        let ours: Vec<(&str, &str)> = ours.map(|path| (path, holder(path))).collect();
        let litter = self.litter()?;
        let litter = litter.iter().map(|name| (*name, *name));
        let names: Vec<(&str, &str)> = ours
            .into_iter()
            .chain(litter)
            .filter(|(path, _)| !path.is_empty())
            .collect();
        if names.is_empty() {
            return Ok(skip);
        }
        let mut args = vec!["ls-tree", "-z", "--name-only", &self.base, "--"];
        args.extend(names.iter().map(|(_, of)| *of));
        let tracked = git.output(&args)?;
        let tracked: Vec<&[u8]> = records(&tracked).collect();
        let free = names
            .iter()
            .filter(|(_, of)| !tracked.contains(&of.as_bytes()));
        skip.extend(free.map(|(path, _)| path.as_bytes().to_vec()));
        Ok(skip)
    }

    /// An agent's file in the place of one of ours is no result, but never without a word.
    pub(crate) fn warn_about_ours(
        &self,
        exclude: &[String],
        skip: &[Vec<u8>],
        warnings: &mut Warnings,
    ) {
        let Ok(root) = beneath::root(&self.dir) else {
            return;
        };
        let ours = exclude.iter().map(|path| path.trim_matches('/').as_bytes());
        let there = |path: &&[u8]| matches!(beneath::lstat(&root, path), Ok(Some(_)));
        for path in ours.filter(there) {
            if skip.iter().any(|skipped| skipped == path) {
                let why = "the shared context has this name; `context.directory` gives it another";
                warnings.path(path, why);
            }
        }
    }

    /// Litter that is there, whether tracked or not.
    fn litter(&self) -> Result<Vec<&'static str>> {
        let root = beneath::root(&self.dir).at("open", &self.dir)?;
        let is_there = |name: &&str| !matches!(beneath::lstat(&root, name.as_bytes()), Ok(None));
        Ok(LITTER.iter().copied().filter(is_there).collect())
    }

    /// Takes back what the agent committed although it is no result.
    fn unstage(&self, git: &Git, tip: &str, skip: &[Vec<u8>]) -> Result<()> {
        if tip == self.base {
            return Ok(());
        }
        let changed = diff(&self.bare(), &self.base, tip, Renames::Ignore)?;
        restore(
            git,
            changed.iter().filter(|file| is_below(&file.path, skip)),
        )
    }

    /// A bundle that builds on the user's own commit, so that it can be taken wherever that is.
    fn bundle(
        &self,
        git: &Git,
        commit: &str,
        others: &[String],
        out: &Path,
    ) -> Result<Option<PathBuf>> {
        let to = out.join(BUNDLE);
        let own = (commit != self.start).then(|| self.full_branch());
        let refs: Vec<&str> = own.iter().chain(others).map(String::as_str).collect();
        if refs.is_empty() {
            return match fs::remove_file(&to) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(error).at("remove", &to)
                }
                Ok(()) | Err(_) => Ok(None),
            };
        }
        let have: Vec<String> = self.head.iter().cloned().collect();
        match bundle(git, &refs, &have, &[], &to)? {
            Bundled::Written => Ok(Some(to)),
            Bundled::Nothing => Ok(None),
        }
    }
}

/// The directory that holds a path; the path itself where it is at the top.
fn holder(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(dir, _)| dir)
}

/// Puts the base's entries of these files back into the index.
pub(crate) fn restore<'a>(git: &Git, files: impl Iterator<Item = &'a Raw>) -> Result<()> {
    let mut input = Vec::new();
    for file in files {
        // Mode 0 removes the entry; the base's own entry comes back where it had one.
        let (mode, id) = (file.old_mode, &file.old_id);
        input.extend_from_slice(format!("{mode:o} {id}\t").as_bytes());
        input.extend_from_slice(&file.path);
        input.push(0);
    }
    let args = ["update-index", "-z", "--index-info"];
    git.output_of(&args, Input::Bytes(&input)).map(drop)
}

/// A commit of the tree on top of `tip`; the one that was made before, if it is the same.
fn commit(git: &Git, tip: &str, tree: &str, before: &Before, message: &str) -> Result<String> {
    if before.tree_of_tip == tree {
        return Ok(tip.to_owned());
    }
    if before.tree == tree && before.parents == [tip] {
        return Ok(before.commit.clone());
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let git = git.clone().identity("Orchestra agent", AGENT_EMAIL, now);
    let message = message.replace('\0', " ");
    git.line_of(
        &["commit-tree", tree, "-p", tip],
        Input::Bytes(message.as_bytes()),
    )
}
