//! The local cluster: the head and worker that `ctl start` starts as processes of this same
//! program.

pub mod daemon;
pub mod joined;
pub mod process;
pub mod record;
pub mod silent;
pub mod stop_lock;
