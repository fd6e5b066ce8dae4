//! The user's own checkout: where it is and what it stands on.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, OpenOptions},
    io::Write,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use orchestra_types::{MachineId, ProjectId, ProjectRef};

use crate::{
    beneath::digest_of,
    broken,
    error::{Error, IoContext, Result},
    git::{Git, Input, check_commit},
    mirror::mirror_paths,
    quarantine::{Format, has_commit},
};

/// Whose the repository of a checkout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The user's.
    Own,
    /// Ours, of a directory that is in none.
    Kept,
}

/// A user's checkout of a repository, or a directory that is kept as one.
#[derive(Clone, Debug)]
pub struct Checkout {
    top: PathBuf,
    git_dir: PathBuf,
    common_dir: PathBuf,
    head: Option<String>,
    branch: Option<String>,
    root: Option<String>,
    format: Format,
    kind: Kind,
    pub(crate) excluded: Vec<Vec<u8>>,
}

impl Checkout {
    /// Finds the checkout that `dir` is in. None when it is in no work tree of a repository.
    ///
    /// # Errors
    /// When git is missing, too old, or refuses the repository; when there is one that git does not take for
    /// one.
    pub fn discover(dir: &Path) -> Result<Option<Self>> {
        let dir = fs::canonicalize(dir).at("find", dir)?;
        let git = Git::user(&dir);
        let inside = git.ended(&["rev-parse", "--is-inside-work-tree"], Input::Nothing)?;
        if inside.code != 0 {
            return match inside.stderr.contains("not a git repository") {
                true => broken::refuse(&dir, None).map(|()| None),
                false => Err(Error::Git {
                    command: "rev-parse".to_owned(),
                    status: format!("exit code {}", inside.code),
                    stderr: inside.stderr,
                }),
            };
        }
        if inside.value.trim_ascii() != b"true" {
            return Ok(None);
        }
        let checkout = Self::read(&git)?;
        broken::refuse(&dir, Some(checkout.top()))?;
        Ok(Some(checkout))
    }

    /// Whether `dir` is a git directory or lies in one, and in no work tree: `.git`, that of a further work
    /// tree, a bare repository. What is written there, hooks and configuration, git runs as its user.
    ///
    /// # Errors
    /// As `discover`.
    pub fn is_git_directory(dir: &Path) -> Result<bool> {
        let dir = fs::canonicalize(dir).at("find", dir)?;
        let ask = ["rev-parse", "--is-inside-work-tree", "--is-inside-git-dir"];
        let said = Git::user(&dir).ended(&ask, Input::Nothing)?;
        if said.code == 0 {
            // Neither is so beside a repository that is bare by its configuration.
            return Ok(said.value.trim_ascii() != b"true\nfalse");
        }
        // One that git does not take for a repository, as a file of it is damaged.
        let named = dir.components().any(|part| part.as_os_str() == ".git");
        let is_there = |name: &&str| dir.join(name).exists();
        Ok(named || ["HEAD", "objects", "refs"].iter().all(is_there))
    }

    fn read(git: &Git) -> Result<Self> {
        let top = path(git, "--show-toplevel")?;
        let git = Git::user(&top);
        let git_dir = path(&git, "--absolute-git-dir")?;
        let common_dir = top.join(path(&git, "--git-common-dir")?);
        let head = commit_of(&git, "HEAD")?;
        // Git's own short name is a longer one where a tag has the same.
        let on = optional_line(&git, &["symbolic-ref", "--quiet", "HEAD"])?;
        let branch = on.map(|on| on.strip_prefix("refs/heads/").unwrap_or(&on).to_owned());
        let sha256 = git.line(&["rev-parse", "--show-object-format"])? == "sha256";
        let shallow = git.line(&["rev-parse", "--is-shallow-repository"])? == "true";
        let root = match (&head, shallow) {
            (Some(head), false) => first_commit(&git, head)?,
            (Some(_) | None, _) => None,
        };
        let format = if sha256 { Format::Sha256 } else { Format::Sha1 };
        Ok(Self {
            top,
            git_dir,
            common_dir,
            head,
            branch,
            root,
            format,
            kind: Kind::Own,
            excluded: Vec::new(),
        })
    }

