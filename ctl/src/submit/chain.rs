//! What the head was sent of a project: bundles, each on top of those before it.
//!
//! `STATE/client/sources/PROJECT.json` remembers them. It is only a memory: when it is lost, everything is sent
//! again.
//!
//! A bundle that reaches a commit of the user's is built upon by all later ones. One of uncommitted work is remembered
//! for the large files in it, and goes along only where they are still in the snapshot.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use orchestra_config::durable;
use orchestra_types::{Artifact, ArtifactKind, Digest};
use serde::{Deserialize, Serialize};

use crate::ui::Ui;

/// A chain that is longer than this is begun anew.
const LINKS_MAX: usize = 64;

/// One bundle that the head was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Link {
    digest: Digest,
    size: u64,
    /// The commit of the user's repository that the bundle reaches; none for uncommitted work.
    commit: Option<String>,
    /// The large files in it that were not committed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    large_files: Vec<String>,
    /// The bundles of uncommitted work whose large files it was made without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    on: Vec<Digest>,
}

impl Link {
    fn has_any(&self, files: &BTreeSet<&str>) -> bool {
        self.large_files
            .iter()
            .any(|file| files.contains(file.as_str()))
    }

    fn artifact(&self) -> Artifact {
        Artifact {
            kind: ArtifactKind::Source,
            digest: self.digest,
            size: self.size,
        }
    }
}

/// What is remembered of a project, together with where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    path: PathBuf,
    links: Vec<Link>,
}

impl Chain {
    /// What is remembered in `path`, unless it has become long. What cannot be read is forgotten.
    pub fn load(path: PathBuf) -> Self {
        let links = fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        let links: Vec<Link> = links.unwrap_or_default();
        let links = match links.len() < LINKS_MAX {
            true => links,
            false => Vec::new(),
        };
        Self { path, links }
    }

    /// The bundles, in order.
    pub fn bundles(&self) -> Vec<Artifact> {
        self.links.iter().map(Link::artifact).collect()
    }

    /// Forgets what builds on bundles that the head does not have any more.
    pub fn forget(&mut self, missing: &[Artifact]) {
        if missing.is_empty() {
            return;
        }
        let committed = self.below(&[]);
        match missing.iter().any(|gone| committed.contains(&gone.digest)) {
            true => self.links.clear(),
            false => self.links.retain(|link| committed.contains(&link.digest)),
        }
    }

    /// The user's commits that the head has.
    pub fn commits(&self) -> Vec<String> {
        let commits = self.links.iter().filter_map(|link| link.commit.clone());
        commits.collect()
    }

    /// The large files that it has besides.
    pub fn large_files(&self) -> Vec<String> {
        let files = self.links.iter().flat_map(|link| &link.large_files);
        files.cloned().collect()
    }

    /// The bundles on top of which one without these files can be taken, in order: those that reach a commit,
    /// those that have the files, and what these were made without.
    pub fn below(&self, files: &[String]) -> Vec<Digest> {
        let files: BTreeSet<&str> = files.iter().map(String::as_str).collect();
        let (mut needed, mut on) = (Vec::new(), BTreeSet::<Digest>::new());
        for link in self.links.iter().rev() {
            if link.commit.is_some() || on.contains(&link.digest) || link.has_any(&files) {
                needed.push(link.digest);
                on.extend(&link.on);
            }
        }
        needed.reverse();
        needed
    }

    /// Remembers a bundle that the head has, which reaches `commit` and was made without the files `without`.
    pub fn add(
        &mut self,
        bundle: Artifact,
        commit: Option<String>,
        large_files: Vec<String>,
        without: &[String],
    ) {
        let files: BTreeSet<&str> = without.iter().map(String::as_str).collect();
        let on = self.links.iter().filter(|link| link.has_any(&files));
        let on = on.map(|link| link.digest).collect();
        // Other uncommitted work is not there any more, and would only make the chain long.
        if commit.is_none() {
            let below = self.below(without);
            self.links.retain(|link| below.contains(&link.digest));
        }
        self.links.push(Link {
            digest: bundle.digest,
            size: bundle.size,
            commit,
            large_files,
            on,
        });
    }

