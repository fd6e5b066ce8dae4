//! The rules by which a user has git ignore files, beside the `.gitignore` files that are in the
//! repository: `core.excludesFile`, which is for all repositories, and `info/exclude`. They are on one
//! machine only, so that a task takes them along: what they name is in no result either.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use orchestra_types::limits::IGNORE_RULES_BYTES_MAX;

use crate::{
    checkout::Checkout,
    directory,
    error::{IoContext, Result},
    git::{Git, Input},
    stage::Warnings,
};

/// The rules of both files, each a line. Where two contradict, the later one counts.
pub(crate) fn of_user(checkout: &Checkout, warnings: &mut Warnings) -> Result<String> {
    let global = global_file(&checkout.git())?;
    let own = checkout.common_dir().join("info/exclude");
    let mut rules = String::new();
    for file in global.into_iter().chain([own]) {
        // git works at the top, and takes a relative path from there.
        let file = checkout.top().join(file);
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            // git does without one that it may not read.
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(error).at("read", &file),
        };
        let left_out = add(&mut rules, &bytes);
        if left_out > 0 {
            warnings.add(format!(
                "`{}`: {left_out} of its ignore rules do not reach agents: there are more than {} KiB, \
                 or they are not UTF-8",
                file.display(),
                IGNORE_RULES_BYTES_MAX / 1024
            ));
        }
    }
    Ok(rules)
}

/// Adds the rules of a file; gives how many have no room, or are not text.
fn add(rules: &mut String, file: &[u8]) -> usize {
    let mut left_out = 0;
    for line in file.split(|b| *b == b'\n') {
        if line.trim_ascii().is_empty() || line.starts_with(b"#") {
            continue;
        }
        match std::str::from_utf8(line) {
            Ok(line) if rules.len() + line.len() < IGNORE_RULES_BYTES_MAX => {
                rules.push_str(line);
                rules.push('\n');
            }
            Ok(_) | Err(_) => left_out += 1,
        }
    }
    left_out
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied};
    matches!(
        error.kind(),
        NotFound | PermissionDenied | NotADirectory | IsADirectory
    )
}

/// The file for all repositories, where git looks for it.
fn global_file(git: &Git) -> Result<Option<PathBuf>> {
    let asked = ["config", "--type=path", "--get", "core.excludesFile"];
    let named = git.ended(&asked, Input::Nothing)?;
    if named.code == 0 {
        let path = String::from_utf8_lossy(&named.value);
        return Ok(
            Some(PathBuf::from(path.trim_end_matches('\n'))).filter(|p| !p.as_os_str().is_empty())
        );
    }
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let config = set("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| set("HOME").map(|home| Path::new(&home).join(".config")));
    Ok(config.map(|config| config.join("git/ignore")))
}

/// Has a git directory ignore what the user's does, and for a copy of a directory what is taken of none.
pub(crate) fn write(git_dir: &Path, is_of_directory: bool, rules: &str) -> Result<()> {
    let everywhere = if is_of_directory {
        directory::IGNORED
    } else {
        ""
    };
    if everywhere.is_empty() && rules.is_empty() {
        return Ok(());
    }
    let info = git_dir.join("info");
    fs::create_dir_all(&info).at("create the directory", &info)?;
    let exclude = info.join("exclude");
    fs::write(&exclude, format!("{everywhere}{rules}")).at("write", &exclude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_what_is_too_much_are_left_out() {
        let mut rules = String::new();
        let file = b"# mine\n\n.idea/\n \n!keep.log\r\n\\#odd\n\xff.tmp\n";
        assert_eq!(add(&mut rules, file), 1);
        assert_eq!(rules, ".idea/\n!keep.log\r\n\\#odd\n");
        let long = "x".repeat(IGNORE_RULES_BYTES_MAX - rules.len() - 3);
        assert_eq!(add(&mut rules, format!("{long}\ny\n").as_bytes()), 0);
        assert_eq!(add(&mut rules, b"z\n"), 1);
        assert!(rules.len() <= IGNORE_RULES_BYTES_MAX);
    }
}
