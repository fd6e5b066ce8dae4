//! The directory that an attempt works in: an ordinary clone for the agent, and beside it, out
//! of its reach, the git directory that the worker itself uses to see what changed.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{
    cache::Cache,
    directory::is_state,
    error::{Error, IoContext, Result},
    git::{Git, Input, check_commit},
    ignore_rules,
    import::check_branch,
    index::copy_with_time,
    manifest::{Renames, diff},
    merge::{Merge, contains, merge},
    names::shown,
    quarantine::{init_bare, init_clone},
};

pub(crate) const BASE_REF: &str = "refs/orchestra/base";
const START_REF: &str = "refs/orchestra/start";
pub(crate) const HEAD_REF: &str = "refs/orchestra/head";
/// Below it, the branches of earlier tasks that the agent was given.
pub(crate) const GIVEN_REFS: &str = "refs/orchestra/given";

/// Who an agent's commits are by, as [`AGENT_CONFIG`] says.
pub(crate) const AGENT_EMAIL: &str = "agent@orchestra.invalid";

/// What an agent's own git needs to make commits: a name, and no signature, for which it has no key.
const AGENT_CONFIG: &[u8] = b"[user]
\tname = Orchestra agent
\temail = agent@orchestra.invalid
[commit]
\tgpgSign = false
[tag]
\tgpgSign = false
[gc]
\tauto = 0
[advice]
\tdetachedHead = false
";

/// Each ref on a line of its own: a star where HEAD points, the object, the name.
const REFS: [&str; 2] = [
    "for-each-ref",
    "--format=%(if)%(HEAD)%(then)*%(end)%(objectname) %(refname)",
];

/// What a workspace shall be.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Where the objects are.
    pub cache: &'a Cache,
    /// The commit whose files it has: the snapshot, with the changes of earlier tasks if there are any.
    pub commit: &'a str,
    /// The snapshot itself.
    pub start: &'a str,
    /// The user's commit below the snapshot; empty where there is none.
    pub head: &'a str,
    /// The attempt's branch: `orchestra/task_001`.
    pub branch: &'a str,
    /// Branches of earlier tasks, and their commits, for the agent to look at.
    pub others: &'a [(String, String)],
    /// What the user's git ignores beside what the repository says ([`Snapshot`](crate::Snapshot)).
    pub ignore_rules: &'a str,
    /// The agent's directory: new, or empty.
    pub dir: &'a Path,
    /// The worker's own git directory: new, and not below `dir`.
    pub git_dir: &'a Path,
}

/// The directory of an attempt.
#[derive(Clone, Debug)]
pub struct Workspace {
    pub(crate) dir: PathBuf,
    pub(crate) git_dir: PathBuf,
    pub(crate) base: String,
    pub(crate) start: String,
    pub(crate) head: Option<String>,
    pub(crate) branch: String,
}

impl Workspace {
    /// Makes it: the files of the commit, a `.git` for the agent whose HEAD is on the attempt's
    /// branch, and the worker's own git directory. Files are byte for byte what the commit has:
    /// no filter runs and no line end is changed.
    ///
    /// # Errors
    /// When the commit is not in the cache or the disk refuses; what was begun may be left, and
    /// the caller removes both directories.
    pub fn create(plan: &Plan<'_>) -> Result<Self> {
        check_commit(plan.commit)?;
        check_commit(plan.start)?;
        check_branch(plan.branch)?;
        if !plan.cache.has(plan.commit)? {
            return Err(Error::MissingCommit {
                commit: plan.commit.to_owned(),
                path: plan.cache.path().to_owned(),
            });
        }
        require_empty(plan.dir)?;
        fs::create_dir_all(plan.dir).at("create the directory", plan.dir)?;
        let dir = fs::canonicalize(plan.dir).at("find", plan.dir)?;
        let git_dir = std::path::absolute(plan.git_dir).at("find", plan.git_dir)?;
        let workspace = Self {
            dir,
            git_dir,
            base: plan.commit.to_owned(),
            start: plan.start.to_owned(),
            head: (!plan.head.is_empty()).then(|| plan.head.to_owned()),
            branch: plan.branch.to_owned(),
        };
        workspace.make_own(plan)?;
        workspace.make_clone(plan)?;
        Ok(workspace)
    }

