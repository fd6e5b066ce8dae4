//! What calls a command off: Ctrl-C, and the signals by which the end of a session, `timeout` or a service
//! manager ends it.

use orchestra_config::signals::{self, Heard};
use tokio::signal::unix::SignalKind;

use crate::error::{OrFailed, Result};

/// Hears of it from its making on.
#[derive(Debug)]
pub struct Interrupt {
    interrupt: Heard,
    terminate: Heard,
    hang_up: Heard,
}

impl Interrupt {
    /// Listens from now on. What whoever started this command wants ignored stays ignored, as by `nohup` or by
    /// a shell for what runs in the background.
    pub fn listen() -> Result<Self> {
        let hear =
            |kind| signals::hear(kind).or_failed(|| "failed to listen for Ctrl-C".to_owned());
        Ok(Self {
            interrupt: hear(SignalKind::interrupt())?,
            terminate: hear(SignalKind::terminate())?,
            hang_up: hear(SignalKind::hangup())?,
        })
    }

    /// Waits for one of them. May be dropped and called again.
    pub async fn recv(&mut self) {
        tokio::select! {
            () = self.interrupt.recv() => {}
            () = self.terminate.recv() => {}
            () = self.hang_up.recv() => {}
        }
    }
}
