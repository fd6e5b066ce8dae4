//! The head's life: start, serve, stop.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use orchestra_config::{Config, StateDir, durable, open_files, program, signals};
use orchestra_telemetry::{Format, Recorder, Scrape, Setup, Telemetry};
use orchestra_types::{AttemptId, MachineId, Timestamp};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use tokio_util::task::TaskTracker;

use crate::{
    args::Args,
    backup::Origin,
    blobs::Blobs,
    closing::{CLOSES_BOUND, Closer, Here},
    context,
    disk::Disk,
    door::Places,
    engine::{self, Clock, Engine, Observed},
    events::{self, Events},
    grpc::{self, About, Addresses, Interims, Services, Sessions, Twins, Uploads, Watches},
    keeping::{self, FORGOTTEN_BOUND, Keeper, OutputLimits},
    listen,
    lock::Lock,
    metrics::{self, Metrics},
    ready,
    removed::Removed,
    security::Security,
    shutdown::Stop,
    starting::Starter,
    store::Store,
    traces::Traces,
};

/// How long streams and calls may take to end.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// How long connections may take to end on which nothing is called any more. Whose peer is there, ends at once.
const CONNECTIONS_WITHIN: Duration = Duration::from_secs(1);
/// How long the engine may take to finish what waits. Then the process ends all the same: what was
/// acknowledged is durable.
const ENGINE_WITHIN: Duration = Duration::from_secs(10);

/// Says which start of the machine this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// How often the head looks whether the certificates of its machine are to be renewed.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(6 * 3600);

/// Runs the head until it is told to stop.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    open_files::raise();
    open_files::require()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("head")
        .build()
        .context("failed to start the runtime")?;
    let ran = runtime.block_on(start_and_serve(&args));
    // What still blocks, as a hanging git, must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ran.map(|()| ExitCode::SUCCESS)
}

async fn start_and_serve(args: &Args) -> anyhow::Result<()> {
    let started = Instant::now();
    let state = args.state_dir()?;
    state.refuse_foreign()?;
    let head_dir = state.head();
    let made = state
        .make()
        .and_then(|()| durable::create_private_dir(&head_dir));
    made.with_context(|| format!("failed to make `{}`", head_dir.display()))?;
    let config = load_config(args, &state)?;
    let _lock = Lock::take(&head_dir)?;
    let security = make_credentials(&state)?;
    let telemetry = Telemetry::init(&Setup {
        service: "orchestra-head",
        version: env!("CARGO_PKG_VERSION"),
        instance: security.cluster(),
        log: config.telemetry.log.as_deref(),
        format: if args.log_json {
            Format::Json
        } else {
            Format::Text
        },
        log_file: Some(&state.head_log()),
        otlp_endpoint: config.telemetry.otlp_endpoint.as_deref(),
        prometheus: config.head.metrics.unwrap_or(true),
    })?;
    if let Some(exposed) = state.exposed() {
        tracing::warn!("{exposed}");
    }
    let wanted = args.listen.or(config.head.listen);
    let listener = listen::bind(wanted, &head_dir.join("port")).await?;
    let head = Head {
        args,
        config,
        state,
        security,
        metrics: Arc::new(Metrics::new(&telemetry.meter(), head_dir.join("db"))),
        recorder: telemetry.recorder(),
        scrape: telemetry.scrape(),
        started,
    };
    let served = head.serve(listener).await;
    if let Err(error) = &served {
        tracing::error!(
            error = format!("{error:#}"),
            "the head stops because of an error"
        );
    }
    telemetry.shutdown().await;
    served
}

fn load_config(args: &Args, state: &StateDir) -> anyhow::Result<Config> {
    let path = match &args.config {
        Some(path) => path.clone(),
        None if state.config_file().exists() => state.config_file(),
        None => return Ok(Config::default()),
    };
    Ok(orchestra_config::load(&path)?)
}

/// The cluster's certificates, and those of `ctl` and the worker on this machine.
fn make_credentials(state: &StateDir) -> anyhow::Result<Security> {
    let now = Clock::start().now();
    let keys = state.head().join("pki");
    let others = state.client().join("ca.pem");
    // Where there was a head before, there is what it made for its worker.
    let had_head = keys.exists() || state.worker().join("pki").exists();
    anyhow::ensure!(
        had_head || !others.exists(),
        "`{}` has credentials for the head of another cluster, and this directory has no head yet: give the new one \
         a directory of its own with `--state DIR`, or move these away",
        state.client().display()
    );
    let security = Security::open(&keys, now)?;
    make_local(&security, state, now)?;
    Ok(security)
}