    /// The directory `top`, whose private repository is at `keep`.
    pub(crate) fn kept_at(top: PathBuf, keep: PathBuf) -> Self {
        Self {
            top,
            common_dir: keep.clone(),
            git_dir: keep,
            head: None,
            branch: None,
            root: None,
            format: Format::Sha1,
            kind: Kind::Kept,
            excluded: Vec::new(),
        }
    }

    pub(crate) fn at_commit(self, head: String) -> Self {
        Self {
            head: Some(head),
            ..self
        }
    }

    /// Whether it is the user's own repository, where a branch is of use.
    #[must_use]
    pub fn has_own_repository(&self) -> bool {
        self.kind == Kind::Own
    }

    /// The directory at the top of the work tree.
    #[must_use]
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// The commit that is checked out; none in a repository without commits.
    #[must_use]
    pub fn head(&self) -> Option<&str> {
        self.head.as_deref()
    }

    /// The branch that is checked out; none when HEAD is detached.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        self.branch.as_deref()
    }

    /// The first commit of the history; none without commits and in a shallow clone.
    #[must_use]
    pub fn root_commit(&self) -> Option<&str> {
        self.root.as_deref()
    }

    /// Leaves these paths, relative to the top, out of every snapshot: the context mirror.
    #[must_use]
    pub fn exclude(mut self, paths: &[&str]) -> Self {
        let trimmed = paths
            .iter()
            .map(|p| p.trim_matches('/'))
            .filter(|p| !p.is_empty());
        self.excluded.extend(trimmed.map(|p| p.as_bytes().to_vec()));
        self
    }

    /// Adds the context in a directory below the top to `.git/info/exclude`, once: our own files, so that
    /// git sees what else comes to lie there. Gives the path of that file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn exclude_from_git(&self, dir_name: &str) -> Result<PathBuf> {
        let info = self.common_dir.join("info");
        let file = info.join("exclude");
        fs::create_dir_all(&info).at("create the directory", &info)?;
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).at("read", &file),
        };
        let known: Vec<&[u8]> = text
            .split(|b| *b == b'\n')
            .map(<[u8]>::trim_ascii)
            .collect();
        let is_known = |line: &String| known.contains(&line.as_bytes());
        // What an earlier version wrote holds for all of them.
        if is_known(&format!("/{}/", dir_name.trim_matches('/'))) {
            return Ok(file);
        }
        let mut lines: Vec<String> = mirror_paths(dir_name)
            .iter()
            .map(|path| format!("/{path}"))
            .collect();
        // Files on their way.
        lines.push(format!("/{}/.*.tmp", dir_name.trim_matches('/')));
        lines.retain(|line| !is_known(line));
        if lines.is_empty() {
            return Ok(file);
        }
        let gap = if text.is_empty() || text.ends_with(b"\n") {
            ""
        } else {
            "\n"
        };
        let mut open = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&file)
            .at("open", &file)?;
        open.write_all(format!("{gap}{}\n", lines.join("\n")).as_bytes())
            .at("write", &file)?;
        Ok(file)
    }

    /// git on this checkout, whatever directory it is called from.
    pub(crate) fn git(&self) -> Git {
        Git::user(&self.top)
            .env("GIT_DIR", &self.git_dir)
            .work_tree(&self.top)
    }

    pub(crate) fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    pub(crate) fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// The file of its index.
    #[must_use]
    pub fn index(&self) -> PathBuf {
        self.git_dir.join("index")
    }

    pub(crate) fn objects(&self) -> PathBuf {
        self.common_dir.join("objects")
    }

    /// Whether this commit is here.
    ///
    /// # Errors
    /// When it is none, or git fails.
    pub fn has(&self, commit: &str) -> Result<bool> {
        check_commit(commit)?;
        has_commit(&self.git(), commit)
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Whether not all of the history is here, so that nothing can be said relative to it: what kind of
    /// clone it is then.
    #[must_use]
    pub fn lacks_history(&self) -> Option<&'static str> {
        if self.common_dir.join("shallow").exists() {
            return Some("shallow");
        }
        self.is_partial().then_some("partial")
    }

    /// Whether git keeps only some of the files in the work tree. It adds no others without `--sparse`.
    ///
    /// # Errors
    /// When git fails.
    pub fn is_sparse(&self) -> Result<bool> {
        let asked = ["config", "--type=bool", "--get", "core.sparseCheckout"];
        Ok(self.git().ended(&asked, Input::Nothing)?.value.trim_ascii() == b"true")
    }

    /// Whether it was cloned with `--filter`: git fetches objects when it first wants them.
    pub(crate) fn is_partial(&self) -> bool {
        let packs = fs::read_dir(self.common_dir.join("objects/pack"));
        let mut packs = packs.into_iter().flatten().flatten();
        packs.any(|file| Path::new(&file.file_name()).extension() == Some(OsStr::new("promisor")))
    }
}

