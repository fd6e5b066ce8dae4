//! Which files of a project's directory are the shared context's. A project may have a directory of that
//! name itself: then nothing in it is ours, however its files are called.

use std::{
    io::{self, Read},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::fs::FileType;

use crate::{
    beneath,
    checkout::Checkout,
    error::{IoContext, Result},
};

const OVERVIEW: &str = "project_overview.md";
const STATE: &str = "current_state.md";
const COMPLETED: &str = "completed_tasks.json";
const OUTPUTS: &str = "agent_outputs";
/// Every current state that we have written has it.
const SECTION: &[u8] = b"<!-- orchestra:begin";
/// Every list of tasks that we have written begins so.
const LIST: &[u8] = b"[\n  {\n    \"id\": \"task_";
/// Most bytes of a document that are looked at.
const LOOK_BYTES_MAX: u64 = 512 * 1024;

/// The paths of what the context has below a directory, relative to where that is named from.
#[must_use]
pub fn mirror_paths(below: &str) -> Vec<String> {
    let below = below.trim_matches('/');
    if below.is_empty() {
        return Vec::new();
    }
    let names = [OVERVIEW, STATE, COMPLETED, OUTPUTS];
    names.map(|name| format!("{below}/{name}")).to_vec()
}

/// Whether the directory `below` in `top` may hold the context, as far as its files tell: there is none,
/// it has nothing but documents of the context, or we have written there. One with a file of somebody
/// else's in the place of one that is ours alone may not.
#[must_use]
pub fn may_mirror(top: &Path, below: &str) -> bool {
    let below = below.trim_matches('/').as_bytes();
    let Ok(root) = beneath::root(top) else {
        return false;
    };
    match beneath::lstat(&root, below) {
        Ok(None) => true,
        Ok(Some(stat)) if beneath::kind(&stat) == FileType::Directory => {
            is_ours(&root, below).unwrap_or(false)
        }
        Ok(Some(_)) | Err(_) => false,
    }
}

/// The paths in `dir` that are the context's, in a repository or not; `below` is the directory for it.
///
/// # Errors
/// When git fails.
pub fn mirrored_in(dir: &Path, below: &str) -> Result<Vec<String>> {
    let dir = std::fs::canonicalize(dir).at("find", dir)?;
    match Checkout::discover(&dir)? {
        Some(checkout) if checkout.top() == dir => checkout.mirrored(below),
        // Only the top of a checkout has one.
        Some(_) => Ok(Vec::new()),
        None if may_mirror(&dir, below) => Ok(mirror_paths(below)),
        None => Ok(Vec::new()),
    }
}

impl Checkout {
    /// The paths that are the context's; none when the directory `below` is the project's own.
    ///
    /// # Errors
    /// When git fails.
    pub fn mirrored(&self, below: &str) -> Result<Vec<String>> {
        match may_mirror(self.top(), below) && !self.tracks(below)? {
            true => Ok(mirror_paths(below)),
            false => Ok(Vec::new()),
        }
    }

    /// Leaves the context out of every snapshot, where it is ours.
    ///
    /// # Errors
    /// When git fails.
    pub fn without_mirror(self, below: &str) -> Result<Self> {
        let paths = self.mirrored(below)?;
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        Ok(self.exclude(&paths))
    }

    /// Whether git has this path, or anything below it, in its index.
    ///
    /// # Errors
    /// When git fails.
    pub fn tracks(&self, path: &str) -> Result<bool> {
        let path = path.trim_matches('/');
        let tracked = self.git().output(&["ls-files", "-z", "--", path])?;
        Ok(!tracked.is_empty())
    }
}

fn is_ours(root: &OwnedFd, below: &[u8]) -> io::Result<bool> {
    let path = |name: &str| [below, b"/", name.as_bytes()].concat();
    let (mut only_ours, mut has_section) = (true, false);
    for (name, kind) in beneath::list(root, below)? {
        let is_file = kind == FileType::RegularFile;
        match str::from_utf8(&name).unwrap_or_default() {
            // A person may have written these before there was a task.
            OVERVIEW if is_file => {}
            STATE if is_file => {
                let text = first_of(root, &path(STATE), LOOK_BYTES_MAX)?;
                has_section = text.windows(SECTION.len()).any(|part| part == SECTION);
            }
            COMPLETED => {
                let first = first_of(root, &path(COMPLETED), LIST.len() as u64)?;
                if !first.is_empty() && first != LIST {
                    return Ok(false);
                }
            }
            OUTPUTS => {
                let outputs = beneath::list(root, &path(OUTPUTS))?;
                if !outputs.iter().all(|(name, kind)| is_output(name, *kind)) {
                    return Ok(false);
                }
            }
            // Files on their way, and what file managers leave.
            name if name.starts_with('.') => {}
            _ => only_ours = false,
        }
    }
    Ok(only_ours || has_section)
}

fn is_output(name: &[u8], kind: FileType) -> bool {
    let ours = name.starts_with(b"task_") && name.ends_with(b"_output.md");
    name.starts_with(b".") || ours && kind == FileType::RegularFile
}

fn first_of(root: &OwnedFd, path: &[u8], max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = beneath::open_regular(root, path)?;
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_directory_is_ours_only_as_long_as_nothing_in_it_is_somebody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let ours = || may_mirror(dir.path(), "docs/context/");
        let write = |name: &str, text: &str| {
            let path = dir.path().join("docs/context").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let remove = |name: &str| fs::remove_file(dir.path().join("docs/context").join(name));
        assert!(ours(), "there is none");
        write(OVERVIEW, "Owls.\n");
        write(STATE, "All is well.\n");
        write(".DS_Store", "");
        write("agent_outputs/task_001_output.md", "text");
        write(COMPLETED, "[\n  {\n    \"id\": \"task_001\"\n  }\n]\n");
        assert!(ours());
        write("app.txt", "theirs");
        assert!(!ours(), "a project's own directory");
        write(
            STATE,
            "<!-- orchestra:begin x -->\n<!-- orchestra:end -->\n",
        );
        assert!(ours(), "a note in ours");
        write(COMPLETED, "PRECIOUS\n");
        assert!(!ours());
        remove(COMPLETED).unwrap();
        assert!(ours());
        write("agent_outputs/chapter.md", "theirs");
        assert!(!ours());
        remove("agent_outputs/chapter.md").unwrap();
        std::os::unix::fs::symlink("app.txt", dir.path().join("docs/context").join(COMPLETED))
            .unwrap();
        assert!(!ours(), "a link");
        assert!(!may_mirror(dir.path(), "docs/context/app.txt"));
    }
}