/// The certificates of `ctl` and the worker on this machine.
fn make_local(security: &Security, state: &StateDir, now: Timestamp) -> anyhow::Result<()> {
    let user = std::env::var("USER").unwrap_or_default();
    security.ensure_admin(&state.client(), &user, now)?;
    let worker = orchestra_config::worker_id(&state.worker())?;
    security.ensure_worker(&state.worker().join("pki"), &worker, now)?;
    Ok(())
}

/// Lets go of what only the start needed.
async fn settle(stop: Stop) {
    tokio::select! {
        () = stop.wished() => {}
        () = program::settle() => {}
    }
}

/// Renews the head's own certificate, and those of this machine, when they are due: a head may run for
/// years.
async fn renew_certificates(
    security: Security,
    state: StateDir,
    engine: engine::Handle,
    stop: Stop,
) {
    loop {
        tokio::select! {
            () = stop.wished() => return,
            () = tokio::time::sleep(CERTIFICATES_EVERY) => {}
        }
        let (security, state, now) = (security.clone(), state.clone(), engine.wall_now());
        let renew = move || {
            security.renew_own(&state.head().join("pki"), now)?;
            make_local(&security, &state, now)
        };
        match tokio::task::spawn_blocking(renew).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(
                error = format!("{error:#}"),
                "failed to renew the certificates of this machine"
            ),
            Err(error) => {
                tracing::error!(%error, "failed to renew the certificates of this machine")
            }
        }
    }
}

struct Head<'a> {
    args: &'a Args,
    config: Config,
    state: StateDir,
    security: Security,
    metrics: Arc<Metrics>,
    /// None where no span is sent.
    recorder: Option<Recorder>,
    scrape: Option<Scrape>,
    started: Instant,
}

/// What runs while the head serves.
struct Running {
    engine: Engine,
    events: events::Owner,
    closer: JoinSet<()>,
    server: JoinSet<Result<(), tonic::transport::Error>>,
    metrics_endpoint: JoinSet<std::io::Result<()>>,
    stop: Stop,
    tracker: TaskTracker,
}

