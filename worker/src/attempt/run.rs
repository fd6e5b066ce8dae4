//! The owner of one attempt: takes it from phase to phase.

use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use orchestra_config::Config;
use orchestra_proto::{Refused, v1};
use orchestra_types::{
    AttemptId, EventKind, Exit, Failure, MachineId, Outcome, Timestamp, runner::RunnerInfo,
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use super::{
    aside,
    begin::{accept, end_orphans, find, reopen},
    files::Files,
    machine::{self, StopReason, Times},
    order::Order,
    record::{self, Phase},
    slot::Slot,
    stage::Stage,
    until_room::{or_given_back, with_room, with_room_unless_stopped},
};
use crate::{
    blobs,
    blocking::blocking,
    bulk::Bulk,
    clock, disk,
    events::{self, Cause, Journal, Pushed},
    ground::Ground,
    installation::Installation,
    interim::Interims,
    lease::WorkerLease,
    meter::Meters,
    ports::{Lease, Ports},
    prefetch::Prefetch,
    process::{self, Limits, Nursery},
    room::{self, Full, Room},
    self_command::SelfCommand,
    spool,
    stumbles::Stumbles,
};

/// What all attempts of a worker have in common.
#[derive(Debug)]
pub struct Shared {
    /// What all of it stands on.
    pub ground: Arc<Ground>,
    /// Where the reports go.
    pub spool: spool::Handle,
    /// Where it is said what attempts have used.
    pub meters: Meters,
    /// Where it is said what attempts have changed.
    pub interims: Interims,
    /// Where bytes and events go.
    pub bulk: Bulk,
    /// Bundles.
    pub blobs: blobs::Cache,
    /// The state directory, in which all of it lies.
    pub state: PathBuf,
    /// The configuration file that was named at the start.
    pub config_file: Option<PathBuf>,
    /// The attempts' own directories.
    pub attempts: PathBuf,
    /// The worker's name.
    pub name: String,
    /// Where attempts go that cannot go on.
    pub aside: PathBuf,
    /// Room for ends on a full disk.
    pub ballast: PathBuf,
    /// The agents' directories.
    pub workspaces: PathBuf,
    /// One bare repository for each project.
    pub repositories: PathBuf,
    /// The configuration.
    pub config: Config,
    /// The runners as they are.
    pub runners: watch::Receiver<Vec<RunnerInfo>>,
    /// Those that cannot begin anything.
    pub stumbles: Stumbles,
    /// What may wait here for a slot.
    pub prefetch: Prefetch,
    /// Whether the head counts on this worker, so that something may be begun.
    pub lease: WorkerLease,
    /// How many agents may run at once in all.
    pub slots: u32,
    /// Room on the disks.
    pub room: watch::Sender<Room>,
    /// One permit: on a full disk results are gathered one after another.
    pub gathering: Arc<Semaphore>,
    /// What each attempt may use.
    pub limits: Limits,
    /// The ports that attempts get.
    pub ports: Ports,
    /// How to run ourselves.
    pub me: SelfCommand,
    /// Where supervisors come from.
    pub nursery: Nursery,
    /// The worker's own environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Whether what is found here is this worker's.
    pub installation: Arc<Installation>,
    /// The machine that in-place work must be on.
    pub machine: MachineId,
    /// This boot of the machine.
    pub boot: String,
}

impl Shared {
    /// Where the files of a new attempt lie.
    #[must_use]
    pub fn files(&self, attempt: AttemptId) -> Files {
        Files::new(&self.attempts, &self.workspaces, attempt)
    }

    /// The fullest of the disks that attempts write to.
    pub(super) fn look_for_room(&self) -> Room {
        Room::look(&[self.attempts.clone(), self.workspaces.clone()])
    }

    /// Whether the disk is so full that what failed may have failed for that.
    pub fn lacks_room(&self) -> bool {
        self.look_for_room().lacking().is_some()
    }

    /// Where the files of an attempt lie that may have been begun before this process.
    #[must_use]
    pub fn files_begun(&self, attempt: AttemptId) -> Files {
        Files::begun(&self.attempts, &self.workspaces, attempt)
    }
}

/// How the fleet and an attempt talk.
#[derive(Debug)]
pub struct Control {
    /// Whether it is to end. Set once.
    pub stop: watch::Receiver<Option<StopReason>>,
    /// How long each rung of the stop ladder may take; set when the worker stops.
    pub grace: watch::Receiver<Option<Duration>>,
    /// How far it is.
    pub stage: watch::Sender<Stage>,
}

/// How an attempt comes to this worker process.
#[derive(Debug)]
pub enum Begin {
    /// By an order of the head.
    Ordered(Box<v1::Start>),
    /// From what an earlier process has left on disk, with its ports.
    Found(Option<Lease>),
}

/// Why an attempt cannot go on: the worker's own disk, or its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the attempt.
    #[error(transparent)]
    Record(#[from] record::Error),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] events::Error),
    /// The supervisor.
    #[error(transparent)]
    Process(#[from] process::ProcessError),
    /// The spool is closed: the worker is stopping.
    #[error(transparent)]
    Stopping(#[from] spool::Closed),
    /// The disk is full, and nothing of it runs yet: it is given back.
    #[error("the disk is full")]
    NoRoom,
    /// The worker is stopping, and nothing of it runs yet.
    #[error("left to the next start")]
    Left,
    /// The worker's directories are gone.
    #[error("the worker's directories are gone")]
    Groundless,
    /// A bug.
    #[error("the owner of the attempt panicked")]
    Panicked(#[source] tokio::task::JoinError),
    /// The order is not understood.
    #[error("the order is not understood")]
    Order(#[from] Refused),
    /// A directory.
    #[error("failed to {doing} `{path}`")]
    Dir {
        /// What was tried.
        doing: &'static str,
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Full for Error {
    fn is_full(&self) -> bool {
        match self {
            Self::Record(error) => error.is_full(),
            Self::Dir { source, .. } => source.is_full(),
            Self::Journal(error) => error.is_full(),
            Self::Process(_)
            | Self::Stopping(_)
            | Self::NoRoom
            | Self::Left
            | Self::Groundless
            | Self::Panicked(_)
            | Self::Order(_) => false,
        }
    }
}

/// One attempt in the hands of its owner.
pub(super) struct Attempt {
    pub shared: Arc<Shared>,
    pub id: AttemptId,
    pub files: Files,
    pub order: Order,
    pub control: Control,
    pub journal: Journal,
    pub pushed: watch::Receiver<Pushed>,
    /// Said to the pusher when its events are waited for.
    pub hurry: CancellationToken,
    /// Its ports, until its CLI has ended.
    pub ports: Option<Lease>,
    /// For how long it has its slot; none where another process began it.
    pub slot: Option<Slot>,
    /// What goes on beside: events are pushed, a spare work tree is made. Ends with the owner.
    pub background: JoinSet<()>,
}

/// Runs an attempt until the head has acknowledged its result and nothing of it is left here.
///
/// The future may be dropped at any time: another run goes on from what is on disk.
pub async fn run(
    shared: Arc<Shared>,
    id: AttemptId,
    begin: Begin,
    mut control: Control,
) -> Result<(), Error> {
    let (files, slot) = match &begin {
        Begin::Ordered(_) => (shared.files(id), Some(Slot::begins())),
        Begin::Found(_) => (shared.files_begun(id), None),
    };
    if let Begin::Found(_) = begin {
        ours(&shared, &mut control).await?;
    }
    let events = files.events();
    let open = move || Journal::open(&events, |_| {});
    let (order, phase, ports, journal) = match begin {
        Begin::Ordered(start) => {
            let accepted = accept(&files, id, &shared.boot, *start);
            let accepted = accepted.and_then(|order| Ok((order, open()?)));
            let (order, journal) = match accepted {
                Err(error) if error.is_full() => return Err(Error::NoRoom),
                accepted => accepted?,
            };
            (order, Phase::Accepted, None, journal)
        }
        Begin::Found(ports) => match find(&files, &shared.boot).await? {
            Some((order, phase)) => {
                end_orphans(&files, &phase).await;
                (order, phase, ports, reopen(open).await?)
            }
            None => return remove(&files).await,
        },
    };
    let span = info_span!("attempt", attempt = %id, runner = %order.runner);
    orchestra_telemetry::set_parent(&span, &order.traceparent);
    let mut attempt = Attempt::new(Arc::clone(&shared), id, files, order, control, journal);
    attempt.ports = ports;
    attempt.slot = slot;
    let done = attempt.finish_phases(phase).instrument(span).await;
    room::note_waiting(&shared.room, id, None);
    shared.meters.end(id);
    done
}

/// Waits until what was found is known to be this worker's: it may be a copy of what another one has, and
/// its agent would run twice.
async fn ours(shared: &Shared, control: &mut Control) -> Result<(), Error> {
    let ends = |reason: &Option<StopReason>| {
        matches!(
            reason,
            Some(StopReason::Shutdown | StopReason::Revoked | StopReason::Groundless)
        )
    };
    tokio::select! {
        () = shared.installation.admitted() => Ok(()),
        _ = control.stop.wait_for(ends) => Err(Error::Left),
    }
}

/// Gives an attempt back for which there is no room here. The head hears first that there is none, or it
/// would order it here again.
pub async fn give_back_for_room(shared: Arc<Shared>, id: AttemptId) -> Result<(), Error> {
    let seen = shared.look_for_room();
    shared.room.send_modify(|room| room.is_now(seen));
    if let Err(error) = remove(&shared.files_begun(id)).await {
        // The next start finds it, and the head has it removed.
        tracing::error!(attempt = %id, error = chain(&error), "what there is of it stays");
    }
    sleep(room::RETRY_AFTER).await;
    give_back(shared, id).await
}

/// Gives an attempt back that was not begun. Runs until the head has acknowledged it, so that the
/// attempt counts as held until then: what a worker does not hold is ordered from it again.
pub async fn give_back(shared: Arc<Shared>, id: AttemptId) -> Result<(), Error> {
    let body = v1::report::Body::GivenBack(v1::report::GivenBack {});
    let seq = record_report(&shared.spool, id, body).await?;
    Ok(acknowledged(&shared.spool, seq).await?)
}

/// The outcome of an attempt whose CLI was never started.
pub(super) fn nothing(failure: Failure, now: Timestamp) -> Outcome {
    let reason = failure.message.clone();
    Outcome {
        failure: Some(failure),
        ..Outcome::bare(Exit::NotStarted { reason }, now)
    }
}

/// An error with all its causes in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    let texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

async fn remove(files: &Files) -> Result<(), Error> {
    let files = files.clone();
    blocking(move || {
        // The record goes last: what is left of a removal that was cut short is removed again.
        remove_dir(files.area())?;
        remove_dir(files.dir())
    })
    .await
}

pub(super) fn make_dir(path: &std::path::Path) -> Result<(), Error> {
    orchestra_config::durable::create_private_dir(path).map_err(|source| Error::Dir {
        doing: "make",
        path: path.to_owned(),
        source,
    })
}

pub(super) fn remove_dir(path: &std::path::Path) -> Result<(), Error> {
    disk::remove_dir(path).map_err(|source| Error::Dir {
        doing: "remove",
        path: path.to_owned(),
        source,
    })
}

pub(super) async fn record_report(
    spool: &spool::Handle,
    attempt: AttemptId,
    body: v1::report::Body,
) -> Result<u64, spool::Closed> {
    spool.record(new_report(attempt, body)).await
}

fn new_report(attempt: AttemptId, body: v1::report::Body) -> spool::NewReport {
    spool::NewReport {
        attempt,
        time: clock::now(),
        body,
    }
}

/// Waits until the head has made a report durable.
pub(super) async fn acknowledged(spool: &spool::Handle, seq: u64) -> Result<(), spool::Closed> {
    let mut progress = spool.progress();
    let done = progress.wait_for(|progress| progress.acked >= seq).await;
    done.map(drop).map_err(|_| spool::Closed)
}

impl Attempt {
    fn new(
        shared: Arc<Shared>,
        id: AttemptId,
        files: Files,
        order: Order,
        control: Control,
        journal: Journal,
    ) -> Self {
        let (progress, pushed) = watch::channel(Pushed::default());
        let mut background = JoinSet::new();
        let hurry = CancellationToken::new();
        let source = events::Source {
            attempt: id,
            journal: files.events(),
            last: journal.last(),
            hurry: hurry.clone(),
        };
        background.spawn(events::push(shared.bulk.clone(), source, progress));
        Self {
            shared,
            id,
            files,
            order,
            control,
            journal,
            pushed,
            hurry,
            ports: None,
            slot: None,
            background,
        }
    }

    async fn finish_phases(mut self, mut phase: Phase) -> Result<(), Error> {
        loop {
            if phase.has_ended() {
                self.ports = None;
            }
            phase = match phase {
                Phase::Accepted => self.prepare().instrument(info_span!("prepare")).await?,
                Phase::Prepared => self.start().instrument(info_span!("run")).await?,
                Phase::Started(started) => {
                    self.resume(started).instrument(info_span!("run")).await?
                }
                Phase::Ended(ended) => {
                    self.collect(*ended)
                        .instrument(info_span!("collect"))
                        .await?
                }
                Phase::Collected => self.deliver().instrument(info_span!("deliver")).await?,
                Phase::Reported { seq } => {
                    acknowledged(&self.shared.spool, seq).await?;
                    self.note_slot();
                    return self.leave().await;
                }
            };
            if matches!(phase, Phase::Ended(_)) && self.lacks_room() {
                // Writing down that it has ended needs room, too.
                self.reclaim().await?;
                match self.lacks_room() {
                    true => self.waits_for_room(0),
                    false => self.waits_no_longer(),
                }
            }
            match phase {
                Phase::Prepared => {
                    let stop = self.control.stop.clone();
                    or_given_back(stop, self.settle()).await?;
                    self.save_unless_stopped(&phase).await?;
                }
                Phase::Accepted
                | Phase::Started(_)
                | Phase::Ended(_)
                | Phase::Collected
                | Phase::Reported { .. } => {
                    self.settle().await?;
                    self.save(&phase).await?;
                }
            }
        }
    }

    /// Whether the disk is so full that what failed may have failed for that.
    pub fn lacks_room(&self) -> bool {
        self.shared.lacks_room()
    }

    /// Waits until all events are written down.
    pub async fn settle(&mut self) -> Result<(), Error> {
        while !self.journal.settle()? {
            sleep(room::RETRY_AFTER).await;
        }
        Ok(())
    }

    /// Removes what the head has. What could not be collected, or is of an attempt that the head does not
    /// know, is nowhere else: it is put aside.
    async fn leave(&self) -> Result<(), Error> {
        let unknown = self.files.unknown().exists();
        if !unknown && !self.files.uncollected().exists() {
            return remove(&self.files).await;
        }
        let (files, to) = (self.files.clone(), self.shared.aside.clone());
        let put = blocking(move || aside::put(&files, to, "")).await;
        let place = put.map_err(|source| Error::Dir {
            doing: "put aside",
            path: self.files.dir().to_owned(),
            source,
        })?;
        if let Some(place) = place.filter(|_| unknown) {
            let (attempt, place) = (self.id, place.display());
            tracing::warn!(%attempt, %place, "the head may not have what this attempt has done; it is kept here");
        }
        Ok(())
    }

    /// Writes down what was reached.
    pub async fn save(&self, phase: &Phase) -> Result<(), Error> {
        let save = || record::save(&self.files, self.id, &self.shared.boot, phase);
        Ok(with_room(self.id, save).await?)
    }

    /// The same before anything of it runs; one that is to stop is not held by a full disk.
    pub async fn save_unless_stopped(&self, phase: &Phase) -> Result<(), Error> {
        let save = || {
            Ok(record::save(
                &self.files,
                self.id,
                &self.shared.boot,
                phase,
            )?)
        };
        with_room_unless_stopped(self.id, self.control.stop.clone(), save).await
    }

    /// Makes a report durable; its number.
    pub async fn report(&self, body: v1::report::Body) -> Result<u64, Error> {
        Ok(record_report(&self.shared.spool, self.id, body).await?)
    }

    /// Has a report made durable before the next one, while this attempt goes on.
    pub async fn post(&self, body: v1::report::Body) -> Result<(), Error> {
        Ok(self.shared.spool.post(new_report(self.id, body)).await?)
    }

    /// Writes an event of Orchestra's own.
    pub fn tell(&mut self, phase: &str, text: impl Into<String>) -> Result<(), Error> {
        let status = EventKind::Status {
            phase: phase.to_owned(),
            text: text.into(),
            fields: Default::default(),
        };
        let happened = vec![(String::new(), status)];
        Ok(self
            .journal
            .record(Cause::Own, clock::now(), b"", happened)?)
    }

    /// Ends an attempt whose CLI cannot be started.
    pub async fn give_up(&mut self, failure: Failure) -> Result<Phase, Error> {
        tracing::info!(attempt = %self.id, %failure, "attempt could not be started");
        self.tell("failed", failure.to_string())?;
        self.store(nothing(failure, clock::now())).await
    }

    /// Writes down the outcome, whose artifacts lie in their places.
    pub async fn store(&self, outcome: Outcome) -> Result<Phase, Error> {
        let project = self.order.spec.project.as_ref().map(|project| &project.id);
        let stumbles = &self.shared.stumbles;
        stumbles.ended(&self.order.runner, project, &outcome);
        let outcome = v1::Outcome::from(outcome);
        let save = || record::save_message(self.files.outcome(), &outcome);
        with_room(self.id, save).await?;
        Ok(Phase::Collected)
    }

    /// Does work that nothing depends on yet, unless it is to be stopped meanwhile.
    pub async fn unless_stopped<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<Result<T, Failure>, Error> {
        let stop = &mut self.control.stop;
        let stopped = async { stop.wait_for(Option::is_some).await.ok().and_then(|r| *r) };
        let reason = tokio::select! {
            biased;
            reason = stopped => reason,
            done = work => return Ok(Ok(done)),
        };
        match reason {
            // Without a fleet there is nobody to work for.
            Some(StopReason::Shutdown | StopReason::Revoked) | None => Err(Error::Left),
            Some(StopReason::Groundless) => Err(Error::Groundless),
            Some(reason) => Ok(Err(self.stop_failure(reason))),
        }
    }

    /// The failure that a stop is.
    fn stop_failure(&self, reason: StopReason) -> Failure {
        let times = Times::of(&self.order.spec);
        machine::failure(Some(reason), times, None).expect("a stop is a failure")
    }
}
