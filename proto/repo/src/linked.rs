//! Work trees that an agent made with `git worktree add`, as subagents get them. Each is known to the
//! agent's `.git` by two texts, which are read as data; only those below the attempt's own directory count.

use std::{
    ffi::OsStr,
    fs,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use crate::{
    agent_refs::{AgentRef, What, text},
    beneath,
    collect::Collect,
    error::{IoContext, Result},
    git::check_commit,
    index,
    names::{listed, shown},
    places::{Places, TEXT_BYTES_MAX, plain},
    snapshot::commit_tree,
    special,
    stage::{Conflicts, Nested, Sizes, Stage, Warnings},
    workspace::Workspace,
};

/// Most of them that are looked at, and most that are named one by one where that cannot be.
const TREES_MAX: usize = 16;
/// Most of them that are told apart from the agent's other files.
const KNOWN_MAX: usize = 1000;
const TREES: &str = ".git/worktrees";
/// Of each of them: 256 MiB, and 1 GiB in all.
const SIZES: Sizes = Sizes {
    total: 1024 * 1024 * 1024,
    ..Sizes::KEPT
};

/// A work tree beside the agent's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Linked {
    /// As git calls it.
    pub name: String,
    /// Where it is.
    pub dir: PathBuf,
    /// Where others of them lie in it.
    nested: Vec<Vec<u8>>,
    /// The text of its HEAD.
    head: String,
}

/// What was found, and what could not be.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Those to look at.
    pub trees: Vec<Linked>,
    /// Where all of them are, also those that are not looked at.
    pub places: Vec<PathBuf>,
    /// Sentences for people.
    pub unread: Vec<String>,
}

/// All that the `.git` of the work tree `dir` knows of and that lie below `area`. Both are paths without
/// links, and `root` is `dir`.
fn read(root: &OwnedFd, dir: &Path, area: &Path) -> Result<Found> {
    let mut found = Found::default();
    let mut places = Places::of(dir, area)?;
    let (mut failed, mut rest) = (0, Vec::new());
    for name in known(root, &mut found) {
        let about = [TREES.as_bytes(), b"/", &name].concat();
        let tree = match place(root, dir, &about, &mut places) {
            Ok(None) => continue,
            Ok(Some(dir)) => {
                found.places.push(dir.clone());
                match found.trees.len() < TREES_MAX {
                    true => read_one(root, &about, &name, dir).map(Some),
                    false => Ok(None),
                }
            }
            Err(why) => Err(why),
        };
        match tree {
            Ok(Some(tree)) => found.trees.push(tree),
            Err(why) if failed < TREES_MAX => {
                failed += 1;
                found.unread.push(format!(
                    "what is not committed in the agent's work tree `{}` is not in the result: {why}",
                    shown(&name)
                ));
            }
            Ok(None) | Err(_) => rest.push(shown(&name)),
        }
    }
    if !rest.is_empty() {
        found.unread.push(format!(
            "the agent has more work trees than are looked at; what is not committed there is not in the \
             result: {}",
            listed(&rest)
        ));
    }
    for tree in &mut found.trees {
        tree.nested = below(&tree.dir, &found.places);
    }
    Ok(found)
}

/// The names of all of them, there or gone.
fn known(root: &OwnedFd, found: &mut Found) -> Vec<Vec<u8>> {
    let entries = beneath::list(root, TREES.as_bytes()).unwrap_or_default();
    let mut names: Vec<Vec<u8>> = entries.into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    if names.len() > KNOWN_MAX {
        names.truncate(KNOWN_MAX);
        found.unread.push(format!(
            "the agent has more than {KNOWN_MAX} work trees; the others are not told apart from its files"
        ));
    }
    names
}

/// Where the one is that the directory `about` is about; none where it is gone.
fn place(
    root: &OwnedFd,
    dir: &Path,
    about: &[u8],
    places: &mut Places<'_>,
) -> std::result::Result<Option<PathBuf>, String> {
    let Some(link) = text_of(root, about, "gitdir")? else {
        return Ok(None);
    };
    let about = dir.join(OsStr::from_bytes(about));
    let link = plain(&about.join(OsStr::from_bytes(&link))).ok_or("its place is no path")?;
    places.find(&about, link.parent().unwrap_or(&link))
}