    /// Finds a workspace again after the worker was restarted.
    ///
    /// # Errors
    /// When `git_dir` is not the git directory of a workspace.
    pub fn open(dir: &Path, git_dir: &Path) -> Result<Self> {
        let git_dir = std::path::absolute(git_dir).at("find", git_dir)?;
        let refs = Git::private(&git_dir).line(&REFS)?;
        let find = |name: &str| refs.lines().find_map(|line| line.strip_suffix(name));
        let branch = refs.lines().find_map(|line| line.strip_prefix('*'));
        let branch = branch.and_then(|line| line.split_once(" refs/heads/"));
        let (Some(base), Some((_, branch))) = (find(&named(BASE_REF)), branch) else {
            return Err(Error::Output {
                command: REFS.join(" "),
                what: format!("no workspace in `{}`", git_dir.display()),
            });
        };
        Ok(Self {
            dir: std::path::absolute(dir).at("find", dir)?,
            // An earlier version wrote none: then there was no other.
            start: find(&named(START_REF)).unwrap_or(base).to_owned(),
            base: base.to_owned(),
            head: find(&named(HEAD_REF)).map(str::to_owned),
            branch: branch.to_owned(),
            git_dir,
        })
    }

    /// Puts the files of a commit in place of those of the base, as if the agent had changed them and
    /// not committed: what is collected later is still the change since the base. Where the commit does
    /// not come after the base, the two are merged.
    ///
    /// # Errors
    /// When the cache that the workspace was made from does not have the commit, the two conflict, or the
    /// disk refuses.
    pub fn carry_on(&self, commit: &str) -> Result<()> {
        check_commit(commit)?;
        let files = match contains(&self.bare(), commit, &self.base)? {
            true => commit.to_owned(),
            false => match merge(&self.bare(), &self.base, commit)? {
                Merge::Tree(tree) => tree,
                Merge::Conflict(paths) => {
                    let paths = paths.iter().map(|path| shown(path)).collect();
                    return Err(Error::Conflict { paths });
                }
            },
        };
        self.unmark_settled()?;
        let carried = self.carried();
        fs::write(&carried, &files).at("write", &carried)?;
        self.git().output(&["read-tree", "--reset", "-u", &files])?;
        Ok(())
    }

    /// Files that are new in the commit that was gone on from: they are wanted, whether they are ignored
    /// or not.
    pub(crate) fn carried_new(&self) -> Result<Vec<Vec<u8>>> {
        let Some(commit) = self.carried_files()? else {
            return Ok(Vec::new());
        };
        let mut files = diff(&self.bare(), &self.base, &commit, Renames::Ignore)?;
        files.retain(|file| !file.is_deleted() && !file.is_submodule());
        Ok(files.into_iter().map(|file| file.path).collect())
    }

