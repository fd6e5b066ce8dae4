//! What an agent changed: from its files, never from what it says.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use orchestra_types::Manifest;

use crate::{
    error::{Error, IoContext, Result},
    git::{Git, Input, records},
    manifest::{Raw, Renames, diff, manifest, renames_in_patch, write_patch},
    names::is_checked_by_git,
    quarantine::{Format, Quarantine},
    snapshot::{Bundled, bundle},
    stage::{Nested, Sizes, Stage, Warnings, is_below},
    workspace::{HEAD_REF, Workspace},
};

/// What CLIs leave behind for themselves; left out unless the project tracks it.
const LITTER: &[&str] = &[
    ".aider.chat.history.md",
    ".aider.input.history",
    ".aider.llm.history",
    ".aider.tags.cache.v3",
    ".aider.tags.cache.v4",
];

/// How to collect.
#[derive(Clone, Copy, Debug)]
pub struct Collect<'a> {
    /// Where the patch and the bundle are written.
    pub out: &'a Path,
    /// The message of the commit for what the agent left uncommitted.
    pub message: &'a str,
    /// Paths below the workspace that are ours, such as the context mirror, and no result.
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
    /// The change as a bundle that holds `branch`; none when nothing changed.
    pub bundle: Option<PathBuf>,
    /// The attempt's branch.
    pub branch: String,
    /// The commit of the result; the base when nothing changed.
    pub commit: String,
}

impl Workspace {
    /// Collects what changed since the base: the agent's own commits where they are sound, and
    /// one more for what was not committed. It may be called again and gives the same.
    ///
    /// # Errors
    /// When git or the disk fails. No file that the agent made is a reason: what cannot be taken
    /// is named in the manifest's warnings.
    pub fn collect(&self, how: &Collect<'_>) -> Result<Collected> {
        let mut warnings = Warnings::default();
        let tip = self.take_history(how.secret).unwrap_or_else(|why| {
            warnings.add(format!("the agent's commits became one: {why}"));
            None
        });
        let tip = tip.as_deref().unwrap_or(&self.base);
        let bare = self.bare();
        fs::create_dir_all(how.out).at("create the directory", how.out)?;
        let before = self.collected_before(&bare)?;
        let tree = self.stage(tip, how, &mut warnings)?;
        let (mut commit, mut bundle) = self.keep(tip, &tree, &before, how)?;
        if let Some(written) = &bundle
            && let Some(tree) = self.without_refused(&commit, written, &mut warnings)?
        {
            (commit, bundle) = self.keep(tip, &tree, &before, how)?;
        }
        let mut manifest = manifest(&bare, &self.base, &commit)?;
        manifest.warnings.extend(warnings.into_list());
        let patch = how.out.join("change.patch");
        let renames = renames_in_patch(&manifest);
        write_patch(&bare, &self.base, &commit, renames, &patch)?;
        Ok(Collected {
            manifest,
            patch,
            bundle,
            branch: self.branch.clone(),
            commit,
        })
    }

    /// What the attempt's branch holds: a commit, its tree and its parents.
    fn collected_before(&self, bare: &Git) -> Result<String> {
        let full = format!("refs/heads/{}", self.branch);
        bare.line(&["show", "--no-patch", "--format=%H %T %P", &full])
    }

    /// The tree as a commit on the attempt's branch, and as a bundle.
    fn keep(
        &self,
        tip: &str,
        tree: &str,
        before: &str,
        how: &Collect<'_>,
    ) -> Result<(String, Option<PathBuf>)> {
        let bare = self.bare();
        let commit = commit(&bare, tip, tree, before, how.message)?;
        let full = format!("refs/heads/{}", self.branch);
        bare.output(&["update-ref", &full, &commit])?;
        let bundle = self.bundle(&bare, &commit, how.out)?;
        Ok((commit, bundle))
    }

    /// Git checks the content of files with certain names, and whoever fetches a bundle with a bad one
    /// gets nothing of it. The tree without those, when they are bad: each is named in a warning.
    fn without_refused(
        &self,
        commit: &str,
        bundle: &Path,
        warnings: &mut Warnings,
    ) -> Result<Option<String>> {
        let mut suspects = diff(&self.bare(), &self.base, commit, Renames::Ignore)?;
        suspects.retain(|file| !file.is_deleted() && is_checked_by_git(&file.path));
        if suspects.is_empty() {
            return Ok(None);
        }
        let Err(error) = self.received(bundle) else {
            return Ok(None);
        };
        let Error::Git { stderr, .. } = &error else {
            return Err(error);
        };
        let why = stderr.lines().find(|line| line.contains("error: "));
        for file in &suspects {
            let why = why.unwrap_or("git refuses it");
            warnings.path(&file.path, format_args!("nobody could fetch it: {why}"));
        }
        let git = self.git();
        restore(&git, suspects.iter())?;
        git.line(&["write-tree"]).map(Some)
    }

