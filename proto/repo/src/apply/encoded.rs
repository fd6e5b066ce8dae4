//! Files that a checkout has in another encoding (`working-tree-encoding`): an agent gets them as git keeps them,
//! in UTF-8.
//!
//! What that encoding has no letters for git writes as it is. The next `git add` takes the file for one in the
//! encoding all the same, and every line of it becomes another. So each is read again before anything of
//! the user's is touched.

use std::{ffi::OsStr, fs::File, os::unix::ffi::OsStrExt, path::Path};

use super::{ApplyError, Todo, without::without};
use crate::{
    error::{Error, IoContext},
    git::{Git, Input, records},
    names,
};

const ATTRIBUTE: &str = "working-tree-encoding";

/// Makes sure that git reads from the files `written` below `dir` what it was to write there.
pub(super) fn require<'a>(
    git: &Git,
    dir: &Path,
    branch: &str,
    written: impl Iterator<Item = &'a Todo>,
) -> Result<(), ApplyError> {
    let written: Vec<&Todo> = written.collect();
    let encodings = encodings(git, &written)?;
    let mut bad = Vec::new();
    for (todo, encoding) in written.iter().zip(encodings) {
        if let Some(encoding) = encoding
            && !reads_as_kept(git, dir, todo)?
        {
            bad.push((todo.file.path.as_slice(), encoding));
        }
    }
    let Some(((path, encoding), more)) = bad.split_first() else {
        return Ok(());
    };
    let paths: Vec<&[u8]> = bad.iter().map(|(path, _)| *path).collect();
    let more: Vec<String> = more.iter().map(|(path, _)| names::shown(path)).collect();
    let more = match more.as_slice() {
        [] => String::new(),
        more => format!(", nor what is in {}", names::listed(more)),
    };
    Err(ApplyError::Unsafe {
        path: names::shown(path),
        why: format!(
            "`.gitattributes` says that a checkout has it in {encoding}, and what the agent wrote cannot be written \
             in that{more}; {} makes a branch with all of it",
            without(branch, &paths)
        ),
    })
}

/// In which encoding each is in a checkout; none where in that in which git keeps it.
fn encodings(git: &Git, files: &[&Todo]) -> Result<Vec<Option<String>>, Error> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let paths = files.iter().map(|todo| todo.file.path.as_slice());
    let input = paths.flat_map(|path| [path, b"\0"]).collect::<Vec<_>>();
    let args = ["check-attr", "-z", "--stdin", ATTRIBUTE];
    let output = git.output_of(&args, Input::Bytes(&input.concat()))?;
    // `PATH ATTRIBUTE VALUE`, in the order of the paths.
    let values = records(&output).skip(2).step_by(3);
    let values = values.map(|value| match String::from_utf8_lossy(value).into_owned() {
        none if matches!(none.as_str(), "unspecified" | "unset" | "set") => None,
        same if same.eq_ignore_ascii_case("utf-8") => None,
        encoding => Some(encoding),
    });
    Ok(values.collect())
}

/// Whether git takes from the file below `dir` what it keeps of it, whatever its line ends are.
fn reads_as_kept(git: &Git, dir: &Path, todo: &Todo) -> Result<bool, Error> {
    let file = dir.join(OsStr::from_bytes(&todo.file.path));
    let file = File::open(&file).at("open", &file)?;
    let mut path = std::ffi::OsString::from("--path=");
    path.push(OsStr::from_bytes(&todo.file.path));
    let hash = ["hash-object", "-w", "--stdin"].map(OsStr::new);
    let read = git.ended(&[&hash[..], &[&path]].concat(), Input::File(file))?;
    let Some(id) = str::from_utf8(&read.value).ok().filter(|_| read.code == 0) else {
        // It is not in that encoding at all.
        return Ok(false);
    };
    let id = id.trim_ascii();
    if id == todo.file.new_id {
        return Ok(true);
    }
    let text = |id: &str| -> Result<Vec<u8>, Error> {
        let mut text = git.output(&["cat-file", "blob", id])?;
        text.retain(|byte| *byte != b'\r');
        Ok(text)
    };
    Ok(text(id)? == text(&todo.file.new_id)?)
}
