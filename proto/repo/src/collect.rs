//! What an agent changed: from its files, never from what it says.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use orchestra_types::Manifest;

use crate::{
    error::{IoContext, Result},
    git::{Git, Input},
    manifest::{Renames, diff, manifest, write_patch},
    snapshot::{Bundled, bundle},
    stage::{Nested, Stage, Warnings, is_below},
    workspace::Workspace,
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
        let tip = self.take_history().unwrap_or_else(|why| {
            warnings.add(format!("the agent's commits became one: {why}"));
            None
        });
        let tip = tip.as_deref().unwrap_or(&self.base);
        let tree = self.stage(tip, how, &mut warnings)?;
        let bare = self.bare();
        let commit = self.commit(&bare, tip, &tree, how.message)?;
        bare.output(&[
            "update-ref",
            &format!("refs/heads/{}", self.branch),
            &commit,
        ])?;
        let mut manifest = manifest(&bare, &self.base, &commit)?;
        manifest.warnings.extend(warnings.into_list());
        fs::create_dir_all(how.out).at("create the directory", how.out)?;
        let patch = how.out.join("change.patch");
        write_patch(&bare, &self.base, &commit, &patch)?;
        let bundle = self.bundle(&bare, &commit, how.out)?;
        Ok(Collected {
            manifest,
            patch,
            bundle,
            branch: self.branch.clone(),
            commit,
        })
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
        let skip = self.skipped(&git, how)?;
        self.unstage(&git, tip, &skip)?;
        Stage {
            git: &git,
            root: &self.dir,
            skip: &skip,
            nested: Nested::Include,
        }
        .run(warnings)?;
        self.warn_about_submodules(&git, warnings)?;
        git.line(&["write-tree"])
    }

    /// What is no result: our own files, and litter that the project does not track.
    fn skipped(&self, git: &Git, how: &Collect<'_>) -> Result<Vec<Vec<u8>>> {
        let mut skip: Vec<Vec<u8>> = how
            .exclude
            .iter()
            .map(|p| p.trim_matches('/').as_bytes().to_vec())
            .collect();
        skip.retain(|path| !path.is_empty());
        for name in LITTER {
            if git
                .output(&["ls-tree", "-z", &self.base, "--", name])?
                .is_empty()
            {
                skip.push(name.as_bytes().to_vec());
            }
        }
        Ok(skip)
    }

    /// Takes back what the agent committed although it is no result.
    fn unstage(&self, git: &Git, tip: &str, skip: &[Vec<u8>]) -> Result<()> {
        let changed = diff(&self.bare(), &self.base, tip, Renames::Ignore)?;
        let mut input = Vec::new();
        for file in changed.iter().filter(|file| is_below(&file.path, skip)) {
            // Mode 0 removes the entry; the base's own entry comes back where it had one.
            let (mode, id) = (file.old_mode, &file.old_id);
            input.extend_from_slice(format!("{mode:o} {id}\t").as_bytes());
            input.extend_from_slice(&file.path);
            input.push(0);
        }
        git.output_of(
            &["update-index", "-z", "--index-info"],
            Input::Bytes(&input),
        )
        .map(drop)
    }

    fn warn_about_submodules(&self, git: &Git, warnings: &mut Warnings) -> Result<()> {
        let output = git.output(&["ls-files", "-z", "--stage"])?;
        let modules = crate::git::records(&output).filter(|r| r.starts_with(b"160000 "));
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

    fn commit(&self, git: &Git, tip: &str, tree: &str, message: &str) -> Result<String> {
        if git.line(&["rev-parse", &format!("{tip}^{{tree}}")])? == tree {
            return Ok(tip.to_owned());
        }
        let full = format!("refs/heads/{}", self.branch);
        let before = git.line(&["show", "--no-patch", "--format=%H %T %P", &full])?;
        let suffix = format!(" {tree} {tip}");
        if let Some(commit) = before.strip_suffix(&suffix) {
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

    /// A bundle that builds on the user's own commit, so that it can be taken wherever that is.
    fn bundle(&self, git: &Git, commit: &str, out: &Path) -> Result<Option<PathBuf>> {
        let to = out.join("change.bundle");
        if commit == self.base {
            return Ok(None);
        }
        let have: Vec<String> = self.head.iter().cloned().collect();
        let name = format!("refs/heads/{}", self.branch);
        match bundle(git, &name, &have, &to)? {
            Bundled::Written => Ok(Some(to)),
            Bundled::Nothing => Ok(None),
        }
    }
}
