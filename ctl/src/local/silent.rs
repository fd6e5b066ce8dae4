//! A head that is there and does not answer: to start one is no way out.

use orchestra_config::StateDir;

use super::{daemon::Role, process::Process};

/// What to do about it, with all that a person needs for it.
pub fn hint(state: &StateDir, head: &Process) -> String {
    let (pid, log) = (head.pid(), Role::Head.log(state));
    let goes_on = match head.is_stopped() {
        true => format!("it was stopped by a signal, and `kill -CONT {pid}` lets it go on; "),
        false => String::new(),
    };
    format!(
        "the head is process {pid} and does not answer: {goes_on}its log is `{}`, and \
         `ctl stop --now` ends it, by force if it must",
        log.display()
    )
}
