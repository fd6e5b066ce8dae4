//! What a running agent has changed so far: a look that leaves nothing behind.

use std::fs;

use orchestra_types::Manifest;

use crate::{
    error::{IoContext, Result},
    manifest::manifest,
    quarantine::lend,
    stage::{Nested, Sizes, Stage, Warnings},
    workspace::Workspace,
};

/// Looks are made again and again: 16 MiB, and 256 MiB in all.
const SIZES: Sizes = Sizes {
    file: 16 * 1024 * 1024,
    total: 256 * 1024 * 1024,
};

impl Workspace {
    /// The files that differ from the base right now; with an `exclude` as for
    /// [`Workspace::collect`]. The agent goes on meanwhile, so that a file may be seen half written.
    /// Larger files are not read, only named in a warning.
    ///
    /// # Errors
    /// When git or the disk fails.
    pub fn look(&self, exclude: &[String]) -> Result<Manifest> {
        // Beside the index and the objects that are there: they are left as they are.
        let own = &self.git_dir;
        let scratch = tempfile::tempdir_in(own).at("create a directory in", own)?;
        let index = scratch.path().join("index");
        fs::copy(own.join("index"), &index).at("copy", own.join("index"))?;
        lend(scratch.path(), &[own.join("objects")])?;
        let objects = scratch.path().join("objects");
        let beside = |git: crate::git::Git| {
            git.env("GIT_INDEX_FILE", &index)
                .env("GIT_OBJECT_DIRECTORY", &objects)
        };
        let git = beside(self.git());
        let mut warnings = Warnings::default();
        Stage {
            git: &git,
            root: &self.dir,
            skip: &self.skipped(&git, exclude)?,
            nested: Nested::Include,
            sizes: SIZES,
        }
        .run(&mut warnings)?;
        let tree = git.line(&["write-tree"])?;
        let mut manifest = manifest(&beside(self.bare()), &self.base, &tree)?;
        manifest.warnings.extend(warnings.into_list());
        Ok(manifest)
    }
}
