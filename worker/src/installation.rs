//! Which installation of a worker this is: what a copy of its directory does not share with it, and a
//! restart does.
//!
//! A directory that says another one was copied or moved, or its machine was restarted. What it holds of attempts
//! may then be somebody else's: nothing is done about them until the head has welcomed this worker.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use orchestra_config::durable;
use orchestra_types::MachineId;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

/// This installation, and whether it may act for its identity.
#[derive(Debug)]
pub struct Installation {
    value: String,
    /// Holds the one that the head welcomed last.
    file: PathBuf,
    is_written: bool,
    admitted: watch::Sender<bool>,
}

impl Installation {
    /// The one in a worker's own directory, on a machine since it was started.
    pub fn of(dir: &Path, machine: &MachineId, boot: &str) -> io::Result<Self> {
        let found = fs::metadata(dir)?;
        let (dev, ino) = (found.dev(), found.ino());
        let hash = Sha256::digest(format!(
            "orchestra installation {machine} {boot} {dev} {ino}"
        ));
        let value: String = hash[..16].iter().map(|b| format!("{b:02x}")).collect();
        let file = dir.join("installation");
        let last = match fs::read_to_string(&file) {
            Ok(text) => Some(text.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let is_written = last.as_ref() == Some(&value);
        Ok(Self {
            admitted: watch::Sender::new(is_written || last.is_none()),
            value,
            file,
            is_written,
        })
    }

    /// What the head is told.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The head has welcomed this worker.
    pub fn admit(&self) {
        if !self.is_written {
            let line = format!("{}\n", self.value);
            let written = durable::write(&self.file, line.as_bytes(), durable::Access::Private);
            if let Err(error) = written {
                // The next start waits for the head's welcome, and no more.
                tracing::warn!(%error, "it is not written down which installation this is");
            }
        }
        self.admitted.send_replace(true);
    }

    /// Waits until what the directory holds is known to be this worker's.
    pub async fn admitted(&self) {
        let mut admitted = self.admitted.subscribe();
        // The sender is held here.
        let _ = admitted.wait_for(|admitted| *admitted).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_the_same_installation_and_a_copy_or_a_moved_one_is_another() {
        let tmp = tempfile::tempdir().unwrap();
        let [first, copy] = ["first", "copy"].map(|name| tmp.path().join(name));
        fs::create_dir(&first).unwrap();
        fs::create_dir(&copy).unwrap();
        let machine = "m-1".parse().unwrap();
        let here = |dir: &Path, boot| Installation::of(dir, &machine, boot).unwrap();

        let new = here(&first, "b");
        assert!(*new.admitted.borrow(), "nothing is there yet");
        new.admit();
        let again = here(&first, "b");
        assert_eq!(again.value, new.value);
        assert!(*again.admitted.borrow());

        fs::copy(first.join("installation"), copy.join("installation")).unwrap();
        let copied = here(&copy, "b");
        let rebooted = here(&first, "another");
        for other in [&copied, &rebooted] {
            assert_ne!(other.value, new.value);
            assert!(!*other.admitted.borrow());
        }
        copied.admit();
        assert!(*copied.admitted.borrow());
        assert!(*here(&copy, "b").admitted.borrow());
    }
}
