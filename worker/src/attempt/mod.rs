//! One attempt: from the order to the acknowledged result.
//!
//! One task owns each attempt. What it has reached is in `attempt.json`, written before the next
//! step depends on it, so that a worker that was killed at any point goes on from there.
//!
//! ```text
//! accepted -> prepared -> started -> ended -> collected -> reported -> (removed)
//!     `------------ could not ---------------^
//! ```

mod again;
mod aside;
mod begin;
mod collect;
mod deliver;
mod earlier;
mod environment;
mod files;
mod follow;
mod launch;
mod left;
mod look;
mod machine;
mod noop;
mod order;
mod ports;
mod prepare;
mod reboot;
mod reclaim;
mod record;
mod renew;
mod replay;
mod run;
mod set_up;
mod signs;
mod slot;
mod stage;
mod until_room;

pub use aside::{fail, named as put_aside_as, report_late, unreported};
pub use left::{is_running, running};
pub use machine::StopReason;
pub use noop::Noops;
pub use ports::keep as keep_ports;
pub use record::stage;
pub use run::{Begin, Control, Error, Shared, chain, give_back, give_back_for_room, run};
pub use stage::Stage;
