//! Who this machine and its worker are: identifiers that are made once and kept on disk.
//!
//! head, worker and ctl must get the same answers, so all of them ask here.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use orchestra_types::{MachineId, WorkerId};
use sha2::{Digest, Sha256};

use crate::StateDir;

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file that keeps it cannot be read or made.
    #[error("failed to read or make `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("`{path}` does not hold an identifier; remove it to have a new one made")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// The machine that this process runs on: a hash of `/etc/machine-id`, which is not to be shown
/// as it is; where there is none, an identifier kept in the state directory.
pub fn machine_id(state: &StateDir) -> Result<MachineId, Error> {
    let system = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let system = system.trim();
    if system.len() == 32 && system.bytes().all(|b| b.is_ascii_hexdigit()) {
        let hash = Sha256::digest(format!("orchestra machine {system}"));
        let hex: String = hash[..16].iter().map(|b| format!("{b:02x}")).collect();
        return Ok(hex.parse().expect("hex digits are a name"));
    }
    kept(&state.path().join("machine-id"))
}

/// The start of this machine that lasts until now; another one has another, though it has everything else
/// from the same image.
pub fn boot_id() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

/// The worker whose own directory is `dir` (`STATE/worker`).
pub fn worker_id(dir: &Path) -> Result<WorkerId, Error> {
    kept(&dir.join("id"))
}

/// Reads the identifier in `path`; makes it when the file is not there. Two processes that make
/// it at once agree: the file appears whole, and the first one wins.
fn kept<T: std::str::FromStr>(path: &Path) -> Result<T, Error> {
    let failed = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    match fs::read_to_string(path) {
        Ok(text) => parse(path, &text),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make(path).map_err(failed)?;
            parse(path, &fs::read_to_string(path).map_err(failed)?)
        }
        Err(e) => Err(failed(e)),
    }
}

fn parse<T: std::str::FromStr>(path: &Path, text: &str) -> Result<T, Error> {
    text.trim().parse().map_err(|_| Error::Malformed {
        path: path.to_owned(),
    })
}

fn make(path: &Path) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    crate::durable::create_private_dir(dir)?;
    let id = uuid::Uuid::new_v4().to_string();
    let temp = dir.join(format!(".{id}.new"));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temp)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    // A hard link, not a rename: it refuses to replace what another process has made meanwhile.
    let linked = fs::hard_link(&temp, path);
    fs::remove_file(&temp)?;
    match linked {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        Ok(()) | Err(_) => {}
    }
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_made_once_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let first = worker_id(dir.path()).unwrap();
        assert_eq!(worker_id(dir.path()).unwrap(), first);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn two_makers_at_once_agree() {
        let dir = tempfile::tempdir().unwrap();
        let ids: Vec<WorkerId> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| worker_id(dir.path()).unwrap()))
                .collect();
            makers.into_iter().map(|m| m.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| id == &ids[0]));
    }

    #[test]
    fn a_malformed_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("id"), "not a name\n").unwrap();
        let error = worker_id(dir.path()).unwrap_err().to_string();
        assert!(error.contains("remove it"), "{error}");
    }
}
