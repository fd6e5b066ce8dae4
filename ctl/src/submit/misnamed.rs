//! A file that somebody may take for the project file, and that nobody reads.

use std::path::Path;

use orchestra_config::PROJECT_FILE;

/// How YAML files are called as well.
const OTHER: &str = ".orchestra.yml";

/// What to say of such a file in `top`; none where there is none.
pub fn warning(top: &Path) -> Option<String> {
    let is_there = |name: &str| top.join(name).symlink_metadata().is_ok();
    if !is_there(OTHER) {
        return None;
    }
    Some(match is_there(PROJECT_FILE) {
        true => format!("`{OTHER}` is not read: `{PROJECT_FILE}`, beside it, is"),
        false => format!(
            "`{OTHER}` is not read: the project file is called `{PROJECT_FILE}`, so \
             `mv {OTHER} {PROJECT_FILE}`"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_nearly_the_right_name_is_told_with_the_right_one() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str| std::fs::write(dir.path().join(name), "ports: 2\n").unwrap();
        let said = || warning(dir.path());
        assert_eq!(said(), None);
        write(OTHER);
        let instead = said().unwrap();
        assert!(
            instead.contains("`mv .orchestra.yml .orchestra.yaml`"),
            "{instead}"
        );
        write(PROJECT_FILE);
        let beside = said().unwrap();
        assert!(beside.contains("beside it"), "{beside}");
    }
}
