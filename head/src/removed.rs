//! The names of workers that were removed: what they did is kept for longer than they are.
//!
//! Only people read them, so they are in no row of the store. A file that is lost or damaged costs names.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use orchestra_config::durable::{self, Access};
use orchestra_types::{WorkerId, limits};

/// How many are kept; the oldest go first.
const NAMES_MAX: usize = 1000;

/// The names. Clones share them.
#[derive(Clone, Debug)]
pub struct Removed {
    path: PathBuf,
    /// The latest last.
    names: Arc<Mutex<Vec<(WorkerId, String)>>>,
}

impl Removed {
    /// Reads `path` (`STATE/head/removed.json`), which may not be there yet.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let names = match read(path) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "the names of removed workers are lost");
                Vec::new()
            }
        };
        Self {
            path: path.to_owned(),
            names: Arc::new(Mutex::new(names)),
        }
    }

    /// Notes the name of one that was removed.
    pub fn note(&self, id: &WorkerId, name: &str) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.retain(|(known, _)| known != id);
        let name = limits::cut(name, limits::NAME_BYTES_MAX);
        names.push((id.clone(), name));
        let too_many = names.len().saturating_sub(NAMES_MAX);
        names.drain(..too_many);
        let json = serde_json::to_vec(&*names).expect("texts are JSON");
        if let Err(error) = durable::write(&self.path, &json, Access::Private) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the name of a removed worker is kept until the head ends only");
        }
    }

    /// All that are known, by id.
    #[must_use]
    pub fn names(&self) -> BTreeMap<String, String> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let named = names
            .iter()
            .map(|(id, name)| (id.to_string(), name.clone()));
        named.collect()
    }
}

fn read(path: &Path) -> io::Result<Vec<(WorkerId, String)>> {
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_names_are_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("removed.json");
        let removed = Removed::open(&path);
        for n in 0..NAMES_MAX + 1 {
            let id = format!("w{n}").parse().unwrap();
            removed.names.lock().unwrap().push((id, "vm".to_owned()));
        }
        removed.note(&"w1".parse().unwrap(), "far");
        let names = Removed::open(&path).names();
        assert_eq!(names.len(), NAMES_MAX);
        assert!(!names.contains_key("w0"), "the oldest");
        assert_eq!(names["w1"], "far");
        fs::write(&path, "{").unwrap();
        assert!(Removed::open(&path).names().is_empty());
    }
}
