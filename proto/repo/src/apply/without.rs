//! How the rest of a change comes without some of its files.

use orchestra_types::shell;

/// How many files a command names.
const NAMED_MAX: usize = 32;

/// What takes the change of `branch` without these paths, and what makes a branch of all of it: the subject of a
/// sentence that goes on with "makes a branch". Git's own apply gives a filter what an agent wrote, too.
pub(super) fn without(branch: &str, paths: &[&[u8]]) -> String {
    let task = branch.rsplit('/').next().unwrap_or_default();
    if paths.len() > NAMED_MAX {
        // A command without all of them would do what is refused here.
        let count = paths.len();
        return format!("{count} files of the change are such; an apply with `--branch`");
    }
    let exclude = |path: &&[u8]| format!(" --exclude={}", shell::word(&pattern(path)));
    let others: String = paths.iter().map(exclude).collect();
    format!(
        "`ctl diff {task} | git apply{others}`, at the top of the repository, takes the rest of the change, \
         and an apply with `--branch`"
    )
}

/// What git's apply takes for this path: what means more than itself there is escaped, and what no sentence
/// can show stands for any byte.
fn pattern(path: &[u8]) -> String {
    let mut pattern = String::new();
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '*' | '?' | '[' | '\\' => pattern.extend(['\\', c]),
                c if c.is_control() => pattern.extend(vec!['?'; c.len_utf8()]),
                c => pattern.push(c),
            }
        }
        pattern.extend(chunk.invalid().iter().map(|_| '?'));
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_for_its_path() {
        assert_eq!(pattern("a b/\u{fc}.enc".as_bytes()), "a b/\u{fc}.enc");
        assert_eq!(pattern(b"[a]*?\\.enc"), r"\[a]\*\?\\.enc");
        assert_eq!(pattern(b"a\n\xff\xfe.enc"), "a???.enc");
    }

    #[test]
    fn of_too_many_no_command_is_given_that_has_not_all() {
        let names: Vec<String> = (0..=NAMED_MAX).map(|n| format!("{n}.enc")).collect();
        let paths: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        let said = without("orchestra/task_001", &paths);
        assert!(said.contains("33 files of the change are such"), "{said}");
        assert!(!said.contains("git apply"), "{said}");
        let said = without("orchestra/task_001", &paths[..NAMED_MAX]);
        assert_eq!(said.matches("--exclude=").count(), NAMED_MAX, "{said}");
        assert!(said.contains("`ctl diff task_001 |"), "{said}");
    }
}
