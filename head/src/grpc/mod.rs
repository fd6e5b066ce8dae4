//! The gRPC services. They turn wire into our words and answers into wire; they decide nothing.
//!
//! One file for each group of calls; `status` is the one place that makes a `tonic::Status`.

mod accounts;
mod admin;
mod backup;
mod budgets;
mod bulk;
mod capacity;
mod change;
mod check;
mod cluster;
mod context;
mod credentials;
mod dirty;
mod each;
mod fleet;
mod flood;
mod follow;
mod garbage;
mod interims;
mod list;
mod manifest;
mod outgoing;
mod purge;
mod push;
mod receive;
mod schedules;
mod server;
mod session;
mod status;
mod stream;
mod submit;
mod twins;
mod uploads;
mod watch;
mod watches;
mod wire;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use orchestra_types::{MachineId, WorkerId};
use tokio_util::task::TaskTracker;

use crate::{
    backup::Origin, blobs::Blobs, context as shared, disk::Disk, engine::Handle, events::Events,
    keeping::Keeper, metrics::Metrics, removed::Removed, security::Security, shutdown::Stop,
    starting::Starter,
};

pub use flood::Room;
pub use garbage::Sessions;
pub use interims::Interims;
pub use server::serve;
pub use twins::Twins;
pub use uploads::Uploads;
pub use watches::Watches;

/// What all services share.
pub struct Services {
    /// Decisions and durable state.
    pub engine: Handle,
    /// Events of attempts.
    pub events: Events,
    /// Stored bytes.
    pub blobs: Blobs,
    /// Whether there is room for more of all that.
    pub disk: Disk,
    /// Who may call.
    pub security: Security,
    /// The shared context of projects.
    pub context: Arc<shared::Store>,
    /// Counts events.
    pub metrics: Arc<Metrics>,
    /// Makes orders to start complete.
    pub starter: Starter,
    /// Facts about this head.
    pub about: About,
    /// When to stop.
    pub stop: Stop,
    /// Owns what outlives a call: streams and sessions. The shutdown waits for them.
    pub tracker: TaskTracker,
    /// Removes what nobody needs.
    pub keeper: Keeper,
    /// How much may be submitted at once.
    pub room: Room,
    /// Where attached workers come from.
    pub addresses: Addresses,
    /// What running attempts have changed.
    pub interims: Interims,
    /// The sessions of attached workers, for what people ask of them.
    pub sessions: Sessions,
    /// Which installations the attached workers are.
    pub twins: Twins,
    /// What workers were called that were removed.
    pub removed: Removed,
    /// How many streams may be watched.
    pub watches: Watches,
    /// How many uploads may be open, and write.
    pub uploads: Uploads,
}

/// Facts about this head that do not change while it runs.
#[derive(Clone, Debug)]
pub struct About {
    /// Where everything lies.
    pub state_dir: PathBuf,
    /// The machine.
    pub machine: MachineId,
    /// Where the services listen.
    pub listen: SocketAddr,
    /// `HOST:PORT` that other machines reach them by.
    pub advertise: String,
    /// The Prometheus endpoint; none when it is off.
    pub metrics: Option<SocketAddr>,
    /// When the process started.
    pub started: Instant,
    /// How long workers may go unheard.
    pub lease: Duration,
    /// Which backup its state comes from, if any.
    pub origin: Option<Origin>,
}

/// Where attached workers come from. The core does not care; people do.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    inner: Arc<Mutex<BTreeMap<WorkerId, SocketAddr>>>,
}

impl Addresses {
    fn note(&self, worker: WorkerId, address: Option<SocketAddr>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match address {
            Some(address) => inner.insert(worker, address),
            None => inner.remove(&worker),
        };
    }

    fn snapshot(&self) -> BTreeMap<WorkerId, SocketAddr> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clone()
    }
}
