//! A state directory of a head elsewhere: `orchestra-worker join` has made it for a worker, or a person
//! has copied that head's `client` directory there.

use orchestra_config::StateDir;
use orchestra_head::backup::headless;

use crate::{
    error::{Error, Result},
    exit::Exit,
};

/// Refuses a directory that has a worker and no head: what starts or asks a head there would take
/// the worker away from its own one.
pub fn refuse(state: &StateDir, exit: Exit) -> Result<()> {
    let Some(head) = headless(state) else {
        return Ok(());
    };
    let dir = state.path().display();
    let text = format!("`{dir}` belongs to a worker that has joined the head at {head}");
    Err(Error::new(exit, text).hint(format!(
        "`orchestra-worker --state {dir}` starts it; where the head was in this directory itself and is lost, \
         `ctl restore FILE` brings it back from a backup, and its worker goes on; for another head name another \
         directory with `--state DIR`"
    )))
}

/// Whether it has what reaches a head and never had one itself.
pub fn is_of_client_only(state: &StateDir) -> bool {
    state.client().join("endpoint").exists() && !state.head().exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_client_directory_is_of_a_head_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        assert!(!is_of_client_only(&state));
        std::fs::create_dir_all(state.client()).unwrap();
        std::fs::write(state.client().join("endpoint"), "h:7117\n").unwrap();
        assert!(is_of_client_only(&state));
        std::fs::create_dir(state.head()).unwrap();
        assert!(!is_of_client_only(&state));
    }

    #[test]
    fn only_a_directory_with_a_worker_and_no_head_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        let refuse = |state| super::refuse(state, Exit::Usage);
        assert!(refuse(&state).is_ok());
        let pki = state.worker().join("pki");
        std::fs::create_dir_all(&pki).unwrap();
        assert!(refuse(&state).is_ok(), "it has not joined yet");
        std::fs::write(pki.join("endpoint"), "h:7117\n").unwrap();
        let refused = refuse(&state).unwrap_err().to_string();
        assert!(
            refused.ends_with("has joined the head at h:7117"),
            "{refused}"
        );
        std::fs::create_dir(state.head()).unwrap();
        assert!(refuse(&state).is_err(), "a restore was cut off");
        std::fs::create_dir(state.head().join("db")).unwrap();
        assert!(refuse(&state).is_ok());
    }
}