/// The project that a directory belongs to: its repository, known by its first commit, or the
/// directory itself on this machine.
///
/// # Errors
/// When the directory cannot be found or git refuses it.
pub fn project_ref(dir: &Path, machine: &MachineId) -> Result<ProjectRef> {
    of_place(dir, machine, Checkout::root_commit)
}

/// The same as long as there was no commit yet: the project of the place. Tasks of then are known by it.
///
/// # Errors
/// As [`project_ref`].
pub fn project_ref_without_commit(dir: &Path, machine: &MachineId) -> Result<ProjectRef> {
    of_place(dir, machine, |_| None)
}

/// Both of them, of the directory `dir`, which `checkout` is the repository of, if it has one.
///
/// # Errors
/// When the directory cannot be found.
pub fn projects_of(
    dir: &Path,
    checkout: Option<&Checkout>,
    machine: &MachineId,
) -> Result<[ProjectId; 2]> {
    let top = match checkout {
        Some(checkout) => checkout.top.clone(),
        None => fs::canonicalize(dir).at("find", dir)?,
    };
    let root = checkout.and_then(Checkout::root_commit);
    Ok([root, None].map(|root| project_id(root, machine, &top)))
}

fn of_place(
    dir: &Path,
    machine: &MachineId,
    root: impl FnOnce(&Checkout) -> Option<&str>,
) -> Result<ProjectRef> {
    let checkout = Checkout::discover(dir)?;
    let top = match &checkout {
        Some(checkout) => checkout.top.clone(),
        None => fs::canonicalize(dir).at("find", dir)?,
    };
    let root = checkout.as_ref().and_then(root);
    let name = top
        .file_name()
        .unwrap_or(top.as_os_str())
        .to_string_lossy()
        .into_owned();
    Ok(ProjectRef {
        id: project_id(root, machine, &top),
        name,
        dir: top,
        machine: machine.clone(),
    })
}

fn project_id(root: Option<&str>, machine: &MachineId, top: &Path) -> ProjectId {
    const HEX: usize = 16;
    let text = match root {
        Some(commit) => format!("git-{}", &commit[..HEX.min(commit.len())]),
        None => {
            let place = [
                machine.as_str().as_bytes(),
                b"\0",
                top.as_os_str().as_bytes(),
            ]
            .concat();
            format!(
                "{}{}",
                ProjectId::PLACE,
                &digest_of(&place).to_string()[..HEX]
            )
        }
    };
    text.parse().expect("hex digits after a prefix are a name")
}

fn path(git: &Git, what: &str) -> Result<PathBuf> {
    let mut bytes = git.output(&["rev-parse", what])?;
    bytes.pop_if(|last| *last == b'\n');
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

/// The commit that `name` means, if there is one.
pub(crate) fn commit_of(git: &Git, name: &str) -> Result<Option<String>> {
    let name = format!("{name}^{{commit}}");
    optional_line(git, &["rev-parse", "--quiet", "--verify", &name])
}

fn optional_line(git: &Git, args: &[&str]) -> Result<Option<String>> {
    let ended = git.ended(args, Input::Nothing)?;
    let text = String::from_utf8_lossy(ended.value.trim_ascii_end()).into_owned();
    Ok((ended.code == 0 && !text.is_empty()).then_some(text))
}

/// The root that the first parents lead to: one even where histories were joined.
fn first_commit(git: &Git, head: &str) -> Result<Option<String>> {
    optional_line(
        git,
        &["rev-list", "--first-parent", "--max-parents=0", head],
    )
}
