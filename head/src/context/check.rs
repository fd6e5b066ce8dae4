//! Is every file of every project's context what was written?

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    OUTPUTS,
    own::{ASIDE, FORMAT},
    sum,
};

/// What a look at all files found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// How many have a checksum.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that are not what was written.
    pub damaged: Vec<PathBuf>,
    /// Damaged ones that were set aside before.
    pub aside: Vec<PathBuf>,
}

/// Reads all files below `root` (`STATE/head/context`); changes nothing. Projects whose files have
/// no checksums yet, since the head has not opened them with this version, are passed over.
pub fn check(root: &Path) -> io::Result<Checked> {
    let mut checked = Checked::default();
    for project in entries(root)? {
        if project.join(FORMAT).exists() {
            for dir in [project.join(OUTPUTS), project] {
                look_into(&dir, &mut checked)?;
            }
        }
    }
    checked.damaged.sort();
    Ok(checked)
}

fn look_into(dir: &Path, checked: &mut Checked) -> io::Result<()> {
    for path in entries(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || !path.is_file() {
            continue; // On its way, or no file of ours.
        }
        if name.ends_with(ASIDE) {
            checked.aside.push(path);
            continue;
        }
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            bytes => bytes?,
        };
        checked.files += 1;
        checked.bytes += bytes.len() as u64;
        if sum::text_of(&bytes).is_none() {
            checked.damaged.push(path);
        }
    }
    Ok(())
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}