/// The one at `dir`.
fn read_one(
    root: &OwnedFd,
    about: &[u8],
    name: &[u8],
    dir: PathBuf,
) -> std::result::Result<Linked, String> {
    // Without a HEAD it is on no commit, and that is said of it.
    let head = text_of(root, about, "HEAD")?.unwrap_or_default();
    Ok(Linked {
        name: shown(name),
        dir,
        nested: Vec::new(),
        head: shown(&head),
    })
}

/// One of the texts about a work tree.
fn text_of(
    root: &OwnedFd,
    about: &[u8],
    file: &str,
) -> std::result::Result<Option<Vec<u8>>, String> {
    let read = text(
        root,
        &[about, b"/", file.as_bytes()].concat(),
        TEXT_BYTES_MAX,
    );
    read.map(|text| text.map(|text| text.trim_ascii().to_vec()))
        .map_err(|error| format!("its `{file}` cannot be read: {error}"))
}

/// Those of the places that are below `top`, seen from there.
fn below(top: &Path, places: &[PathBuf]) -> Vec<Vec<u8>> {
    let below = |place: &PathBuf| {
        Some(
            place
                .strip_prefix(top)
                .ok()?
                .as_os_str()
                .as_bytes()
                .to_vec(),
        )
    };
    places
        .iter()
        .filter_map(below)
        .filter(|path| !path.is_empty())
        .collect()
}

impl Workspace {
    /// Work trees that the agent made below `area`.
    pub(crate) fn linked(&self, area: &Path) -> Result<Found> {
        let root = beneath::root(&self.dir).at("open", &self.dir)?;
        let real = |path: &Path| fs::canonicalize(path).at("find", path);
        read(&root, &real(&self.dir)?, &real(area)?)
    }

    /// Which of these places of work trees lie in the workspace: they are no part of it.
    pub(crate) fn apart(&self, places: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
        let top = fs::canonicalize(&self.dir).at("find", &self.dir)?;
        Ok(below(&top, places))
    }

    /// What is not committed in a work tree whose HEAD, `commit`, is here: a commit on top of it, or the
    /// same one where there is nothing.
    pub(crate) fn commit_linked(
        &self,
        tree: &Linked,
        commit: &str,
        how: &Collect<'_>,
        warnings: &mut Warnings,
    ) -> Result<String> {
        let mut own = Warnings::default();
        let root = beneath::root(&tree.dir).at("open", &tree.dir)?;
        let _overlooked = special::remove(&root, &mut own);
        let index = index::Copy::of(self)?;
        let git = index.git(self.bare().work_tree(&tree.dir).option("core.bare=false"));
        index::settle(&git, commit)?;
        let mut skip = self.skipped(&git, how.exclude, how.secret)?;
        skip.extend_from_slice(&tree.nested);
        Stage {
            git: &git,
            root: &tree.dir,
            skip: &skip,
            also: Vec::new(),
            nested: Nested::Skip,
            conflicts: Conflicts::Never,
            sizes: SIZES,
        }
        .run(&mut own)?;
        for text in own.into_list() {
            warnings.add(format!("in the agent's work tree `{}`: {text}", tree.name));
        }
        let files = git.line(&["write-tree"])?;
        let of_head = self
            .bare()
            .line(&["rev-parse", &format!("{commit}^{{tree}}")])?;
        match files == of_head {
            true => Ok(commit.to_owned()),
            false => commit_tree(&self.bare(), &files, &[commit], how.message.as_bytes()),
        }
    }
}

impl Linked {
    /// The commit that it is on, by the agent's branches.
    pub fn commit(&self, refs: &[AgentRef]) -> Option<String> {
        match self.branch() {
            Some(name) => {
                let mut refs = refs.iter();
                let found = refs.find(|r| r.what == What::Branch(name.to_owned()));
                found.map(|found| found.commit.clone())
            }
            None => check_commit(&self.head).is_ok().then(|| self.head.clone()),
        }
    }

    /// The branch that it is on.
    pub fn branch(&self) -> Option<&str> {
        self.head.strip_prefix("ref: refs/heads/")
    }
}
