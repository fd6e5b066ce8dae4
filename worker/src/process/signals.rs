//! Signals of the supervisor itself.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// What a parent may have set to "ignore" and a CLI must not inherit. A handler here means the
/// default in whatever is started, and that the supervisor itself outlives a stray signal.
const HANDLED: [i32; 12] = [
    1,  // HUP
    2,  // INT
    3,  // QUIT
    10, // USR1
    12, // USR2
    13, // PIPE
    14, // ALRM
    15, // TERM
    17, // CHLD
    20, // TSTP
    21, // TTIN
    22, // TTOU
];

/// Takes a handler for every signal that a CLI could find ignored. Handlers stay for the life of
/// the process.
pub(super) fn reset() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let _entered = runtime.enter();
    for number in HANDLED {
        // The handler is what counts; nobody waits for the signal itself.
        drop(signal(SignalKind::from_raw(number))?);
    }
    Ok(())
}
