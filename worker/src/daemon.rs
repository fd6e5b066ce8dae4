//! The worker's process: puts the parts together, and ends them in order.

use std::{ffi::OsString, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use anyhow::Context;
use orchestra_config::{
    Config, StateDir, durable, program,
    signals::{self, Heard},
};
use orchestra_telemetry::{Format, Telemetry};
use orchestra_types::runner::{RunnerInfo, WorkerInfo};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, Semaphore, oneshot, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    attempt::{self, Shared, StopReason},
    ballast::Ballast,
    blobs,
    bulk::{Bulk, Target},
    fleet::Fleet,
    gc::Places,
    ground::{self, Ground, Lost},
    housekeeping::Housekeeper,
    identity::{Home, Identity, memory_bytes},
    interim::Interims,
    join,
    lease::WorkerLease,
    meter::Meters,
    ports::Ports,
    prefetch::{self, Prefetch},
    process::{Abilities, Limits, Nursery, abilities},
    registry::{self, Registry},
    renewal,
    room::{self, Room},
    self_command::SelfCommand,
    session::{self, Session},
    spool,
    stumbles::{self, Stumbles},
};

/// How long the session's thread may take to end.
const SESSION_ENDS_WITHIN: Duration = Duration::from_secs(2);

/// What the worker is started with.
#[derive(Debug)]
pub struct Setup {
    /// Where everything lies.
    pub state: StateDir,
    /// The configuration, command line included.
    pub config: Config,
    /// The file that it is from, where one was named.
    pub config_file: Option<PathBuf>,
    /// How many agents may run at once in all.
    pub slots: u32,
    /// Where the head is.
    pub target: Target,
    /// How to run ourselves.
    pub me: SelfCommand,
    /// The environment that CLIs inherit.
    pub environment: Vec<(OsString, OsString)>,
    /// How log lines look.
    pub log: Format,
}

/// How a worker is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Agents are stopped first.
    Stop,
    /// Agents run on; the next worker process finds them.
    Leave,
}

/// Why a worker ends.
enum Ended {
    Told(End),
    /// Of itself: it cannot keep its promises.
    Failed(anyhow::Error),
    /// The head does not want it.
    Refused(session::Error),
    /// Its directories are gone.
    Groundless(Lost),
}

/// Runs until a signal ends it.
pub async fn run(setup: Setup) -> anyhow::Result<()> {
    let signals = Signals::new().context("failed to listen for signals")?;
    let home = Home::lock(&setup.state.worker())?;
    let identity = Identity::gather(&setup.state, &setup.config)?;
    let telemetry = Telemetry::init(&orchestra_telemetry::Setup {
        service: "orchestra-worker",
        version: env!("CARGO_PKG_VERSION"),
        instance: identity.id.as_str(),
        log: setup.config.telemetry.log.as_deref(),
        format: setup.log,
        log_file: Some(&setup.state.worker_log()),
        otlp_endpoint: setup.config.telemetry.otlp_endpoint.as_deref(),
        prometheus: false,
    })?;
    let done = serve(setup, &home, identity, signals).await;
    if let Err(error) = &done {
        tracing::error!(error = format!("{error:#}"), "worker failed");
    }
    telemetry.shutdown().await;
    done
}