    /// Takes the bundle as a receiver does, into a repository that vanishes.
    fn received(&self, bundle: &Path) -> Result<()> {
        let receiver = Quarantine::new(Format::of(&self.base), &[])?;
        let lent = |objects: &Path| objects.join("info/alternates");
        let (from, to) = (self.git_dir.join("objects"), receiver.objects());
        fs::copy(lent(&from), lent(&to)).at("copy", lent(&from))?;
        let name = format!("refs/heads/{}", self.branch);
        receiver.take(bundle, &name, HEAD_REF)
    }

    /// The tree of the agent's files.
    fn stage(&self, tip: &str, how: &Collect<'_>, warnings: &mut Warnings) -> Result<String> {
        // An index that a stopped collection left locked is nobody's.
        let lock = self.git_dir.join("index.lock");
        if lock.exists() {
            fs::remove_file(&lock).at("remove", &lock)?;
        }
        let git = self.git();
        git.output(&["read-tree", "--reset", tip])?;
        let skip = self.skipped(&git, &[how.exclude, how.secret].concat())?;
        self.unstage(&git, tip, &skip)?;
        Stage {
            git: &git,
            root: &self.dir,
            skip: &skip,
            nested: Nested::Include,
            sizes: Sizes::KEPT,
        }
        .run(warnings)?;
        self.warn_about_submodules(&git, warnings)?;
        git.line(&["write-tree"])
    }

    /// What is no result: our own files, and litter that the project does not track.
    pub(crate) fn skipped(&self, git: &Git, exclude: &[String]) -> Result<Vec<Vec<u8>>> {
        let mut skip: Vec<Vec<u8>> = exclude
            .iter()
            .map(|p| p.trim_matches('/').as_bytes().to_vec())
            .collect();
        skip.retain(|path| !path.is_empty());
        let mut args = vec!["ls-tree", "-z", "--name-only", &self.base, "--"];
        args.extend(LITTER);
        let tracked = git.output(&args)?;
        let tracked: Vec<&[u8]> = records(&tracked).collect();
        let names = LITTER.iter().map(|name| name.as_bytes());
        skip.extend(
            names
                .filter(|name| !tracked.contains(name))
                .map(<[u8]>::to_vec),
        );
        Ok(skip)
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

    fn warn_about_submodules(&self, git: &Git, warnings: &mut Warnings) -> Result<()> {
        let output = git.output(&["ls-files", "-z", "--stage"])?;
        let modules = records(&output).filter(|r| r.starts_with(b"160000 "));
        for module in modules.filter_map(|r| r.splitn(2, |b| *b == b'\t').nth(1)) {
            let dir = self
                .dir
                .join(std::ffi::OsStr::new(&*String::from_utf8_lossy(module)));
            if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
                warnings.path(module, "files inside a submodule are not collected");
            }
        }
        Ok(())
    }

    /// A bundle that builds on the user's own commit, so that it can be taken wherever that is.
    fn bundle(&self, git: &Git, commit: &str, out: &Path) -> Result<Option<PathBuf>> {
        let to = out.join("change.bundle");
        if commit == self.base {
            return match fs::remove_file(&to) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(error).at("remove", &to)
                }
                Ok(()) | Err(_) => Ok(None),
            };
        }
        let have: Vec<String> = self.head.iter().cloned().collect();
        let name = format!("refs/heads/{}", self.branch);
        match bundle(git, &name, &have, &to)? {
            Bundled::Written => Ok(Some(to)),
            Bundled::Nothing => Ok(None),
        }
    }
}

/// Puts the base's entries of these files back into the index.
fn restore<'a>(git: &Git, files: impl Iterator<Item = &'a Raw>) -> Result<()> {
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
fn commit(git: &Git, tip: &str, tree: &str, before: &str, message: &str) -> Result<String> {
    if git.line(&["rev-parse", &format!("{tip}^{{tree}}")])? == tree {
        return Ok(tip.to_owned());
    }
    if let Some(commit) = before.strip_suffix(&format!(" {tree} {tip}")) {
        return Ok(commit.to_owned());
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let git = git
        .clone()
        .identity("Orchestra agent", "agent@orchestra.invalid", now);
    let message = message.replace('\0', " ");
    git.line_of(
        &["commit-tree", tree, "-p", tip],
        Input::Bytes(message.as_bytes()),
    )
}
