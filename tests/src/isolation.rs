//! Puts the whole test run into a network namespace that has only loopback, so that nothing that
//! a test starts, real CLIs first of all, can reach beyond the machine.

use std::{os::unix::process::CommandExt, process::Command};

/// Says to the second incarnation of this process that it is inside.
const INSIDE: &str = "ORCHESTRA_TESTS_ISOLATED";

/// Whether the run is inside.
#[must_use]
pub fn is_active() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Executes this program again inside the namespace, if the machine allows it. Returns when it
/// does not, or when the program is inside already.
pub fn enter() {
    if is_active() || std::env::args().any(|arg| arg == "--list") {
        return;
    }
    let Some(flags) = [vec!["--net"], vec!["--net", "--map-root-user"]]
        .into_iter()
        .find(|flags| works(flags))
    else {
        return;
    };
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let error = Command::new("unshare")
        .args(flags)
        .args(["--", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .env("ORCHESTRA_TESTS_BUILT", "1")
        .exec();
    eprintln!("not isolated: failed to run unshare: {error}");
}

fn works(flags: &[&str]) -> bool {
    let tried = Command::new("unshare")
        .args(flags)
        .args(["--", "ip", "link", "set", "lo", "up"])
        .output();
    tried.is_ok_and(|output| output.status.success())
}