async fn serve(
    setup: Setup,
    home: &Home,
    identity: Identity,
    mut signals: Signals,
) -> anyhow::Result<()> {
    tracing::info!(id = %identity.id, name = identity.name, slots = setup.slots, "worker starts");
    if let Some(exposed) = setup.state.exposed() {
        tracing::warn!("{exposed}");
    }
    let stops_within = setup.config.worker.stops_within();
    let (spool, mut spool_failed) = spool::start(home.spool())?;
    let registry = Registry {
        runners: setup.config.runners.clone(),
        slots: setup.slots,
        worker: identity.name.clone(),
        environment: setup.environment.clone(),
    };
    let mut announced = pin!(async {
        match home.announce(&identity, stops_within).await {
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    });
    let (found, told) = tokio::select! {
        biased;
        end = signals.next() => (Vec::new(), Some(end)),
        error = &mut announced => return Err(error),
        found = registry.look() => (found, None),
    };
    if told.is_some_and(|end| !ends_others(end, home)) {
        home.withdraw();
        return Ok(());
    }
    registry::log(&found);
    let (runners, seen) = watch::channel(found);
    let can = limits(&setup.config);
    let disks = vec![home.attempts(), workspaces(&setup, home)];
    let (room, space) = watch::channel(Room::default());
    let known = (seen.clone(), room.clone());
    let shared = shared(&setup, home, &identity, &spool, known, can.limits)?;
    // The directories are there now.
    room.send_replace(Room::look(&disks));
    shared.nursery.open();
    let ground = Arc::clone(&shared.ground);
    let stumbles = shared.stumbles.clone();
    let granted = shared.prefetch.watch();
    let (meters, interims) = (shared.meters.clone(), shared.interims.clone());
    let lease = shared.lease.clone();
    let (mut fleet, orders) = Fleet::load(Arc::new(shared)).context("failed to read attempts")?;

    let mut tasks = JoinSet::new();
    let installation = Arc::clone(identity.installation());
    let info = describe(
        &mut tasks,
        identity.clone(),
        setup.slots,
        can,
        Seen {
            runners: seen,
            room: space.clone(),
            resting: stumbles.watch(),
            stumbles,
            granted,
        },
    );
    let standing = Arc::clone(&ground);
    let ballast = Ballast::new(home.ballast(), setup.slots);
    // In one task: they look at the same moments, and so that is one wake-up of one thread.
    tasks.spawn(async move {
        tokio::join!(
            room::keep(disks, ballast, room, standing),
            registry.keep(runners)
        );
    });
    let places = Places::below(
        &setup.state.worker(),
        setup.config.worker.workspaces.clone(),
    );
    let (housekeeper, housekeeping) =
        Housekeeper::new(places, setup.config.worker.keep, space.clone());
    tasks.spawn(housekeeper.run());
    tasks.spawn(program::settle());
    let found = Arc::new(Notify::new());
    tasks.spawn(renewal::keep(setup.target.clone(), Arc::clone(&found)));
    let stop = CancellationToken::new();
    let session::Started {
        ended: session_ended,
        mut refused,
    } = session::start(Session {
        target: setup.target,
        info,
        installation,
        welcomed: false,
        sent: spool.progress().borrow().last,
        found,
        rejoin: join::rejoin(&setup.state),
        spool,
        fleet: orders,
        lease,
        meters,
        interims,
        housekeeping,
        stop: stop.clone(),
    })
    .context("failed to start the session's thread")?;

    let told = async {
        match told {
            Some(end) => end,
            None => signals.next().await,
        }
    };
    let ended = tokio::select! {
        biased;
        end = told => Ended::Told(end),
        failed = &mut spool_failed => failed_on(&ground, spool_error(failed)).await,
        error = announced => failed_on(&ground, error).await,
        lost = ground.lost() => Ended::Groundless(lost),
        Ok(error) = &mut refused => Ended::Refused(error),
        // Last: the fleet ends with the session, which says first why it does.
        () = fleet.serve() => Ended::Told(End::Stop),
    };
    // Where the directory is another one, it is not ours to write to.
    if ground.is_there() {
        home.announce_end(&identity, stops_within);
    }
    let done = match ended {
        Ended::Told(End::Stop) => {
            tracing::info!("worker stops; agents are stopped too");
            fleet.stop(StopReason::Shutdown).await;
            Ok(())
        }
        Ended::Told(End::Leave) => {
            tracing::info!("worker ends; agents run on");
            fleet.leave().await;
            Ok(())
        }
        Ended::Groundless(lost) => {
            tracing::error!("the worker's directories are gone; its agents are ended, and it ends");
            // IMPORTANT: first, so that the head hears of no failure that is only ours.
            stop.cancel();
            fleet.abandon().await;
            Err(lost.into())
        }
        Ended::Refused(error @ session::Error::ShutOut(_)) => {
            tracing::error!("the worker is shut out; its agents are stopped, and it ends");
            join::note_revoked(&home.dir().join("pki"));
            fleet.stop(StopReason::Revoked).await;
            Err(anyhow::anyhow!(
                "{error}; {}",
                join::readmission(&setup.state)
            ))
        }
        Ended::Refused(error) => {
            fleet.leave().await;
            Err(error.into())
        }
        Ended::Failed(failed) => {
            // Nothing can be promised any more: let go as a crash would.
            fleet.leave().await;
            Err(failed)
        }
    };
    stop.cancel();
    if timeout(SESSION_ENDS_WITHIN, session_ended).await.is_err() {
        tracing::warn!("the session did not end in time");
    }
    // Where the directory is another one, it is not ours to withdraw from.
    if ground.is_there() {
        home.withdraw();
    }
    done
}

/// Whether a worker that is told so while it still looks for runners has anything to end: agents that an
/// earlier one left, which nobody else ends in order.
fn ends_others(end: End, home: &Home) -> bool {
    match end {
        End::Leave => false,
        // Where it cannot be seen, reading them says why.
        End::Stop => attempt::running(home.dir()).map_or(true, |left| left > 0),
    }
}

/// Why it ends when something failed, which the loss of its directories may be the reason of.
async fn failed_on(ground: &Ground, error: anyhow::Error) -> Ended {
    match ground.is_there() {
        true => Ended::Failed(error),
        false => Ended::Groundless(ground.lost().await),
    }
}

/// What attempts may use: as configured, else what keeps one of them from taking its machine down.
fn limits(config: &Config) -> Abilities {
    const PROCESSES: u64 = 4096;
    let configured = config.worker.limits;
    let asked = Limits {
        memory: configured.memory,
        processes: configured.processes,
        cpu_millis: configured.processors,
    };
    let defaults = Limits {
        memory: Some(memory_bytes() / 10 * 9).filter(|bytes| *bytes > 0),
        processes: Some(PROCESSES),
        cpu_millis: None,
    };
    let can = abilities(asked, defaults);
    if !can.refused.is_empty() {
        tracing::warn!(limits = %can.refused, "the kernel does not keep these limits of attempts here");
    }
    can
}

fn spool_error(failed: Result<spool::Error, oneshot::error::RecvError>) -> anyhow::Error {
    match failed {
        Ok(error) => anyhow::Error::new(error).context("failed to keep reports; is the disk full?"),
        Err(_) => anyhow::anyhow!("the spool's thread ended"),
    }
}

fn workspaces(setup: &Setup, home: &Home) -> PathBuf {
    let configured = setup.config.worker.workspaces.clone();
    configured.unwrap_or_else(|| home.workspaces())
}

fn shared(
    setup: &Setup,
    home: &Home,
    identity: &Identity,
    spool: &spool::Handle,
    (runners, room): (watch::Receiver<Vec<RunnerInfo>>, watch::Sender<Room>),
    limits: Limits,
) -> anyhow::Result<Shared> {
    let attempts = home.attempts();
    let workspaces = workspaces(setup, home);
    for dir in [&attempts, &workspaces] {
        durable::create_private_dir(dir)
            .with_context(|| format!("failed to make `{}`", dir.display()))?;
        let spread = orchestra_repo::spread(dir);
        tracing::debug!(dir = %dir.display(), spread, "the directories of attempts lie here");
    }
    let dirs = [
        (ground::Kind::Home, home.dir()),
        (ground::Kind::Attempts, &attempts),
        (ground::Kind::Attempts, &workspaces),
    ];
    let ground = Ground::hold(dirs).context("failed to open the worker's directories")?;
    let blobs = blobs::Cache::open(home.cache().join("bundles"))
        .context("failed to make the cache of bundles")?;
    Ok(Shared {
        ground: Arc::new(ground),
        spool: spool.clone(),
        meters: Meters::default(),
        interims: Interims::default(),
        bulk: Bulk::new(setup.target.clone()),
        blobs,
        state: std::path::absolute(setup.state.path())
            .context("failed to find the state directory")?,
        config_file: setup.config_file.clone(),
        attempts,
        name: identity.name.clone(),
        aside: home.aside(),
        ballast: home.ballast(),
        workspaces,
        repositories: home.cache().join("repositories"),
        config: setup.config.clone(),
        runners,
        stumbles: Stumbles::default(),
        prefetch: Prefetch::of(&setup.config.runners),
        lease: WorkerLease::default(),
        slots: setup.slots,
        room,
        gathering: Arc::new(Semaphore::new(1)),
        limits,
        ports: Ports::new(
            setup.config.worker.ports.0.clone(),
            &identity.id.to_string(),
        ),
        me: setup.me.clone(),
        nursery: Nursery::new(setup.me.clone()),
        environment: setup.environment.clone(),
        installation: Arc::clone(identity.installation()),
        machine: identity.machine().clone(),
        boot: identity.boot().to_owned(),
    })
}

/// What a worker's description depends on.
struct Seen {
    runners: watch::Receiver<Vec<RunnerInfo>>,
    room: watch::Receiver<Room>,
    stumbles: Stumbles,
    resting: stumbles::Watch,
    granted: prefetch::Watch,
}

impl Seen {
    /// The runners as they are, with all that keeps them from work, and the room on the disk.
    fn look(&mut self) -> (Vec<RunnerInfo>, Room) {
        let room = self.room.borrow_and_update().clone();
        let runners = self.resting.limit(self.runners.borrow_and_update().clone());
        let runners = self.granted.grant(runners);
        (room.limit(runners), room)
    }

    /// Waits until something is different; whether there may be.
    async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.runners.changed() => {
                // What keeps them from work may be mended.
                self.stumbles.forget();
                changed.is_ok()
            }
            changed = self.room.changed() => changed.is_ok(),
            () = self.resting.changed() => true,
            () = self.granted.changed() => true,
        }
    }
}

/// Keeps the worker's description true.
fn describe(
    tasks: &mut JoinSet<()>,
    identity: Identity,
    slots: u32,
    can: Abilities,
    mut seen: Seen,
) -> watch::Receiver<WorkerInfo> {
    let now = move |seen: &mut Seen| {
        let (runners, room) = seen.look();
        identity.describe(slots, runners, &can, &room)
    };
    let (info, told) = watch::channel(now(&mut seen));
    tasks.spawn(async move {
        while seen.changed().await {
            info.send_replace(now(&mut seen));
        }
    });
    told
}

/// The signals that end a worker.
struct Signals {
    terminate: Signal,
    interrupt: Heard,
    hangup: Heard,
    /// The same as a hang-up, also for a worker that was started with that ignored.
    leave: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signals::hear(SignalKind::interrupt())?,
            hangup: signals::hear(SignalKind::hangup())?,
            leave: signal(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> End {
        tokio::select! {
            _ = self.terminate.recv() => End::Stop,
            () = self.interrupt.recv() => End::Stop,
            () = self.hangup.recv() => End::Leave,
            _ = self.leave.recv() => End::Leave,
        }
    }
}