    /// Keeps it. That it cannot be kept costs a warning and time, not the task.
    pub fn save(&self, ui: &Ui) {
        if let Err(e) = self.write() {
            ui.warn(format!("failed to write `{}`: {e}", self.path.display()));
        }
    }

    pub(super) fn write(&self) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        durable::create_private_dir(dir)?;
        let temp = tempfile::NamedTempFile::new_in(dir)?;
        serde_json::to_writer(&temp, &self.links)?;
        temp.persist(&self.path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(n: u8) -> Artifact {
        Artifact {
            kind: ArtifactKind::Source,
            digest: Digest([n; 32]),
            size: 1,
        }
    }

    fn chain() -> Chain {
        Chain {
            path: "/nowhere".into(),
            links: Vec::new(),
        }
    }

    fn files(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn digests(numbers: &[u8]) -> Vec<Digest> {
        numbers.iter().map(|n| Digest([*n; 32])).collect()
    }

    #[test]
    fn a_damaged_memory_is_forgotten_and_one_of_an_earlier_version_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.json");
        fs::write(&path, "{").unwrap();
        assert!(Chain::load(path.clone()).links.is_empty());
        let digest = "07".repeat(32);
        let text = format!(r#"[{{"digest":"{digest}","size":5,"commit":"c"}}]"#);
        fs::write(&path, text).unwrap();
        assert_eq!(Chain::load(path).commits(), ["c"]);
    }

    #[test]
    fn uncommitted_work_goes_along_where_its_large_files_are_still_wanted() {
        let mut chain = chain();
        chain.add(bundle(1), Some("c".to_owned()), files(&[]), &[]);
        chain.add(bundle(2), None, files(&["big"]), &[]);
        assert_eq!(chain.commits(), ["c"]);
        assert_eq!(chain.large_files(), ["big"]);
        assert_eq!(chain.below(&[]), digests(&[1]));
        assert_eq!(chain.below(&files(&["big"])), digests(&[1, 2]));
        chain.add(bundle(3), None, files(&["more"]), &files(&["big"]));
        let all = digests(&[1, 2, 3]);
        assert_eq!(
            chain.below(&files(&["more"])),
            all,
            "the third was made without the second"
        );
        chain.add(bundle(4), None, files(&["other"]), &[]);
        assert_eq!(
            chain.large_files(),
            ["other"],
            "the rest is not there any more"
        );
    }

    #[test]
    fn what_a_commit_was_sent_without_goes_along_for_ever() {
        let mut chain = chain();
        chain.add(bundle(1), None, files(&["big"]), &[]);
        chain.add(
            bundle(2),
            Some("c".to_owned()),
            files(&[]),
            &files(&["big"]),
        );
        chain.add(bundle(3), None, files(&["new"]), &[]);
        assert_eq!(chain.below(&[]), digests(&[1, 2]));
        chain.forget(&[bundle(1)]);
        assert!(chain.bundles().is_empty());
    }

    #[test]
    fn what_the_head_has_no_more_is_forgotten_with_what_builds_on_it() {
        let mut chain = chain();
        chain.add(bundle(1), Some("c".to_owned()), files(&[]), &[]);
        chain.add(bundle(2), None, files(&["big"]), &[]);
        chain.forget(&[]);
        assert_eq!(chain.bundles().len(), 2);
        chain.add(bundle(3), None, files(&["more"]), &files(&["big"]));
        chain.forget(&[bundle(2)]);
        assert_eq!(
            chain.bundles(),
            [bundle(1)],
            "the third was made without the second"
        );
        chain.add(bundle(2), None, files(&["big"]), &[]);
        chain.forget(&[bundle(1)]);
        assert!(chain.bundles().is_empty());
    }
}