impl Head<'_> {
    async fn serve(self, listener: TcpListener) -> anyhow::Result<()> {
        let listen = listener.local_addr()?;
        let metrics_listener = self.metrics_listener().await?;
        let metrics = metrics_listener.as_ref().map(TcpListener::local_addr);
        let metrics = metrics.transpose()?;
        let mut running = self.start(listener, metrics_listener).await?;
        let announcement = ready::announce(&self.state, listen, metrics)?;
        tracing::info!(%listen, cluster = self.security.cluster(), "the head serves");
        let ended = running.until_stop().await;
        // One that failed leaves it, as a crash does: nobody takes that for the end that was asked for.
        if ended.is_ok() {
            announcement.withdraw();
        }
        let stopped = running.wind_down().await;
        ended.and(stopped)?;
        tracing::info!("the head has stopped");
        Ok(())
    }

    /// None when the endpoint is off.
    async fn metrics_listener(&self) -> anyhow::Result<Option<TcpListener>> {
        if self.scrape.is_none() {
            return Ok(None);
        }
        let configured = self.args.metrics_listen.or(self.config.head.metrics_listen);
        let address = configured.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into());
        let bound = TcpListener::bind(address).await;
        let bound = bound.with_context(|| format!("failed to serve metrics on {address}"))?;
        Ok(Some(bound))
    }

    async fn start(
        &self,
        listener: TcpListener,
        metrics_listener: Option<TcpListener>,
    ) -> anyhow::Result<Running> {
        let head_dir = self.state.head();
        let listen = listener.local_addr()?;
        let metrics = Arc::clone(&self.metrics);
        let places = Places::of_this_process();
        let door = self.security.door(listener, places, metrics)?;
        let machine = orchestra_config::machine_id(&self.state)?;
        let disk = self.disk();
        let blobs = Blobs::open(&head_dir.join("blobs"))?;
        let (events, events_owner) =
            Events::start(&head_dir.join("events"), (&self.config.events).into())?;
        let (closes_sender, closes) = mpsc::channel(CLOSES_BOUND);
        let (forgotten_sender, forgotten) = mpsc::channel(FORGOTTEN_BOUND);
        let engine = self.start_engine(&disk, blobs.clone(), closes_sender, forgotten_sender);
        let engine = engine.await?;
        keeping::warn_of_doubt(engine.doubt, events.doubt());
        let context_dir = head_dir.join("context");
        let context = context::Store::new(&context_dir, &self.config.context, machine.clone());
        let context = Arc::new(context);
        let twins = self.twins(&engine, &machine).await?;
        let metrics = metrics_listener.as_ref().map(TcpListener::local_addr);
        let (stop, tracker) = (Stop::default(), TaskTracker::new());
        let keeper = Keeper {
            engine: engine.handle.clone(),
            events: events.clone(),
            blobs: blobs.clone(),
            uploads_for: self.config.retention.uploads_for,
            context: Arc::clone(&context),
            outputs: OutputLimits {
                kept_for: self.config.retention.outputs_for,
                max: self.config.retention.outputs_max,
            },
            metrics: Arc::clone(&self.metrics),
            gate: Arc::default(),
        };
        let services = Arc::new(Services {
            engine: engine.handle.clone(),
            events,
            blobs: blobs.clone(),
            disk: disk.clone(),
            security: self.security.clone(),
            starter: Starter::new(
                engine.handle.clone(),
                blobs.clone(),
                Arc::clone(&context),
                self.traces(),
            ),
            context: Arc::clone(&context),
            metrics: Arc::clone(&self.metrics),
            about: About {
                state_dir: self.state.path().to_owned(),
                machine: machine.clone(),
                listen,
                advertise: listen::advertised(listen, self.advertise()),
                metrics: metrics.transpose()?,
                started: self.started,
                lease: self.config.queue.lease,
                origin: Origin::read(&head_dir),
            },
            stop: stop.clone(),
            tracker: tracker.clone(),
            keeper: keeper.clone(),
            room: grpc::Room::default(),
            addresses: Addresses::default(),
            interims: Interims::default(),
            sessions: Sessions::new(uuid::Uuid::new_v4().as_u64_pair().0 / 2),
            twins,
            removed: Removed::open(&head_dir.join("removed.json")),
            watches: Watches::default(),
            uploads: Uploads::default(),
        });
        let closer = Closer {
            engine: engine.handle.clone(),
            blobs,
            context,
            here: Here {
                machine,
                state: self.state.clone(),
                cluster: self.security.cluster().to_owned(),
            },
            traces: self.traces(),
        };
        let mut closers = JoinSet::new();
        closers.spawn(closer.run(closes, stop.clone()));
        closers.spawn(keeper.run(forgotten, stop.clone()));
        closers.spawn(settle(stop.clone()));
        closers.spawn(renew_certificates(
            self.security.clone(),
            self.state.clone(),
            engine.handle.clone(),
            stop.clone(),
        ));
        let mut server = JoinSet::new();
        server.spawn(grpc::serve(door, services));
        let mut metrics_endpoint = JoinSet::new();
        if let (Some(listener), Some(scrape)) = (metrics_listener, self.scrape.clone()) {
            metrics_endpoint.spawn(serve_metrics(listener, scrape, disk, stop.clone()));
        }
        Ok(Running {
            engine,
            events: events_owner,
            closer: closers,
            server,
            metrics_endpoint,
            stop,
            tracker,
        })
    }

    /// With the workers that were welcome before this start.
    async fn twins(&self, engine: &Engine, machine: &MachineId) -> anyhow::Result<Twins> {
        let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
        let twins = Twins::new(self.config.queue.lease);
        let (expecting, machine) = (twins.clone(), machine.clone());
        let read = engine.handle.read(move |view| {
            for worker in view.core.workers() {
                expecting.expect(worker.info, &machine, boot.trim());
            }
            Ok(())
        });
        read.await.context("failed to read the workers")?;
        Ok(twins)
    }

    fn disk(&self) -> Disk {
        let reserve = self.config.head.disk_reserve_mb;
        let reserve = reserve.map(|megabytes| megabytes * 1_000_000);
        Disk::watch(&self.state.head(), reserve)
    }

    async fn start_engine(
        &self,
        disk: &Disk,
        blobs: Blobs,
        closes: mpsc::Sender<engine::Close>,
        forgotten: mpsc::Sender<AttemptId>,
    ) -> anyhow::Result<Engine> {
        let path = self.state.head().join("db");
        let disk = disk.clone();
        let config = self.core_config();
        let runtime = tokio::runtime::Handle::current();
        let observed = Observed {
            metrics: Arc::clone(&self.metrics),
            traces: self.traces(),
        };
        // Opening reads everything, and may wait for a lock.
        let started = tokio::task::spawn_blocking(move || {
            let store = Store::open(&path, blobs)?.on(disk);
            engine::start(store, config, closes, forgotten, observed, runtime)
        });
        Ok(started.await.context("failed to open the store")??)
    }

    fn traces(&self) -> Option<Traces> {
        let recorder = self.recorder.clone()?;
        Some(Traces::new(self.security.cluster(), recorder))
    }

    fn core_config(&self) -> orchestra_core::Config {
        let default = orchestra_core::Config::default();
        let mut known_runners = default.known_runners;
        known_runners.extend(self.config.runners.keys().cloned());
        orchestra_core::Config {
            promote_after: self.config.queue.promote_after,
            retry_delay: self.config.queue.retry_delay,
            stall_notice: self.config.queue.stall_notice,
            lease: self.config.queue.lease,
            // Time to come back for a worker that was away for nearly all of its lease.
            lease_grace: self.config.queue.lease / 2,
            queue_max: self.config.head.queue_max.unwrap_or(default.queue_max),
            known_runners,
            retention: orchestra_core::Retention {
                finished_for: self.config.retention.finished_for,
                finished_max: self.config.retention.finished_max,
                keys_for: self.config.retention.keys_for,
            },
            accounts: self.config.account_limits(),
            budgets: self.config.budgets.projects.clone(),
            budget_default: self.config.budgets.default.unwrap_or_default(),
            prices: self.prices(),
            ..default
        }
    }

    fn prices(&self) -> BTreeMap<String, orchestra_core::Price> {
        let all = self.config.prices.iter();
        let price = |price: &orchestra_config::Price| orchestra_core::Price {
            input: price.input,
            cached: price.cached.unwrap_or(price.input),
            output: price.output,
        };
        all.map(|(model, p)| (model.clone(), price(p))).collect()
    }

    fn advertise(&self) -> Option<&str> {
        let configured = self.config.head.advertise.as_deref();
        self.args.advertise.as_deref().or(configured)
    }
}