    /// The commit or the tree whose files it was given in place of those of the base, if it was.
    pub(crate) fn carried_files(&self) -> Result<Option<String>> {
        let path = self.carried();
        let files = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.at("read", &path)?,
        };
        check_commit(&files)?;
        Ok(Some(files))
    }

    fn carried(&self) -> PathBuf {
        self.git_dir.join("orchestra-carried")
    }

    /// Lets the agent's own git ignore these paths. Before the agent begins.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn hide(&self, paths: &[String]) -> Result<()> {
        let info = self.dir.join(".git/info");
        fs::create_dir_all(&info).at("create the directory", &info)?;
        let file = info.join("exclude");
        let mut lines = String::new();
        for path in paths {
            lines.push('/');
            for c in path.chars() {
                if "\\*?[ ".contains(c) {
                    lines.push('\\');
                }
                lines.push(c);
            }
            lines.push('\n');
        }
        let mut open = OpenOptions::new();
        open.append(true).create(true);
        let written = open
            .open(&file)
            .and_then(|mut f| f.write_all(lines.as_bytes()));
        written.at("write", &file)
    }

    /// The agent's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The commit that its files began as.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The attempt's branch.
    #[must_use]
    pub fn branch(&self) -> &str {
        &self.branch
    }

    /// git on the worker's own directory, without the agent's files.
    pub(crate) fn bare(&self) -> Git {
        Git::private(&self.git_dir)
    }

    /// git on the worker's own directory and the agent's files.
    pub(crate) fn git(&self) -> Git {
        self.bare().work_tree(&self.dir).option("core.bare=false")
    }

    fn make_own(&self, plan: &Plan<'_>) -> Result<()> {
        let Plan { cache, others, .. } = *plan;
        let lenders = [cache.objects()];
        let git = init_bare(&self.git_dir, &self.branch, cache.format(), &lenders)?;
        keep_bytes(&self.git_dir)?;
        let mut refs = format!(
            "create {BASE_REF} {0}\ncreate {1} {0}\ncreate {START_REF} {2}\n",
            self.base,
            self.full_branch(),
            self.start
        );
        if let Some(head) = &self.head {
            refs.push_str(&format!("create {HEAD_REF} {head}\n"));
        }
        for (branch, commit) in others {
            check_branch(branch)?;
            check_commit(commit)?;
            refs.push_str(&format!("create {GIVEN_REFS}/{branch} {commit}\n"));
        }
        git.output_of(&["update-ref", "--stdin"], Input::Bytes(refs.as_bytes()))?;
        self.ignore(&self.git_dir, plan.ignore_rules)?;
        let index = self.index();
        let spare = cache.take_spare(&self.dir, &index)?;
        match (self.check_out(), spare) {
            (Err(_), Some(_)) => {
                fs::remove_dir_all(&self.dir).at("remove", &self.dir)?;
                fs::create_dir(&self.dir).at("create the directory", &self.dir)?;
                fs::remove_file(&index).at("remove", &index)?;
                self.check_out()
            }
            (Ok(()), Some(of)) if of == self.base => self.mark_settled(),
            (done, _) => done,
        }
    }

    /// Writes what differs from the base; with a fresh directory, everything.
    fn check_out(&self) -> Result<()> {
        self.git()
            .option("checkout.workers=0")
            .output(&["read-tree", "--reset", "-u", &self.base])
            .map(drop)
    }

    fn make_clone(&self, plan: &Plan<'_>) -> Result<()> {
        let Plan { cache, others, .. } = *plan;
        let git = init_clone(&self.dir, &self.branch, cache.format(), &[cache.objects()])?;
        let mut refs = format!("create {} {}\n", self.full_branch(), self.base);
        for (branch, commit) in others {
            refs.push_str(&format!("create refs/heads/{branch} {commit}\n"));
        }
        git.output_of(&["update-ref", "--stdin"], Input::Bytes(refs.as_bytes()))?;
        self.ignore(&self.dir.join(".git"), plan.ignore_rules)?;
        // What the agent takes back with it is to be what it was: the files are as git keeps them.
        keep_bytes(&self.dir.join(".git"))?;
        let config = self.dir.join(".git/config");
        OpenOptions::new()
            .append(true)
            .open(&config)
            .and_then(|mut file| file.write_all(AGENT_CONFIG))
            .at("write", &config)?;
        copy_with_time(&self.index(), &self.dir.join(".git/index"))
    }

    fn ignore(&self, git_dir: &Path, rules: &str) -> Result<()> {
        ignore_rules::write(git_dir, self.is_of_directory()?, rules)
    }

    /// Whether it is a copy of a directory that is in no repository.
    fn is_of_directory(&self) -> Result<bool> {
        let is_state = |head| is_state(&self.bare(), head);
        self.head.as_deref().map_or(Ok(false), is_state)
    }

    pub(crate) fn full_branch(&self) -> String {
        format!("refs/heads/{}", self.branch)
    }
}

/// The end of a line of `REFS`.
fn named(name: &str) -> String {
    format!(" {name}")
}

/// Makes git leave bytes as they are, whatever a tree says: this is the highest place for attributes.
pub(crate) fn keep_bytes(git_dir: &Path) -> Result<()> {
    let info = git_dir.join("info");
    fs::create_dir_all(&info).at("create the directory", &info)?;
    let attributes = info.join("attributes");
    let all = "* -text -eol -ident -filter -working-tree-encoding\n";
    fs::write(&attributes, all).at("write", &attributes)
}

fn require_empty(dir: &Path) -> Result<()> {
    let mut entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).at("read the directory", dir),
    };
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(Error::NotEmpty {
            path: dir.to_owned(),
        }),
    }
}
