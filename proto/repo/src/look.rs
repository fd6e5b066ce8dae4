//! What a running agent has changed so far: a look that leaves nothing behind.

use std::time::Duration;

use orchestra_types::Manifest;

use crate::{
    beneath,
    error::{Error, IoContext, Result},
    git::Git,
    index,
    manifest::{Sides, manifest},
    quarantine::lend,
    special,
    stage::{Conflicts, Nested, Sizes, Stage, Warnings},
    workspace::Workspace,
};

/// Looks are made again and again: 16 MiB, and 256 MiB in all.
const SIZES: Sizes = Sizes {
    file: 16 * 1024 * 1024,
    total: 256 * 1024 * 1024,
};

/// Longest time for one call of git: the agent may make a pipe where it looks for a file.
const TIME_MAX: Duration = Duration::from_secs(60);

/// What changed becomes one file, not one for each, which has a directory of its own in most cases:
/// making and removing those would take longer than all else.
const AS_ONE_PACK: [&str; 3] = [
    "core.bigFileThreshold=1",
    "core.compression=0",
    "core.fsync=none",
];

impl Workspace {
    /// The files that differ from the base right now; with `exclude` and `secret` as
    /// for [`Workspace::collect`]. The agent goes on meanwhile, so that a file may be seen half written.
    /// Larger files are not read, only named in a warning.
    ///
    /// # Errors
    /// When git or the disk fails.
    pub fn look(&self, exclude: &[String], secret: &[String]) -> Result<Manifest> {
        let root = beneath::root(&self.dir).at("open", &self.dir)?;
        if let Some(path) = special::any(&root) {
            return Err(Error::Special { path });
        }
        // Beside the index and the objects that are there: they are left as they are.
        let index = index::Copy::of(self)?;
        lend(index.dir(), &[self.git_dir.join("objects")])?;
        let objects = index.dir().join("objects");
        let beside = |git: Git| {
            let git = index.git(git).env("GIT_OBJECT_DIRECTORY", &objects);
            git.time_limit(TIME_MAX)
        };
        let git = AS_ONE_PACK
            .iter()
            .fold(beside(self.git()), |git, option| git.option(*option));
        let apart = self.apart(&self.linked(&self.dir)?.places)?;
        let mut warnings = Warnings::default();
        let skip = self.skipped(&git, exclude, secret)?;
        self.warn_about_ours(exclude, &skip, &mut warnings);
        Stage {
            git: &git,
            root: &self.dir,
            skip: &[skip, apart].concat(),
            also: self.carried_new()?,
            nested: Nested::Include,
            conflicts: Conflicts::Never,
            sizes: SIZES,
        }
        .run(&mut warnings)?;
        let sides = Sides::Index { old: &self.base };
        let mut listed = manifest(&beside(self.bare()), sides)?;
        listed.manifest.warnings.extend(warnings.into_list());
        Ok(listed.manifest)
    }
}
