//! The repository on its way to the head: bundles, each on top of the ones before it, so that a
//! large history, or a large file that is not committed, is sent once.

use orchestra_repo::{Bundled, Checkout, Snapshot};
use orchestra_types::{ArtifactKind, Digest};

use super::{chain::Chain, upload::Uploads};
use crate::{
    blocking::shown,
    error::{OrFailed, Result},
    ui::Ui,
};

/// A snapshot of a checkout.
pub struct Taken {
    /// The snapshot.
    pub snapshot: Snapshot,
    head: Option<String>,
}

/// Takes the snapshot.
pub async fn take(ui: Ui, checkout: Checkout) -> Result<Taken> {
    shown(ui, "reading the repository", move || {
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
    ui: Ui,
    taken: Taken,
    chain: &mut Chain,
    uploads: &mut Uploads,
) -> Result<(Snapshot, Vec<Digest>)> {
    let (have, sent) = (chain.commits(), chain.large_files());
    let file = uploads.scratch()?;
    let to = file.clone();
    let made = shown(ui, "packing the repository", move || {
        Made::of(taken, &have, &sent, &to)
            .or_failed(|| "failed to bundle the repository".to_owned())
    })
    .await?;
    let Made {
        taken,
        bundled,
        without,
        large_files,
    } = made;
    let mut digests = chain.below(&without);
    if bundled == Bundled::Written {
        let bundle = uploads.add(ArtifactKind::Source, file).await?;
        digests.push(bundle.digest);
        // Only a commit of the user's can be built upon later: the others are nowhere else.
        let head = taken
            .head
            .filter(|head| *head == taken.snapshot.commit || *head == taken.snapshot.head);
        let head = head.filter(|head| !chain.commits().contains(head));
        if head.is_some() || !large_files.is_empty() {
            chain.add(bundle, head, large_files, &without);
        }
    }
    Ok((taken.snapshot, digests))
}

/// A bundle, and what it is about.
struct Made {
    taken: Taken,
    bundled: Bundled,
    /// The large files that it was made without.
    without: Vec<String>,
    /// The others that are not committed.
    large_files: Vec<String>,
}

impl Made {
    /// Of a snapshot, for a head that has these commits and was `sent` these files.
    fn of(
        taken: Taken,
        have: &[String],
        sent: &[String],
        to: &std::path::Path,
    ) -> orchestra_repo::Result<Self> {
        let without = taken.snapshot.would_send(have, sent)?;
        let bundled = taken.snapshot.bundle_without(have, &without, to)?;
        let mut large_files = taken.snapshot.large_files()?;
        large_files.retain(|file| !without.contains(file));
        Ok(Self {
            taken,
            bundled,
            without,
            large_files,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use super::*;
    use crate::cli::Global;

    fn git(dir: &Path, args: &[&str]) {
        let status = std::process::Command::new("git")
            .args(["-c", "user.name=T", "-c", "user.email=t@t.invalid"])
            .args(args)
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(status.status.success(), "{status:?}");
    }

    /// A repository with one commit, and where it is remembered what was sent of it.
    fn repository(home: &Path) -> (PathBuf, PathBuf) {
        let dir = home.join("repo");
        fs::create_dir(&dir).unwrap();
        git(&dir, &["init", "-q"]);
        fs::write(dir.join("a"), "one\n").unwrap();
        git(&dir, &["add", "."]);
        git(&dir, &["commit", "-qm", "one"]);
        (dir, home.join("memory/p.json"))
    }

    async fn send(dir: &Path, memory: &Path) -> (Snapshot, Vec<Digest>, Chain) {
        let checkout = Checkout::discover(dir).unwrap().unwrap();
        let mut chain = Chain::load(memory.to_owned());
        let mut uploads = Uploads::default();
        let ui = Ui::of_process(&Global::default());
        let taken = take(ui, checkout).await.unwrap();
        let (snapshot, digests) = bundle(ui, taken, &mut chain, &mut uploads).await.unwrap();
        chain.write().unwrap();
        (snapshot, digests, chain)
    }

    #[tokio::test]
    async fn what_the_head_has_is_not_sent_again() {
        let home = tempfile::tempdir().unwrap();
        let (dir, memory) = repository(home.path());
        let (_, first, _) = send(&dir, &memory).await;
        assert_eq!(first.len(), 1);
        let (_, again, _) = send(&dir, &memory).await;
        assert_eq!(again, first, "nothing changed, nothing is sent");
        fs::write(dir.join("b"), "two\n").unwrap();
        let (dirty, with_edit, chain) = send(&dir, &memory).await;
        assert!(dirty.dirty);
        assert_eq!(
            (with_edit.len(), chain.bundles().len()),
            (2, 1),
            "a small uncommitted snapshot is no base for later"
        );
        git(&dir, &["add", "."]);
        git(&dir, &["commit", "-qm", "two"]);
        let (_, second, chain) = send(&dir, &memory).await;
        assert_eq!((second.len(), chain.bundles().len()), (2, 2));
        assert_eq!(second[0], first[0]);
    }

    #[tokio::test]
    async fn a_large_file_that_is_not_committed_is_sent_once() {
        let home = tempfile::tempdir().unwrap();
        let (dir, memory) = repository(home.path());
        let (_, history, _) = send(&dir, &memory).await;
        let noise: String = (0..40_000_u64)
            .map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect();
        fs::write(dir.join("large"), noise).unwrap();
        let (_, first, chain) = send(&dir, &memory).await;
        let size = |chain: &Chain| chain.bundles().iter().map(|b| b.size).sum::<u64>();
        let (sent, links) = (size(&chain), chain.bundles().len());
        assert_eq!((first.len(), links), (2, 2));

        fs::write(dir.join("a"), "two\n").unwrap();
        let (dirty, second, chain) = send(&dir, &memory).await;
        assert!(dirty.dirty);
        assert_eq!(second[..2], first[..], "on top of it");
        assert_eq!((second.len(), chain.bundles().len()), (3, 2));

        git(&dir, &["add", "."]);
        git(&dir, &["commit", "-qm", "two"]);
        let (_, committed, chain) = send(&dir, &memory).await;
        assert_eq!(committed[..2], first[..]);
        assert!(size(&chain) < sent + sent / 10, "it was sent again");

        fs::remove_file(dir.join("large")).unwrap();
        git(&dir, &["reset", "-q", "--hard", "HEAD~1"]);
        let (_, without, _) = send(&dir, &memory).await;
        assert_eq!(without[0], history[0]);
    }
}