async fn serve_metrics(
    listener: TcpListener,
    scrape: Scrape,
    disk: Disk,
    stop: Stop,
) -> std::io::Result<()> {
    let until = stop.clone();
    let ready = move || match stop.is_wished() {
        true => Err("the head is stopping".to_owned()),
        false => disk.room().map_err(|full| full.to_string()),
    };
    let router = metrics::router(scrape, ready);
    metrics::serve(listener, router, async move { until.wished().await }).await
}

impl Running {
    /// Waits for a signal, a call of `Shutdown`, or the end of something that must not end.
    async fn until_stop(&mut self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signals::hear(SignalKind::interrupt())?;
        let mut hang_up = signals::hear(SignalKind::hangup())?;
        tokio::select! {
            // IMPORTANT: the wish to stop is looked at before the ends that follow from it.
            biased;
            _ = terminate.recv() => tracing::info!("stopping: SIGTERM"),
            () = interrupt.recv() => tracing::info!("stopping: SIGINT"),
            // The terminal that it was started from is gone. Workers and their agents go on without it.
            () = hang_up.recv() => tracing::info!("stopping: SIGHUP"),
            () = self.stop.wished() => tracing::info!("stopping: asked to"),
            ended = self.engine.ended() => {
                ended?;
                anyhow::bail!("the engine ended by itself; this is a bug in Orchestra");
            }
            ended = self.events.ended() => {
                ended?;
                anyhow::bail!("the owner of events ended by itself; this is a bug in Orchestra");
            }
            Some(ended) = self.server.join_next() => {
                ended.context("the server panicked")?.context("the server failed")?;
                anyhow::bail!("the server ended by itself; this is a bug in Orchestra");
            }
        }
        Ok(())
    }

    /// Ends everything in order: streams and calls, closers, the engine, the events.
    async fn wind_down(mut self) -> anyhow::Result<()> {
        self.stop.now();
        self.tracker.close();
        let drained = timeout(DRAIN_WITHIN, async {
            self.tracker.wait().await;
            while self.closer.join_next().await.is_some() {}
            while self.metrics_endpoint.join_next().await.is_some() {}
            let connections = async { while self.server.join_next().await.is_some() {} };
            if timeout(CONNECTIONS_WITHIN, connections).await.is_err() {
                tracing::info!("left connections behind whose peers do not answer");
            }
            // What was called meanwhile by who had not heard of the end.
            self.tracker.wait().await;
        });
        if drained.await.is_err() {
            tracing::warn!(
                streams = self.tracker.len(),
                "cut off what had not ended in time"
            );
        }
        // Connections that are left behind keep their handles, so that both owners are told to end.
        self.server.shutdown().await;
        self.closer.shutdown().await;
        self.metrics_endpoint.shutdown().await;
        // An engine that has failed is gone already.
        let _ = self.engine.handle.stop().await;
        let ended = timeout(ENGINE_WITHIN, self.engine.ended()).await;
        ended.context("the engine did not end in time")??;
        self.engine.join()?;
        let ended = timeout(ENGINE_WITHIN, async {
            self.events.stop().await;
            self.events.ended().await
        });
        let ended = ended.await;
        ended.context("the owner of events did not end in time")??;
        Ok(())
    }
}
