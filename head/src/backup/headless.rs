//! A state directory with a worker and without a head: the head of this machine was lost, or the worker has joined
//! one elsewhere. Nothing in the directory tells one from the other.

use orchestra_config::StateDir;

use super::{Error, Head, restore::is_new};
use crate::security;

/// The address at which the worker of such a directory looks for its head; none where there is a head, or no worker.
#[must_use]
pub fn headless(state: &StateDir) -> Option<String> {
    let head = state.head();
    // Of one that cannot be looked into, whoever needs it says why.
    if head.exists() && !is_new(&head).unwrap_or(false) {
        return None;
    }
    let endpoint = state.worker().join("pki").join("endpoint");
    let text = std::fs::read_to_string(endpoint).ok()?;
    Some(text.trim().to_owned())
}

/// A head of another cluster would take the worker away from its own one.
pub(super) fn require_same_cluster(state: &StateDir, backup: &Head) -> Result<(), Error> {
    let Some(endpoint) = headless(state) else {
        return Ok(());
    };
    let ca = state.worker().join("pki").join("ca.pem");
    match security::cluster_in(&ca) {
        Some(cluster) if cluster == backup.cluster => Ok(()),
        Some(_) | None => Err(Error::OtherCluster {
            dir: state.path().to_owned(),
            endpoint,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use orchestra_types::Timestamp;

    use super::*;

    #[test]
    fn only_a_backup_of_the_workers_own_cluster_is_taken_there() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        let keys = dir.path().join("keys");
        let own = security::Security::open(&keys, Timestamp(1_800_000_000_000)).unwrap();
        let of = |cluster: &str| Head {
            format: 1,
            version: String::new(),
            cluster: cluster.to_owned(),
            created_at_ms: 0,
            keys: false,
        };
        let require = |cluster| require_same_cluster(&state, &of(cluster));
        require("other").unwrap();
        let pki = state.worker().join("pki");
        fs::create_dir_all(&pki).unwrap();
        fs::write(pki.join("endpoint"), "h:7117\n").unwrap();
        require(own.cluster()).unwrap_err();
        fs::copy(keys.join("ca.pem"), pki.join("ca.pem")).unwrap();
        require(own.cluster()).unwrap();
        let refused = require("other").unwrap_err().to_string();
        assert!(refused.contains("joined the head at h:7117"), "{refused}");
        // Whoever has a head there says what becomes of it.
        fs::create_dir_all(state.head().join("db")).unwrap();
        require("other").unwrap();
    }

    #[test]
    fn only_a_directory_with_a_worker_and_no_head_is_headless() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        assert_eq!(headless(&state), None);
        let pki = state.worker().join("pki");
        fs::create_dir_all(&pki).unwrap();
        assert_eq!(headless(&state), None, "it has not joined yet");
        fs::write(pki.join("endpoint"), "h:7117\n").unwrap();
        assert_eq!(headless(&state).as_deref(), Some("h:7117"));
        // What a restore that was cut off leaves is no head.
        fs::create_dir(state.head()).unwrap();
        fs::write(state.head().join("lock"), "").unwrap();
        assert_eq!(headless(&state).as_deref(), Some("h:7117"));
        fs::write(state.head().join("db.made"), "").unwrap();
        assert_eq!(headless(&state), None);
    }
}
