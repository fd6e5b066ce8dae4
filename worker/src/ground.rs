//! The directories that the worker stands on: whether they are still there, and still the same ones.
//!
//! Without them nothing can be made durable, and a file that is open hides that: the worker would be heard
//! of for ever, and fail whatever it is given. So they are looked at now and then and before each order.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use tokio::sync::watch;

/// What a worker cannot be without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who it is, and its reports.
    Home,
    /// Its attempts: their records, or where agents work.
    Attempts,
}

/// A directory that the worker has lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` is not there any more, or another one is in its place: nothing can be kept, so that agents that ran here \
     are ended and cannot be reported; {}", dir.display(), advice(*kind)
)]
pub struct Lost {
    dir: PathBuf,
    kind: Kind,
}

fn advice(kind: Kind) -> &'static str {
    match kind {
        Kind::Home => {
            "join again with `orchestra-worker join`, or `ctl start` if the head is on this machine"
        }
        Kind::Attempts => "start the worker again",
    }
}

/// Holds the directories. Dropping it lets go of them.
#[derive(Debug)]
pub struct Ground {
    /// Each is open, so that no other one can get its number.
    held: Vec<(Kind, PathBuf, File)>,
    lost: watch::Sender<Option<Lost>>,
}

impl Ground {
    /// Takes hold of directories that are there.
    pub fn hold<'a>(dirs: impl IntoIterator<Item = (Kind, &'a Path)>) -> io::Result<Self> {
        let held = dirs
            .into_iter()
            .map(|(kind, dir)| Ok((kind, dir.to_owned(), File::open(dir)?)));
        Ok(Self {
            held: held.collect::<io::Result<_>>()?,
            lost: watch::Sender::new(None),
        })
    }

    /// Looks; whether all of them are there. What was lost once stays lost.
    pub fn is_there(&self) -> bool {
        if self.lost.borrow().is_some() {
            return false;
        }
        let lost = self.held.iter().find(|(_, dir, held)| is_lost(dir, held));
        let Some((kind, dir, _)) = lost else {
            return true;
        };
        let (kind, dir) = (*kind, dir.clone());
        self.lost.send_replace(Some(Lost { dir, kind }));
        false
    }

    /// Resolves when a look has found that one is lost.
    pub async fn lost(&self) -> Lost {
        let mut lost = self.lost.subscribe();
        let found = lost.wait_for(Option::is_some).await;
        let found = found.ok().and_then(|found| found.clone());
        found.expect("the sender is held here, and what was waited for is there")
    }
}

/// Trouble of another kind, such as a disk that fails, is for those who meet it.
fn is_lost(dir: &Path, held: &File) -> bool {
    let there = match fs::metadata(dir) {
        Ok(there) => there,
        Err(error) => {
            return matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            );
        }
    };
    let same = |held: fs::Metadata| (held.dev(), held.ino()) == (there.dev(), there.ino());
    held.metadata().is_ok_and(|held| !same(held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_removed_or_exchanged_is_lost_and_named() {
        for put_another in [false, true] {
            let tmp = tempfile::tempdir().unwrap();
            let (home, attempts) = (tmp.path().join("worker"), tmp.path().join("attempts"));
            fs::create_dir(&home).unwrap();
            fs::create_dir(&attempts).unwrap();
            let dirs = [
                (Kind::Home, home.as_path()),
                (Kind::Attempts, attempts.as_path()),
            ];
            let ground = Ground::hold(dirs).unwrap();
            fs::write(attempts.join("file"), "what is in it may change").unwrap();
            assert!(ground.is_there());
            fs::remove_dir_all(&attempts).unwrap();
            if put_another {
                fs::create_dir(&attempts).unwrap();
            }
            assert!(!ground.is_there());
            let lost = ground.lost.borrow().clone().unwrap().to_string();
            assert!(lost.contains("/attempts`"), "{lost}");
            assert!(lost.contains("start the worker again"), "{lost}");
        }
    }
}
