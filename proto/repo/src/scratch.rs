//! A repository made from a directory of files, for demonstrations.

use std::path::Path;

use crate::{Result, git::Git};

/// Makes `dir`, which holds files and is no repository yet, a repository with one commit.
///
/// The user's name is not needed, so that it works on a machine where git was never set up.
pub fn scratch(dir: &Path, message: &str, unix_secs: i64) -> Result<()> {
    let git = Git::user(dir).identity("Orchestra", "orchestra@localhost", unix_secs);
    git.output(&["init", "--quiet", "--initial-branch=main"])?;
    git.output(&["add", "--all"])?;
    git.output(&["commit", "--quiet", "--no-verify", "--message", message])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checkout;

    #[test]
    fn a_directory_becomes_a_repository_with_one_commit() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.txt"), "one\n").unwrap();
        scratch(dir.path(), "begin", 1_790_000_000).unwrap();
        let checkout = Checkout::discover(dir.path()).unwrap().unwrap();
        assert_eq!(checkout.branch(), Some("main"));
        assert!(checkout.head().is_some());
    }
}
