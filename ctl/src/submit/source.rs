//! The repository on its way to the head: bundles, each on top of the ones before it, so that a
//! large history is sent once.
//!
//! `STATE/client/sources/PROJECT.json` remembers which bundles of a project the head was sent, and
//! which commit each of them reaches. It is only a memory: when it is lost, everything is sent
//! again.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use orchestra_repo::{Bundled, Checkout, Snapshot};
use orchestra_types::{Artifact, ArtifactKind, Digest};
use serde::{Deserialize, Serialize};

use super::upload::Uploads;
use crate::{
    blocking::blocking,
    error::{OrFailed, Result},
    ui::Ui,
};

/// A chain that is longer than this is begun anew.
const CHAIN_MAX: usize = 64;

/// One bundle that the head was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Link {
    digest: Digest,
    size: u64,
    /// A commit of the user's repository that the bundle reaches.
    commit: String,
}

/// What is remembered of a project, together with where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    path: PathBuf,
    links: Vec<Link>,
}

impl Chain {
    /// What is remembered in `path`. What cannot be read is forgotten.
    pub fn load(path: PathBuf) -> Self {
        let links = fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        Self {
            path,
            links: links.unwrap_or_default(),
        }
    }

    /// The bundles, in order.
    pub fn bundles(&self) -> Vec<Artifact> {
        let of = |link: &Link| Artifact {
            kind: ArtifactKind::Source,
            digest: link.digest,
            size: link.size,
        };
        self.links.iter().map(of).collect()
    }

    /// Forgets everything, because the head does not have it or it has become long.
    pub fn forget(&mut self) {
        self.links.clear();
    }

    fn commits(&self) -> Vec<String> {
        self.links.iter().map(|link| link.commit.clone()).collect()
    }

    /// Remembers a bundle that the head has.
    fn add(&mut self, bundle: Artifact, commit: String) {
        self.links.push(Link {
            digest: bundle.digest,
            size: bundle.size,
            commit,
        });
    }

    /// Keeps it. That it cannot be kept costs a warning and time, not the task.
    pub fn save(&self, ui: &Ui) {
        if let Err(e) = self.write() {
            ui.warn(format!("failed to write `{}`: {e}", self.path.display()));
        }
    }

    fn write(&self) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(dir)?;
        let temp = tempfile::NamedTempFile::new_in(dir)?;
        serde_json::to_writer(&temp, &self.links)?;
        temp.persist(&self.path)?;
        Ok(())
    }
}

/// A snapshot of a checkout.
pub struct Taken {
    /// The snapshot.
    pub snapshot: Snapshot,
    head: Option<String>,
}

/// Takes the snapshot.
pub async fn take(checkout: Checkout) -> Result<Taken> {
    blocking(move || {
        let snapshot = checkout
            .snapshot()
            .or_failed(|| "failed to take a snapshot of the repository".to_owned())?;
        Ok(Taken {
            snapshot,
            head: checkout.head().map(str::to_owned),
        })
    })
    .await
}

/// Bundles what the chain does not have, and gives all bundles that hold the snapshot, in order.
pub async fn bundle(
    taken: Taken,
    chain: &mut Chain,
    uploads: &mut Uploads,
) -> Result<(Snapshot, Vec<Digest>)> {
    if chain.links.len() >= CHAIN_MAX {
        chain.forget();
    }
    let have = chain.commits();
    let file = uploads.scratch()?;
    let to = file.clone();
    let (taken, made) = blocking(move || {
        let made = taken
            .snapshot
            .bundle(&have, &to)
            .or_failed(|| "failed to bundle the repository".to_owned())?;
        Ok((taken, made))
    })
    .await?;
    let mut digests: Vec<Digest> = chain.links.iter().map(|link| link.digest).collect();
    if made == Bundled::Written {
        let bundle = uploads.add(ArtifactKind::Source, file).await?;
        digests.push(bundle.digest);
        // The objects of an uncommitted snapshot are nowhere else: only a commit of the user's
        // can be built upon later.
        let head = taken
            .head
            .filter(|head| *head == taken.snapshot.commit || *head == taken.snapshot.head);
        if let Some(head) = head.filter(|head| !chain.commits().contains(head)) {
            chain.add(bundle, head);
        }
    }
    Ok((taken.snapshot, digests))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(dir: &Path, args: &[&str]) {
        let status = std::process::Command::new("git")
            .args(["-c", "user.name=T", "-c", "user.email=t@t.invalid"])
            .args(args)
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(status.status.success(), "{status:?}");
    }

    async fn send(dir: &Path, memory: &Path) -> (Snapshot, Vec<Digest>, Chain) {
        let checkout = Checkout::discover(dir).unwrap().unwrap();
        let mut chain = Chain::load(memory.to_owned());
        let mut uploads = Uploads::default();
        let taken = take(checkout).await.unwrap();
        let (snapshot, digests) = bundle(taken, &mut chain, &mut uploads).await.unwrap();
        chain.write().unwrap();
        (snapshot, digests, chain)
    }

    #[tokio::test]
    async fn what_the_head_has_is_not_sent_again() {
        let home = tempfile::tempdir().unwrap();
        let (dir, memory) = (home.path().join("repo"), home.path().join("memory/p.json"));
        fs::create_dir(&dir).unwrap();
        git(&dir, &["init", "-q"]);
        fs::write(dir.join("a"), "one\n").unwrap();
        git(&dir, &["add", "."]);
        git(&dir, &["commit", "-qm", "one"]);
        let (_, first, _) = send(&dir, &memory).await;
        assert_eq!(first.len(), 1);
        let (_, again, _) = send(&dir, &memory).await;
        assert_eq!(again, first, "nothing changed, nothing is sent");
        fs::write(dir.join("b"), "two\n").unwrap();
        let (dirty, with_edit, chain) = send(&dir, &memory).await;
        assert!(dirty.dirty);
        assert_eq!(
            (with_edit.len(), chain.links.len()),
            (2, 1),
            "an uncommitted snapshot is no base for later"
        );
        git(&dir, &["add", "."]);
        git(&dir, &["commit", "-qm", "two"]);
        let (_, second, chain) = send(&dir, &memory).await;
        assert_eq!((second.len(), chain.links.len()), (2, 2));
        assert_eq!(second[0], first[0]);
    }

    #[test]
    fn a_damaged_memory_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("p.json"), "{").unwrap();
        assert!(Chain::load(dir.path().join("p.json")).links.is_empty());
    }
}
