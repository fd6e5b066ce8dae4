//! The process of one attempt: started, followed, stopped, and found again after a restart.
//!
//! This room is the only one that knows pids, signals and cgroups. A small supervisor process
//! per attempt ([`supervise_main`]) owns the CLI and writes its raw output to files, so that a
//! worker that is restarted, upgraded or killed neither ends nor blinds a running agent. The
//! worker's side of it is [`Process`].
//!
//! ```text
//! DIR/spawn.json    what to run; who removes it decides: a supervisor, to start it, or a worker
//!                   that has found no supervisor, so that nobody starts it. Holds secrets
//!     stdin         what the CLI is given first, if anything
//!     stdout.log    what it printed, byte for byte, if anything
//!     stderr.log
//!     running.json  who the supervisor is, before it starts anything, and then the CLI
//!     control.sock  commands to the supervisor, and its word that there is more output
//!     exit.json     how it ended; written last, when nothing of it is left
//! ```

mod alive;
mod birth;
mod bounds;
mod cage;
mod cgroup;
mod client;
mod family;
mod files;
mod follow;
mod identity;
mod inherited;
mod insist;
mod keeper;
mod limits;
mod link;
mod nursery;
mod orphans;
mod pump;
mod serve;
mod set_up;
mod signals;
mod supervisor;

#[cfg(test)]
pub use alive::note_this_as_running;
pub use alive::{is_left, is_running};
pub use cage::{Abilities, KillMethod, abilities};
pub use client::{Process, ProcessError, ProcessEvent, Reattach};
pub use files::{ExitRecord, LOG_BYTES_MAX, Spawn, StreamRecord};
pub use follow::{Line, Offsets, Stream};
pub use inherited::inherit_nothing;
pub use insist::Silence;
pub use limits::{Limits, Met, failure as limit_failure, refused_forks};
pub use nursery::{Nursery, nursery_main};
pub use orphans::end_orphans;
pub use set_up::{NotReady, SetUp, SetUpOutput, Whose, set_up_main};
pub use supervisor::supervise_main;
